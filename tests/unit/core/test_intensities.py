"""Intensities as levels, and levels as intensities."""

import numpy as np

from oasisvq.core.intensities import as_floats, as_levels


def test_levels_are_the_nearest_and_stay_in_range():
    levels = as_levels(np.array([-0.2, 0, 0.25, 0.5, 1, 3]))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [0, 0, 64, 128, 255, 255]


def test_every_level_comes_back():
    levels = np.arange(256, dtype=np.uint8)
    floats = as_floats(levels)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (0, 1)
    np.testing.assert_array_equal(as_levels(floats), levels)
