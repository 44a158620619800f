"""How fast an archive of OASIS-1 is sliced, beside nothing but decompressing it.

Builds an archive of real sizes in OASIS-1's layout (the ICBM-152 template with noise, four raw
scans a session, packed as `gzip -6` does), then alternates, all from the disk's cache:
decompression by Python's gzip, decompression by igzip, and slicing with the defaults.
"""

import argparse
import gzip
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from archive_builder import oasis1_session, write_archive
from isal import igzip

from hyperparameters import Hyperparameters
from registration import ATLAS_SHAPE, brain_mask, template_on_atlas
from sources import FinishedPart, open_source

PIECE = 2**20  # bytes


def build(folder, sessions):
    """An archive of real sizes; returns its path."""
    random = np.random.default_rng(0)
    brain = np.where(brain_mask(), template_on_atlas(), 0) * 2500
    raw_shape = (128, 256, 256)
    files = {}
    for number in range(sessions):
        head = np.abs(brain + random.normal(0, 15, ATLAS_SHAPE))
        raw = np.abs(random.normal(0, 12, raw_shape))
        raw[:, 24:232, 40:216] += head[24:152]
        name = f"OAS1_{number:04d}_MR1"
        files[name] = oasis1_session(name, head, head * (brain > 0), raw=raw)
    return write_archive(folder / "oasis_cross-sectional_disc1.tar.gz", "disc1", files, level=6)


def drain(module, path):
    with module.open(path) as file:
        while file.read(PIECE):
            pass


def slice_all(folder):
    hyperparameters = Hyperparameters(dataset="oasis1", discs="1")
    scans = [*open_source(hyperparameters, folder).scans(())]
    assert not [s for s in scans if not hasattr(s, "pictures") and not isinstance(s, FinishedPart)]
    return scans


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
            print(
                f"{name:8} {statistics.median(values):.2f} s, "
                f"{statistics.median(values) / arguments.sessions:.2f} s a session; speed by igzip's "
                f"{statistics.median(speeds):.2f} ({min(speeds):.2f} to {max(speeds):.2f}, "
                f"{arguments.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
