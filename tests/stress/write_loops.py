"""Kills a process that writes files all the time, again and again; each file must be whole.

    python tests/stress/write_loops.py [--kills 50] [--seed 0]

JSON, CSV, PNG, NumPy arrays, NIfTI and weights, every file written over by the next of its name.
After each kill (SIGKILL) what a killed writer leaves is swept, as the start of a script does, and
every file is read: it must be one of those written, and no other may lie there.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SIDE = 200  # of the pictures, pixels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        litter = kill_writers(Path(folder), arguments.kills, arguments.seed)
    print(
        f"{arguments.kills} kills, {litter} of them in the middle of a file: every file was whole, "
        "and nothing else was left after the sweep"
    )


def kill_writers(folder, kills, seed):
    """How many of the kills left something to sweep.

    Raises:
        AssertionError: If a file was torn.
    """
    from oasisvq.core.files import PARTIAL, sweep

    draw, litter = random.Random(seed), 0
    for _ in range(kills):
        command = [sys.executable, "-c", "import write_loops; write_loops.write_forever()", folder]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "writing\n"
        time.sleep(draw.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        litter += any(PARTIAL in path.name for path in folder.iterdir())
        sweep(folder)
        check_whole(folder)
    return litter


def write_forever():
    """In a process of its own: each round writes every kind of file, of another number."""
    import nibabel
    import numpy as np
    import pandas

    from oasisvq.core.files import save_weights, whole_file, write_array, write_text
    from oasisvq.figures import save_picture

    folder, number = Path(sys.argv[-1]), 0
    print("writing", flush=True)
    while True:
        number = (number + 1) % 200
        square = np.full((SIDE, SIDE), number, np.uint8)
        write_text(folder / "facts.json", {"numbers": [number] * 3000})
        write_array(folder / "slices.npy", (3, SIDE, SIDE), [square] * 3)
        with whole_file(folder / "codes.npz") as partial:
            np.savez_compressed(partial, codes=square)
        with whole_file(folder / "table.csv") as partial:
            pandas.DataFrame({"number": square.ravel()}).to_csv(partial, index=False)
        with whole_file(folder / "volume.nii.gz") as partial:
            nibabel.save(nibabel.Nifti1Image(square[..., None], np.eye(4)), partial)
        save_picture(square / 255, folder / "picture.png")
        save_weights(Weights(square), folder / "best.weights.h5")


class Weights:
    """Stands in for a model, so that no process waits for TensorFlow."""

    def __init__(self, values):
        self.values = values

    def save_weights(self, file):
        import h5py

        with h5py.File(file, "w") as weights:
            weights["values"] = self.values


def check_whole(folder):
    """Every file can be read to its end, and is of one round."""
    import json

    import h5py
    import nibabel
    import numpy as np
    import pandas
    from PIL import Image

    def read_npz(path):
        with np.load(path) as arrays:
            return arrays["codes"]

    def read_weights(path):
        with h5py.File(path) as weights:
            return weights["values"][()]

    readers = {
        "facts.json": lambda path: json.loads(path.read_text())["numbers"],
        "slices.npy": np.load,
        "codes.npz": read_npz,
        "table.csv": lambda path: pandas.read_csv(path)["number"],
        "volume.nii.gz": lambda path: np.asarray(nibabel.load(path).dataobj),
        "picture.png": lambda path: np.asarray(Image.open(path)),
        "best.weights.h5": read_weights,
    }
    sizes = {"facts.json": 3000, "slices.npy": 3 * SIDE**2}
    for path in folder.iterdir():
        values = np.asarray(readers[path.name](path))  # a KeyError: it should not be there
        assert len(np.unique(values)) == 1, f"{path.name} is torn"
        if path.suffix != ".png":
            assert values.size == sizes.get(path.name, SIDE**2), f"{path.name} is cut off"


if __name__ == "__main__":
    main()
