"""Peak memory of preparing and training on many slices, beside the size of the slices.

    python tests/benchmarks/memory.py [--scans 5000] [--width 16]

Invented scans of ten smooth slices of 208x176 go through `preparation.prepare`, then `train.py` and
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
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SHAPE, SLICES, STEPS = (208, 176), 10, 8
GRID = (26, 22)  # cells of noise, an eighth of the slice
STAGES = ("check_trainable", "start_run", "train_vqvae", "train_features", "encode", "train_prior")


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
    """Bytes that are this process's own, and with mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return [int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")]


class InventedSource:
    """As many scans as wanted, of smooth noise in an ellipse."""

    name, fingerprint = "invented", ["1"]

    def __init__(self, count):
        self.count = count

    def records(self):
        return {}

    def sheets(self, fetch):
        return []

    def scans(self, store, shard):
        import numpy as np

        from oasisvq.data.sources.base import Scan

        down, across = (enlarging(*sizes) for sizes in zip(SHAPE, GRID, strict=True))
        rows, columns = (np.linspace(-1.1, 1.1, size) for size in SHAPE)
        ellipse = (rows[:, None] ** 2 + columns**2 < 1).astype(np.float32)
        for number in range(self.count):
            noise = np.random.default_rng(number).random((SLICES, *GRID), np.float32)
            pictures = (down @ noise @ across.T + 0.1) * ellipse
            yield Scan(
                f"{number:08d}", f"invented_{number:05d}", "", "", "axial", list(pictures),
                list(range(SLICES)), [float(n) for n in range(SLICES)],
            )  # fmt: skip


def enlarging(size, cells):
    """Linear interpolation from cells to pixels: `(size, cells)`."""
    import numpy as np

    places = np.linspace(0, cells - 1, size)[:, None]
    return (1 - np.abs(places - np.arange(cells))).clip(0).astype(np.float32)


def prepare_invented(folder, scans):
    from hyperparameters import Hyperparameters
    from oasisvq.data.prepare import prepare

    peaks = Peaks()
    with peaks.stage("prepare"), mock.patch("preparation.open_source") as opened:
        opened.return_value = InventedSource(scans)
        prepare(Hyperparameters(), folder)


def train_invented(folder, flags):
    """`train.py`, each of its steps watched, with the loops over batches cut short."""
    from oasisvq.core.script import import_tensorflow_quietly

    import_tensorflow_quietly()
    import train
    from oasisvq.training import loop as training

    peaks = Peaks()
    for name in STAGES:
        watched = peaks.stage(name)(getattr(train, name))  # a context manager decorates, too
        setattr(train, name, watched)
    at_random, in_order = training.batches_at_random, training.batches_in_order
    training.batches_at_random = lambda *given: at_random(*given)[:STEPS]
    training.batches_in_order = lambda *given: [some[:STEPS] for some in in_order(*given)]
    sys.argv = ["train.py", "--dataset", str(folder), *flags]
    with peaks.stage("train.py"):
        train.main()


def run(*arguments):
    """Runs a process of ours, and prints the lines of its table."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    child = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    if child.returncode:
        raise SystemExit(child.stderr)
    names = ("prepare ", "train.py ", "Peak memory", *STAGES)
    return [line for line in child.stdout.splitlines() if line.startswith(names)]


def main():
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
