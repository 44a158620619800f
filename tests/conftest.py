"""Small real and invented data that the tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import pytest

from oasisvq.data.sources.synthetic import invent_slices, load_template


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
