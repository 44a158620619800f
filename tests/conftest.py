"""Small real and invented data that the tests share."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
# The processes of pytest share the cores: more threads in each of them take a tenth more time.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import hypothesis
import keras
import numpy as np
import pytest
from PIL import Image

from oasisvq.data.sources.synthetic import invent_slices, load_template
from support.disks import small_disk
from support.scripts import run_main, train_flags
from support.shared import made_once
from support.sources import SHEET, sessions, write_disc, write_png

# A graph of TensorFlow is so many objects that a tenth of the time would go into collections.
gc.set_threshold(100_000, 20, 20)

# Hypothesis has a time for each example, which a busy machine exceeds.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Skips what needs real data, and says so, where there are none; puts slow tests first.

    So no process ends with a slow test while the others have nothing left to do.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    missing = pytest.mark.skip(
        reason="needs real brains of OASIS, whose terms keep them out of this project: there are "
        f"none at {REAL_DATA}"
    )
    for item in items:
        if item.get_closest_marker("real_data") and not REAL_DATA.is_dir():
            item.add_marker(missing)


@pytest.fixture
def real_data():
    """Returns the folder of real slices and volumes, for tests that are marked `real_data`."""
    return REAL_DATA


@pytest.fixture(scope="session")
def template():
    """Returns the ICBM-152 template, which invented brains are made of."""
    return load_template()


@pytest.fixture(scope="session")
def brains(template):
    """Eight invented axial slices, float32 (8, 96, 80) in [0, 1]: every second pixel."""
    return invent_heads(template, range(8))


def invent_heads(template, numbers):
    pictures = [invent_slices(template, n, "axial", (0.5, 0.5), "fraction", 1)[0] for n in numbers]
    pictures = np.concatenate(pictures)[:, 6:198:2, 4:164:2]
    return (pictures / pictures.max()).clip(0, 1)


@pytest.fixture(autouse=True)
def seeds():
    """Gives every run of a test the same first weights."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Names a mirror at which nothing listens: no test leaves loopback."""
    monkeypatch.setenv("OASIS_MIRROR", "http://127.0.0.1:9/data")


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 kB that nothing more fits on after a while."""
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        yield disk


@pytest.fixture
def random():
    """Returns a generator of the same random numbers in every run of a test."""
    return np.random.default_rng(0)


@pytest.fixture
def coronal(tmp_path, random):
    """Returns a folder in the layout of OASIS-1 slices, with its sheet."""
    for n in range(1, 13):
        scan = f"OAS1_{n:04d}_MR1"
        for index in (90, 95, 100):
            pixels = random.integers(0, 200, (24, 20))
            write_png(tmp_path / f"oasis/{scan}/{scan}.{index}.png", pixels)
    sheet = "ID,M/F,Age,CDR\n" + "".join(f"OAS1_{n:04d}_MR1,F,{50 + n},\n" for n in range(1, 12))
    (tmp_path / "oasis/sheet.csv").write_text(sheet)
    return tmp_path / "oasis"


@pytest.fixture
def data_dir(tmp_path):
    """Returns a folder with two discs of three sessions each and their sheet, put there by hand."""
    write_disc(tmp_path / "data", 1, sessions([1, 2, 3]))
    write_disc(tmp_path / "data", 2, sessions([4, 5, 6]))
    (tmp_path / "data/oasis_cross-sectional.csv").write_text(SHEET)
    return tmp_path / "data"


@pytest.fixture(scope="session")
def place(tmp_path_factory, template, brains):
    """A folder with slices of twelve invented subjects and a run trained on them."""

    def make(place):
        train_on_invented([*brains, *invent_heads(template, range(8, 12))], place)

    return made_once(tmp_path_factory, "place", make)


def train_on_invented(heads, place):
    (place / "slices").mkdir()
    for n in range(24):
        pixels = np.roll(heads[n // 2], n % 2, axis=0) * 200
        name = f"case_{n // 2:03d}_slice_{n % 2}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(place / "slices" / name)
    rows = [f"case_{n:03d},{20 + 5 * n},{'FM'[n % 2]},{'' if n < 6 else 0.5}" for n in range(12)]
    (place / "slices/sheet.csv").write_text("\n".join(["ID,Age,M/F,CDR", *rows]))
    import train  # not at the top: most tests do without TensorFlow's scripts

    assert run_main(train, *train_flags(place), "--run-dir", place / "run") == 0


@pytest.fixture(scope="module")
def short_judgements():
    """Makes quick judgements of new brains quicker: fewer draws, and a shorter training."""
    from oasisvq.evaluation import judgement  # not at the top: it imports TensorFlow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judgement, "QUICK_DRAWS", 8)
        patch.setattr(judgement, "QUICK_STEPS", 2)
        patch.setattr(judgement, "QUICK_PARTS", 2)
        yield


@pytest.fixture
def copy(place, tmp_path):
    """A copy of the run, to break."""
    shutil.copytree(place / "run", tmp_path / "copy")
    return tmp_path / "copy"
