"""SSIM of slices, for training and scoring, and the variance that scales the loss."""

import functools

import numpy as np
import tensorflow as tf
from scipy.linalg import convolution_matrix

# Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, constants for data range 1.
WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2
# Of pixels in [0, 1]. Scaled by 1/255 once too often they have a variance 65,025 times too small,
# which would outweigh every other term of the loss and collapse the codebook.
LEAST_VARIANCE, MOST_VARIANCE = 1e-4, 0.25


def ssim(images, others):
    """Returns the SSIM of each pair of slices, as `tf.image.ssim` does but with a faster gradient.

    A Gaussian blur is a product with a banded matrix from either side, and matrix products are
    what processors do best.

    Args:
        images, others: Float tensors `(B, H, W, 1)` in [0, 1].

    Returns:
        Float tensor `(B,)`.
    """
    _, height, width, _ = images.shape
    # Rows first: then either product is one of two plain matrices.
    x, y = (tf.transpose(pixels[..., 0], (1, 0, 2)) for pixels in (images, others))  # (H, B, W)
    maps = tf.concat(maps_to_blur(x, y), axis=1)  # (H, 4 B, W)
    across = tf.matmul(tf.reshape(maps, [-1, width]), blur_matrix(width), transpose_b=True)
    blurred = tf.matmul(blur_matrix(height), tf.reshape(across, [height, -1]))
    blurred = tf.reshape(blurred, [height - WINDOW_SIZE + 1, -1, width - WINDOW_SIZE + 1])
    luminance, contrast = luminance_and_contrast(*tf.split(blurred, 4, axis=1))
    return tf.reduce_mean(luminance * contrast, axis=[0, 2])


def maps_to_blur(x, y):
    """Returns the four maps of two slices whose blurred values SSIM needs.

    Products and squares of the slices follow from the squares of their sum and difference. So
    equal slices have an SSIM of 1 exactly, and rounding costs an eighth of what it would otherwise.
    """
    return x + y, x - y, (x + y) ** 2, (x - y) ** 2


def luminance_and_contrast(sums, differences, squared_sums, squared_differences):
    """Returns the two factors of SSIM at each place of the window.

    Args:
        sums, differences, squared_sums, squared_differences: Arrays or tensors of one shape,
            those of `maps_to_blur` after the blur.

    Returns:
        Two arrays or tensors of that shape.

    Reference:

    - [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861), equations 6 and 13
    """
    luminance = _similarity(sums**2, differences**2, LUMINANCE_CONSTANT)
    variances = squared_sums - sums**2, squared_differences - differences**2
    return luminance, _similarity(*map(_at_least_zero, variances), CONTRAST_CONSTANT)


def _at_least_zero(variances):
    """Returns variances, arrays or tensors, of which rounding has left none below 0.

    A window whose denominator came out near 0 would outweigh all others in the gradient.
    """
    return (variances + abs(variances)) / 2


def _similarity(sums, differences, constant):
    """Returns `(2 x y + c) / (x^2 + y^2 + c)` from the squares of x + y and x - y."""
    return (sums - differences + 2 * constant) / (sums + differences + 2 * constant)


@functools.lru_cache
def blur_matrix(size):
    """Returns the matrix that blurs `size` pixels where the window fits.

    Returns:
        float32 array `(size - 10, size)`: each row holds the window, one pixel further on.
    """
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    window = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    return convolution_matrix(window / window.sum(), size, mode="valid").astype(np.float32)
