"""Measures what the quantities of the anatomy have to do with the sheet's nWBV and with age.

    python tests/experiments/anatomy.py --dataset path/to/oasis1_coronal

For a data set with a sheet that has nWBV, the share of the head that is brain tissue, measured on
the whole volume. Of each person two slices are measured, a quarter of the way from either end of
the positions; how well one slice tells another is measured on neighbouring positions.
"""

import argparse

import _project  # noqa: F401
import numpy as np
import pandas

from dataset import OASIS
from hyperparameters import Hyperparameters
from oasisvq.core.errors import DatasetError
from oasisvq.core.script import run_script
from oasisvq.evaluation.anatomy import QUANTITIES, measure_anatomy

BOOTSTRAPS = 2000


def main():
    """Prints a table with a row a quantity, and the tissue fraction by the number of slices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="slices, with a sheet that has nWBV")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--pixel-size", type=float, default=1.0, help="mm (default: %(default)s)")
    arguments = parser.parse_args()

    slices = OASIS(Hyperparameters().replace(dataset=arguments.dataset).data, arguments.data_dir)
    table = slices.labels(slices.rows("all"))
    if not {"age", "nwbv"} <= set(table.columns):
        raise DatasetError(f"{arguments.dataset}: its sheet has no columns of age and nWBV")
    table = table[table["age"].notna() & table["nwbv"].notna()].sort_values("position")
    images = slices.slices[table.index] / np.float32(255)
    anatomy = measure_anatomy(images, arguments.pixel_size)[0]
    table = table[["subject", "position", "age", "nwbv"]].reset_index(drop=True).join(anatomy)

    positions = np.unique(table["position"])
    quarter = (len(positions) - 1) // 4
    chosen = {
        "one": positions[[len(positions) // 2]],
        "two": positions[[quarter, -1 - quarter]],
        "all": positions,
    }
    persons = {name: means(table, places) for name, places in chosen.items()}
    print(f"{len(persons['two'])} persons, slices {' and '.join(map(str, chosen['two']))} of each")
    print("| quantity | with nWBV | with age | neighbouring slices |")
    print("|---|---|---|---|")
    for name in QUANTITIES:
        cells = correlation_cells(persons["two"], name)
        print(f"| `{name}` | {cells} | {repeatability(table, name, positions):.2f} |")
    print("\n| slices a person | tissue with nWBV | tissue with age |")
    print("|---|---|---|")
    for name, some in persons.items():
        places = ", ".join(map(str, chosen[name])) if name != "all" else f"all {len(positions)}"
        print(f"| {places} | {correlation_cells(some, 'tissue_fraction')} |")


def means(table, positions):
    """Returns the means over these positions of each person who has them all."""
    some = table[table["position"].isin(positions)].groupby("subject")
    return some.mean()[some.size() == len(positions)]


def correlation_cells(persons, name):
    """Returns the correlations of a quantity with nWBV and with age, as two cells of a table."""
    return " | ".join(correlation(persons[name], persons[other]) for other in ("nwbv", "age"))


def correlation(x, y):
    """Returns a correlation over persons with its 95% interval, as text.

    Persons are drawn with replacement.
    """
    pairs = np.stack([x, y])
    drawn = np.random.default_rng(0).integers(len(x), size=(BOOTSTRAPS, len(x)))
    values = [np.corrcoef(pairs[:, rows])[0, 1] for rows in drawn]
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{np.corrcoef(pairs)[0, 1]:.2f} [{low:.2f}, {high:.2f}]"


def repeatability(table, name, positions):
    """Returns the mean correlation over persons of a quantity at neighbouring positions."""
    at: pandas.DataFrame = table.pivot_table(name, "subject", "position")
    pairs = zip(positions[:-1], positions[1:], strict=True)
    return np.mean([at[one].corr(at[other]) for one, other in pairs])


if __name__ == "__main__":
    run_script(main)
