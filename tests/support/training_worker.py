"""Both stages in small, on so many devices or as one of several processes.

python -m support.training_worker FOLDER DEVICES [EPOCHS]

With STOP_AFTER in the environment, a stop is requested after so many steps.
"""

import gc
import itertools
import json
import os
import signal
import sys
from pathlib import Path

from oasisvq.core import signals
from oasisvq.core.script import import_tensorflow_quietly, run_script

import_tensorflow_quietly()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from oasisvq.data.sources.synthetic import invent_slices, load_template  # noqa: E402
from oasisvq.training.batches import Batches  # noqa: E402
from oasisvq.training.checkpoint import Checkpoint  # noqa: E402
from oasisvq.training.devices import devices_of, start_strategy  # noqa: E402
from oasisvq.training.loop import Loop, build_optimizer  # noqa: E402
from oasisvq.training.stages import code_reader  # noqa: E402
from support.models import pairs_of, small_prior, small_vqvae  # noqa: E402


def main():
    gc.set_threshold(100_000, 20, 20)  # as in conftest.py
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    folder.mkdir(parents=True, exist_ok=True)
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, parts)
    strategy = start_strategy()
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    template = load_template()
    brains = np.concatenate(
        [invent_slices(template, n, "axial", (0.5, 0.5), "fraction", 1)[0] for n in range(8)]
    )[:, 6:198:4, 4:164:4]
    images = (brains / brains.max()).clip(0, 1).astype("float32")[..., None]
    print("training", flush=True)
    if "STOP_AFTER" in os.environ:
        stop_after(int(os.environ["STOP_AFTER"]))
    with devices_of(strategy):
        vqvae = train_vqvae(images, epochs, folder)
        prior = train_prior(vqvae.encode(images).numpy(), epochs, folder)
    weights = {w.path: keras.ops.convert_to_numpy(w) for m in (vqvae, prior) for w in m.weights}
    np.savez(folder / "weights.npz", **weights)
    print(json.dumps(HISTORIES))


HISTORIES = {}  # of both stages, by name


def stop_after(steps):
    """Lets the question whether a stop is requested be answered by yes after so many."""
    questions = itertools.count()
    signals.stop_requested = lambda: next(questions) >= steps
    signals._requested = signal.SIGTERM


def train(loop, epochs, folder):
    """Trains a stage to its end, and notes its history, on workers that write nothing too."""
    loop.run(folder, epochs, "val_loss")
    for name in loop.progress.history[0]:
        HISTORIES[f"{loop.name} {name}"] = [row[name] for row in loop.progress.history]


def batches_of(read):
    return Batches(read, np.resize(np.arange(8), 24), 4), Batches(read, np.arange(7), 4)


def train_vqvae(images, epochs, folder):
    keras.utils.set_random_seed(0)
    vqvae = small_vqvae(
        images.shape[1:3],
        0.05,
        num_embeddings=32,
        embedding_dim=4,
        revive_below=0.3,
        rate_weight=0.3,
        rate_steps=3,
    )
    vqvae.compile(build_optimizer(1e-3, 12))
    loop = Loop(vqvae, *batches_of(pairs_of(images)), Checkpoint(folder / "vqvae.checkpoint.npz"))
    if not loop.progress.ready:
        loop.warm_up(2, lambda data: vqvae.train_step(data, quantize=False))
        loop.progress.ready = True
    train(loop, epochs, folder)
    return vqvae


def train_prior(codes, epochs, folder):
    conditions = np.linspace(0, 90, len(codes) * 4).reshape(-1, 4).astype("float32")
    keras.utils.set_random_seed(0)
    prior = small_prior(codes.shape[1:], 32, residual_blocks=1, dropout=0.3)
    prior.condition.adapt(conditions)
    prior.compile(build_optimizer(1e-3, 12, average=0.3))
    read, checkpoint = code_reader(codes, conditions), folder / "pixelcnn.checkpoint.npz"
    train(Loop(prior, *batches_of(read), Checkpoint(checkpoint)), epochs, folder)
    return prior


if __name__ == "__main__":
    run_script(main)
