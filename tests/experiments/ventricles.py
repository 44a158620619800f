"""Measures whether new brains have the ventricles of their age, beside real brains.

    python tests/experiments/ventricles.py --run-dir RUN --dataset path/to/oasis1_coronal

For coronal slices 90 to 99 of OASIS-1's atlas volumes, 176x176 pixels: there the dark pixels around
the middle are the lateral and third ventricles. Of every subject of known age one slice is taken,
and one brain is drawn for its position, age, sex and CDR.
"""

import argparse
import dataclasses

import _project  # noqa: F401
import numpy as np

from dataset import OASIS, open_test_slices
from hyperparameters import DrawConfig, Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.core.script import run_script
from oasisvq.evaluation.intervals import format_interval, interval_by_subject
from oasisvq.runs.folder import open_run
from oasisvq.sampling.incremental import sample_code_grids
from similarity import known_conditions

ROWS, COLUMNS, DARK = slice(65, 105), slice(58, 118), 0.35
BANDS = ((18, 30), (30, 50), (50, 65), (65, 75), (75, 85), (85, 100))  # years


def main():
    """Draws a brain for each subject, and prints the areas by age."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", required=True, help="all subjects' slices, with their sheet")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir, Hyperparameters)
    config = dataclasses.replace(run.hyperparameters.data, dataset=arguments.dataset)
    slices = OASIS(config, arguments.data_dir)
    known = slices.table[slices.table["age"].notna()]
    rows = known.groupby("subject").sample(1, random_state=arguments.seed).index.to_numpy()
    conditions = known_conditions(slices, rows, open_test_slices(run))
    vqvae, prior = load_vqvae(run), load_prior(run)
    random = np.random.default_rng(arguments.seed)
    uniforms = random.random((len(rows), *vqvae.code_shape))
    codes = sample_code_grids(prior, uniforms, DrawConfig(), conditions)
    area = {
        "real": areas(slices.slices[rows] / np.float32(255)),
        "generated": areas(vqvae.decode_all(codes)[..., 0]),
    }
    ages, splits = conditions[:, 1], slices.table["split"].iloc[rows].to_numpy()
    print(f"pixels below {DARK} about the middle, one slice a subject, mean [95% interval]")
    for low, high in BANDS:
        band = (ages >= low) & (ages < high)
        if band.sum() > 1:
            cells = "; ".join(f"{name} {cell(values[band])}" for name, values in area.items())
            print(f"age {low} to {high}, {band.sum()} subjects: {cells}")
    for split in ("all", "test"):
        chosen = (splits == split) | (split == "all")
        for name, values in area.items():
            slope, _ = np.polyfit(ages[chosen], values[chosen], 1)
            r = np.corrcoef(ages[chosen], values[chosen])[0, 1]
            print(
                f"{split} {chosen.sum()} subjects, {name}: {slope:.1f} pixels a year, "
                f"correlation {r:.2f}"
            )


def areas(images):
    """Returns how many pixels about the middle of slices `(n, 176, 176)` are dark: `(n,)`."""
    return (images[:, ROWS, COLUMNS] < DARK).sum(axis=(1, 2)).astype(float)


def cell(values):
    """Returns the mean of values `(n,)` and its interval, as text."""
    return format_interval(interval_by_subject(values, np.arange(len(values))), ".0f")


if __name__ == "__main__":
    run_script(main)
