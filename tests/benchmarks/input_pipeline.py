"""How much faster the input pipeline delivers slices than training takes them.

    python tests/benchmarks/input_pipeline.py [--dataset PATH] [--data-dir DIR]

Both are timed in turns, in one process, at the default batch size and model. The pipeline is
training's own, without the model; a step of training is one on a batch that is there already.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hyperparameters import Parser, add_flags, hyperparameters_from_flags

ROUNDS = 5
STEPS = 5


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="data")
    add_flags(parser)
    arguments = parser.parse_args()
    chosen = hyperparameters_from_flags(arguments)

    import numpy as np

    from dataset import OASIS
    from oasisvq.runs.folder import Run
    from oasisvq.training.loop import Stage, batches_at_random, build_optimizer, feed

    dataset = OASIS(chosen, arguments.data_dir)
    rows = dataset.rows("train")
    vqvae = Run(Path(), chosen, dataset.image_shape, dataset.variance()).build_vqvae()
    optimizer = build_optimizer(chosen.learning_rate, 1000)
    stage = Stage(
        "vqvae", vqvae, optimizer, dataset.read, rows, rows[:1], chosen.batch_size, 1, chosen.seed
    )
    step = stage.compiled_train_step
    (one, _), *_ = feed(dataset.read, batches_at_random(rows, stage.batch_size, 0, 0)[:1])
    step(one)

    delivered, consumed = [], []
    for number in range(ROUNDS):
        began, slices = time.perf_counter(), 0
        for images, _ in feed(dataset.read, batches_at_random(rows, stage.batch_size, 0, number)):
            slices += len(images)
        delivered.append(slices / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in range(STEPS):
            np.asarray(step(one)["loss"])
        consumed.append(STEPS * len(one) / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(delivered, consumed, strict=True)]
    print(
        f"{len(rows):,} slices of {dataset.image_shape}: pipeline "
        f"{statistics.median(delivered):,.0f} slices/s, training "
        f"{statistics.median(consumed):,.1f} slices/s, ratio {statistics.median(ratios):,.0f} "
        f"({min(ratios):,.0f} to {max(ratios):,.0f}), {ROUNDS} rounds"
    )


if __name__ == "__main__":
    main()
