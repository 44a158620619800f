"""Compares steps of training with those of the Keras example, in turns, on batches of noise.

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
import contextlib
import dataclasses
import functools
from unittest import mock

with contextlib.suppress(ImportError):
    import triton  # noqa: F401  (PyTorch's compiler, which crashes if TensorFlow is loaded first)

import _project  # noqa: F401
import keras
import numpy as np
import tensorflow as tf
from timing import alternate, ratio_text

import modules
from hyperparameters import PriorConfig, VQVAEConfig
from oasisvq.core.script import run_script
from oasisvq.nn.conditioning import CONDITION_COUNT
from oasisvq.training.checkpoint import Progress
from oasisvq.training.loop import build_optimizer
from support.keras_examples import ExampleVQVAE, example_decoder, example_encoder, example_prior
from support.models import loop_of

BATCH, STEPS = 16, 5
SHAPE, CODE_SHAPE, VARIANCE = (176, 176), (44, 44), 0.05
CONFIG = VQVAEConfig()


class LookUps(keras.layers.Layer):
    """Computes a masked 7x7 convolution of type A over one-hot codes, as a sum of look-ups.

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
    """Times the steps of both stages and of parts of the first, and prints their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    codes = random.integers(0, CONFIG.num_embeddings, (BATCH, *CODE_SHAPE)).astype(np.int32)
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
    """Returns functions that take a few steps of each prior."""
    number = CONFIG.num_embeddings
    example = example_prior(CODE_SHAPE, number)
    same = example_prior(CODE_SHAPE, number, first=LookUps(number))
    carry_over(example, same)
    np.testing.assert_allclose(same(codes), example(codes), atol=1e-4)
    steps = {}
    for name, prior in (("the example's prior", example), ("the same function by look-ups", same)):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        prior.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
        steps[name] = fitting(prior, (codes, codes))
    own = modules.PixelCNN(CODE_SHAPE, number, PriorConfig(), seed=0)
    conditions = np.zeros((BATCH, CONDITION_COUNT), np.float32)
    return {**steps, "the default prior": stepping(own, (codes, conditions), 3e-3)}


def carry_over(example, same):
    """Gives the look-ups and the layers after them the weights of the example."""
    kernel, bias, *others = example.get_weights()  # (7, 7, K, F)
    taps = kernel.reshape(-1, *kernel.shape[2:])[: kernel.shape[0] * kernel.shape[1] // 2]
    same.set_weights([taps.reshape(-1, taps.shape[-1]), bias, *others])


def vqvae_steps(images):
    """Returns functions that take a few steps of each VQ-VAE."""
    example = ExampleVQVAE(SHAPE, VARIANCE, CONFIG.num_embeddings, CONFIG.embedding_dim)
    example.compile(keras.optimizers.Adam(), jit_compile=False)
    layers = {
        "build_encoder": lambda shape, _, dimension, *others: example_encoder(shape, dimension),
        "build_decoder": lambda shape, _, dimension, *others: example_decoder(shape, dimension),
    }
    with mock.patch.multiple(modules, **layers):
        same, same_with = build_vqvae(ssim_weight=0.0), build_vqvae()
    return {
        "the example's VQ-VAE": fitting(example, (images,)),
        "its layers, our quantiser and loop": stepping(same, (images,)),
        "the same with SSIM in the loss": stepping(same_with, (images,)),
        "the default VQ-VAE": stepping(build_vqvae(), (images,)),
    }


def build_vqvae(**changes):
    """Builds the default VQ-VAE, but for changes of its configuration."""
    config = dataclasses.replace(CONFIG, **changes)
    return modules.VQVAETrainer(SHAPE, VARIANCE, config, seed=0)


def fitting(model, arrays):
    """Returns a function that takes the steps of a compiled model as `fit` does."""
    batches = tf.data.Dataset.from_tensors(arrays if len(arrays) > 1 else arrays[0])
    return lambda: model.fit(batches.repeat(STEPS), verbose=0, shuffle=False)


def steps_in_part(images):
    """Returns functions that take steps of the default VQ-VAE, whole and without some parts."""
    return {
        "a whole step": stepping(build_vqvae(), (images,)),
        "one without SSIM": stepping(build_vqvae(ssim_weight=0.0), (images,)),
        "one without SSIM and quantiser": stepping(
            build_vqvae(ssim_weight=0.0), (images,), quantize=False
        ),
    }


def stepping(model, arrays, learning_rate=1e-3, **options):
    """Returns a function that takes the steps of a model as training does.

    Args:
        model: `VQVAETrainer` or `PixelCNN`.
        arrays: A batch of what it learns from, see `loop_of`.
        learning_rate: Float.
        **options: For the model's `train_step`.
    """
    rows = np.tile(np.arange(BATCH), STEPS)
    optimizer = build_optimizer(learning_rate, 10_000)
    loop = loop_of(model, *arrays, optimizer=optimizer, rows=rows, batch_size=BATCH)
    loop.train_step = loop.compile_step(functools.partial(model.train_step, **options))

    def run():
        loop.progress = Progress()
        loop.finish_epoch()

    return run


def torch_steps(images):
    """Returns functions that take a few steps of the default VQ-VAE, here and in PyTorch."""
    try:
        import torch_vqvae
    except ImportError:
        print("PyTorch is not installed: left out")
        return {}
    vqvae = build_vqvae()
    others = torch_vqvae.steps(vqvae, images, STEPS)  # checks that both lose the same
    own = stepping(vqvae, (images,))
    return {**{f"PyTorch, {name}": step for name, step in others.items()}, "here": own}


if __name__ == "__main__":
    run_script(main)
