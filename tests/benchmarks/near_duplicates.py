"""Times the search for near-duplicates among the slices of a prepared folder.

    python tests/benchmarks/near_duplicates.py FOLDER

FOLDER is one that `dataset.py` names: it holds `slices.npy` and `slices.csv`.
"""

import argparse
import time
from pathlib import Path
from unittest import mock

import _project  # noqa: F401

from oasisvq.data import near_duplicates
from oasisvq.data.prepare import read_prepared


def main():
    """Prints the seconds for describing the slices and for comparing them, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    slices, table, _, _ = read_prepared(parser.parse_args().folder)
    began = time.perf_counter()
    described = near_duplicates._describe(slices)
    between = time.perf_counter()
    with mock.patch.object(near_duplicates, "_describe", lambda slices: described):
        found = near_duplicates.compare_subjects(slices, table)
    done = time.perf_counter()
    print(
        f"{table['subject'].nunique()} subjects, {len(table):,} slices: described in "
        f"{between - began:.1f} s, compared in {done - between:.1f} s; {len(found.pairs)} pairs"
    )
    for way, figures in found.figures.items():
        print(f"  {way}: {figures}")


if __name__ == "__main__":
    main()
