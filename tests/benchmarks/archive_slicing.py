"""Compares slicing an archive of OASIS-1 with nothing but decompressing it.

    python tests/benchmarks/archive_slicing.py [--sessions 4] [--rounds 5]

Builds an archive of real sizes in OASIS-1's layout (the ICBM-152 template with noise, four raw
scans a session, packed as `gzip -6` does), then alternates, all from the disk's cache:
decompression by Python's gzip, decompression by igzip, and slicing with the defaults.
"""

import argparse
import gzip
import statistics
import tempfile
from pathlib import Path

import _project  # noqa: F401
import numpy as np
from isal import igzip
from timing import alternate

from hyperparameters import Hyperparameters
from oasisvq.data.prepare import Store, open_source
from oasisvq.data.sources.base import BadScan
from oasisvq.data.sources.synthetic import load_template
from support.archive_builder import oasis1_session, write_archive

PIECE = 2**20  # bytes
ATLAS_SHAPE, RAW_SHAPE = (176, 208, 176), (128, 256, 256)


def fit(voxels, shape):
    """Returns the middle of a volume, amid zeros along the axes where it is too small."""
    starts = [max(old - new, 0) // 2 for old, new in zip(voxels.shape, shape, strict=True)]
    cut = zip(starts, shape, strict=True)
    middle = voxels[tuple(slice(start, start + size) for start, size in cut)]
    missing = [new - old for old, new in zip(middle.shape, shape, strict=True)]
    return np.pad(middle, [(count // 2, count - count // 2) for count in missing])


def build(folder, sessions):
    """Builds an archive of real sizes, and returns its path."""
    random = np.random.default_rng(0)
    brain = fit(load_template().voxels * 2500, ATLAS_SHAPE)
    files = {}
    for number in range(sessions):
        head = np.abs(brain + random.normal(0, 15, ATLAS_SHAPE))
        raw = np.abs(fit(brain, RAW_SHAPE) + random.normal(0, 15, RAW_SHAPE))
        name = f"OAS1_{number:04d}_MR1"
        files[name] = oasis1_session(name, head, head * (brain > 0), raw=raw)
    return write_archive(folder / "oasis_cross-sectional_disc1.tar.gz", "disc1", files, level=6)


def drain(module, path):
    """Decompresses a file to its end."""
    with module.open(path) as file:
        while file.read(PIECE):
            pass


def slice_all(folder):
    """Slices all sessions of the archive, which must all be good."""
    config = Hyperparameters().replace(dataset="oasis1", discs="1").data
    with tempfile.TemporaryDirectory() as store:
        scans = [*open_source(config, folder).scans(Store(Path(store)))]
    assert not any(isinstance(scan, BadScan) for scan in scans)


def main():
    """Times the three in turns, and prints how fast each is beside igzip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder), arguments.sessions)
        (Path(folder) / "oasis_cross-sectional.csv").write_text("ID,Age\n")
        ways = {
            "gzip": lambda: drain(gzip, path),
            "igzip": lambda: drain(igzip, path),
            "slicing": lambda: slice_all(Path(folder)),  # the first time records the SHA-256
        }
        seconds = alternate(ways, arguments.rounds)
        print(f"{arguments.sessions} sessions, {path.stat().st_size / 1e6:.0f} MB packed")
        for name, values in seconds.items():
            speeds = [fast / own for fast, own in zip(seconds["igzip"], values, strict=True)]
            median = statistics.median(values)
            print(
                f"{name:8} {median:.2f} s, {median / arguments.sessions:.2f} s a session; igzip's "
                f"speed times {statistics.median(speeds):.2f} ({min(speeds):.2f} to "
                f"{max(speeds):.2f}, {arguments.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
