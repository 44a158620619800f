"""Is the age obeyed? The ventricles' area in new brains of several ages, beside real ones.

    python tests/benchmarks/ventricles.py --run-dir RUN --dataset path/to/oasis1_coronal

For coronal slices 90 to 99 of OASIS-1's atlas volumes, 176x176 pixels: there the dark pixels around
the middle are the lateral and third ventricles. The same chances are drawn from at every age.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from errors import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

from dataset import OASIS  # noqa: E402
from runs import open_run  # noqa: E402
from sampling import sample_code_grids  # noqa: E402
from scores import interval_by_subject  # noqa: E402

ROWS, COLUMNS, DARK = slice(65, 105), slice(58, 118), 0.35
AGES = (20, 35, 50, 65, 80, 90)
WITHIN = 7.5  # years


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", required=True, help="all subjects' slices, with their sheet")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--brains", type=int, default=40, help="new ones an age")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    run = open_run(arguments.run_dir)
    chosen = dataclasses.replace(run.hyperparameters, dataset=arguments.dataset)
    slices = OASIS(chosen, arguments.data_dir)
    rows = slices.rows("all")
    subjects = slices.table["subject"].to_numpy()
    ages = slices.conditions(rows)[:, 1]
    real = areas(slices.slices / np.float32(255))
    vqvae, prior = run.load_vqvae(), run.load_prior()
    random = np.random.default_rng(arguments.seed)
    uniforms = random.random((arguments.brains, *vqvae.code_shape))
    conditions = np.full((arguments.brains, 4), np.nan, np.float32)
    conditions[:, 0] = random.choice(slices.conditions(rows)[:, 0], arguments.brains)

    print("pixels below 0.35 about the middle, mean [95% interval]; real: by subject")
    asked, found = [], []
    for age in AGES:
        conditions[:, 1] = age
        brains = vqvae.decode_all(sample_code_grids(prior, uniforms, conditions))
        generated = areas(brains[..., 0])
        asked, found = asked + [age] * len(generated), found + list(generated)
        near = np.abs(ages - age) <= WITHIN
        print(
            f"age {age}: real {cell(real[near], subjects[near])}, "
            f"{len(set(subjects[near]))} subjects; generated "
            f"{cell(generated, np.arange(len(generated)))}, {len(generated)} brains",
            flush=True,
        )
    names = np.unique(subjects)
    by_subject = [(ages[subjects == n][0], real[subjects == n].mean()) for n in names]
    print(
        f"correlation of area and age: real {np.corrcoef(np.transpose(by_subject))[0, 1]:.2f} "
        f"({len(names)} subjects), generated {np.corrcoef(asked, found)[0, 1]:.2f} "
        f"({len(found)} brains)"
    )


def areas(images):
    """Dark pixels about the middle of slices `(n, 176, 176)` in [0, 1]: `(n,)`."""
    return (images[:, ROWS, COLUMNS] < DARK).sum(axis=(1, 2)).astype(float)


def cell(values, owners):
    interval = interval_by_subject(values, owners)
    return f"{interval['mean']:.0f} [{interval['low']:.0f}, {interval['high']:.0f}]"


if __name__ == "__main__":
    run_script(main)
