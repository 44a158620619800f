"""Planted failures are what their names say, and nothing else."""

import numpy as np
import pandas
import pytest
from scipy import ndimage

from oasisvq.evaluation.planted import (
    ENLARGED,
    NEAR_AGE,
    PATCHES,
    draw_slices,
    enlarged,
    find_mates,
    plant_failures,
)

NAMES = [
    "nothing changed",
    "ten persons replayed",
    "one in three doubled",
    "blurred by half a pixel",
    "two heads glued",
    "patches swapped",
    "2% larger",
    "ages of others",
    "the older half only",
    "mirrored",
]


@pytest.fixture(scope="module")
def images():
    """Ninety noisy slices, each of another brightness, so that pixels tell where they come from."""
    noise = np.random.default_rng(0).random((90, 40, 32)) * 0.005
    return (np.arange(90)[:, None, None] / 100 + noise).astype(np.float32)


@pytest.fixture(scope="module")
def table():
    """Thirty persons, 20 to 78 years old, at the same three positions."""
    ages = np.repeat(20.0 + 2 * np.arange(30), 3)
    subjects = np.repeat([f"person {n}" for n in range(30)], 3)
    return pandas.DataFrame(
        {"subject": subjects, "key": ["x", "y", "z"] * 30, "age": ages, "plane": "coronal"}
    )


@pytest.fixture(scope="module")
def planted(images, table):
    return {name: pair for name, *pair, _ in plant_failures(images, table, 24, seed=0)}


def owners(pixels):
    """Returns the row of the slice that each pixel comes from."""
    return np.floor(pixels * 100 + 1e-3).astype(int)


def test_each_failure_has_so_many_brains_and_their_rows(planted, images):
    assert list(planted) == NAMES
    for brains, rows in planted.values():
        assert brains.shape == (24, 40, 32)
        assert brains.dtype == np.float32
        assert rows.shape == (24,)
        assert (brains >= 0).all()
        assert (brains <= 1).all()


def test_what_is_planted_first_is_not_changed(planted, images):
    brains, rows = planted["nothing changed"]
    np.testing.assert_array_equal(brains, images[rows])


def test_ten_persons_are_replayed_unchanged(planted, images, table):
    brains, rows = planted["ten persons replayed"]
    np.testing.assert_array_equal(brains, images[rows])
    many = {name: rows for name, _, rows, _ in plant_failures(images, table, 150, seed=0)}
    assert table["subject"][rows].nunique() <= 10
    assert table["subject"][many["ten persons replayed"]].nunique() == 10


def test_one_person_in_three_is_there_twice(planted, images, table):
    brains, rows = planted["one in three doubled"]
    np.testing.assert_array_equal(brains, images[rows])
    counts = table["subject"][rows].value_counts()
    assert counts.tolist() == [2] * 6 + [1] * 12
    assert len(np.unique(rows)) == 18


def test_the_other_brains_are_each_of_another_person(planted, table):
    for name in (NAMES[0], *NAMES[3:]):
        assert table["subject"][planted[name][1]].is_unique or "older" in name  # 15 persons


def test_blur_is_of_half_a_pixel(planted, images):
    brains, rows = planted["blurred by half a pixel"]
    for brain, row in zip(brains, rows, strict=True):
        np.testing.assert_allclose(brain, ndimage.gaussian_filter(images[row], 0.5), atol=1e-6)


def test_glued_halves_are_of_two_persons_of_one_age_at_one_position(planted, images, table):
    brains, rows = planted["two heads glued"]
    np.testing.assert_array_equal(brains[:, :, :16], images[rows][:, :, :16])
    right = owners(brains[:, :, 16:])
    others = right[:, 0, 0]
    assert (right == others[:, None, None]).all()
    np.testing.assert_array_equal(brains[:, :, 16:], images[others][:, :, 16:])
    assert (table["subject"].to_numpy()[others] != table["subject"].to_numpy()[rows]).all()
    assert (table["key"].to_numpy()[others] == table["key"].to_numpy()[rows]).all()
    apart = np.abs(table["age"].to_numpy()[others] - table["age"].to_numpy()[rows])
    assert apart.max() <= NEAR_AGE


def test_patches_are_of_somebody_else_and_lie_in_the_middle(planted, images, table):
    brains, rows = planted["patches swapped"]
    changed = brains != images[rows]
    assert (changed.any(axis=(1, 2))).all()
    assert changed.sum(axis=(1, 2)).max() <= PATCHES * 4 * 4  # an eighth of 32 pixels
    assert not changed[:, :8].any()
    assert not changed[:, 32:].any()
    assert not changed[:, :, :6].any()
    assert not changed[:, :, 25:].any()
    for brain, row, where in zip(brains, rows, changed, strict=True):
        (other,) = set(owners(brain[where]))
        assert table["subject"][other] != table["subject"][row]
        np.testing.assert_array_equal(brain[where], images[other][where])


def test_larger_heads_are_larger_about_the_middle(planted, images):
    y, x = np.mgrid[:101, :91]
    disc = np.clip(31 - np.hypot(y - 50, x - 45), 0, 1)
    larger = enlarged(disc)
    assert larger.sum() / disc.sum() == pytest.approx(ENLARGED**2, rel=1e-3)
    np.testing.assert_allclose(ndimage.center_of_mass(larger), (50, 45), atol=1e-6)
    brains, rows = planted["2% larger"]
    np.testing.assert_allclose(brains[3], enlarged(images[rows[3]]), atol=1e-6)


def test_the_older_half_keeps_its_own_ages(planted, images, table):
    brains, rows = planted["the older half only"]
    np.testing.assert_array_equal(brains, images[rows])
    assert table["age"][rows].min() >= table["age"].median()
    assert len(np.unique(rows)) > 10


def test_ages_of_others_are_exchanged_and_the_pictures_are_not(images, table):
    failures = {name: parts for name, *parts in plant_failures(images, table, 24, seed=0)}
    brains, rows, labels = failures["ages of others"]
    np.testing.assert_array_equal(brains, images[rows])
    assert sorted(labels) == sorted(rows)
    assert (table["age"][labels].to_numpy() != table["age"][rows].to_numpy()).mean() > 0.5
    unknown = {name for name, *_ in plant_failures(images, table.assign(age=np.nan), 6, 0)}
    assert not {"ages of others", "the older half only"} & unknown


def test_only_sides_that_can_be_exchanged_are(planted, images, table):
    brains, rows = planted["mirrored"]
    np.testing.assert_array_equal(brains, images[rows][:, :, ::-1])
    for plane, there in (("sagittal", False), ("", True), ("axial", True)):
        names = [name for name, *_ in plant_failures(images, table.assign(plane=plane), 6, 0)]
        assert ("mirrored" in names) == there


def test_the_seed_decides_and_nothing_is_changed(planted, images, table):
    before, rows_before = images.copy(), table.copy()
    for name, brains, rows, _ in plant_failures(images, table, 24, seed=0):
        np.testing.assert_array_equal(brains, planted[name][0])
        np.testing.assert_array_equal(rows, planted[name][1])
    for name, _, rows, _ in plant_failures(images, table, 24, seed=1):
        assert (rows != planted[name][1]).any()
    np.testing.assert_array_equal(images, before)
    pandas.testing.assert_frame_equal(table, rows_before)


@pytest.mark.parametrize("shape", [(8, 8), (64, 12), (12, 64), (5, 5)])
def test_small_and_narrow_slices_can_fail_too(shape, table):
    images = np.random.default_rng(0).random((90, *shape)).astype(np.float32)
    for _, brains, *_ in plant_failures(images, table, 5, seed=0):
        assert brains.shape == (5, *shape)


def test_nobody_comes_a_second_time_before_everybody_came(random):
    subjects = np.array(["a"] * 5 + ["b"] * 2 + ["c"])
    rows = draw_slices(subjects, 8, random)
    assert sorted(subjects[rows[:3]]) == ["a", "b", "c"]
    assert sorted(subjects[rows[3:5]]) == ["a", "b"]
    assert sorted(rows) == list(range(8))
    np.testing.assert_array_equal(draw_slices(subjects, 20, random)[:4].shape, (4,))
    assert np.bincount(draw_slices(subjects, 24, random)).tolist() == [3] * 8


def test_mates_of_unknown_age_are_anybody_and_of_a_person_alone_nobody(random):
    table = pandas.DataFrame(
        {"subject": list("abcc"), "key": list("xxxy"), "age": pandas.array([30, None, 80, 80])}
    )
    mates = [find_mates(table, np.arange(4), random) for _ in range(30)]
    assert {tuple(sorted({m[row] for m in mates})) for row in range(4)} == {
        (1, 2),  # nobody of 25 to 35 years is known
        (0, 2),
        (0, 1),
        (3,),  # the only one at its position
    }
    near = table.assign(age=[30, 35, 80, 80])
    assert {find_mates(near, np.array([0]), random)[0] for _ in range(10)} == {1}
