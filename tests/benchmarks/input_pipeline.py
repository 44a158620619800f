"""How much faster the input pipeline delivers slices than training takes them.

    python tests/benchmarks/input_pipeline.py [--dataset PATH] [--data-dir DIR]

Both are timed in turns, in one process, at the default batch size and model.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hyperparameters import Parser, add_flags, hyperparameters_from_flags

ROUNDS = 5


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="data")
    add_flags(parser)
    arguments = parser.parse_args()
    chosen = hyperparameters_from_flags(arguments)

    import tensorflow as tf

    from dataset import OASIS
    from runs import Run
    from train import compile_for

    dataset = OASIS(chosen, arguments.data_dir)
    batches = dataset.batches("train", chosen.batch_size, shuffle_seed=0)
    vqvae = Run(Path(), chosen, dataset.image_shape, dataset.variance()).build_vqvae()
    compile_for(vqvae, chosen.learning_rate, 1000)
    one = next(iter(batches))
    vqvae.optimizer.build(vqvae.trainable_variables)
    step = tf.function(vqvae.train_step)
    step(one)

    delivered, consumed = [], []
    for _ in range(ROUNDS):
        began, slices = time.perf_counter(), 0
        for images in batches:
            slices += len(images)
        delivered.append(slices / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in range(5):
            step(one)
        consumed.append(5 * len(one) / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(delivered, consumed, strict=True)]
    print(
        f"{len(dataset.rows('train')):,} slices of {dataset.image_shape}: pipeline "
        f"{statistics.median(delivered):,.0f} slices/s, training "
        f"{statistics.median(consumed):,.1f} slices/s, ratio {statistics.median(ratios):,.0f} "
        f"({min(ratios):,.0f} to {max(ratios):,.0f}), {ROUNDS} rounds"
    )


if __name__ == "__main__":
    main()
