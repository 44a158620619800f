"""Steps of training beside those of the Keras example, in turns, on a batch of noise each.

    python tests/benchmarks/training_steps.py [--rounds 7] [--torch]

The prior: the example's own, a 7x7 convolution over one-hot codes first; the same function with
that layer as a sum of look-ups, a table a tap, which is checked to give the same logits; and the
default prior of this project. The VQ-VAE: the example's own; the example's layers with this
project's quantiser and loop, without SSIM in the loss as there, and with it; and the default
VQ-VAE, whose encoder is another and larger. 16 slices of 176x176 a step, K = 512, D = 8, four
pixels a code. Where the time of the latter goes: a whole step of it, one without SSIM, and one
without the quantiser too, which leaves the convolutions alone. `--torch` puts the default VQ-VAE
beside the same graph in PyTorch, see torch_vqvae.py.
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from oasisvq.core.script import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras_examples import (  # noqa: E402
    ExampleVQVAE,
    example_decoder,
    example_encoder,
    example_prior,
)
from timing import alternate, ratio_text  # noqa: E402

import modules  # noqa: E402
from hyperparameters import Hyperparameters  # noqa: E402
from oasisvq.runs.folder import Run  # noqa: E402
from oasisvq.training.loop import Stage, build_optimizer  # noqa: E402
from train import code_reader  # noqa: E402

BATCH, STEPS = 16, 5
SHAPE, CODE_SHAPE, VARIANCE = (176, 176), (44, 44), 0.05
DEFAULT = Hyperparameters()


class LookUps(keras.layers.Layer):
    """A masked 7x7 convolution of type A over one-hot codes, as a sum of look-ups.

    Call arguments:
        code_indices: int32 `(B, h, w)`.

    Returns:
        Float tensor `(B, h, w, filters)`.
    """

    def __init__(self, num_embeddings, filters=128, size=7):
        super().__init__()
        self.count, self.reach = num_embeddings, size // 2
        taps = np.argwhere(np.ones((size, size)))
        self.taps = taps[: len(taps) // 2]  # those before the middle, in reading order
        scale = np.sqrt(6 / (size * size * (num_embeddings + filters)))  # Glorot's, of the kernel
        start = keras.initializers.RandomUniform(-scale, scale)
        self.tables = self.add_weight(
            (len(self.taps) * num_embeddings, filters), start, name="tables"
        )
        self.bias = self.add_weight((filters,), "zeros", name="bias")

    def call(self, code_indices):
        _, height, width = code_indices.shape
        outside = len(self.taps) * self.count  # the row of zeros, for codes that are not there
        table = tf.pad(tf.convert_to_tensor(self.tables), [[0, 1], [0, 0]])
        padding = [[0, 0], [self.reach, 0], [self.reach, self.reach]]
        padded = tf.pad(code_indices, padding, constant_values=-1)
        total = self.bias
        for number, (down, across) in enumerate(self.taps):
            codes = padded[:, down : down + height, across : across + width]
            rows = tf.where(codes < 0, outside, codes + number * self.count)
            total += tf.gather(table, rows)
        return tf.nn.relu(total)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    codes = random.integers(0, DEFAULT.num_embeddings, (BATCH, *CODE_SHAPE)).astype(np.int32)
    images = random.random((BATCH, *SHAPE, 1), np.float32)
    print(f"{BATCH} slices a step; how many times as long as the other, median (range)")
    compare(prior_steps(codes), "the example's prior", arguments.rounds)
    compare(vqvae_steps(images), "the example's VQ-VAE", arguments.rounds)
    compare(steps_in_part(images), "a whole step", arguments.rounds)
    if arguments.torch:
        compare(torch_steps(images), "PyTorch", arguments.rounds)


def compare(steps, other, rounds):
    """Times each side's steps in turns and prints how long `other` takes beside the rest."""
    seconds = alternate(steps, rounds)
    for name, own in seconds.items():
        if not name.startswith(other):
            for label in (label for label in seconds if label.startswith(other)):
                print(f"{label:38} / {name:38} {ratio_text(seconds[label], own)}")


def prior_steps(codes):
    """A few steps of each prior, as functions."""
    number = DEFAULT.num_embeddings
    example, same = (
        example_prior(CODE_SHAPE, number, first=first) for first in (None, LookUps(number))
    )
    carry_over(example, same)
    np.testing.assert_allclose(same(codes), example(codes), atol=1e-4)
    steps = {}
    for name, prior in (("the example's prior", example), ("the same function by look-ups", same)):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        prior.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
        steps[name] = fitting(prior, (codes, codes))
    own = Run(Path(), DEFAULT, SHAPE, VARIANCE).build_prior()
    conditions = np.zeros((BATCH, 4), np.float32)
    steps["the default prior"] = stepping(own, code_reader(codes, conditions), 3e-3)
    return steps


def carry_over(example, same):
    """Gives the look-ups and the layers after them the weights of the example."""
    kernel, bias, *others = example.get_weights()  # (7, 7, K, F)
    taps = kernel.reshape(-1, *kernel.shape[2:])[: kernel.shape[0] * kernel.shape[1] // 2]
    same.set_weights([taps.reshape(-1, taps.shape[-1]), bias, *others])


def vqvae_steps(images):
    """A few steps of each VQ-VAE, as functions."""
    example = ExampleVQVAE(SHAPE, VARIANCE, DEFAULT.num_embeddings, DEFAULT.embedding_dim)
    example.compile(keras.optimizers.Adam(), jit_compile=False)
    run = Run(Path(), DEFAULT, SHAPE, VARIANCE)
    layers = {
        "build_encoder": lambda shape, _, dimension, *others: example_encoder(shape, dimension),
        "build_decoder": lambda shape, _, dimension, *others: example_decoder(shape, dimension),
    }
    without = dataclasses.replace(run, hyperparameters=Hyperparameters(ssim_weight=0.0))
    with mock.patch.multiple(modules, **layers):
        same, same_with = without.build_vqvae(), run.build_vqvae()

    def read(rows):
        return tf.gather(images, rows)

    return {
        "the example's VQ-VAE": fitting(example, (images,)),
        "its layers, our quantiser and loop": stepping(same, read, 1e-3),
        "the same with SSIM in the loss": stepping(same_with, read, 1e-3),
        "the default VQ-VAE": stepping(run.build_vqvae(), read, 1e-3),
    }


def fitting(model, arrays):
    """Steps as `fit` takes them."""
    batches = tf.data.Dataset.from_tensors(arrays if len(arrays) > 1 else arrays[0])
    return lambda: model.fit(batches.repeat(STEPS), verbose=0, shuffle=False)


def steps_in_part(images):
    """A few steps of the default VQ-VAE: whole, and without some of what they do."""

    def step(ssim_weight, **options):
        chosen = Hyperparameters(ssim_weight=ssim_weight)
        vqvae = Run(Path(), chosen, SHAPE, VARIANCE).build_vqvae()
        vqvae.summarise = dict  # without the quantiser, no codes are counted
        return stepping(vqvae, lambda rows: tf.gather(images, rows), 1e-3, **options)

    return {
        "a whole step": step(DEFAULT.ssim_weight),
        "one without SSIM": step(0.0),
        "one without SSIM and quantiser": step(0.0, quantize=False),
    }


def stepping(model, read, learning_rate, **options):
    """Steps as training takes them, with `options` for the model's `losses`."""
    rows = np.tile(np.arange(BATCH), STEPS)
    optimizer = build_optimizer(learning_rate, 10_000)
    stage = Stage(model.name, model, optimizer, read, rows, rows[:1], BATCH, 1, 0)
    stage.compiled_train_step = tf.function(functools.partial(stage.train_step, **options))
    return lambda: stage.train_epoch(0)


def torch_steps(images):
    """A few steps of the default VQ-VAE here and in PyTorch, as functions."""
    try:
        import torch_vqvae
    except ImportError:
        print("PyTorch is not installed: left out")
        return {}
    vqvae = Run(Path(), DEFAULT, SHAPE, VARIANCE).build_vqvae()
    others = torch_vqvae.steps(vqvae, images, STEPS)  # checks that both lose the same
    own = stepping(vqvae, lambda rows: tf.gather(images, rows), 1e-3)
    return {**{f"PyTorch, {name}": step for name, step in others.items()}, "here": own}


if __name__ == "__main__":
    run_script(main)
