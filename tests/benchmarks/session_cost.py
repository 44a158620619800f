"""Measures the seconds and the peak memory of slicing one session of OASIS-1 and of OASIS-2.

    python tests/benchmarks/session_cost.py [--sessions 6] [--head HEAD.nii.gz]

Archives of real sizes are made and `dataset.py` slices them, once with one session and once with
all: the difference is what a session costs beside starting up. An OASIS-2 session has four
repeats, moved by a millimetre and noisy, of HEAD, a whole head in any orientation (default: the
ICBM-152 template in a skull of its own).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _project import ROOT
from scipy import ndimage

from oasisvq.data.registration import _template
from oasisvq.data.volumes import read_volume
from support.archive_builder import oasis1_session, oasis2_session, write_archive

ATLAS_SHAPE, RAW_SHAPE = (176, 208, 176), (128, 256, 256)
REPEATS = 4
MEASURED = r"""
import atexit, re, runpy, sys
peak = lambda: re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]
atexit.register(lambda: print(peak(), file=sys.stderr))
runpy.run_path("dataset.py", run_name="__main__")
"""


def invented_head():
    """Returns the template amid fluid, bone and scalp: RAS voxels of 1 mm."""
    brain = _template().voxels
    distance = ndimage.distance_transform_edt(brain == 0)
    around = np.select([distance < 4, distance < 8, distance < 14], [0.2, 0.05, 0.8], 0.0)
    return np.where(distance > 0, around, brain)


def raw_scan(head, random):
    """Returns a head as in a raw scan: 1.25 mm from left to right, a little moved, noisy."""
    scale = 2500 / np.percentile(head[head > 0], 99)
    middle = (np.array(head.shape) - 1) / 2
    step = np.diag([1.25, 1, 1])
    offset = middle - step @ ((np.array(RAW_SHAPE) - 1) / 2) + random.normal(0, 0.7, 3)
    moved = ndimage.affine_transform(head, step, offset, RAW_SHAPE, order=1)
    return np.abs(scale * moved + random.normal(0, 25, RAW_SHAPE))


def build(folder, sessions, head, random):
    """Builds archives of both collections with this many sessions."""
    atlas = np.abs(2500 * _template().voxels + random.normal(0, 15, ATLAS_SHAPE))
    raws = [raw_scan(head, random) for _ in range(REPEATS)]
    one, two = {}, {}
    for number in range(1, sessions + 1):
        name = f"OAS1_{number:04d}_MR1"
        one[name] = oasis1_session(name, atlas, atlas * (_template().voxels > 0), raw=raws[0])
        two[f"OAS2_{number:04d}_MR1"] = oasis2_session(raws)
    write_archive(folder / "oasis_cross-sectional_disc1.tar.gz", "disc1", one)
    write_archive(folder / "OAS2_RAW_PART1.tar.gz", "OAS2_RAW_PART1", two)
    for sheet in ("oasis_cross-sectional.csv", "oasis_longitudinal.csv"):
        (folder / sheet).write_text("ID,Age\n")


def measure(dataset, folder):
    """Returns the seconds and the peak megabytes of one run of `dataset.py`."""
    flags = ["--dataset", dataset, "--discs", "1", "--data-dir", folder]
    began = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *flags], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return time.perf_counter() - began, int(run.stderr.split()[-1]) / 1024


def main():
    """Measures runs with one session and with more, and prints what each more costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--head", type=Path, help="a whole head (default: an invented one)")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    head = read_volume(arguments.head).voxels if arguments.head else invented_head()
    with tempfile.TemporaryDirectory() as place:
        few, many = Path(place) / "few", Path(place) / "many"
        build(few, 1, head, random)
        build(many, arguments.sessions, head, random)
        for dataset in ("oasis1", "oasis2"):
            first, _ = measure(dataset, few)
            seconds, peak = measure(dataset, many)
            each = (seconds - first) / (arguments.sessions - 1)
            print(
                f"{dataset}: {each:.2f} s a session, {first:.1f} s with the first; "
                f"{peak:.0f} MB at most ({arguments.sessions} sessions)"
            )


if __name__ == "__main__":
    main()
