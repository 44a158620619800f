"""Compares the sampler with loops of forward passes, and with what the processor could do at most.

    python tests/benchmarks/sampling_speed.py [--run-dir RUN]

Four things are timed in turns, in one process, for 16 and for 64 grids of 44x44 codes:

- `sample_code_grids`, all of the grid;
- a loop of `model.predict`, as the Keras examples sample: a whole forward pass for each code;
- the same loop with the forward pass compiled by `tf.function`, of which only the logits of the
  one position are fetched;
- products of large float32 matrices, which tell how fast the processor multiplies at most, and so
  how long the multiplications that the sampler cannot do without would take.

The loops would take hours: of each, a few positions spread over the grid are timed, and that is
multiplied up to all of them. Every position costs the loop the same, one forward pass. What it
draws there, given the sampler's codes before it, must be what the sampler drew.

`--profile` prints instead which calls the sampler spends its time in.

Speed does not depend on the weights: without a run, they are those of an untrained default prior.
"""

import argparse
import cProfile
import pstats
import statistics

import _project  # noqa: F401
import numpy as np
import tensorflow as tf
from timing import alternate, ratio_text

from hyperparameters import DrawConfig, Hyperparameters, PriorConfig
from modules import PixelCNN, load_prior
from oasisvq.core.script import run_script
from oasisvq.nn.conditioning import CONDITION_COUNT
from oasisvq.runs.folder import open_run
from oasisvq.sampling.draw import draw_codes
from oasisvq.sampling.incremental import sample_code_grids

MATRIX = 4096  # rows and columns of the large products


def main():
    """Compares, or profiles, the sampler of one prior."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", help="whose prior (default: an untrained one)")
    parser.add_argument("--grids", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--positions", type=int, default=4, help="timed of a loop in a round")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.run_dir:
        prior = load_prior(open_run(arguments.run_dir, Hyperparameters))
    else:
        prior = PixelCNN((44, 44), 512, PriorConfig(), seed=0)
    height, width = prior.code_shape
    print(
        f"{height}x{width} codes of {prior.num_embeddings}; of the loops' {height * width} "
        f"positions {arguments.positions} a round, spread over the grid"
    )
    for count in arguments.grids:
        if arguments.profile:
            profile(prior, count)
            continue
        compare(prior, count, arguments.rounds, arguments.positions)


def profile(prior, count):
    """Prints the calls in which sampling so many grids spends most time."""
    uniforms = np.random.default_rng(0).random((count, *prior.code_shape))
    sample_code_grids(prior, uniforms, DrawConfig())  # what is done only once does not count
    with cProfile.Profile() as profiler:
        sample_code_grids(prior, uniforms, DrawConfig())
    pstats.Stats(profiler).sort_stats("tottime").print_stats(16)


def compare(prior, count, rounds, positions):
    """Times all four for this many grids, and prints how they compare."""
    uniforms = np.random.default_rng(0).random((count, *prior.code_shape))
    conditions = np.full((count, CONDITION_COUNT), np.nan, np.float32)
    codes = sample_code_grids(prior, uniforms, DrawConfig(), conditions)
    everywhere = np.prod(prior.code_shape)
    timed = np.linspace(0, everywhere - 1, positions, dtype=int)

    @tf.function
    def forward(codes, row, column):
        return prior((codes, conditions))[:, row, column]

    def predict(codes, row, column):
        return prior.predict((codes, conditions), verbose=0)[:, row, column]

    drawn = {}

    def loop(name, logits):
        drawn[name] = np.full_like(codes, -1)
        for row, column in zip(*np.unravel_index(timed, prior.code_shape), strict=True):
            here = logits(codes, row, column)
            drawn[name][:, row, column] = draw_codes(here, uniforms[:, row, column], DrawConfig())

    matrix = np.random.default_rng(0).random((2, MATRIX, MATRIX), np.float32)
    seconds = alternate(
        {
            "sampler": lambda: sample_code_grids(prior, uniforms, DrawConfig(), conditions),
            "predict": lambda: loop("predict", predict),
            "compiled": lambda: loop(
                "compiled", lambda *place: forward(*map(tf.constant, place)).numpy()
            ),
            "product": lambda: np.matmul(matrix[0], matrix[1]),
        },
        rounds,
    )
    for name in ("predict", "compiled"):
        seconds[name] = [s * everywhere / positions for s in seconds[name]]
    needed = multiplications(prior) * everywhere * count
    seconds["bound"] = [s * needed / MATRIX**3 for s in seconds["product"]]

    print(f"{count} grids: {statistics.median(seconds['sampler']):.2f} s, median")
    for name, what in (("predict", "a loop of predict"), ("compiled", "a compiled loop")):
        same = (drawn[name] == codes)[drawn[name] >= 0]
        print(
            f"  {what}: {statistics.median(seconds[name]) / 60:.0f} minutes, "
            f"{ratio_text(seconds[name], seconds['sampler'])}; "
            f"{same.sum()} of {same.size} codes are the sampler's"
        )
    rate = [2e-9 * MATRIX**3 / s for s in seconds["product"]]
    print(
        f"  its {2e-9 * needed:.1f} Gflop alone, at {statistics.median(rate):.0f} Gflop/s: "
        f"{statistics.median(seconds['bound']):.2f} s; "
        f"the sampler takes {ratio_text(seconds['sampler'], seconds['bound'])}"
    )


def multiplications(prior):
    """Returns how many the sampler needs for one position: one for each weight, and attention.

    What the codes of the same row add to the first convolution is looked up.
    """
    height, width = prior.code_shape
    blocks = [*prior.above_blocks, *prior.here_blocks]
    masked = [prior.above_conv, *(block.pixel_conv for block in blocks)]
    kernels = [layer.visible_kernel for layer in masked]
    kernels += [prior.here_conv.visible_kernel[:-1], prior.hidden.conv.kernel, prior.logits.kernel]
    kernels += [layer.kernel for block in blocks for layer in (block.conv1, block.conv2)]
    seen = {prior.above_rows: width, prior.above_columns: (height + 1) / 2}  # places, on average
    seen[prior.here_rows] = (width + 1) / 2
    kernels += [
        layer.kernel for attention in seen for layer in (attention.project, attention.combine)
    ]
    between = sum(2 * places * layer.heads * layer.size for layer, places in seen.items())
    return sum(np.prod(kernel.shape) for kernel in kernels) + between


if __name__ == "__main__":
    run_script(main)
