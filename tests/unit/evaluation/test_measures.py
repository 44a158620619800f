"""Each measure against a slow definition, and on failures that it must feel."""

import dataclasses
import warnings

import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance

from oasisvq.evaluation.anatomy import FORM, QUANTITIES
from oasisvq.evaluation.measures import (
    BANDS,
    MEASURES,
    Population,
    TooFewSlicesError,
    age_error,
    area_under_curve,
    deal_persons,
    feature_distance,
    form_of_white_matter,
    frechet_distance,
    left_against_right,
    power_spectra,
    quantity_distance,
    spectrum_distance,
    tissue_by_age,
    twins,
)
from support.heads import describe_heads, draw_head, real_populations


def invent(count, seed=0, **arrays):
    """Returns a population of random numbers, with some arrays in place of them."""
    random = np.random.default_rng(seed)
    details = random.normal(size=(count, 30))
    known = {
        "persons": np.array([f"{seed} {n}" for n in range(count)]),
        "keys": np.full(count, "here"),
        "features": random.normal(size=(count, 2, 4)),
        "anatomy": random.normal(size=(count, len(QUANTITIES))),
        "sides": random.normal(size=(count, 6)),
        "spectra": random.normal(size=(count, BANDS)),
        "details": details / np.linalg.norm(details, axis=1, keepdims=True),
        "ages": random.uniform(20, 90, count),
        "predicted_ages": random.uniform(20, 90, count),
    }
    return Population(**known | arrays)


def test_a_part_has_the_rows_of_every_array():
    population, rows = invent(9), np.array([7, 2, 2])
    part = population.part(rows)
    for field in dataclasses.fields(Population):
        whole = getattr(population, field.name)
        np.testing.assert_array_equal(getattr(part, field.name), whole[rows])


def test_each_quantity_is_a_measure():
    assert set(QUANTITIES) < set(MEASURES)


# Spectra


@pytest.mark.parametrize("shape", [(32, 32), (33, 20)])
def test_spectra_against_their_definition(shape, random):
    image, sums, counts = random.random(shape), np.zeros(BANDS), np.zeros(BANDS)
    borders = np.linspace(0.02, 0.5, BANDS)
    transformed = np.fft.fft2(image)[:, : shape[1] // 2 + 1]
    for (row, column), value in np.ndenumerate(transformed):
        along = min(row, shape[0] - row) / shape[0]
        band = np.searchsorted(borders, np.hypot(along, column / shape[1]), side="right") - 1
        if band >= 0:
            sums[band] += abs(value) ** 2
            counts[band] += 1
    expected = np.log(sums / np.maximum(counts, 1) + 1e-9)
    np.testing.assert_allclose(power_spectra(image[None])[0], expected, rtol=1e-6)


def test_blur_takes_the_high_frequencies_and_brightness_none(brains):
    blurred = np.array([ndimage.gaussian_filter(image, 1) for image in brains])
    change = power_spectra(blurred).mean(axis=0) - power_spectra(brains).mean(axis=0)
    assert change[0] > -0.5
    assert change[6:].max() < -2
    np.testing.assert_allclose(power_spectra(brains + 0.5), power_spectra(brains), atol=0.01)


@pytest.mark.parametrize("shape", [(64, 64), (8, 8), (3, 5)])
def test_spectra_of_black_and_of_tiny_slices_are_finite(shape):
    assert np.isfinite(power_spectra(np.zeros((2, *shape), np.float32))).all()
    assert power_spectra(np.zeros((2, *shape))).shape == (2, BANDS)


def test_spectrum_distance_is_of_the_band_that_is_farthest():
    real = invent(50)
    moved = real.spectra.copy()
    moved[:, 3] += 2 * real.spectra[:, 3].std()
    moved[:, 5] -= 3 * real.spectra[:, 5].std()
    assert spectrum_distance(real, real) == 0
    assert spectrum_distance(invent(50, spectra=moved), real) == pytest.approx(3)


# Features


def test_frechet_against_the_matrix_square_root(random):
    x, y = (
        random.normal(size=(200, 5)),
        random.normal(1, 2, size=(150, 5)) @ np.triu(np.ones((5, 5))),
    )
    first, second = np.cov(x.T), np.cov(y.T)
    means = x.mean(axis=0) - y.mean(axis=0)
    expected = means @ means + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_frechet_of_a_line_against_its_closed_form():
    # Covariances of rank 1 in three dimensions: (m1 - m2)^2 + (s1 - s2)^2 along the line.
    line = np.array([[3.0, 0.0, 4.0]]) / 5
    x, y = np.array([[-1.0], [1.0]]) * line, np.array([[1.0], [2.0], [6.0]]) * line
    expected = 3**2 + (np.sqrt(2) - np.std([1, 2, 6], ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_frechet_is_never_below_0():
    samples = np.random.default_rng(0).normal(size=(30, 12, 8))
    assert min(frechet_distance(sample, sample) for sample in samples) == 0


def test_frechet_needs_two_slices(random):
    with pytest.raises(TooFewSlicesError, match="2 slices or more"):
        frechet_distance(random.normal(size=(1, 3)), random.normal(size=(7, 3)))


def test_frechet_does_not_mind_the_order_of_rows(random):
    x, y = random.normal(size=(9, 3)), random.normal(0.5, 1, size=(7, 3))
    assert frechet_distance(random.permutation(x), y) == pytest.approx(frechet_distance(x, y))


def test_each_network_has_its_own_distance():
    real = invent(60)
    moved = real.features + np.array([0, 1])[:, None]
    distances = feature_distance(invent(60, features=moved), real)
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances[1] == pytest.approx(4)  # one in each of four dimensions


# Twins


def test_a_brain_that_is_there_twice_is_a_twin():
    real, brains = invent(80), invent(30, 1)
    assert twins(brains, real) < 0.1
    doubled = brains.details.copy()
    doubled[:5] = doubled[5:10]
    assert twins(invent(30, 1, details=doubled), real) == pytest.approx(10 / 30, abs=0.07)


def test_slices_of_one_person_and_of_two_positions_are_no_twins():
    real = invent(80)
    alike = np.tile(invent(1, 1).details, (30, 1))
    assert twins(invent(30, 1, details=alike), real) == 1
    one = np.full(30, "the same person")
    assert twins(invent(30, 1, details=alike, persons=one), real) == 0
    places = np.arange(30).astype(str)
    assert twins(invent(30, 1, details=alike, keys=places), real) == 0


def test_real_slices_alone_at_their_positions_make_no_twins():
    real = invent(30, keys=np.arange(30).astype(str))
    assert twins(real, real) == 0


# Quantities


def test_quantities_are_apart_in_their_unit():
    real, number = invent(200), QUANTITIES.index("islands")
    moved = real.anatomy.copy()
    moved[:, number] += 1.5 * real.anatomy[:, number].std()
    moved = invent(200, anatomy=moved)
    apart = 1.5 * real.anatomy[:, number].std()
    assert quantity_distance(number, moved, real) == pytest.approx(apart)
    assert MEASURES["islands"](moved, real) == pytest.approx(apart)
    assert MEASURES["holes"](moved, real) == 0
    few = invent(70, 1)
    expected = wasserstein_distance(few.anatomy[:, 2], real.anatomy[:, 2])
    assert quantity_distance(2, few, real) == pytest.approx(expected)


# Ages


def aged(count, seed, slope, shift=0.0, wrong=0.0):
    """Returns a population whose tissue falls with age, and whose ages are told with an error."""
    random = np.random.default_rng(seed)
    ages, anatomy = random.uniform(20, 90, count), np.zeros((count, len(QUANTITIES)))
    noise = random.normal(0, 0.02, count)
    anatomy[:, QUANTITIES.index("tissue_fraction")] = 0.9 + shift - slope * ages + noise
    told = ages + random.choice([-5, 5], count) + wrong
    return invent(count, seed, ages=ages, anatomy=anatomy, predicted_ages=told)


def test_lines_of_tissue_over_the_age_are_as_far_apart_as_they_lie():
    real = aged(400, 0, 0.003)
    assert tissue_by_age(real, real) == 0
    assert tissue_by_age(aged(400, 1, 0.003), real) < 0.15
    assert tissue_by_age(aged(400, 1, 0.003, shift=0.04), real) == pytest.approx(2, abs=0.2)
    # Half as steep, with the same value at 20 years: 0 to 0.105 apart, 0.0525 on average.
    flat = aged(400, 1, 0.0015, shift=-0.03)
    assert tissue_by_age(flat, real) == pytest.approx(0.0525 / 0.02, rel=0.15)


def test_the_error_of_ages_is_in_years_and_beyond_that_on_real_brains():
    real = aged(400, 0, 0.003)
    assert age_error(aged(400, 1, 0.003), real) == 0
    assert age_error(aged(400, 1, 0.003, wrong=15), real) == pytest.approx(
        10, abs=1
    )  # 10 and 20, not 5
    mixed = dataclasses.replace(real, ages=np.random.default_rng(1).permutation(real.ages))
    assert age_error(mixed, real) > 10


def test_unknown_ages_have_no_line_and_no_error():
    real, unknown = aged(50, 0, 0.003), aged(50, 1, 0.003)
    unknown = dataclasses.replace(unknown, ages=np.full(50, np.nan))
    few = dataclasses.replace(real, ages=np.where(np.arange(50) < 30, np.nan, real.ages))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in ((unknown, real), (real, unknown)):
            assert np.isnan(tissue_by_age(*pair))
            assert np.isnan(age_error(*pair))
        assert tissue_by_age(few, few) == age_error(few, few) == 0


# Classifiers


def test_the_area_is_that_of_what_differs(random):
    same = area_under_curve(*random.normal(size=(2, 300, 5)), np.arange(300), np.arange(300))
    assert same == pytest.approx(0.5, abs=0.07)
    moved = random.normal(size=(300, 5)) + [1, 0, 0, 0, 0]
    others = random.normal(size=(300, 5))
    area = area_under_curve(moved, others, np.arange(300), np.arange(300))
    assert area == pytest.approx(0.76, abs=0.05)  # Phi(1 / sqrt 2)


def test_persons_are_not_learned_by_heart(random):
    # Ten equal slices a person, and nothing that the groups differ in.
    own, others = (np.repeat(random.normal(size=(20, 40)), 10, axis=0) for _ in range(2))
    persons = np.repeat(np.arange(20), 10)
    assert area_under_curve(own, others, persons, persons) < 0.7
    assert area_under_curve(own, others, np.arange(200), np.arange(200)) > 0.95


def test_persons_are_dealt_out_whole_and_evenly():
    persons = np.repeat([f"person {n}" for n in range(12)], 3)
    folds = deal_persons(persons, 5)
    assert folds.shape == (36,)
    for name in set(persons):
        assert len(set(folds[persons == name])) == 1
    assert sorted(np.bincount(folds)) == [6, 6, 6, 9, 9]
    np.testing.assert_array_equal(folds, deal_persons(persons, 5))
    assert (folds != deal_persons(persons, 5, seed=1)).any()


def test_five_persons_beside_many_brains_are_in_every_fold(random):
    persons = np.repeat(list("abcde"), 4)
    for seed in range(20):
        assert set(deal_persons(persons, 5, seed)) == set(range(5))
        assert set(deal_persons(persons, 2, seed)) == {0, 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        area = area_under_curve(
            random.normal(1, 1, (200, 3)), random.normal(size=(20, 3)), np.arange(200), persons
        )
    assert area > 0.7


def test_cells_that_never_differ_are_no_harm():
    real, brains = invent(30, sides=np.zeros((30, 6))), invent(30, 1, sides=np.zeros((30, 6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert left_against_right(brains, real) == 0.5


def test_the_form_is_of_islands_holes_and_the_ribbon_alone():
    real, brains = invent(100), invent(100, 1)
    columns = [QUANTITIES.index(name) for name in FORM]
    others = [number for number in range(len(QUANTITIES)) if number not in columns]
    for chosen, feels in ((columns, True), (others, False)):
        anatomy = brains.anatomy.copy()
        anatomy[:, chosen] += 2
        area = form_of_white_matter(invent(100, 1, anatomy=anatomy), real)
        assert (area > 0.9) == feels


# Real slices: what each measure must feel.

FELT = {
    "feature_distance": ("blurred by half a pixel", "2% larger"),
    "spectrum": ("blurred by half a pixel", "2% larger"),
    "twins": ("ten persons replayed", "one in three doubled"),
    "brain_area": ("2% larger",),
    "ventricle_asymmetry": ("two heads glued", "mirrored"),
    "mirror_correlation": ("two heads glued",),
    "islands": ("blurred by half a pixel",),
    "holes": ("blurred by half a pixel",),
    "ribbon": ("blurred by half a pixel", "patches swapped"),
    "sharpness": ("blurred by half a pixel",),
    "fine_detail": ("blurred by half a pixel", "2% larger"),
    "left_against_right": ("two heads glued", "ten persons replayed"),
    "form_of_white_matter": ("blurred by half a pixel",),
}


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "failures"), FELT.items())
def test_a_measure_feels_its_failures_and_not_other_persons(real_data, name, failures):
    real, brains = real_populations(real_data)
    test, measure = real.population.part(real.test), MEASURES[name]
    perfect = np.mean(measure(brains["perfect"], test))
    for failure in failures:
        value = np.mean(measure(brains[failure], test))
        if name in ("left_against_right", "form_of_white_matter"):
            assert perfect < 0.65 < value
        else:
            assert value > 1.5 * perfect
            assert value > 0.15


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["tissue_fraction", "ventricles"])
def test_tissue_feels_that_all_brains_are_old(real_data, name):
    real, brains = real_populations(real_data)
    test, number = real.population.part(real.test), QUANTITIES.index(name)
    perfect = brains["perfect"]
    order = np.argsort(perfect.anatomy[:, number])
    assert quantity_distance(number, perfect, test) < 0.4
    assert quantity_distance(number, perfect.part(order[:20]), test) > 0.6


def test_drawn_heads_with_one_ventricle_are_told_by_their_sides(random):
    def population(right):
        sizes = random.uniform(4, 7, 40)
        heads = np.stack([draw_head((64, 64), 1.5, size, size * right) for size in sizes])
        noise = random.normal(0, 0.02, heads.shape) * (heads > 0)
        return describe_heads((heads + noise).clip(0, 1), np.arange(40), ["all"] * 40)

    real = population(1)
    assert left_against_right(population(1), real) < 0.7
    assert left_against_right(population(0.3), real) > 0.95
