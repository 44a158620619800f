"""Age, sex and CDR are told from brains that show them, and tissue is compared by age."""

import json
import warnings

import numpy as np
import pandas
import pytest

from oasisvq.evaluation.predictors import compare_predictions, compare_tissue, small_pictures
from support.heads import read_heads


@pytest.mark.parametrize(
    ("shape", "small"),
    [((176, 176), (44, 44)), ((208, 176), (41, 35)), ((60, 47), (60, 47)), ((8, 8), (8, 8))],
)
def test_small_pictures_are_means_of_pixels(shape, small, random):
    images = random.random((2, *shape)).astype(np.float32)
    pictures = small_pictures(images)
    assert pictures.shape == (2, small[0] * small[1])
    assert pictures.dtype == np.float32
    cell = shape[0] // small[0]
    corner = images[1, cell : 2 * cell, :cell].mean()
    assert pictures[1, small[1]] == pytest.approx(corner, rel=1e-5)


def invent(count, seed, age=True, sex=True, cdr=True):
    """Returns pictures whose parts are as bright as age, sex and CDR say, if they show them."""
    random = np.random.default_rng([seed, count])
    table = pandas.DataFrame(
        {
            "age": random.uniform(20, 90, count),
            "sex": random.choice(["F", "M"], count),
            "cdr": random.choice([0, 0, 0.5, 1], count),
        }
    )
    shown = (table["age"] / 100 * age, (table["sex"] == "F") * sex, (table["cdr"] > 0) * cdr)
    pictures = random.normal(0, 0.2, (count, 3, 20)) + np.stack(shown, axis=1)[:, :, None]
    return pictures.reshape(count, -1).astype(np.float32), table


@pytest.fixture(scope="module")
def others():
    return invent(300, 1)


@pytest.fixture(scope="module")
def held():
    return invent(200, 2)


def compare(brains, others, held):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_predictions(brains, others, held)
    json.dumps(found, allow_nan=False)
    return found


def test_brains_that_show_what_was_asked_for_are_like_real_ones(others, held):
    found = compare(invent(300, 3), others, held)
    for column in ("on_new", "on_real", "trained_on_new"):
        assert found["age"][column]["error"] < 8
        assert found["age"][column]["slope"] == pytest.approx(0.87, abs=0.12)
        assert found["sex"][column] > 0.97
        assert found["cdr"][column] > 0.97
    assert found["age"]["on_new"]["error"] == pytest.approx(
        found["age"]["on_real"]["error"], rel=0.15
    )


def test_brains_that_do_not_show_it_teach_nothing_and_are_not_told(others, held):
    for name in ("age", "sex", "cdr"):
        found = compare(invent(300, 3, **{name: False}), others, held)
        for other in {"sex", "cdr"} - {name}:
            assert found[other]["on_new"] > 0.97
        if name == "age":
            assert found["age"]["on_new"]["error"] > 25
            assert abs(found["age"]["on_new"]["slope"]) < 0.1
            assert found["age"]["trained_on_new"]["error"] > 12
            assert found["age"]["on_real"]["error"] < 8
        else:
            assert found[name]["on_new"] == pytest.approx(0.5, abs=0.1)
            assert found[name]["trained_on_new"] < 0.95  # by chance it may be far from 0.5
            assert found[name]["on_real"] > 0.97


def test_learning_from_few_real_brains_where_there_are_few_new_ones(others, held):
    many, few = compare(invent(300, 3), others, held), compare(invent(20, 3), others, held)
    assert few["age"]["on_real"]["error"] > 1.2 * many["age"]["on_real"]["error"]


def test_what_is_unknown_is_left_out(others, held):
    pictures, table = invent(300, 3)
    table.loc[:99, ["age", "sex", "cdr"]] = [np.nan, None, np.nan]
    pictures[:100] = 100
    found = compare((pictures, table), others, held)
    assert found["age"]["on_new"]["error"] < 8
    assert found["sex"]["on_new"] > 0.97
    nothing = table.assign(age=np.nan, sex=None, cdr=np.nan)
    assert compare((pictures, nothing), others, held) == dict.fromkeys(("age", "sex", "cdr"))


def test_columns_of_objects_are_read_too(others, held):
    pictures, table = invent(300, 3)
    as_objects = table.astype(object)
    as_objects.loc[:5] = None
    assert compare((pictures, as_objects), others, held)["age"]["on_new"]["error"] < 8


@pytest.mark.parametrize("place", range(3))
def test_too_few_of_a_class_are_no_comparison(place, others, held):
    groups = [invent(300, 3), others, held]
    pictures, table = groups[place]
    rare = table.assign(sex="M", cdr=0.0)
    rare.loc[:3, "sex"], rare.loc[:3, "cdr"] = "F", 1.0  # four
    groups[place] = pictures, rare.assign(age=40.0)
    assert compare(*groups) == dict.fromkeys(("age", "sex", "cdr"))


def test_a_class_that_is_not_among_the_few_that_are_learned_from(held):
    # Of 300 real brains as many as of the new ones are taken, at even steps: none of these five.
    pictures, table = invent(300, 1)
    table["sex"] = ["F" if row in (1, 3, 5, 7, 9) else "M" for row in range(300)]
    assert compare(invent(20, 3), (pictures, table), held)["sex"] is None


@pytest.mark.parametrize("heads", [0, 1, 3])
def test_brains_that_are_all_alike_teach_nothing(heads, others, held):
    pictures, table = invent(300, 3)
    pictures = pictures[np.arange(300) % max(heads, 1)] * (heads > 0)  # 0: black
    found = compare((pictures, table), others, held)
    assert found["age"]["trained_on_new"]["error"] < 30
    assert abs(found["age"]["trained_on_new"]["slope"]) < 0.3
    assert found["age"]["on_new"]["error"] > 12


def test_it_is_the_same_every_time(others, held):
    assert compare(invent(50, 3), others, held) == compare(invent(50, 3), others, held)


@pytest.mark.real_data
def test_age_is_told_from_real_slices(real_data):
    images, table = read_heads(real_data, 0, 160)
    pictures = small_pictures(images / np.float32(255))
    parts = [(pictures[rows], table.iloc[rows]) for rows in np.split(np.arange(320), [80, 240])]
    new, others, held = parts
    found = compare(new, others, held)["age"]
    shuffled = new[1].assign(age=np.random.default_rng(0).permutation(new[1]["age"]))
    wrong = compare((new[0], shuffled), others, held)["age"]
    assert found["on_new"]["slope"] > 0.5
    assert max(found["on_new"]["error"], found["on_real"]["error"]) < 15
    assert abs(wrong["on_new"]["slope"]) < 0.3
    assert wrong["on_new"]["error"] > 20


# Tissue


def tissue(ages, slope=-0.003, spread=0.02, seed=0, shift=0.0, keys=("a", "b")):
    """Returns tissue that falls with age, at positions that differ by 0.1, with its deviation."""
    random, ages = np.random.default_rng(seed), np.asarray(ages, float)
    number = np.arange(len(ages)) % len(keys)
    deviation = random.normal(size=len(ages))
    for row in range(len(keys)):  # so that slope and spread are exactly what was asked for
        x, of_key = np.stack([ages, np.ones(len(ages))])[:, number == row], number == row
        deviation[of_key] -= x.T @ np.linalg.lstsq(x.T, deviation[of_key], rcond=None)[0]
    deviation *= spread / deviation.std()
    fractions = 0.9 + slope * (ages - 50) + deviation + 0.1 * number + shift
    return pandas.DataFrame(
        {"tissue_fraction": fractions, "age": ages, "key": np.take(keys, number)}
    )


AGES = np.tile(np.arange(20, 100, 2), 4)  # the same at both positions
AGES = np.repeat(AGES, 2)


def test_tissue_of_real_brains_is_like_itself():
    real = tissue(AGES)
    found = compare_tissue(real, real)
    assert found["slope_ratio"] == pytest.approx(1)
    assert found["spread_ratio"] == pytest.approx(1)
    assert [band["ages"] for band in found["bands"]] == [
        "0 to 29",
        "30 to 49",
        "50 to 64",
        "65 to 74",
        "75 to 120",
    ]
    assert sum(band["new"] for band in found["bands"]) == len(AGES)
    assert {band["d"] for band in found["bands"]} == {0}


def test_slope_and_spread_are_told_exactly():
    found = compare_tissue(tissue(AGES, slope=-0.0015, spread=0.05, seed=1), tissue(AGES))
    assert found["slope_ratio"] == pytest.approx(0.5)
    assert found["spread_ratio"] == pytest.approx(2.5)


def test_d_is_cohens_in_each_band():
    new, real = tissue(AGES, shift=-0.02, seed=1), tissue(AGES)
    for band in compare_tissue(new, real)["bands"]:
        low, high = map(int, band["ages"].split(" to "))
        x, y = (
            (one["tissue_fraction"] - 0.1 * (one["key"] == "b"))[one["age"].between(low, high)]
            for one in (new, real)
        )
        assert band["new"] == band["real"] == len(x)
        expected = (x.mean() - y.mean()) / np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
        assert band["d"] == pytest.approx(expected, abs=0.01)
        assert band["d"] < -0.2


def test_positions_are_no_difference():
    # All new brains lie where there is more tissue.
    found = compare_tissue(tissue(AGES, keys=("b",), shift=0.1, seed=1), tissue(AGES))
    assert max(abs(band["d"]) for band in found["bands"]) < 0.3
    # Where no real slice lies, the mean of all is taken off.
    found = compare_tissue(tissue(AGES, keys=("c",), shift=0.05, seed=1), tissue(AGES))
    assert max(abs(band["d"]) for band in found["bands"]) < 0.3
    assert found["slope_ratio"] == pytest.approx(1)


def test_bands_of_few_brains_have_no_d():
    found = compare_tissue(tissue([20, 40, 41, 42, 43, 44]), tissue(AGES))
    assert [band["d"] is None for band in found["bands"]] == [True, False, True, True, True]
    assert [band["new"] for band in found["bands"]] == [1, 5, 0, 0, 0]


def test_few_ages_are_no_comparison():
    real, few = tissue(AGES), tissue([20, 30, 40, 50])
    unknown = real.assign(age=np.nan)
    for one, other in ((few, real), (real, few), (unknown, real), (real, unknown)):
        assert compare_tissue(one, other) is None


def test_one_age_has_no_slope():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_tissue(tissue(np.full(30, 70), slope=0), tissue(AGES))
    assert found["slope_ratio"] is None
    assert found["spread_ratio"] == pytest.approx(1, abs=0.02)


def test_brains_without_tissue_are_finite_and_nothing_is_changed():
    real = tissue(AGES)
    black, before = real.assign(tissue_fraction=0.0), real.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in ((black, real), (real, black), (black, black)):
            json.dumps(compare_tissue(*pair), allow_nan=False)
    pandas.testing.assert_frame_equal(real, before)
