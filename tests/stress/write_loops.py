"""Kills a process that writes files all the time, again and again; each file must be whole.

    python -m tests.stress.write_loops [--kills 50] [--seed 0]

JSON, CSV, PNG, NumPy arrays, NIfTI and weights, every file written over by the next of its name.
After each kill (SIGKILL) what a killed writer leaves is swept, as the start of a script does, and
every file is read: it must be one of those written, and no other may lie there.
"""

import itertools
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas
from PIL import Image

from oasisvq.core.arrays import write_array
from oasisvq.core.files import PARTIAL, save_weights, sweep, whole_file, write_text
from oasisvq.figures import save_picture
from tests.stress import verdict

ROOT = Path(__file__).resolve().parents[2]
WRITER = "from tests.stress.write_loops import write_forever; write_forever()"
SIDE = 200  # of the pictures, pixels
LONGEST_PAUSE = 0.02  # seconds from the end of a file to a kill: a few more are written in them


def main():
    parser = verdict.parser(__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    arguments = parser.parse_args()
    found = verdict.Verdict("write_loops", arguments.seed, arguments.kills)
    with tempfile.TemporaryDirectory() as folder:
        try:
            litter = kill_writers(Path(folder), arguments.kills, arguments.seed)
            print(f"{arguments.kills} kills, {litter} of them in the middle of a file")
        except Exception as error:  # what reads a torn file has errors of its own
            found.add("half-written", f"{type(error).__name__}: {error}")
    found.end(arguments.report)


def kill_writers(folder, kills, seed):
    """Returns how many of the kills left something to sweep.

    Raises:
        AssertionError: If a file was torn, or a writer ended by itself.
    """
    draw, litter = random.Random(seed), 0
    for _ in range(kills):
        command = [sys.executable, "-c", WRITER, folder]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                for _ in range(draw.randint(1, 60)):
                    assert process.stdout.readline() == "written\n"
                status = process.wait(draw.uniform(0, LONGEST_PAUSE))
                raise AssertionError(f"the writer has ended with status {status}")
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
        litter += any(PARTIAL in path.name for path in folder.iterdir())
        sweep(folder)
        check_whole(folder)
    return litter


def write_forever():
    """Writes a line after each file, in a process of its own; every round has its own number."""
    folder = Path(sys.argv[-1])
    for number in itertools.cycle(range(200)):
        for name, (write, _) in KINDS.items():
            write(folder / name, np.full((SIDE, SIDE), number, np.uint8))
            print("written", flush=True)


def write_npz(path, square):
    with whole_file(path) as partial:
        np.savez_compressed(partial, codes=square)


def write_table(path, square):
    with whole_file(path) as partial:
        pandas.DataFrame({"number": square.ravel()}).to_csv(partial, index=False)


def write_volume(path, square):
    with whole_file(path) as partial:
        nibabel.save(nibabel.Nifti1Image(square[..., None], np.eye(4)), partial)


class Weights:
    """Stands in for a model, so that no process waits for TensorFlow."""

    def __init__(self, values):
        self.values = values

    def save_weights(self, file):
        with h5py.File(file, "w") as weights:
            weights["values"] = self.values


def read_npz(path):
    with np.load(path) as arrays:
        return arrays["codes"]


def read_weights(path):
    with h5py.File(path) as weights:
        return weights["values"][()]


# Name: what writes a square to a path, and what reads its values.
KINDS = {
    "facts.json": (
        lambda path, square: write_text(path, {"numbers": square.ravel().tolist()}),
        lambda path: json.loads(path.read_text())["numbers"],
    ),
    "slices.npy": (
        lambda path, square: write_array(path, square.shape, np.split(square, 4)),
        np.load,
    ),
    "codes.npz": (write_npz, read_npz),
    "table.csv": (write_table, lambda path: pandas.read_csv(path)["number"]),
    "volume.nii.gz": (write_volume, lambda path: np.asarray(nibabel.load(path).dataobj)),
    "picture.png": (
        lambda path, square: save_picture(square / 255, path),
        lambda path: np.asarray(Image.open(path)),
    ),
    "best.weights.h5": (
        lambda path, square: save_weights(Weights(square), path),
        read_weights,
    ),
}


def check_whole(folder):
    """Reads every file to its end: all its values must be there, and of one round."""
    for path in folder.iterdir():
        _, read = KINDS[path.name]  # a KeyError: it should not be there
        values = np.asarray(read(path))
        assert len(np.unique(values)) == 1, f"{path.name} is torn"
        if path.suffix != ".png":  # of which the size is in the header, and may be in colours
            assert values.size == SIDE**2, f"{path.name} is cut off"


if __name__ == "__main__":
    main()
