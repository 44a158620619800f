"""SSIM, MS-SSIM and PSNR against other implementations and their definitions."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from oasisvq.evaluation.image_scores import slice_scores


@pytest.fixture
def pairs(brains, random):
    noisy = (brains + random.normal(0, 0.05, brains.shape)).clip(0, 1).astype("float32")
    return brains, noisy


def scikit_map(image, other):
    _, full = structural_similarity(
        image,
        other,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
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


@pytest.mark.parametrize("shape", [(176, 176), (208, 176), (181, 219), (30, 11)])
def test_scores_are_those_of_tensorflow(shape, random):
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
    return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]
