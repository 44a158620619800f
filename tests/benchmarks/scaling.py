"""Measures how the sampler's time and memory grow with the grid, the codes and the slices.

    python tests/benchmarks/scaling.py [--figure scaling.png]

One number is varied at a time about the default prior (44x44 codes of 512, 16 grids), untrained:
speed does not depend on the weights. Its values are timed in turns; each exponent is the slope of a
straight line through the logarithms. Beside the grid's side stands a loop of compiled forward
passes, of which one is timed and multiplied up to all positions. Memory is the peak of what NumPy
and Python allocate while sampling (tracemalloc), the prior not among it.
"""

import argparse
import functools
import statistics
import tracemalloc
from pathlib import Path

import _project  # noqa: F401
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from timing import alternate

from hyperparameters import DrawConfig, PriorConfig
from modules import PixelCNN
from oasisvq.core.script import run_script
from oasisvq.nn.conditioning import CONDITION_COUNT
from oasisvq.sampling.incremental import GRIDS_AT_ONCE, sample_code_grids

SIDE, GRIDS = 44, 16  # where they are not varied
VARIED = {
    "side": ("side of the grid, codes", (16, 24, 32, 48, 64)),
    "grids": ("grids at once", (1, 2, 4, 8, 16, 32, 64)),
    "codes": ("codes K", (128, 256, 512, 1024, 2048)),
    "slices": (f"slices, {GRIDS_AT_ONCE} at once", (64, 128, 256)),
}


def main():
    """Measures each, prints the exponents, and draws them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, help="PNG with a panel for each")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measured = {}
    for name, (label, values) in VARIED.items():
        seconds, megabytes = measure(name, values, arguments.rounds)
        measured[name] = seconds, megabytes
        print(f"{label}: " + ", ".join(map(str, values)))
        report(values, "  time", seconds, "s")
        report(values, "  memory", megabytes, "MB")
    sides = VARIED["side"][1]
    loop = [forward_seconds(side, arguments.rounds) * side**2 for side in sides]
    report(sides, "a loop of forward passes against the side: time", loop, "s")
    if arguments.figure:
        draw(measured, loop, arguments.figure)


def build_prior(side=SIDE, codes=512):
    """Builds the default prior, untrained, over a square grid."""
    return PixelCNN((side, side), codes, PriorConfig(), seed=0)


def measure(name, values, rounds):
    """Returns the median seconds and the peak megabytes at each value."""
    functions = {}
    for value in values:
        prior = build_prior(**{name: value} if name in ("side", "codes") else {})
        count = value if name in ("grids", "slices") else GRIDS
        uniforms = np.random.default_rng(0).random((count, *prior.code_shape))
        functions[value] = functools.partial(sample_code_grids, prior, uniforms, DrawConfig())
    seconds = alternate(functions, rounds)
    return [statistics.median(seconds[v]) for v in values], [peak(functions[v]) for v in values]


def peak(function):
    """Returns how many megabytes are allocated at most while a function runs."""
    tracemalloc.start()
    function()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


def forward_seconds(side, rounds):
    """Returns the median seconds of one compiled forward pass over the grids."""
    prior = build_prior(side)
    inputs = tf.zeros((GRIDS, side, side), tf.int32), tf.zeros((GRIDS, CONDITION_COUNT))
    forward = tf.function(lambda codes, conditions: prior((codes, conditions)))
    return statistics.median(alternate({"": lambda: forward(*inputs).numpy()}, rounds)[""])


def exponent(values, amounts):
    """Returns the power of the values by which the amounts grow."""
    return np.polyfit(np.log(values), np.log(amounts), 1)[0]


def report(values, what, amounts, unit):
    """Prints the amounts and their exponent."""
    numbers = ", ".join(
        f"{amount:,.3g}" if amount < 100 else f"{amount:,.0f}" for amount in amounts
    )
    print(f"{what}: {numbers} {unit}; exponent {exponent(values, amounts):.2f}", flush=True)


def draw(measured, loop, path):
    """Draws time above memory, a column for each of `VARIED`, with one scale along a row."""
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes = figure.subplots(2, 4, sharey="row")
    for column, (name, (label, values)) in enumerate(VARIED.items()):
        for axis, amounts in zip(axes[:, column], measured[name], strict=True):
            axis.loglog(values, amounts, "o-", label="sampler")
            axis.set_title(f"exponent {exponent(values, amounts):.2f}")
            axis.set_xlabel(label)
            axis.set_xticks(values, map(str, values))
            axis.set_xticks([], minor=True)
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("time, s")
    axes[1, 0].set_ylabel("memory at most, MB")
    axis, sides = axes[0, 0], VARIED["side"][1]
    axis.plot(sides, loop, "s--", label="a forward pass for each code")
    axis.set_title(f"{axis.get_title()}; forward passes {exponent(sides, loop):.2f}")
    axis.legend(loc=(0.22, 0.34))  # between the two lines
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(main)
