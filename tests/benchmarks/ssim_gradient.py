"""The gradient of SSIM: `oasisvq.nn.losses.ssim` beside `tf.image.ssim`.

    python tests/benchmarks/ssim_gradient.py

Timed in turns, in one process: 16 slices of 176x176, the default batch.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tensorflow as tf

from oasisvq.nn.losses import ssim

ROUNDS, REPEATS = 9, 5


def gradient_of(ssim, images):
    @tf.function
    def gradient(others):
        with tf.GradientTape() as tape:
            tape.watch(others)
            value = tf.reduce_mean(ssim(images, others))
        return tape.gradient(value, others)

    return gradient


def seconds(function, others):
    began = time.perf_counter()
    for _ in range(REPEATS):
        function(others)
    return (time.perf_counter() - began) / REPEATS


def main():
    images = tf.random.stateless_uniform((16, 176, 176, 1), (0, 1))
    others = tf.random.stateless_uniform((16, 176, 176, 1), (2, 3))
    ours = gradient_of(ssim, images)
    theirs = gradient_of(lambda a, b: tf.image.ssim(a, b, 1.0), images)
    difference = tf.reduce_max(tf.abs(ours(others) - theirs(others)))
    ratios = [seconds(theirs, others) / seconds(ours, others) for _ in range(ROUNDS)]
    print(
        f"tf.image.ssim takes {statistics.median(ratios):.2f} times as long "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {ROUNDS} rounds); "
        f"largest difference of a gradient {float(difference):.1e}"
    )


if __name__ == "__main__":
    main()
