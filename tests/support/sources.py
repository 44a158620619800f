"""Small sources of slices: folders of pictures and of volumes, discs of OASIS-1."""

import http.server
import threading
from functools import partial

import nibabel
import numpy as np
from PIL import Image

from dataset import OASIS
from hyperparameters import Hyperparameters
from oasisvq.data.prepare import PREPARED
from support.archive_builder import oasis1_session, phantom, write_archive
from support.processes import TESTS, start_python

SHEET = "ID,M/F,Age,CDR\n" + "".join(f"OAS1_{n:04d}_MR1,F,{50 + n},\n" for n in range(1, 9))


def choose(dataset, **options):
    """Returns a `DataConfig` of a source, with other options."""
    return Hyperparameters().replace(dataset=str(dataset), **options).data


def choose_discs(**options):
    """Returns a `DataConfig` of two slices of each session on the first two discs of OASIS-1."""
    return choose(**{"dataset": "oasis1", "discs": "1,2", "slices_per_volume": 2} | options)


def open_folder(folder, tmp_path, **options):
    """Opens the slices of a folder; what is made of them goes below `tmp_path`."""
    return OASIS(choose(folder, **options), tmp_path / "data")


def contents(folder):
    """Returns the bytes of the files of a prepared folder."""
    return {name: (folder / name).read_bytes() for name in PREPARED}


def start_dataset(dataset, data_dir, *flags, mirror="http://127.0.0.1:9/data"):
    """Starts `dataset.py` as a process of its own; nothing listens at the default mirror."""
    place = ["--dataset", dataset, "--data-dir", data_dir]
    script = TESTS.parent / "dataset.py"
    return start_python(script, *place, *flags, OASIS_MIRROR=mirror)


def write_png(path, pixels):
    """Writes a grey picture, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def touch_files(folder, *paths):
    """Makes empty files in a folder, and returns it."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def write_volume(path, voxels):
    """Writes voxels of 1 mm as a NIfTI file, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


def sessions(numbers, brain=True):
    """Returns the files of sessions of OASIS-1, by their names; without `brain`, all black."""
    names = [f"OAS1_{n:04d}_MR1" for n in numbers]
    return {
        name: oasis1_session(name, phantom(number=1), phantom(number=n + 1) * brain)
        for n, name in zip(numbers, names, strict=True)
    }


def write_disc(data_dir, number, of):
    """Packs sessions as a disc of OASIS-1, put there by hand; returns its path."""
    path = data_dir / f"oasis_cross-sectional_disc{number}.tar.gz"
    return write_archive(path, f"disc{number}", of)


def serve(folder, monkeypatch):
    """Serves a folder as the mirror of OASIS, on loopback."""
    handler = partial(_Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OASIS_MIRROR", f"http://127.0.0.1:{server.server_port}")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
