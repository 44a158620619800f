"""The measures against slow definitions, and their floor."""

import json

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from oasisvq.evaluation.copies import find_copies
from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.evaluation.population import (
    Population,
    TooFewSlicesError,
    compare,
    compare_with_floor,
    density_and_coverage,
    draw_one_slice_each,
    draw_pairs,
    frechet_distance,
    glue_heads,
    halve_subjects,
    intensity_distance,
    intensity_histograms,
    median_distance,
    mmd,
    score_pairs,
)

MEASURES = (
    "mmd",
    "frechet_distance",
    "frechet_distance_all",
    "density",
    "coverage",
    "intensity_distance",
    "diversity",
)


@pytest.fixture
def samples(random):
    return random.normal(size=(9, 3)), random.normal(0.5, 1, size=(7, 3))


def slow_mmd(x, y, bandwidth, owners, other_owners):
    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2))

    def within(z, names):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if names[i] != names[j]]
        return np.mean([kernel(z[i], z[j]) for i, j in pairs])

    cross = np.mean([kernel(a, b) for a in x for b in y])
    return within(x, owners) + within(y, other_owners) - 2 * cross


def test_mmd_against_its_double_sum(samples):
    x, y = samples
    assert mmd(x, y, 1.3) == pytest.approx(slow_mmd(x, y, 1.3, range(9), range(7)))
    owners, others = list("aabbccddd"), list("ppqqrrr")
    assert mmd(x, y, 1.3, owners, others) == pytest.approx(slow_mmd(x, y, 1.3, owners, others))


def test_mmd_is_0_on_average_for_one_population_also_in_clusters(random):
    # Ten alike slices a subject. With pairs inside subjects the mean is 0.09.
    owners, values, naive = np.repeat(np.arange(12), 10), [], []
    for _ in range(100):
        x, y = (np.repeat(random.normal(size=(12, 4)), 10, axis=0) for _ in range(2))
        values.append(mmd(x, y, 2.0, owners, owners))
        naive.append(mmd(x, y, 2.0))
    assert min(values) < 0
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(100)
    assert np.mean(naive) > 0.07


def test_mmd_needs_two_subjects(samples):
    with pytest.raises(TooFewSlicesError, match="2 subjects or more"):
        mmd(*samples, 1.0, subjects=["a"] * 9)


def test_median_distance_is_that_of_all_pairs():
    assert median_distance(np.array([[0.0], [1.0], [5.0]])) == 4
    assert median_distance(np.zeros((5, 2))) == 1


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


def test_frechet_needs_two_slices(samples):
    with pytest.raises(TooFewSlicesError, match="2 slices or more"):
        frechet_distance(samples[0][:1], samples[1])


def test_density_and_coverage_against_their_definitions(random):
    real, generated = random.normal(size=(20, 2)), random.normal(0.5, 1, size=(15, 2))
    owners, k = np.arange(20) // 2, 3
    inside = np.zeros((20, 15))
    for i in range(20):
        others = [j for j in range(20) if owners[j] != owners[i]]
        radius = sorted(np.linalg.norm(real[i] - real[j]) for j in others)[k - 1]
        for j in range(15):
            inside[i, j] = np.linalg.norm(real[i] - generated[j]) < radius
    density, coverage = density_and_coverage(real, generated, owners, k)
    assert density == pytest.approx(inside.sum() / (k * 15))
    assert coverage == np.mean([row.max() for row in inside])
    assert 0.2 < coverage < 1


def test_collapse_to_one_slice_loses_coverage_not_density():
    # Each ball reaches 3 to either side, so the six from 48 to 53 hold 50.5.
    real = np.arange(100.0)[:, None]
    assert density_and_coverage(real, np.full((10, 1), 50.5)) == (6 / 5, 6 / 100)


def test_density_needs_neighbours(samples):
    with pytest.raises(TooFewSlicesError, match="5 real slices"):
        density_and_coverage(samples[0][:5], samples[1])


def test_order_of_rows_does_not_matter(samples, random):
    x, y = samples
    shuffled = random.permutation(x)
    assert mmd(shuffled, y, 1.0) == pytest.approx(mmd(x, y, 1.0))
    assert frechet_distance(shuffled, y) == pytest.approx(frechet_distance(x, y))
    assert density_and_coverage(shuffled, y) == density_and_coverage(x, y)


def test_intensity_distance_is_that_of_scipy(brains):
    images = (np.round(brains * 255) / 255)[..., None]
    darker = (np.round(brains**1.5 * 255) / 255)[..., None]
    expected = wasserstein_distance(images[images > 0.02], darker[darker > 0.02])
    found = intensity_distance(intensity_histograms(images), intensity_histograms(darker))
    assert found == pytest.approx(expected)
    assert found > 0.03


def test_faint_ground_is_no_brain(brains):
    images = brains[..., None]
    assert (
        intensity_histograms(images * (images > 0.1) + 0.019 * (images <= 0.1))[:, :6] == 0
    ).all()


def test_black_slices_have_no_intensity(brains):
    histograms = intensity_histograms(brains[..., None])
    with pytest.raises(TooFewSlicesError, match="no pixel"):
        intensity_distance(histograms, histograms * 0)


def test_pairs_are_of_two_subjects_at_one_position():
    subjects, keys = np.repeat(list("abcdef"), 4), np.tile(list("wxyz"), 6)
    pairs = draw_pairs(subjects, keys, 30)
    assert pairs.shape == (30, 2)
    assert len(np.unique(pairs, axis=0)) == 30
    assert (subjects[pairs[:, 0]] != subjects[pairs[:, 1]]).all()
    assert (keys[pairs[:, 0]] == keys[pairs[:, 1]]).all()
    assert len(draw_pairs(["a", "b"], ["x", "y"], 30)) == 0


def test_likeness_is_ssim_below_176_pixels_and_unknown_below_11(brains, random):
    large = random.random((2, 176, 176, 1))
    large = np.concatenate([large, (large + 0.05).clip(0, 1)])
    pairs = np.array([[0, 2], [1, 3]])
    assert (score_pairs(large, pairs) > 0.95).all()
    small = brains[:4, ..., None]
    np.testing.assert_allclose(
        score_pairs(small, pairs), slice_scores(small[:2], small[2:])["ssim"]
    )
    assert score_pairs(brains[:4, :10, :, None], pairs).shape == (0,)


def test_halves_share_no_subject_and_have_as_many():
    subjects = np.repeat(list("abcdefg"), 3)
    for a, b in halve_subjects(subjects, 20):
        assert not set(subjects[a]) & set(subjects[b])
        assert len(a) == len(b) == 9
    assert len({tuple(a) for a, _ in halve_subjects(subjects, 20)}) > 5


def test_three_subjects_cannot_be_halved(random):
    assert halve_subjects(["a", "b", "c"], 20) == []
    entry = compare_with_floor(None, None, [])
    assert entry["reason"] == "needs 4 subjects or more"
    assert entry["floor"]["mean"] is entry["ratio"] is None


def moments(images):
    """Six features that need no network."""
    low = images[..., 0].reshape(len(images), 2, images.shape[1] // 2, -1).mean((2, 3))
    edges = [np.abs(np.diff(images, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
    return np.column_stack([low, images.mean((1, 2, 3)), images.std((1, 2, 3)), *edges])


@pytest.fixture
def population(brains, random):
    """32 slices of 16 subjects: the invented ones, each of its own brightness and shift."""
    pictures = [np.roll(brains[n % 8], n, axis=1) * random.uniform(0.7, 1) for n in range(48)]
    return np.array(pictures)[..., None].astype("float32")


def test_report_sets_blur_above_the_floor_and_the_real_ones_at_it(population):
    real, train = population[:32], population[32:]
    subjects, keys = np.repeat(np.arange(16), 2), ["here", "there"] * 16
    report, material = compare(real, real, real, subjects, keys, train, moments)
    for name in MEASURES:
        assert report[name]["ratio"] in (None, 1)
        assert report[name]["floor"] == report[name]["reconstructed"]
        assert report[name]["floor"] == report[name]["generated"]
        assert report[name]["reason"] is None
    assert report["diversity_score"] == "ssim"
    assert report["memorisation"]["ratio"] == 1
    assert material["rows"].shape == material["copies"].shape == (32,)
    assert material["real_histograms"].shape == (32, 256)
    assert json.loads(json.dumps(report, allow_nan=False)) == report

    blurred = gaussian_filter(real, (0, 1.5, 1.5, 0))
    report, _ = compare(real, real, blurred, subjects, keys, train, moments)
    for name in ("mmd", "frechet_distance", "diversity"):
        assert report[name]["above_floor"] >= 0.9


def test_each_measure_gets_its_own_sides(population, random):
    """Recomputed by direct calls, for populations that all differ."""
    real, train = population[:32], np.round(population[32:, ..., 0] * 255).astype("uint8")
    reconstructed = gaussian_filter(real, (0, 1, 1, 0))
    generated = (real**1.3 + 0.05 * random.random(real.shape).astype("float32")).clip(0, 1)
    subjects, keys = np.repeat(np.arange(16).astype(str), 2), ["here", "there"] * 16
    report, _ = compare(real, reconstructed, generated, subjects, keys, train, moments)

    seen = {"floor": real, "reconstructed": reconstructed, "generated": generated}
    seen["glued"] = glue_heads(real, subjects, keys)
    features = {name: moments(images) for name, images in seen.items()}
    histograms = {name: intensity_histograms(images) for name, images in seen.items()}
    halves, sigma = halve_subjects(subjects, 20), median_distance(features["floor"])
    one_each = draw_one_slice_each(halves, subjects, 10)
    pairs = draw_pairs(subjects, keys, 200)

    def mean(measure, halves):
        return np.mean([np.mean([measure(a, b) for a, b in drawn]) for drawn in halves])

    def within(rows):
        return pairs[np.isin(pairs, rows).all(axis=1)]

    def check(name):
        own, others = features[name], features["floor"]
        measures = {
            "frechet_distance": lambda a, b: frechet_distance(own[a], others[b]),
            "density": lambda a, b: density_and_coverage(others[b], own[a], subjects[b])[0],
            "coverage": lambda a, b: density_and_coverage(others[b], own[a], subjects[b])[1],
            "intensity_distance": lambda a, b: intensity_distance(
                histograms[name][a], histograms["floor"][b]
            ),
        }
        of_all = {
            "mmd": lambda a, b: mmd(own[a], others[b], sigma, subjects[a], subjects[b]),
            "frechet_distance_all": measures["frechet_distance"],
            "diversity": lambda a, b: score_pairs(seen[name], within(a)).mean(),
        }
        for measure, function in measures.items():
            assert report[measure][name]["mean"] == pytest.approx(mean(function, one_each)), measure
            assert report[measure]["slices_a_side"] == 8
        for measure, function in of_all.items():
            expected = mean(function, [[halving] for halving in halves])
            assert report[measure][name]["mean"] == pytest.approx(expected, rel=1e-4), measure
            assert report[measure]["slices_a_side"] == 16

    for name in seen:
        check(name)
    assert report["memorisation"] == find_copies(generated, reconstructed, train, subjects)[0]


def test_glued_heads_are_of_two_subjects_at_one_position():
    subjects, keys = np.repeat(list("abcd"), 2), np.tile(["x", "y"], 4)
    images = np.arange(8.0)[:, None, None, None] * np.ones((8, 4, 6, 1))
    glued = glue_heads(images, subjects, keys)
    np.testing.assert_array_equal(glued[:, :, :3], images[:, :, :3])
    partners = glued[:, 0, 3:, 0].astype(int)
    assert (partners == partners[:, :1]).all()
    assert (subjects[partners[:, 0]] != subjects).all()
    assert (keys[partners[:, 0]] == keys).all()
    alone = glue_heads(images[:2], ["a", "a"], ["x", "y"])
    np.testing.assert_array_equal(alone, images[:2])


@pytest.fixture
def clustered(random):
    """Features of 40 subjects with ten alike slices each, and of as many independent slices."""
    subjects = np.repeat(np.arange(40).astype(str), 10)
    real = random.normal(size=(40, 1, 8)) + random.normal(0, 0.3, size=(40, 10, 8))
    generated = random.normal(0, 1.09**0.5, size=(400, 8))
    return subjects, real.reshape(-1, 8), generated


@pytest.mark.parametrize("shift", [0, 0.5])
def test_a_perfect_generator_lies_at_the_floor_and_a_shifted_one_above(clustered, shift):
    # With all ten slices of a subject the perfect one would lie far below the floor.
    subjects, real, generated = clustered
    nothing = np.zeros((400, 0))

    def population(features):
        return Population(features, subjects, nothing, np.zeros((0, 2), int), np.zeros(0))

    features = {"real": real, "reconstructed": real, "generated": generated + shift, "glued": real}
    populations = {name: population(values) for name, values in features.items()}
    halves = draw_one_slice_each(halve_subjects(subjects, 20), subjects, 10)

    def beside(measure):
        return compare_with_floor(lambda x, y: measure(y.features, x.features), populations, halves)

    frechet = beside(frechet_distance)
    coverage = beside(lambda real, others: density_and_coverage(real, others)[1])
    if shift:
        assert frechet["ratio"] > 1.3
        assert coverage["ratio"] < 0.95
    else:
        assert frechet["ratio"] == pytest.approx(1, abs=0.12)
        assert coverage["ratio"] == pytest.approx(1, abs=0.06)


def test_one_slice_a_subject_is_drawn_from_either_half():
    subjects = np.repeat(list("abcd"), 3)
    ((first, second), *others) = draw_one_slice_each(halve_subjects(subjects, 1), subjects, 5)[0]
    assert len(others) == 4
    assert sorted(subjects[[*first, *second]]) == list("abcd")
    assert any((first != other).any() for other, _ in others)


def test_generated_stand_in_for_the_first_half():
    class Rows:
        def __init__(self, worth):
            self.worth = worth

        def part(self, rows):
            return self.worth * sum(rows)

    halves = [[([1, 2], [0, 3])], [([0, 2], [1, 3])]]
    populations = {"real": 1, "reconstructed": 2, "generated": 10, "glued": 3}
    populations = {name: Rows(worth) for name, worth in populations.items()}
    entry = compare_with_floor(lambda x, y: x - y, populations, halves)
    assert entry["floor"] == {"mean": -1.0, "sd": pytest.approx(np.sqrt(2))}  # 0 and -2
    assert entry["reconstructed"]["mean"] == 1.5  # 3 and 0
    assert entry["generated"]["mean"] == 21.5  # 27 and 16
    assert entry["glued"]["mean"] == 4  # 6 and 2
    assert entry["slices_a_side"] == 2
    assert entry["ratio"] is None
    assert entry["above_floor"] == 1


def test_few_subjects_are_reported_not_raised(population):
    real, train = population[:3], population[3:]
    report, _ = compare(real, real, real, ["a", "b", "c"], ["x", "x", "x"], train, moments)
    assert {report[name]["reason"] for name in MEASURES} == {"needs 4 subjects or more"}
    real = population[:4]
    report, _ = compare(real, real, real, list("abcd"), list("wxyz"), train, moments)
    assert report["mmd"]["reason"] is None
    assert report["density"]["reason"] == "needs 5 real slices of other subjects or more"
    assert report["diversity"]["reason"] == "needs slices of different subjects at one position"
    json.dumps(report, allow_nan=False)


def test_rows_must_belong_together(population):
    with pytest.raises(ValueError, match="a subject and a key for each real slice"):
        compare(population, population, population, ["a"], ["x"] * 48, population, moments)
    with pytest.raises(ValueError, match=r"generated must lie in \[0, 1\]"):
        compare(population, population, population + 1, ["a"] * 48, ["x"] * 48, population, moments)
