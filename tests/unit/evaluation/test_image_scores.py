"""SSIM against scikit-image, and the intervals."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from oasisvq.evaluation.code_scores import (
    bits_by_position,
    cells_with_brain,
    choose_smoothing,
    count_codes,
    frequencies_by_position,
)
from oasisvq.evaluation.image_scores import slice_scores, ssim_for_training
from oasisvq.evaluation.intervals import interval_by_subject
from oasisvq.nn.metrics import codebook_use


@pytest.fixture
def pairs(brains, random):
    noisy = (brains + random.normal(0, 0.05, brains.shape)).clip(0, 1).astype("float32")
    return brains, noisy


def scikit_map(image, other):
    _, full = structural_similarity(
        image, other, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    return full[5:-5, 5:-5]


def test_ssim_is_that_of_scikit_image(pairs):
    images, others = pairs
    scores = slice_scores(images[..., None], others[..., None])
    for n, (image, other) in enumerate(zip(images, others, strict=True)):
        full = scikit_map(image, other)
        assert scores["ssim"][n] == pytest.approx(full.mean(), abs=1e-5)
        brain = image[5:-5, 5:-5] > 0
        assert scores["ssim_brain"][n] == pytest.approx(full[brain].mean(), abs=1e-5)
        psnr = peak_signal_noise_ratio(image, other, data_range=1.0)
        assert scores["psnr"][n] == pytest.approx(psnr, abs=1e-4)


def test_training_ssim_is_the_same_function(pairs):
    images, others = (pictures[..., None] for pictures in pairs)
    expected = slice_scores(images, others)["ssim"]
    np.testing.assert_allclose(ssim_for_training(images, others), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(176, 176), (208, 176), (181, 219), (30, 11)])
def test_scores_are_those_of_tensorflow(shape, random):
    import tensorflow as tf

    smooth = np.kron(random.random((3, 40, 40)), np.ones((6, 6)))[:, : shape[0], : shape[1]]
    images = (smooth * (smooth > 0.3)).astype("float32")[..., None]
    others = (images + random.normal(0, 0.1, images.shape)).clip(0, 1).astype("float32")
    scores = slice_scores(images, others)
    expected = tf.image.ssim(images, others, 1.0)
    np.testing.assert_allclose(scores["ssim"], expected, atol=1e-5)
    if min(shape) >= 176:
        expected = tf.image.ssim_multiscale(images, others, 1.0)
        np.testing.assert_allclose(scores["ms_ssim"], expected, atol=1e-5)
    else:
        assert np.isnan(scores["ms_ssim"]).all()


def test_identical_slices_score_one(brains):
    scores = slice_scores(brains[..., None], brains[..., None])
    np.testing.assert_allclose(scores["ssim"], 1)
    np.testing.assert_allclose(scores["ssim_brain"], 1)
    np.testing.assert_allclose(scores["psnr"], 100)


def test_multiscale_needs_176_pixels(random):
    small, large = random.random((1, 175, 176, 1)), random.random((1, 176, 176, 1))
    assert np.isnan(slice_scores(small, small)["ms_ssim"]).all()
    np.testing.assert_allclose(slice_scores(large, large)["ms_ssim"], 1, atol=1e-5)


def test_a_slice_without_brain_has_no_score_inside_it(random):
    black = np.zeros((1, 32, 32, 1))
    assert np.isnan(slice_scores(black, black)["ssim_brain"]).all()


@pytest.mark.parametrize("shift", [-1.5, 0.01, np.nan])
def test_pixels_outside_0_to_1_are_refused(shift):
    images = np.ones((1, 16, 16, 1))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        slice_scores(images, images + shift)


def test_interval_draws_subjects_not_slices():
    # Two subjects of 500 slices: the means 0, 0.5 and 1 are all a bootstrap can find.
    values, subjects = np.repeat([0.0, 1.0], 500), np.repeat(["a", "b"], 500)
    assert interval_by_subject(values, subjects) == {"mean": 0.5, "low": 0.0, "high": 1.0}


def test_interval_covers_the_mean_about_95_times_in_100(random):
    covered = 0
    for trial in range(200):
        effects = random.normal(size=30)
        values = np.repeat(effects, 4) + random.normal(0, 0.1, size=120)
        interval = interval_by_subject(values, np.repeat(np.arange(30), 4), seed=trial)
        covered += interval["low"] <= 0 <= interval["high"]
    assert 180 <= covered <= 197


def test_mean_is_over_slices_not_over_subjects():
    interval = interval_by_subject([0, 0, 0, 1], ["a", "a", "a", "b"])
    assert interval["mean"] == 0.25


def test_one_subject_has_no_interval():
    assert interval_by_subject([0.2, 0.4], ["a", "a"]) == {
        "mean": pytest.approx(0.3), "low": None, "high": None,
    }  # fmt: skip


def test_multiscale_against_its_definition(random):
    # Contrast at four scales, SSIM at the fifth, each half the last by 2x2 means.
    image = np.kron(random.random((11, 11)), np.ones((16, 16)))
    other = (image + random.normal(0, 0.1, image.shape)).clip(0, 1)
    weights, product = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333], 1.0
    x, y = image, other
    for scale, weight in enumerate(weights):
        full, means = scikit_map(x, y), [gaussian_mean(x), gaussian_mean(y)]
        luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
        product *= (full.mean() if scale == 4 else (full / luminance).mean()) ** weight
        if scale < 4:
            x, y = (z.reshape(len(z) // 2, 2, -1, 2).mean((1, 3)) for z in (x, y))
    scores = slice_scores(image[None, ..., None], other[None, ..., None])
    assert scores["ms_ssim"][0] == pytest.approx(product, abs=1e-4)


def gaussian_mean(image):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]


def test_interval_leaves_out_unknown_values():
    known = interval_by_subject([0.2, 0.4, np.nan], ["a", "b", "c"])
    assert known["mean"] == pytest.approx(0.3)
    nothing = interval_by_subject([np.nan], ["a"])
    assert nothing == {"mean": None, "low": None, "high": None}


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


# Perplexity and usage


def test_all_codes_alike_have_a_perplexity_of_their_number():
    assert codebook_use(np.ones(512)) == {"perplexity": pytest.approx(512), "codebook_usage": 1}
    assert codebook_use([0, 9, 0, 0]) == {"perplexity": pytest.approx(1), "codebook_usage": 0.25}


def test_perplexity_and_usage_against_the_definition(random):
    indices = random.integers(0, 5, size=1000)
    p = np.bincount(indices, minlength=8) / 1000
    entropy = -sum(x * np.log(x) for x in p if x)
    found = codebook_use(np.bincount(indices, minlength=8))
    assert found == {"perplexity": pytest.approx(np.exp(entropy)), "codebook_usage": 5 / 8}
