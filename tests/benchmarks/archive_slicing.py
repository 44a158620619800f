"""How fast an archive of OASIS-1 is sliced, beside nothing but decompressing it.

Builds an archive of real sizes in OASIS-1's layout (the ICBM-152 template with noise, four raw
scans a session, packed as `gzip -6` does), then alternates, all from the disk's cache:
decompression by Python's gzip, decompression by igzip, and slicing with the defaults.
"""

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from isal import igzip

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from archive_builder import oasis1_session, write_archive

from hyperparameters import Hyperparameters
from oasisvq.data.prepare import Store
from oasisvq.data.sources.base import BadScan, open_source
from oasisvq.data.sources.synthetic import load_template

PIECE = 2**20  # bytes
ATLAS_SHAPE, RAW_SHAPE = (176, 208, 176), (128, 256, 256)


def fit(voxels, shape):
    """The middle of a volume, or the volume amid zeros, along each axis."""
    fitted = np.zeros(shape, np.float32)
    cuts = [
        (slice(max(0, (old - new) // 2), max(0, (old - new) // 2) + min(old, new)),
         slice(max(0, (new - old) // 2), max(0, (new - old) // 2) + min(old, new)))
        for old, new in zip(voxels.shape, shape, strict=True)
    ]  # fmt: skip
    fitted[tuple(to for _, to in cuts)] = voxels[tuple(cut for cut, _ in cuts)]
    return fitted


def build(folder, sessions):
    """An archive of real sizes; returns its path."""
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
    with module.open(path) as file:
        while file.read(PIECE):
            pass


def slice_all(folder):
    hyperparameters = Hyperparameters(dataset="oasis1", discs="1")
    with tempfile.TemporaryDirectory() as store:
        scans = [*open_source(hyperparameters, folder).scans(Store(Path(store)))]
    assert not any(isinstance(scan, BadScan) for scan in scans)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder), arguments.sessions)
        (Path(folder) / "oasis_cross-sectional.csv").write_text("ID,Age\n")
        ways = {
            "gzip": lambda: drain(gzip, path),
            "igzip": lambda: drain(igzip, path),
            "slicing": lambda: slice_all(Path(folder)),
        }
        ways["slicing"]()  # records the archive's SHA-256, once
        seconds = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - began)
        print(f"{arguments.sessions} sessions, {path.stat().st_size / 1e6:.0f} MB packed")
        for name, values in seconds.items():
            speeds = [igzip / own for igzip, own in zip(seconds["igzip"], values, strict=True)]
            median = statistics.median(values)
            print(
                f"{name:8} {median:.2f} s, {median / arguments.sessions:.2f} s a session; igzip's "
                f"speed times {statistics.median(speeds):.2f} ({min(speeds):.2f} to "
                f"{max(speeds):.2f}, {arguments.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
