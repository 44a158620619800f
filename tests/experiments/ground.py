"""Compares two errors on the black ground, by the faint pixels that the decoder leaves there.

    python tests/experiments/ground.py --run-dir RUN --dataset SLICES [--steps 100]

The decoder's output is linear and is clipped to [0, 1]. If black ground pulls it to 0 from either
side, it ripples about 0, and what is above 0 remains visible. With a one-sided error, an output
below 0 is no error on black ground, as it is shown as black. The run's decoder is trained further
with either error, on the same slices in the same order, from the same weights; its codes stay as
they are. Both are judged on the validation persons' slices.
"""

import argparse
import dataclasses

import _project  # noqa: F401
import keras
import numpy as np
import tensorflow as tf
from bits_where import print_faint, print_threshold

from dataset import OASIS
from hyperparameters import Hyperparameters
from modules import load_vqvae
from oasisvq.core.script import run_script
from oasisvq.nn.losses import ssim
from oasisvq.runs.folder import open_run

BATCH_SIZE, LEARNING_RATE = 16, 1e-3


def two_sided(images, outputs):
    """Returns the errors of outputs `(B, H, W, 1)`."""
    return outputs - images


def one_sided(images, outputs):
    """Returns the same, where an output below 0 is no error on black ground."""
    return tf.where(images > 0, outputs, tf.maximum(outputs, 0.0)) - images


def train_decoder(vqvae, codes, images, rows, errors):
    """Trains the decoder of a VQ-VAE, with the loss of `VQVAETrainer`.

    Args:
        vqvae: `VQVAETrainer`.
        codes: Integer array `(n, h, w)`, the codes of the training slices.
        images: Function from their numbers `(B,)` to images `(B, H, W, 1)`.
        rows: Integer array `(steps, B)`, the slices of each step.
        errors: `two_sided` or `one_sided`.
    """
    variables, weight = vqvae.decoder.trainable_variables, vqvae.config.ssim_weight
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, len(rows))
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(variables)

    @tf.function
    def step(code_indices, originals):
        with tf.GradientTape() as tape:
            outputs = vqvae.decoder(vqvae.quantizer.code_vectors(code_indices), training=True)
            loss = tf.reduce_mean(errors(originals, outputs) ** 2) / vqvae.variance
            likeness = ssim(originals, tf.clip_by_value(outputs, 0.0, 1.0))
            loss += weight * (1 - tf.reduce_mean(likeness))
        optimizer.apply(tape.gradient(loss, variables), variables)

    for some in rows:
        step(tf.constant(codes[some].astype(np.int32)), tf.constant(images(some)))


def main():
    """Trains the decoder with either error, and prints what each leaves on the ground."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", required=True, help="all persons' slices")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    run = open_run(arguments.run_dir, Hyperparameters)
    config = dataclasses.replace(run.hyperparameters.data, dataset=arguments.dataset)
    every, vqvae = OASIS(config, arguments.data_dir, run.image_shape), load_vqvae(run)
    splits = every.table["subject"].map(run.split())
    train, validation = (np.flatnonzero(splits == name) for name in ("train", "validation"))
    codes, known = (vqvae.encode_all(every.images, rows) for rows in (train, validation))
    real = np.asarray(every.slices[validation])
    subjects = every.table["subject"].iloc[validation].to_numpy()
    chosen = np.random.default_rng(0).integers(len(train), size=(arguments.steps, BATCH_SIZE))
    print(f"validation, {len(real)} slices of {len(set(subjects))} subjects")
    start = vqvae.decoder.get_weights()
    for errors in (None, two_sided, one_sided):
        vqvae.decoder.set_weights(start)
        if errors:
            train_decoder(vqvae, codes, lambda some: every.images(train[some]), chosen, errors)
        name = f"{arguments.steps} steps, {errors.__name__}" if errors else "as it is"
        print(f"\n{name.replace('_', '-')}", flush=True)
        shown = vqvae.decode_all(known)[..., 0]
        print_threshold(0, real, shown, subjects)
        print_faint({"real": real, "codes": shown}, subjects)


if __name__ == "__main__":
    run_script(main)
