"""Trains the published prior on a run's codes, for as long as the run's own prior was trained.

    python tests/experiments/published_prior.py --run-dir RUN [--learning-rates 1e-3 3e-3 1e-2]

A 7x7 convolution of type A with 128 filters over one-hot codes, two residual blocks, two 1x1
convolutions of type B: the PixelCNN of the Keras example "Vector-Quantized Variational
Autoencoders". It gets the run's schedule, order and choice of the best weights on validation
subjects, and of the given learning rates the one that is best there after a tenth of the steps. How
long an epoch of either prior takes is measured first, in turns.
"""

import argparse
import statistics
import time

import _project  # noqa: F401
import keras
import numpy as np
import pandas

from dataset import OASIS, SPLITS
from hyperparameters import Hyperparameters
from modules import PixelCNN, PixelConvLayer, build_prior, load_prior, load_vqvae
from oasisvq.core.script import run_script
from oasisvq.evaluation.intervals import format_interval, interval_by_subject
from oasisvq.nn.conditioning import CONDITION_COUNT
from oasisvq.nn.metrics import SliceMean
from oasisvq.runs.folder import open_run
from oasisvq.training.batches import Batches
from oasisvq.training.checkpoint import Progress
from oasisvq.training.loop import Loop, build_optimizer
from oasisvq.training.stages import code_reader
from support.keras_examples import example_prior

ROUNDS, TIMED_STEPS = 3, 20


def main():
    """Trains the published prior, and prints both priors' bits per code of the test slices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--data-dir", default="data", help="as train.py was given it")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2])
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir, Hyperparameters)
    dataset, vqvae = OASIS(run.hyperparameters.data, arguments.data_dir), load_vqvae(run)
    rows = {split: dataset.rows(split) for split in SPLITS}
    codes = {split: vqvae.encode_all(dataset.images, rows[split]) for split in rows}
    epochs = len(pandas.read_csv(run.folder / "pixelcnn_history.csv"))
    steps = equal_steps(run, codes, epochs)
    tries = {rate: train(run, codes, steps // 10, rate)[1] for rate in arguments.learning_rates}
    best = min(tries, key=tries.get)
    published, validation = train(run, codes, steps, best)
    own, subjects = load_prior(run), dataset.table["subject"].iloc[rows["test"]]
    conditions = dataset.conditions(rows["test"])
    print(
        f"{subjects.nunique()} test subjects, {len(subjects)} slices; bits per code [95% interval]"
    )
    ours = print_bits("own", own, codes["test"], conditions, subjects)
    theirs = print_bits("published", published, codes["test"], conditions, subjects)
    print(
        f"own / published: {ours / theirs:.3f}; learning rate {best:g}, published on validation "
        f"{validation:.3f}"
    )


def print_bits(name, prior, codes, conditions, subjects, batch_size=16):
    """Prints a prior's bits per code with their interval, and returns their mean."""
    bits = []
    for start in range(0, len(codes), batch_size):
        batch = slice(start, start + batch_size)
        bits.extend(prior.bits_per_code(codes[batch].astype(np.int32), conditions[batch]).numpy())
    interval = interval_by_subject(bits, subjects)
    print(f"{name:10} {format_interval(interval, '.3f')}")
    return interval["mean"]


class PublishedPrior(PixelCNN):
    """The published network with the training step of this project's prior.

    Args:
        code_shape: `(h, w)` of the code grid.
        num_embeddings: Integer, number of codes K.
    """

    def __init__(self, code_shape, num_embeddings):
        keras.Model.__init__(self, name="published")  # none of the layers of a `PixelCNN`
        self.code_shape, self.loss_mean = tuple(code_shape), SliceMean("loss")
        self.network = example_prior(code_shape, num_embeddings, PixelConvLayer)
        self.built = True

    def call(self, inputs, training=False):
        code_indices, _ = inputs  # it knows no conditions
        return self.network(code_indices)


def loop_of(prior, run, codes, steps, learning_rate):
    """Returns a loop that trains a prior for so many steps on the run's codes."""
    config, seed = run.hyperparameters.prior, run.hyperparameters.run.seed
    grids = np.concatenate([codes["train"], codes["validation"]])
    read = code_reader(grids, np.zeros((len(grids), CONDITION_COUNT)))
    training, validation = (
        Batches(read, rows, config.batch_size, seed)
        for rows in np.split(np.arange(len(grids)), [len(codes["train"])])
    )
    prior.compile(build_optimizer(learning_rate, steps))
    return Loop(prior, training, validation)


def build_published(run, codes):
    """Builds the untrained published prior, always with the same weights."""
    keras.utils.set_random_seed(0)
    return PublishedPrior(codes["train"].shape[1:], run.hyperparameters.vqvae.num_embeddings)


def equal_steps(run, codes, epochs):
    """Returns how many steps of the published prior take as long as the run's own prior trained.

    Looks at the validation subjects after each epoch are included.
    """
    loops = [
        loop_of(prior, run, codes, 10_000, 1e-3)
        for prior in (build_prior(run), build_published(run, codes))
    ]
    for loop in loops:
        seconds_of_epoch(loop)  # traces the graphs
    times = [[seconds_of_epoch(loop) for loop in loops] for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in times)
    steps = max(int(ratio * epochs * loops[1].training.steps), 10)
    print(
        f"an epoch of the own prior takes {ratio:.2f} times as long as one of the published: "
        f"{epochs} epochs, {steps} steps",
        flush=True,
    )
    return steps


def seconds_of_epoch(loop):
    """Returns what an epoch takes, from a few of its steps and the whole look at validation."""
    loop.progress = Progress()
    began, steps = time.monotonic(), min(TIMED_STEPS, loop.training.steps)
    loop.finish_epoch(steps=steps)
    trained = time.monotonic()
    loop.evaluate()
    return (trained - began) / steps * loop.training.steps + time.monotonic() - trained


def train(run, codes, steps, learning_rate):
    """Trains the published prior for so many steps, at which its schedule ends.

    Returns:
        The prior with its best weights, and their bits per code on validation subjects.
    """
    loop = loop_of(build_published(run, codes), run, codes, steps, learning_rate)
    best, weights, began = np.inf, None, time.monotonic()
    for start in range(0, steps, loop.training.steps):
        loop.finish_epoch(steps=steps - start)
        means = {**loop.progress.means, **loop.evaluate()}
        bits = means["val_loss"]
        loop.progress.end_epoch(means, better=bits < best)
        if bits < best:
            best, weights = bits, loop.model.get_weights()
        print(
            f"rate {learning_rate:g}, step {min(start + loop.training.steps, steps)} of {steps}: "
            f"validation {bits:.3f} bits per code, {(time.monotonic() - began) / 60:.1f} minutes",
            flush=True,
        )
    loop.model.set_weights(weights)
    return loop.model, best


if __name__ == "__main__":
    run_script(main)
