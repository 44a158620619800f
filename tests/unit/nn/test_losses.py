"""SSIM for training against TensorFlow's own, with its gradient."""

import numpy as np
import pytest
import tensorflow as tf

from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.nn.losses import WINDOW_SIZE, blur_matrix, luminance_and_contrast, ssim
from support.tensor_cores import tensor_cores


@pytest.fixture
def pairs(brains, random):
    noisy = (brains + random.normal(0, 0.05, brains.shape)).clip(0, 1).astype("float32")
    return brains[..., None], noisy[..., None]


def test_training_ssim_is_the_same_function(pairs):
    np.testing.assert_allclose(ssim(*pairs), slice_scores(*pairs)["ssim"], atol=1e-5)


def test_value_and_gradient_are_those_of_tensorflow(pairs):
    images, others = map(tf.constant, pairs)
    results = []
    for function in (ssim, lambda x, y: tf.image.ssim(x, y, 1.0)):
        with tf.GradientTape() as tape:
            tape.watch(others)
            values = function(images, others)
        results.append((values, tape.gradient(values, others)))
    (values, gradient), (expected, expected_gradient) = results
    assert values.shape == (8,)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
    assert np.abs(gradient).max() > 1e-4


def test_blur_matrix_holds_the_window_one_pixel_further_on_in_each_row():
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    matrix = blur_matrix(20)
    assert matrix.dtype == np.float32
    expected = np.zeros((10, 20))
    for row in range(10):
        expected[row, row : row + WINDOW_SIZE] = window / window.sum()
    np.testing.assert_allclose(matrix, expected, atol=1e-7)


def gradient_of_ssim(images, others):
    others = tf.constant(others)
    with tf.GradientTape() as tape:
        tape.watch(others)
        values = ssim(images, others)
    return values, tape.gradient(values, others)


@pytest.mark.parametrize("kind", [np.float32, tf.constant])
def test_a_variance_that_rounding_left_below_0_counts_as_0(kind):
    """Without that the denominator here would be 0."""
    maps = [[0.5], [0.0], [0.25 - 0.0018 - 0.001], [0.001]]
    _, contrast = luminance_and_contrast(*map(kind, maps))
    np.testing.assert_allclose(contrast, [0.0008 / 0.0028], rtol=1e-3)


def test_on_tensor_cores_ssim_is_off_but_its_gradient_is_not_blown_up(pairs):
    """What TensorFlow would do on a GPU if it were not told otherwise, see `modules.py`."""
    values, gradient = gradient_of_ssim(*pairs)
    with tensor_cores():
        rounded, rounded_gradient = gradient_of_ssim(*pairs)
    error = np.abs(rounded - values)
    assert 1e-3 < error.max() < 0.03
    assert np.abs(rounded_gradient).max() < 1.5 * np.abs(gradient).max()
