"""Both stages in small, on so many devices or as one of several processes, for test_training.py.

python tests/replicas_worker.py FOLDER DEVICES [EPOCHS]
"""

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from oasisvq.core.script import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas  # noqa: E402
import tensorflow as tf  # noqa: E402

from modules import (
    PixelCNN,  # noqa: E402
    VQVAETrainer,  # noqa: E402
)
from oasisvq.data.sources.synthetic import invent_slices, load_template  # noqa: E402
from oasisvq.training.devices import start_replicas, together  # noqa: E402
from oasisvq.training.loop import Stage, build_optimizer  # noqa: E402
from train import code_reader  # noqa: E402

HISTORIES = {}  # of both stages, by name


def main():
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, parts)
    strategy = start_replicas()
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    template = load_template()
    brains = np.concatenate(
        [invent_slices(template, n, "axial", (0.5, 0.5), "fraction", 1)[0] for n in range(8)]
    )[:, 6:198:4, 4:164:4]
    images = (brains / brains.max()).clip(0, 1).astype("float32")[..., None]
    rows = np.resize(np.arange(8), 24)
    print("training", flush=True)
    with together(strategy):
        vqvae = train_vqvae(images, rows, epochs, folder)
        prior = train_prior(vqvae.encode(images).numpy(), rows, epochs, folder)
    weights = {w.path: keras.ops.convert_to_numpy(w) for m in (vqvae, prior) for w in m.weights}
    np.savez(folder / "weights.npz", **weights)
    print(json.dumps(HISTORIES))


def run(stage, folder):
    """As `Stage.run`, and what it would write, also where it does not write."""
    evaluate, values = stage.evaluate, []
    stage.evaluate = lambda: values.append(evaluate()) or values[-1]
    stage.run(folder, f"{stage.name}.weights.h5", "val_loss")
    HISTORIES.update(
        {f"{stage.name} {name}": [v[name] for v in values] for name in pandas.DataFrame(values)}
    )


def train_vqvae(images, rows, epochs, folder):
    keras.utils.set_random_seed(0)
    vqvae = VQVAETrainer(
        images.shape[1:3], 0.05, num_embeddings=32, embedding_dim=4, width=8, residual_blocks=1,
        revive_below=0.3, rate_weight=0.3, rate_steps=3,
    )  # fmt: skip
    optimizer = build_optimizer(1e-3, 12)
    stage = Stage(
        "vqvae", vqvae, optimizer, lambda chosen: tf.gather(images, chosen), rows, np.arange(7),
        4, epochs, 0,
    )  # fmt: skip
    stage.warm_up(2, quantize=False)
    run(stage, folder)
    return vqvae


def train_prior(codes, rows, epochs, folder):
    conditions = np.linspace(0, 90, len(codes) * 4).reshape(-1, 4).astype("float32")
    keras.utils.set_random_seed(0)
    prior = PixelCNN(codes.shape[1:], 32, filters=8, residual_blocks=2, dropout=0.3)
    prior.condition.adapt(conditions)
    optimizer = build_optimizer(1e-3, 12, average=0.3)
    reader = code_reader(codes, conditions)
    run(Stage("pixelcnn", prior, optimizer, reader, rows, np.arange(7), 4, epochs, 0), folder)
    return prior


if __name__ == "__main__":
    run_script(main)
