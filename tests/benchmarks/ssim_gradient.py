"""Compares the gradient of SSIM, by `oasisvq.nn.losses.ssim`, with that of `tf.image.ssim`.

    python tests/benchmarks/ssim_gradient.py

Timed in turns, in one process: 16 slices of 176x176, the default batch.
"""

import statistics

import _project  # noqa: F401
import tensorflow as tf
from timing import alternate

from oasisvq.nn.losses import ssim

ROUNDS, REPEATS = 9, 5


def gradient_of(ssim, images):
    """Returns a compiled function: the gradient of the mean SSIM with respect to other slices."""

    @tf.function
    def gradient(others):
        with tf.GradientTape() as tape:
            tape.watch(others)
            value = tf.reduce_mean(ssim(images, others))
        return tape.gradient(value, others)

    return gradient


def main():
    """Times both gradients, and prints their ratio and their largest difference."""
    images = tf.random.stateless_uniform((16, 176, 176, 1), (0, 1))
    others = tf.random.stateless_uniform((16, 176, 176, 1), (2, 3))
    ours = gradient_of(ssim, images)
    theirs = gradient_of(lambda a, b: tf.image.ssim(a, b, 1.0), images)
    difference = tf.reduce_max(tf.abs(ours(others) - theirs(others)))

    def repeat(gradient):
        for _ in range(REPEATS):
            gradient(others)

    seconds = alternate({"ours": lambda: repeat(ours), "theirs": lambda: repeat(theirs)}, ROUNDS)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    print(
        f"tf.image.ssim takes {statistics.median(ratios):.2f} times as long "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {ROUNDS} rounds); "
        f"largest difference of a gradient {float(difference):.1e}"
    )


if __name__ == "__main__":
    main()
