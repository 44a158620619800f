"""Anatomy of drawn heads, which is known, and of real ones, whose sheet knows a little."""

import functools
import json
import warnings

import numpy as np
import pytest
from scipy import ndimage

from oasisvq.evaluation.anatomy import (
    FLUID,
    FORM,
    GREY,
    QUANTITIES,
    WHITE,
    _fit_mixture,
    _mirrored,
    brain_masks,
    label_tissues,
    measure_anatomy,
)
from support import heads
from support.heads import draw_head, read_heads


def measure(*images, **options):
    """Returns the quantities of one slice, or a data frame of several."""
    table = measure_anatomy(np.stack(images), **options)[0]
    return table.iloc[0] if len(images) == 1 else table


def sides(image):
    return measure_anatomy(image[None])[1][0]


def test_a_row_a_slice_and_a_column_a_quantity():
    table, differences = measure_anatomy(np.stack([draw_head((97, 90))] * 3))
    assert tuple(table.columns) == QUANTITIES
    assert len(table) == 3
    assert differences.shape == (3, 12 * 5)  # 8 pixels each, of 97 rows and half of 90 columns
    assert differences.dtype == np.float32
    assert set(FORM) < set(QUANTITIES)


def test_quantities_of_a_head_are_those_that_it_was_drawn_with():
    found = measure(draw_head(left=6, right=4))
    assert found["brain_area"] == pytest.approx(np.pi * 40**2, rel=0.01)
    assert found["tissue_fraction"] == pytest.approx((38**2 - 6**2 - 4**2) / 40**2, abs=0.01)
    assert found["ventricles"] == pytest.approx((6**2 + 4**2) / 40**2, rel=0.05)
    assert found["ventricle_asymmetry"] == pytest.approx((36 - 16) / (36 + 16), abs=0.05)
    assert found["islands"] == found["holes"] == 0
    # The ventricles' walls, which are white, belong to the outline of the tissue too.
    assert found["ribbon"] == pytest.approx(38 / (38 + 6 + 4), abs=0.03)


@pytest.mark.parametrize("noise", [0, 0.05])
def test_tissues_are_labelled_as_they_were_drawn(noise, random):
    head = draw_head()
    image = (head + random.normal(0, noise, head.shape) * (head > 0)).clip(0, 1)
    labels = label_tissues(image[None], head[None] > 0)[0]
    assert labels.dtype == np.uint8
    assert (labels[head == 0] == 0).all()
    for tissue, level in ((FLUID, heads.FLUID), (GREY, heads.GREY), (WHITE, heads.WHITE)):
        assert (labels[head == np.float32(level)] == tissue).mean() > (0.97 if noise else 0.9999)


def slow_mixture(values, means, rounds):
    weights, variance = np.ones(3) / 3, 0.01
    for _ in range(rounds):
        densities = weights * np.exp(-((values[:, None] - means) ** 2) / (2 * variance))
        shares = densities / densities.sum(axis=1, keepdims=True)
        weights = shares.mean(axis=0)
        means = (shares * values[:, None]).sum(axis=0) / shares.sum(axis=0)
        variance = (shares * (values[:, None] - means) ** 2).sum() / len(values)
    return shares


def test_the_mixture_against_one_that_sees_each_pixel(random):
    sizes, levels = (200, 500, 300), (0.25, 0.5, 0.75)
    values = np.concatenate([random.normal(m, 0.06, n) for m, n in zip(levels, sizes, strict=True)])
    levels = np.round(values * 255).astype(int)
    shares = _fit_mixture(np.bincount(levels, minlength=256)[None])[0]
    expected = slow_mixture(levels / 255, np.array([0.25, 0.55, 0.8]), 60)
    np.testing.assert_allclose(shares[levels], expected, atol=1e-3)


def test_a_brighter_pixel_is_never_of_a_darker_tissue():
    # Few bright pixels far from all Gaussians, which have become narrow.
    counts = np.zeros(256, int)
    counts[[62, 63, 143]], counts[176:181], counts[245] = (2190, 2190, 28), 1, 1
    tissues = _fit_mixture(counts[None])[0].argmax(axis=1)[counts > 0]
    assert (np.diff(tissues) >= 0).all()


def test_a_brain_is_the_largest_piece_without_holes():
    image = np.full((40, 40), 0.09)  # faint ground, as decoders leave it
    image[5:25, 5:25], image[10:15, 10:15] = 0.5, 0
    image[1:3, 1:3], image[30:35, 30:35] = 0.9, 0.9
    expected = np.zeros((40, 40), bool)
    expected[5:25, 5:25] = True
    np.testing.assert_array_equal(brain_masks(image[None])[0], expected)


@pytest.mark.parametrize("pixel_size", [0.5, 2.0])
def test_lengths_and_areas_are_in_mm(pixel_size):
    size = round(90 / pixel_size)
    anatomy = {"left": 8, "right": 6, "islands": 5, "holes": 3}
    fine, coarse = (
        measure(draw_head((n, n), scale, **anatomy), pixel_size=scale)
        for n, scale in ((90, 1.0), (size, pixel_size))
    )
    for name in QUANTITIES[:5]:
        assert coarse[name] == pytest.approx(fine[name], rel=0.1, abs=0.05), name
    assert coarse["ribbon"] == pytest.approx(fine["ribbon"], abs=0.05)
    assert (fine["islands"], fine["holes"]) == (coarse["islands"], coarse["holes"]) == (5, 3)


def test_pixels_of_another_size_are_another_head():
    head = draw_head(islands=5)
    small, large = measure(head, pixel_size=0.25), measure(head, pixel_size=2.0)
    assert large["brain_area"] == 64 * small["brain_area"]
    assert small["ventricles"] == 0  # they lie less than 12 mm deep
    assert large["islands"] == 0  # they are larger than 20 mm²


@pytest.mark.parametrize("quantity", ["islands", "holes"])
def test_small_pieces_are_counted(quantity):
    counts = [measure(draw_head(**{quantity: n}))[quantity] for n in range(0, 12, 3)]
    assert counts == [0, 3, 6, 9]


def test_the_ground_is_no_hole():
    image = np.full((40, 40), 0.8)
    image[:2, :2], image[:2, -3:] = 0, 0
    assert measure(image)["holes"] == 0


def test_white_matter_at_the_outline_breaks_the_ribbon():
    shares = [measure(draw_head(bare=bare))["ribbon"] for bare in (0, 0.25, 0.5, 1)]
    np.testing.assert_allclose(np.divide(shares, shares[0]), [1, 0.75, 0.5, 0], atol=0.03)


def test_blur_takes_sharpness_and_fine_detail(random):
    head = (draw_head() * random.normal(1, 0.1, (90, 90))).clip(0, 1)
    images = [head] + [ndimage.gaussian_filter(head, sigma) for sigma in (0.5, 1, 2)]
    table = measure(*images)
    assert (np.diff(table["sharpness"]) < 0).all()
    assert (np.diff(table["fine_detail"]) < -0.3).all()


def test_contrast_is_sharpness_but_no_detail():
    bright, dark = draw_head(), 0.6 * draw_head()
    one, other = measure(bright), measure(dark)
    assert other["sharpness"] == pytest.approx(0.6 * one["sharpness"], rel=1e-4)
    assert other["fine_detail"] == pytest.approx(one["fine_detail"], abs=1e-4)


def test_sharpness_is_the_rise_of_a_pixel():
    ramp = np.tile(np.linspace(0.2, 0.8, 61), (61, 1))
    assert measure(ramp)["sharpness"] == pytest.approx(0.01)


@pytest.mark.parametrize("shape", [(90, 90), (90, 91), (91, 97)])
@pytest.mark.parametrize("shift", [0, 3])
def test_a_head_that_is_its_mirror_image_has_equal_sides(shape, shift):
    head = np.roll(draw_head(shape, islands=4), shift, axis=1) * (np.arange(shape[1]) >= shift)
    found = measure(head)
    assert found["mirror_correlation"] == pytest.approx(1)
    assert found["ventricle_asymmetry"] == 0
    assert sides(head).max() == 0


def test_what_is_mirrored_from_outside_is_0():
    image = np.array([[1, 2, 3, 4]])
    np.testing.assert_array_equal(_mirrored(image, 3), [[4, 3, 2, 1]])
    np.testing.assert_array_equal(_mirrored(image, 2), [[3, 2, 1, 0]])
    np.testing.assert_array_equal(_mirrored(image, 5), [[0, 0, 4, 3]])


def test_mirroring_exchanges_the_sides_and_changes_nothing_else(brains):
    table, differences = measure_anatomy(brains[:4])
    mirrored, of_mirrored = measure_anatomy(brains[:4, :, ::-1])
    for name in QUANTITIES:
        sign = -1 if name == "ventricle_asymmetry" else 1
        np.testing.assert_allclose(mirrored[name], sign * table[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(of_mirrored, differences, atol=1e-6)


def test_the_left_of_the_picture_is_the_larger_ventricle_above_0():
    larger = [measure(draw_head(left=left, right=5))["ventricle_asymmetry"] for left in (3, 5, 7)]
    assert larger[0] < -0.3 < larger[1] == 0 < 0.3 < larger[2]
    assert measure(draw_head(left=5, right=0))["ventricle_asymmetry"] == 1


def test_a_difference_lies_in_its_cell_counted_from_the_middle():
    head = draw_head((96, 96))
    middle = 48
    for row, column in ((5, 1), (3, 0), (7, 3)):
        changed = head.copy()
        changed[8 * row : 8 * row + 8, middle + 8 * column : middle + 8 * column + 8] -= 0.1
        expected = np.zeros((12, 6), np.float32)
        expected[row, column] = 0.1
        np.testing.assert_allclose(sides(changed), expected.ravel(), atol=1e-6)


@pytest.mark.parametrize("level", [0, 0.5, 1])
@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (8, 8), (7, 5)])
def test_even_and_tiny_slices_are_finite(level, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, differences = measure_anatomy(np.full((2, *shape), level, np.float32))
    values = table.iloc[0].to_dict()
    json.dumps(values, allow_nan=False)
    assert values["brain_area"] == (level > 0) * shape[0] * shape[1]
    assert values["tissue_fraction"] == (level > 0)
    others = set(QUANTITIES) - {"brain_area", "tissue_fraction", "ribbon"}
    assert {values[name] for name in others} == {0}
    assert differences.shape[1] >= 1
    assert (differences == 0).all()


def test_a_black_slice_changes_nothing_of_its_neighbours(brains):
    alone, sides_alone = measure_anatomy(brains[:1])
    beside, sides_beside = measure_anatomy(np.stack([np.zeros_like(brains[0]), brains[0]]))
    np.testing.assert_array_equal(beside.iloc[1], alone.iloc[0])
    np.testing.assert_array_equal(sides_beside[1], sides_alone[0])


@functools.cache
def measure_persons(folder):
    images, table = read_heads(folder, 0, 50, (94, 95))
    anatomy, differences = measure_anatomy(images / np.float32(255))
    return images, anatomy.join(table), differences


@pytest.fixture
def persons(real_data):
    """Returns 50 real persons at two neighbouring positions, their anatomy, and their sheet."""
    return measure_persons(real_data)


@pytest.mark.real_data
def test_tissue_of_real_slices_is_that_of_the_sheet(persons):
    _, table, _ = persons
    means = table.groupby("subject")[["tissue_fraction", "ventricles", "nwbv", "age"]].mean()
    assert means["tissue_fraction"].corr(means["nwbv"]) > 0.93
    assert means["tissue_fraction"].corr(means["age"]) < -0.75
    assert means["ventricles"].corr(means["age"]) > 0.75


@pytest.mark.real_data
def test_neighbouring_real_slices_are_alike(persons):
    _, table, differences = persons
    for name in ("tissue_fraction", "ventricles", "ventricle_asymmetry", "mirror_correlation"):
        assert np.corrcoef(table[name][::2], table[name][1::2])[0, 1] > 0.8, name
    # Of a person, left differs from right as in the slice beside, and otherwise in other people.
    alike = np.corrcoef(differences[::2], differences[1::2])[:50, 50:]
    assert (alike.argmax(axis=1) == np.arange(50)).mean() > 0.95


@pytest.mark.real_data
def test_two_real_heads_glued_are_less_like_their_mirror_image(persons):
    images, table, _ = persons
    half = images.shape[2] // 2
    glued = np.concatenate([images[:, :, :half], np.roll(images, 2, axis=0)[:, :, half:]], axis=2)
    found = measure(*(glued / np.float32(255)))
    assert found["mirror_correlation"].mean() < table["mirror_correlation"].mean() - 0.05
    wider = found["ventricle_asymmetry"].std() / table["ventricle_asymmetry"].std()
    assert wider > 1.3
