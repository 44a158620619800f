"""Measures how much faster the input pipeline delivers slices than training takes them.

    python tests/benchmarks/input_pipeline.py [--dataset PATH] [--data-dir DIR]

Both are timed in turns, in one process, at the default batch size and model. The pipeline is
training's own, without the model; a step of training is one on a batch that is there already.
"""

import statistics
import time

import _project  # noqa: F401
import numpy as np

from dataset import OASIS
from hyperparameters import Hyperparameters, add_data_dir
from modules import VQVAETrainer
from oasisvq.core.configuration import Parser
from oasisvq.core.script import run_script
from oasisvq.training.batches import Batches
from oasisvq.training.loop import Loop, build_optimizer

ROUNDS = 5
STEPS = 5


def main():
    """Times both, and prints their ratio."""
    parser = Parser(description=__doc__.splitlines()[0])
    add_data_dir(parser)
    Hyperparameters.add_flags(parser)
    arguments = parser.parse_args()
    chosen = Hyperparameters().with_flags(arguments)

    dataset = OASIS(chosen.data, arguments.data_dir)
    rows = dataset.rows("train")
    vqvae = VQVAETrainer(dataset.image_shape, dataset.variance, chosen.vqvae, chosen.run.seed)
    vqvae.compile(build_optimizer(chosen.vqvae.learning_rate, 1000))

    def read(rows):
        images = dataset.read(rows)
        return images, images

    batches = Batches(read, rows, chosen.vqvae.batch_size)
    loop, one = Loop(vqvae, batches, batches), next(batches.shuffled(0))
    loop.train_step(one)

    delivered, consumed = [], []
    for number in range(ROUNDS):
        began, slices = time.perf_counter(), 0
        for images, *_ in batches.shuffled(number):
            slices += len(images)
        delivered.append(slices / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in range(STEPS):
            np.asarray(loop.train_step(one)["loss"])
        consumed.append(STEPS * len(one[0]) / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(delivered, consumed, strict=True)]
    print(
        f"{len(rows):,} slices of {dataset.image_shape}: pipeline "
        f"{statistics.median(delivered):,.0f} slices/s, training "
        f"{statistics.median(consumed):,.1f} slices/s, ratio {statistics.median(ratios):,.0f} "
        f"({min(ratios):,.0f} to {max(ratios):,.0f}), {ROUNDS} rounds"
    )


if __name__ == "__main__":
    run_script(main)
