"""Kills training at random moments, and compares where it ends with a run left alone.

    python -m tests.stress.kills [--kills 50] [--seed 0]

A small run on invented subjects is trained once to its end. Then others of the same flags are
killed (SIGKILL) at moments drawn evenly over both stages, started again with the same command, and
killed again, until they end. Weights, optimizer state, codebook, history, codes and new brains must
be those of the first bit by bit, and no half-written file may be left. With `--signal INT` or
`TERM` they are asked to end, and must say so by their exit status.
"""

import json
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from oasisvq.core.files import PARTIAL
from tests.stress import verdict

ROOT = Path(__file__).resolve().parents[2]
FLAGS = shlex.split(
    "--dataset demo --demo-subjects 12 --slices-per-volume 3 --epochs 3 --num-embeddings 64 "
    "--width 8 --residual-blocks 1 --batch-size 4 --warm-up-steps 8 --feature-steps 4 "
    "--prior-epochs 3 --prior-filters 8 --prior-residual-blocks 2 --prior-batch-size 4"
)
COST = ("seconds", "peak_memory")  # what two runs cannot have in common
LONGEST = 600  # seconds


def main():
    parser = verdict.parser(__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL")
    arguments = parser.parse_args()
    found = verdict.Verdict(f"kills, SIG{arguments.signal}", arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            kill_and_compare(found, Path(folder), arguments)
        except subprocess.TimeoutExpired as error:
            found.add("hangs", str(error))
        for log in Path(folder).glob("*.log"):
            if "Traceback (most recent call last)" in log.read_text():
                found.add("tracebacks", f"{log.stem}: {log.read_text().splitlines()[-1]}")
    found.end(arguments.report)


def kill_and_compare(found, folder, arguments):
    """Kills runs as often as was wanted, and adds what went wrong to the `Verdict`."""
    began = time.monotonic()
    start(folder, "alone").wait(LONGEST)
    length = time.monotonic() - began
    wanted = contents(folder, "alone")
    draw, number = random.Random(arguments.seed), signal.Signals[f"SIG{arguments.signal}"]
    expected = -number if number == signal.SIGKILL else 128 + number
    kills, runs = 0, 0
    with tqdm(total=arguments.kills, desc="Killing", unit="kill", disable=None) as bar:
        while kills < arguments.kills:
            name, status, began, before = f"run {runs}", None, time.monotonic(), kills
            while status != 0:
                process = start(folder, name)
                try:
                    last = kills == arguments.kills
                    status = process.wait(LONGEST if last else draw.uniform(0, length))
                except subprocess.TimeoutExpired:
                    if last:
                        found.add("hangs", name)
                    process.send_signal(number)
                    status = process.wait(LONGEST)
                    kills += 1
                    bar.update()
                    if status not in (expected, 0):
                        found.add("other", f"{name}: ended with status {status} at a signal")
                        break
                else:
                    if status:
                        kind = "signals" if status < 0 else "other"
                        found.add(kind, f"{name}: failed, status {status}")
                        break
            if status == 0:
                if kills == before:  # what else the machine does must not make kills come too late
                    length = min(length, time.monotonic() - began)
                for what in differences(wanted, contents(folder, name)):
                    found.add("half-written" if PARTIAL in what else "other", f"{name}: {what}")
            runs += 1
    found.tries = kills
    print(f"{kills} kills, {runs} runs of {length:.0f} s each when left alone")


def start(folder, name, *flags):
    """Starts training, or resumes it; checkpoints are saved every second or so."""
    command = [sys.executable, "-m", "tests.stress.train_and_keep", *FLAGS, *flags]
    command += ["--run-dir", folder / name, "--data-dir", folder / "data"]
    command += ["--checkpoint-minutes", "0.02"]
    with (folder / f"{name}.log").open("a") as errors:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)


def contents(folder, name):
    """Returns what a finished run holds: a dictionary from names to bytes and arrays."""
    run = folder / name
    command = [sys.executable, ROOT / "predict.py", "--run-dir", run, "--num-samples", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=LONGEST)
    held = {"files": sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())}
    held["files"] = [path for path in held["files"] if "tfevents" not in path]
    for path in held["files"]:
        if path.endswith((".csv", ".png", ".npy")):
            held[path] = (run / path).read_bytes()
        if path.endswith(".h5"):
            held |= {f"{path}: {key}": values for key, values in weights(run / path).items()}
        if path.endswith(".npz"):
            with np.load(run / path) as arrays:
                held |= {f"{path}: {key}": arrays[key] for key in arrays if key != "progress"}
                if "progress" in arrays:
                    facts = json.loads(arrays["progress"].tobytes())
                    held[f"{path}: progress"] = {k: facts[k] for k in facts if k not in COST}
    return held


def weights(path):
    """Returns the arrays of an HDF5 file.

    Its bytes hold the names of layers too, which every process numbers anew.
    """
    found = {}

    def note(key, item):
        if isinstance(item, h5py.Dataset):
            found[key] = item[()]

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def differences(wanted, found):
    """Returns a sentence for each thing that is not the same."""
    return [
        f"{name} differs"
        for name in sorted({*wanted, *found})
        if not same(wanted.get(name), found.get(name))
    ]


def same(one, other):
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


if __name__ == "__main__":
    main()
