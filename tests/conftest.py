"""Small real and invented data that the tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import train
from oasisvq.data.sources.synthetic import invent_slices, load_template
from support.scripts import run_main, train_flags


@pytest.fixture(scope="session")
def template():
    return load_template()


@pytest.fixture(scope="session")
def brains(template):
    """Eight invented axial slices, float32 (8, 96, 80) in [0, 1]: every second pixel."""
    pictures = [invent_slices(template, n, "axial", (0.5, 0.5), "fraction", 1)[0] for n in range(8)]
    pictures = np.concatenate(pictures)[:, 6:198:2, 4:164:2]
    return (pictures / pictures.max()).clip(0, 1)


@pytest.fixture(autouse=True)
def seeds():
    """The same first weights in every run of a test."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def place(tmp_path_factory, brains):
    """A folder with slices of twelve invented subjects and a run trained on them."""
    place = tmp_path_factory.mktemp("place")
    (place / "slices").mkdir()
    for n in range(24):
        # Twelve heads of eight: a mirrored one is another.
        head = brains[n // 2 % 8][:, :: 1 if n < 16 else -1]
        pixels = np.roll(head, n % 2, axis=0) * 200
        name = f"case_{n // 2:03d}_slice_{n % 2}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(place / "slices" / name)
    rows = [f"case_{n:03d},{20 + 5 * n},{'FM'[n % 2]},{'' if n < 6 else 0.5}" for n in range(12)]
    (place / "slices/sheet.csv").write_text("\n".join(["ID,Age,M/F,CDR", *rows]))
    assert run_main(train, *train_flags(place), "--run-dir", place / "run") == 0
    return place


@pytest.fixture
def copy(place, tmp_path):
    """A copy of the run, to break."""
    shutil.copytree(place / "run", tmp_path / "copy")
    return tmp_path / "copy"
