"""Trains the prior of the Keras example on a run's codes, for as long as the run's own prior.

    python tests/experiments/published_prior.py --run-dir RUN [--learning-rates 1e-3 3e-3 1e-2]

A 7x7 convolution of type A with 128 filters over one-hot codes, two residual blocks, two 1x1
convolutions of type B: the PixelCNN of the Keras example "Vector-Quantized Variational
Autoencoders". It is unconditional: it knows neither position nor age, sex and CDR. So the run's own
prior stands beside it twice, with the conditions and without any, all of them unknown, which its
training hid from it in some of the slices. The differences are of pairs, the same slice under
either prior, with intervals over subjects.

The example's prior gets the run's schedule, order and choice of the best weights on validation
subjects, and of the given learning rates the one that is best there after a tenth of the steps. How
long an epoch of either prior takes is measured first, in turns.
"""

import argparse
import dataclasses
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
OWN, WITHOUT = "own prior", "own prior without conditions"
EXAMPLE = "Keras example's prior, unconditional"


def main():
    """Trains the example's prior, and prints the bits per code of the test slices under each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", help="where the run's slices are now (default: as it says)")
    parser.add_argument("--data-dir", default="data", help="as train.py was given it")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2])
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir, Hyperparameters)
    config = run.hyperparameters.data
    config = dataclasses.replace(config, dataset=arguments.dataset or config.dataset)
    dataset, vqvae = OASIS(config, arguments.data_dir), load_vqvae(run)
    rows = {split: dataset.rows(split) for split in SPLITS}
    codes = {split: vqvae.encode_all(dataset.images, rows[split]) for split in rows}
    epochs = len(pandas.read_csv(run.folder / "pixelcnn_history.csv"))
    steps = equal_steps(run, codes, epochs)
    tries = {rate: train(run, codes, steps // 10, rate)[1] for rate in arguments.learning_rates}
    best = min(tries, key=tries.get)
    example, validation = train(run, codes, steps, best)
    print(f"learning rate {best:g}, {validation:.3f} bits per code on validation subjects")

    own, conditions = load_prior(run), dataset.conditions(rows["test"])
    unknown = np.full_like(conditions, np.nan)
    bits = {
        OWN: bits_of_slices(own, codes["test"], conditions),
        WITHOUT: bits_of_slices(own, codes["test"], unknown),
        EXAMPLE: bits_of_slices(example, codes["test"], unknown),
    }
    print_bits(bits, dataset.table["subject"].iloc[rows["test"]])


def bits_of_slices(prior, codes, conditions, batch_size=16):
    """Returns the bits per code of each slice under a prior, `(n,)`."""
    bits = []
    for start in range(0, len(codes), batch_size):
        batch = slice(start, start + batch_size)
        bits.extend(prior.bits_per_code(codes[batch].astype(np.int32), conditions[batch]).numpy())
    return np.array(bits, np.float64)


def print_bits(bits, subjects):
    """Prints the bits per code of each prior, and the differences of pairs of priors.

    Args:
        bits: Dictionary from the name of a prior to its bits per code of each slice `(n,)`.
        subjects: Sequence `(n,)`.
    """
    print(
        f"{subjects.nunique()} test subjects, {len(subjects)} slices; bits per code [95% interval "
        "over subjects]"
    )
    for name, values in bits.items():
        print(f"{name:40} {format_interval(interval_by_subject(values, subjects), '.3f')}")
    for one, other in ((OWN, EXAMPLE), (WITHOUT, EXAMPLE), (OWN, WITHOUT)):
        difference = interval_by_subject(bits[one] - bits[other], subjects)
        # In percent of the other's mean, which is taken as known.
        mean = bits[other].mean() / 100
        share = {name: value and value / mean for name, value in difference.items()}
        print(
            f"{one} - {other}: {format_interval(difference, '+.3f')}, "
            f"{format_interval(share, '+.1f')} %"
        )


class ExamplePrior(PixelCNN):
    """The network of the Keras example with the training step of this project's prior.

    Args:
        code_shape: `(h, w)` of the code grid.
        num_embeddings: Integer, number of codes K.
    """

    def __init__(self, code_shape, num_embeddings):
        keras.Model.__init__(self, name="example")  # none of the layers of a `PixelCNN`
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


def build_example(run, codes):
    """Builds the untrained prior of the Keras example, always with the same weights."""
    keras.utils.set_random_seed(0)
    return ExamplePrior(codes["train"].shape[1:], run.hyperparameters.vqvae.num_embeddings)


def equal_steps(run, codes, epochs):
    """Returns how many steps of the example's prior take as long as the run's own prior trained.

    Looks at the validation subjects after each epoch are included.
    """
    loops = [
        loop_of(prior, run, codes, 10_000, 1e-3)
        for prior in (build_prior(run), build_example(run, codes))
    ]
    for loop in loops:
        seconds_of_epoch(loop)  # traces the graphs
    times = [[seconds_of_epoch(loop) for loop in loops] for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in times)
    steps = max(int(ratio * epochs * loops[1].training.steps), 10)
    print(
        f"an epoch of the own prior takes {ratio:.2f} times as long as one of the example's: "
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
    """Trains the example's prior for so many steps, at which its schedule ends.

    Returns:
        The prior with its best weights, and their bits per code on validation subjects.
    """
    loop = loop_of(build_example(run, codes), run, codes, steps, learning_rate)
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
