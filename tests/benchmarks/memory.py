"""Measures the peak memory of preparing and training on many slices, beside their size.

    python tests/benchmarks/memory.py [--scans 5000] [--width 16]

Invented scans of ten smooth slices of 208x176 go through `prepare`, then `train.py` and
`predict.py` run on them. Whatever grows with the number of slices is done for all of them:
records, joining, near-duplicates, variance, mean slices, the test slices' copy, encoding, the
prior's baseline. What does not is cut short: of either stage, training takes STEPS steps, and as
many of validation; the network is narrow, unless `--width` says otherwise, for encoding takes most
of the time. `similarity.py` is left out: it decodes all training slices, on disk.

Memory is read from Linux every 10 ms. "Own" is what the process allocated; "with files" counts the
pages of memory-mapped files too, which the system takes back when it needs them.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
from _project import ROOT

from hyperparameters import DataConfig
from oasisvq.core.script import import_tensorflow_quietly
from oasisvq.data import prepare as preparation
from oasisvq.data.sources.base import WHOLE, Scan, Source

SHAPE, SLICES, STEPS = (208, 176), 10, 8
GRID = (26, 22)  # cells of noise, an eighth of the slice
STAGES = (
    "check_trainable",
    "save_slices",
    "train_vqvae",
    "train_prior",
)


class Peaks:
    """Watches the memory of this process while stages run, one within another or in turn."""

    def __init__(self):
        self.running = {}  # from name to the highest yet, own and with files, in bytes
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            now = _memory()
            for name, peak in list(self.running.items()):
                self.running[name] = [max(pair) for pair in zip(peak, now, strict=True)]
            time.sleep(0.01)

    @contextlib.contextmanager
    def stage(self, name):
        self.running[name], began = _memory(), time.monotonic()
        yield
        own, resident = self.running.pop(name)
        seconds = time.monotonic() - began
        print(f"{name:20}{own / 1e9:9.2f}{resident / 1e9:13.2f}{seconds:10.0f}", flush=True)


def _memory():
    """Returns the bytes that are this process's own, and those with mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return [int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")]


class InventedSource(Source):
    """Yields as many scans as wanted, of smooth noise in an ellipse."""

    name, fingerprint = "invented", ["1"]

    def __init__(self, count):
        self.count = count

    def scans(self, store, shard=WHOLE):
        down, across = (enlarging(*sizes) for sizes in zip(SHAPE, GRID, strict=True))
        rows, columns = (np.linspace(-1.1, 1.1, size) for size in SHAPE)
        ellipse = (rows[:, None] ** 2 + columns**2 < 1).astype(np.float32)
        for number in range(self.count):
            noise = np.random.default_rng(number).random((SLICES, *GRID), np.float32)
            pictures = (down @ noise @ across.T + 0.1) * ellipse
            who = f"{number:08d}", f"invented_{number:05d}", "", "", "axial"
            yield Scan(*who, list(pictures), list(range(SLICES)), [float(n) for n in range(SLICES)])


def enlarging(size, cells):
    """Returns the matrix `(size, cells)` that interpolates linearly from cells to pixels."""
    places = np.linspace(0, cells - 1, size)[:, None]
    return (1 - np.abs(places - np.arange(cells))).clip(0).astype(np.float32)


def prepare_invented(folder, scans):
    """Prepares invented scans, and prints the memory that it takes."""
    with (
        mock.patch.object(preparation, "open_source", return_value=InventedSource(scans)),
        Peaks().stage("prepare"),
    ):
        preparation.prepare(DataConfig(), folder)


def train_invented(folder, flags):
    """Runs `train.py`, each of its stages watched, with the loops over batches cut short."""
    import_tensorflow_quietly()
    import train
    from modules import VQVAETrainer
    from oasisvq.training import batches, stages

    peaks = Peaks()
    for room, name in [*((stages, name) for name in STAGES), (VQVAETrainer, "encode_all")]:
        watched = peaks.stage(name)(getattr(room, name))  # a context manager decorates, too
        setattr(room, name, watched)
    shuffled, ordered = batches.shuffled_rows, batches.ordered_rows
    batches.shuffled_rows = lambda *given: shuffled(*given)[:STEPS]
    batches.ordered_rows = lambda *given: [some[:STEPS] for some in ordered(*given)]
    sys.argv = ["train.py", "--dataset", str(folder), *flags]
    with peaks.stage("train.py"):
        train.main()


def run(*arguments):
    """Runs a process of ours, and returns the lines of its table."""
    command = [sys.executable, *map(str, arguments)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(child.stderr)
    names = ("prepare ", "train.py ", "Peak memory", *STAGES)
    return [line for line in child.stdout.splitlines() if line.startswith(names)]


def main():
    """Runs each stage in a process of its own; or, in such a process, the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=5000, help="of ten slices (default: 5000)")
    parser.add_argument("--width", type=int, default=16, help="of the VQ-VAE (default: 16)")
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=("prepare", "train"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place = arguments.in_folder
    if arguments.stage == "prepare":
        return prepare_invented(place, arguments.scans)
    if arguments.stage == "train":
        (prepared,) = place.glob("invented-*")
        flags = ["--run-dir", place / "run", "--width", arguments.width, "--epochs", 1]
        flags += ["--prior-epochs", 1, "--warm-up-steps", STEPS, "--feature-steps", STEPS]
        return train_invented(prepared, list(map(str, flags)))
    if not Path("/proc/self/status").exists():
        raise SystemExit("Memory is read from /proc, which Linux has")
    slices = arguments.scans * SLICES
    size = slices * SHAPE[0] * SHAPE[1] / 1e9
    print(f"{slices:,} slices of {SHAPE[0]}x{SHAPE[1]}: {size:.2f} GB. Peak memory in GB")
    print(f"{'':20}{'own':>9}{'with files':>13}{'seconds':>10}")
    with tempfile.TemporaryDirectory() as temporary:
        given = [__file__, "--scans", arguments.scans, "--width", arguments.width]
        for stage in ("prepare", "train"):
            for line in run(*given, "--in-folder", temporary, "--stage", stage):
                print(line)
        (line,) = run("predict.py", "--run-dir", f"{temporary}/run", "--num-samples", 4)
        print(f"predict.py: {line}")
    return None


if __name__ == "__main__":
    main()
