"""The published prior on a run's codes, trained as long as the run's own prior was.

A 7x7 convolution of type A with 128 filters over one-hot codes, two residual blocks, two 1x1
convolutions of type B: the PixelCNN of the Keras example "Vector-Quantized Variational
Autoencoders". It gets the run's schedule and choice of the best weights on validation subjects, and
of the given learning rates the one that is best there after a tenth of the steps. How many steps
fit into the time is measured once.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from errors import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

import keras  # noqa: E402

from dataset import OASIS  # noqa: E402
from modules import PixelConvLayer  # noqa: E402
from prior import code_bits  # noqa: E402
from runs import open_run  # noqa: E402
from scores import interval_by_subject  # noqa: E402
from train import compile_for, prior_batches  # noqa: E402

TIMED_STEPS = 100  # that tell how many fit into the time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--data-dir", default="data", help="as train.py was given it")
    parser.add_argument("--minutes", type=float, required=True, help="that the run's prior took")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir)
    chosen = run.hyperparameters
    dataset = OASIS(chosen, arguments.data_dir)
    vqvae = run.load_vqvae()
    codes = {
        split: np.concatenate(
            [vqvae.encode(images).numpy() for images in dataset.batches(split, 16)]
        )
        for split in ("train", "validation", "test")
    }
    batches = {
        split: prior_batches(
            codes[split], np.zeros((len(codes[split]), 4)), chosen, split == "train"
        ).map(lambda inputs, code_grids: (inputs[0], code_grids))  # it knows no conditions
        for split in ("train", "validation")
    }
    steps = steps_within(arguments.minutes, batches, vqvae)
    tries = {rate: train(batches, vqvae, steps // 10, rate)[1] for rate in arguments.learning_rates}
    best = min(tries, key=tries.get)
    published, validation = train(batches, vqvae, steps, best)
    own = run.load_prior()
    rows = dataset.rows("test")
    subjects = dataset.table["subject"].iloc[rows]
    conditions = run.conditions(dataset, rows)
    priors = {
        "published": lambda code_grids, _: published(code_grids),
        "own": lambda code_grids, conditions: own((code_grids, conditions)),
    }
    print(f"{subjects.nunique()} test subjects, {len(rows)} slices; bits per code [95% interval]")
    means = {}
    for name, prior in priors.items():
        bits = np.concatenate(
            [
                code_bits(grids, prior(grids, conditions[16 * n :][:16])).numpy().mean((1, 2))
                for n, grids in enumerate(np.split(codes["test"], range(16, len(rows), 16)))
            ]
        )
        interval = interval_by_subject(bits, subjects)
        means[name] = interval["mean"]
        print(f"{name:10} {interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]")
    print(
        f"own / published: {means['own'] / means['published']:.3f}; learning rate {best:g}, "
        f"published on validation {validation:.3f}"
    )


def build_published(code_shape, num_embeddings):
    """The published prior, from int32 code indices `(B, h, w)` to logits `(B, h, w, K)`."""
    code_indices = keras.Input(code_shape, dtype="int32")
    x = keras.layers.Embedding(  # a one-hot code: tf.one_hot takes no Keras tensor
        num_embeddings, num_embeddings, embeddings_initializer="identity", trainable=False
    )(code_indices)
    x = PixelConvLayer("A", filters=128, kernel_size=7, activation="relu")(x)
    for _ in range(2):
        y = keras.layers.Conv2D(128, 1, activation="relu")(x)
        y = PixelConvLayer("B", filters=64, kernel_size=3, activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Conv2D(128, 1, activation="relu")(y)])
    for _ in range(2):
        x = PixelConvLayer("B", filters=128, kernel_size=1, activation="relu")(x)
    return keras.Model(code_indices, keras.layers.Conv2D(num_embeddings, 1)(x))


def steps_within(minutes, batches, vqvae):
    """How many training steps fit into the time, from a few."""
    prior = build_published(vqvae.code_shape, vqvae.num_embeddings)
    compile_for(prior, 1e-3, 10_000, loss=code_bits)
    prior.fit(batches["train"].take(5), verbose=0, shuffle=False)
    began = time.monotonic()
    prior.fit(batches["train"].take(TIMED_STEPS), verbose=0, shuffle=False)
    return max(int(minutes * 60 / (time.monotonic() - began) * TIMED_STEPS), 10)


def train(batches, vqvae, steps, learning_rate):
    """The published prior after so many steps, at which its schedule ends, its best weights kept,
    and their bits per code on validation subjects."""
    keras.utils.set_random_seed(0)
    prior = build_published(vqvae.code_shape, vqvae.num_embeddings)
    compile_for(prior, learning_rate, steps, loss=code_bits)
    each = min(len(batches["train"]), steps)
    best, weights, began = np.inf, None, time.monotonic()
    for done in range(0, steps, each):
        prior.fit(batches["train"].take(min(each, steps - done)), verbose=0, shuffle=False)
        bits = prior.evaluate(batches["validation"], verbose=0)
        if bits < best:
            best, weights = bits, prior.get_weights()
        print(
            f"rate {learning_rate:g}, step {min(done + each, steps)} of {steps}: validation "
            f"{bits:.3f} bits per code, {(time.monotonic() - began) / 60:.1f} minutes",
            flush=True,
        )
    prior.set_weights(weights)
    return prior, best


if __name__ == "__main__":
    run_script(main)
