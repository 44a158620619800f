"""Frequencies of codes at each position, and what they cost."""

import numpy as np
import pytest

from oasisvq.evaluation.code_scores import (
    bits_by_position,
    cells_with_brain,
    choose_smoothing,
    count_codes,
    frequencies_by_position,
)


def test_bits_by_position_against_the_definition(random):
    codes = random.integers(0, 3, size=(20, 2, 2))
    counts = count_codes(codes, 4)
    assert counts.sum() == 80
    overall = (np.bincount(codes.ravel(), minlength=4) + 1) / 84
    seen = [(codes[:, 1, 0] == k).sum() for k in range(4)]
    grid = np.full((1, 2, 2), 3)
    grid[0, 1, 0] = 2
    unseen = -np.log2(2.0 * overall[3] / 22)
    expected = (3 * unseen - np.log2((seen[2] + 2.0 * overall[2]) / 22)) / 4
    frequencies = frequencies_by_position(counts, 2.0)
    assert bits_by_position(frequencies, grid)[0] == pytest.approx(expected)


def test_frequencies_by_position_add_up_to_one_and_leave_no_code_out(random):
    # Or the baseline would flatter, and the prior would start from minus infinity.
    counts = count_codes(random.integers(0, 3, size=(10, 2, 3)), 5)
    frequencies = frequencies_by_position(counts, 3.0)
    np.testing.assert_allclose(frequencies.sum(axis=2), 1)
    assert frequencies.min() > 0


def test_smoothing_is_the_best_of_those_tried(random):
    counts = count_codes(random.integers(0, 8, size=(4, 3, 3)), 8)
    held_out = random.integers(0, 8, size=(50, 3, 3))

    def cost(smoothing):
        return bits_by_position(frequencies_by_position(counts, smoothing), held_out).mean()

    best = choose_smoothing(counts, held_out)
    assert cost(best) <= min(map(cost, (0.3, 1.0, 10.0, 100.0, 1000.0)))


def test_smoothing_is_small_where_each_position_has_its_own_code():
    grids = np.arange(9).reshape(1, 3, 3).repeat(20, axis=0)
    assert choose_smoothing(count_codes(grids, 9), grids[:5]) == 0.3


@pytest.mark.parametrize("downsample", [4, 8])
def test_cells_with_brain_are_those_the_encoder_pads_to(downsample):
    images = np.zeros((2, 21, 13, 1), "float32")
    images[0, 20, 12] = 0.5
    images[1, 0, 0] = 0.5
    cells = cells_with_brain(images, downsample)
    height, width = -(-21 // downsample), -(-13 // downsample)
    top, left = (height * downsample - 21) // 2, (width * downsample - 13) // 2
    expected = np.zeros((2, height, width), bool)
    expected[0, (20 + top) // downsample, (12 + left) // downsample] = True
    expected[1, top // downsample, left // downsample] = True
    np.testing.assert_array_equal(cells, expected)
