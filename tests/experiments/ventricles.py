"""Measures whether new brains have the ventricles of their age, beside real brains.

    python tests/experiments/ventricles.py --run-dir RUN --dataset path/to/oasis1_coronal

For coronal slices 90 to 99 of OASIS-1's atlas volumes, 176x176 pixels: there the dark pixels around
the middle are the lateral and third ventricles. Of every subject of known age some slices are
taken, and for each of them one brain is drawn for its position, age, sex and CDR. The real slices
stand beside themselves through the codes: what these lack, the codes lose; what new brains lack
beyond that, the prior loses. Differences are of pairs, a slice and what was made for it. The
subjects are given by their split in the training of the run, for most of them were trained on.
"""

import argparse
import dataclasses

import _project  # noqa: F401
import numpy as np

from dataset import OASIS, SPLITS, open_test_slices
from hyperparameters import DrawConfig, Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.core.script import run_script
from oasisvq.evaluation.intervals import format_interval, interval_by_subject
from oasisvq.runs.folder import open_run
from oasisvq.sampling.incremental import sample_code_grids
from similarity import known_conditions

ROWS, COLUMNS, DARK = slice(65, 105), slice(58, 118), 0.35
BANDS = ((18, 30), (30, 50), (50, 65), (65, 75), (75, 85), (85, 100))  # years
UNSEEN = "unseen"  # the split of subjects that the run does not know


def main():
    """Draws brains for each subject, and prints the areas by split and age."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", required=True, help="all subjects' slices, with their sheet")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--slices-each", type=int, default=1, help="of each subject")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir, Hyperparameters)
    config = dataclasses.replace(run.hyperparameters.data, dataset=arguments.dataset)
    slices = OASIS(config, arguments.data_dir, run.image_shape)
    rows = choose_rows(slices.table, arguments.slices_each, arguments.seed)
    conditions = known_conditions(slices, rows, open_test_slices(run))
    vqvae, prior = load_vqvae(run), load_prior(run)
    codes = vqvae.encode_all(slices.images, rows)
    uniforms = np.random.default_rng(arguments.seed).random(codes.shape)
    drawn = sample_code_grids(prior, uniforms, DrawConfig(), conditions)
    table = slices.table.iloc[rows][["subject", "age"]].reset_index(drop=True)
    table["split"] = table["subject"].map(run.split()).fillna(UNSEEN)
    table["real"] = areas(slices.slices[rows] / np.float32(255))
    table["codes"] = areas(vqvae.decode_all(codes)[..., 0])
    table["new"] = areas(vqvae.decode_all(drawn)[..., 0])
    print(
        f"pixels below {DARK} about the middle, mean [95% interval over subjects]; "
        f"{len(table)} slices of {table['subject'].nunique()} subjects"
    )
    for split in ("all", *SPLITS, UNSEEN):
        chosen = table[(table["split"] == split) | (split == "all")]
        if chosen["subject"].nunique() > 1:
            print_split(split, chosen)


def choose_rows(table, count, seed):
    """Returns the rows of so many slices of each subject of known age, `(n,)`."""
    known = table[table["age"].notna()]
    shuffled = known.sample(frac=1, random_state=seed)
    return np.sort(shuffled.groupby("subject").head(count).index.to_numpy())


def print_split(name, table):
    """Prints the areas of one split by age, and how they grow with age."""
    print(f"\n{name}, {table['subject'].nunique()} subjects")
    print(f"{'age':10} {'subjects':>8}" + "".join(f"{title:>22}" for title in TITLES))
    bands = {
        f"{low} to {high - 1}": table[(table["age"] >= low) & (table["age"] < high)]
        for low, high in BANDS
    }
    for title, band in (bands | {"all": table}).items():
        if len(band):
            cells = "".join(f"{text:>22}" for text in band_cells(band))
            print(f"{title:10} {band['subject'].nunique():8}{cells}")
    for kind in ("real", "codes", "new"):
        slope, _ = np.polyfit(table["age"], table[kind], 1)
        r = np.corrcoef(table["age"], table[kind])[0, 1]
        print(f"{kind:5}: {slope:.1f} pixels a year, correlation {r:.2f}")


TITLES = ("real", "through the codes", "new", "codes - real", "new - codes", "new / codes - 1")


def band_cells(band):
    """Returns the means of a band of ages with their intervals, as text; see `TITLES`."""
    subjects = band["subject"]
    columns = {name: band[name] for name in ("real", "codes", "new")}
    columns |= {"lost": band["codes"] - band["real"], "missed": band["new"] - band["codes"]}
    intervals = [interval_by_subject(values, subjects) for values in columns.values()]
    share = band["new"].mean() / max(band["codes"].mean(), 1) - 1
    return [*(format_interval(interval, ".0f") for interval in intervals), f"{share:+.0%}"]


def areas(images):
    """Returns how many pixels about the middle of slices `(n, 176, 176)` are dark: `(n,)`."""
    return (images[:, ROWS, COLUMNS] < DARK).sum(axis=(1, 2)).astype(float)


if __name__ == "__main__":
    run_script(main)
