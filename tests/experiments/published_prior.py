"""The published prior on a run's codes, trained as long as the run's own prior was.

A 7x7 convolution of type A with 128 filters over one-hot codes, two residual blocks, two 1x1
convolutions of type B: the PixelCNN of the Keras example "Vector-Quantized Variational
Autoencoders". It gets the run's schedule, order and choice of the best weights on validation
subjects, and of the given learning rates the one that is best there after a tenth of the steps. How
long an epoch of either prior takes is measured first, in turns.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from oasisvq.core.script import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

import keras  # noqa: E402
import pandas  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras_examples import example_prior  # noqa: E402

from dataset import OASIS  # noqa: E402
from modules import (
    PixelConvLayer,  # noqa: E402
    code_bits,  # noqa: E402
)
from oasisvq.evaluation.intervals import interval_by_subject  # noqa: E402
from oasisvq.runs.folder import open_run  # noqa: E402
from oasisvq.training.loop import Stage, build_optimizer  # noqa: E402
from train import code_reader, encode  # noqa: E402

ROUNDS, TIMED_STEPS = 3, 20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--data-dir", default="data", help="as train.py was given it")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2])
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir)
    chosen = run.hyperparameters
    dataset = OASIS(chosen, arguments.data_dir)
    vqvae = run.load_vqvae()
    rows = {split: dataset.rows(split) for split in ("train", "validation", "test")}
    codes = {split: encode(vqvae, dataset, rows[split]) for split in rows}
    epochs = len(pandas.read_csv(run.folder / "pixelcnn_history.csv"))
    steps = equal_steps(run, codes, epochs)
    tries = {rate: train(codes, chosen, steps // 10, rate)[1] for rate in arguments.learning_rates}
    best = min(tries, key=tries.get)
    published, validation = train(codes, chosen, steps, best)
    own = run.load_prior()
    subjects = dataset.table["subject"].iloc[rows["test"]]
    conditions = run.conditions(dataset, rows["test"])
    print(
        f"{subjects.nunique()} test subjects, {len(subjects)} slices; bits per code [95% interval]"
    )
    ours = print_bits("own", codes["test"], subjects, lambda *batch: own(batch), conditions)
    theirs = print_bits(
        "published", codes["test"], subjects, lambda grids, _: published(grids), conditions
    )
    print(
        f"own / published: {ours / theirs:.3f}; learning rate {best:g}, published on validation "
        f"{validation:.3f}"
    )


def print_bits(name, codes, subjects, prior, conditions, batch_size=16):
    """Prints a prior's bits per code with their interval; returns their mean."""
    bits = []
    for start in range(0, len(codes), batch_size):
        grids = codes[start : start + batch_size].astype(np.int32)
        logits = prior(grids, conditions[start : start + batch_size])
        bits.extend(code_bits(grids, logits).numpy().mean((1, 2)))
    interval = interval_by_subject(bits, subjects)
    print(f"{name:10} {interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]")
    return interval["mean"]


class PublishedPrior(keras.Model):
    """The published prior, from int32 code indices `(B, h, w)` to logits `(B, h, w, K)`."""

    def __init__(self, code_shape, num_embeddings):
        super().__init__()
        self.network = example_prior(code_shape, num_embeddings, PixelConvLayer)

    def call(self, code_indices):
        return self.network(code_indices)

    def losses(self, batch, training):
        """The bits per code of each slice, for a `Stage`; it knows no conditions."""
        return {"loss": tf.reduce_mean(code_bits(batch[0], self.network(batch[0])), axis=(1, 2))}

    def summarise(self, means):
        return {name: float(value) for name, value in means.items()}


def stage_of(codes, chosen, steps, learning_rate):
    """The published prior, to be trained for so many steps on the run's codes."""
    keras.utils.set_random_seed(0)
    prior = PublishedPrior(codes["train"].shape[1:], chosen.num_embeddings)
    together = np.concatenate([codes["train"], codes["validation"]])
    training, validation = np.split(np.arange(len(together)), [len(codes["train"])])
    return Stage(
        "published", prior, build_optimizer(learning_rate, steps),
        code_reader(together, np.zeros((len(together), 4))), training, validation,
        chosen.prior_batch_size, 1, chosen.seed,
    )  # fmt: skip


def equal_steps(run, codes, epochs):
    """How many steps of the published prior take as long as the run's own prior trained, looks at
    the validation subjects after each epoch included."""
    published = stage_of(codes, run.hyperparameters, 10_000, 1e-3)
    own = Stage(
        "own", run.build_prior(), build_optimizer(1e-3, 10_000), published.read,
        published.training, published.validation, published.batch_size, 1, 0,
    )  # fmt: skip
    for stage in (own, published):
        seconds_of_epoch(stage)  # traces the graphs
    times = [[seconds_of_epoch(stage) for stage in (own, published)] for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in times)
    steps = max(int(ratio * epochs * published.steps), 10)
    print(
        f"an epoch of the own prior takes {ratio:.2f} times as long as one of the published: "
        f"{epochs} epochs, {steps} steps",
        flush=True,
    )
    return steps


def seconds_of_epoch(stage):
    """What an epoch takes, from a few of its steps and the whole look at validation."""
    times = [time.monotonic()]
    for part in (lambda: stage.train_epoch(0, steps=TIMED_STEPS), stage.evaluate):
        part()
        times.append(time.monotonic())
    steps = min(TIMED_STEPS, stage.steps)
    return (times[1] - times[0]) / steps * stage.steps + times[2] - times[1]


def train(codes, chosen, steps, learning_rate):
    """The published prior after so many steps, at which its schedule ends, its best weights kept,
    and their bits per code on validation subjects."""
    stage = stage_of(codes, chosen, steps, learning_rate)
    best, weights, began = np.inf, None, time.monotonic()
    for epoch, start in enumerate(range(0, steps, stage.steps)):
        stage.train_epoch(epoch, steps=steps - start)
        bits = stage.evaluate()["loss"]
        if bits < best:
            best, weights = bits, stage.model.get_weights()
        print(
            f"rate {learning_rate:g}, step {min(start + stage.steps, steps)} of {steps}: "
            f"validation {bits:.3f} bits per code, {(time.monotonic() - began) / 60:.1f} minutes",
            flush=True,
        )
    stage.model.set_weights(weights)
    return stage.model, best


if __name__ == "__main__":
    run_script(main)
