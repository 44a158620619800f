"""How alike two slices are: SSIM, MS-SSIM, PSNR, and intervals over subjects."""

import concurrent.futures
import functools
import os

import numpy as np
import tensorflow as tf
from threadpoolctl import ThreadpoolController

# Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, constants for data range 1.
WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2
# Measured: of 8 to 166 rows or columns blurred by one product, and of 1 to 8 slices that a thread
# looks at, these were fastest.
BLOCK = 16
SLICES_AT_ONCE = 2
# Five scales, each half the last; the coarsest must still hold the window.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_FOR_MULTISCALE = WINDOW_SIZE * 2**4  # 176 pixels
# Real brain lies well above this, and all else below it: also the faint ground of generated slices.
BACKGROUND = 0.02
SCORE_NAMES = ("ssim", "ssim_brain", "ms_ssim", "psnr")


def slice_scores(images, others):
    """Scores of each pair of slices.

    Args:
        images: Float array `(B, H, W, 1)` in [0, 1], the originals. Pixels
            above 0 are the brain.
        others: Float array of the same shape in [0, 1].

    Returns:
        Dictionary of float arrays `(B,)`: `ssim`, over the whole image;
        `ssim_brain`, the SSIM map's mean over the brain, NaN where there is
        none; `ms_ssim`, NaN for sides under 176 pixels; `psnr` in decibels.

    Raises:
        ValueError: If a pixel lies outside [0, 1], or a side is under 11 pixels.

    Reference:

    - [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861), equation 13
    - [Wang et al., 2003](https://doi.org/10.1109/ACSSC.2003.1292216) for MS-SSIM
    """
    images, others = np.asarray(images, np.float32), np.asarray(others, np.float32)
    for name, pixels in (("images", images), ("others", others)):
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails too
            raise ValueError(
                f"{name} must lie in [0, 1]. Received: {pixels.min()} to {pixels.max()}"
            )
    if min(images.shape[1:3]) < WINDOW_SIZE:
        raise ValueError(f"expected sides of at least {WINDOW_SIZE}. Received: {images.shape}")
    # Threads each take some slices from the blur on; those of BLAS beside them would be too many.
    parts = [
        slice(start, start + SLICES_AT_ONCE) for start in range(0, len(images), SLICES_AT_ONCE)
    ]
    with (
        one_blas_thread(),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        scores = list(
            pool.map(lambda some: _scores(images[some, ..., 0], others[some, ..., 0]), parts)
        )
    return dict(zip(SCORE_NAMES, np.concatenate(scores, axis=1), strict=True))


def one_blas_thread():
    """A context within which NumPy's products take one thread: small ones are slower on several."""
    return _libraries().limit(limits=1, user_api="blas")


@functools.cache
def _libraries():
    return ThreadpoolController()  # looking for them takes as long as scoring some slices


def _scores(images, others):
    """`SCORE_NAMES` of float32 slices `(B, H, W)`: float64 `(4, B)`."""
    # Two equal slices have no error; 100 dB keeps a mean over slices finite.
    errors = np.square(images - others).mean((1, 2), dtype=np.float64).clip(1e-10)
    images, others = (np.ascontiguousarray(s.transpose(1, 0, 2)) for s in (images, others))
    luminance, contrast = _ssim_maps(images, others)
    ssim = luminance * contrast  # (H - 10, B, W - 10)
    border = WINDOW_SIZE // 2  # the map begins where the window first fits
    brain = images[border:-border, :, border:-border] > 0
    with np.errstate(invalid="ignore"):
        of_brain = _sums(ssim * brain) / _sums(brain)
    means = _sums(ssim) / ssim[:, 0].size
    return np.stack(
        [means, of_brain, _multiscale(images, others, contrast), -10 * np.log10(errors)]
    )


def _sums(maps):
    """Over each slice of `(H, B, W)`: `(B,)`."""
    return maps.sum(axis=(0, 2), dtype=np.float64)


def _multiscale(images, others, contrast):
    """MS-SSIM of slices `(H, B, W)`, given their contrast maps; NaN if they are too small."""
    if min(images.shape[0], images.shape[2]) < SMALLEST_FOR_MULTISCALE:
        return np.full(images.shape[1], np.nan)
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            images, others = _halved(images), _halved(others)
            luminance, contrast = _ssim_maps(images, others)
        last = scale == len(SCALE_WEIGHTS) - 1
        similarity = luminance * contrast if last else contrast
        product *= (_sums(similarity) / similarity[:, 0].size).clip(0) ** weight
    return product


def _halved(images):
    """The means of 2x2 pixels of `(H, B, W)`; of an odd side, the last row or column is doubled."""
    height, _, width = images.shape
    if height % 2 or width % 2:
        images = np.pad(images, ((0, height % 2), (0, 0), (0, width % 2)), mode="edge")
    rows = images[::2] + images[1::2]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _ssim_maps(images, others):
    """Luminance and contrast of float32 slices `(H, B, W)` at each place of the window,
    `(H - 10, B, W - 10)`; SSIM is their product."""
    maps = (images, others, images * images + others * others, images * others)
    blurred = _blurred(np.concatenate(maps, axis=1))  # (H - 10, 4 B, W - 10)
    mean_x, mean_y, squares, products = np.split(blurred, 4, axis=1)
    of_means, of_squares = mean_x * mean_y, mean_x**2 + mean_y**2
    luminance = (2 * of_means + LUMINANCE_CONSTANT) / (of_squares + LUMINANCE_CONSTANT)
    covariance, variances = products - of_means, squares - of_squares
    return luminance, (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)


def _blurred(maps):
    """Gaussian blur where the window fits: float32 `(H, n, W)` to `(H - 10, n, W - 10)`.

    Products with `_blur_matrix` from either side, block by block: most of the whole matrix is 0.
    """
    height, count, width = maps.shape
    reach = WINDOW_SIZE - 1
    across = np.empty((height * count, width - reach), np.float32)
    rows = maps.reshape(height * count, width)
    for start in range(0, width - reach, BLOCK):
        block = rows[:, start : start + BLOCK + reach]
        np.matmul(block, _blur_matrix(block.shape[1]).T, out=across[:, start : start + BLOCK])
    down = np.empty((height - reach, count * (width - reach)), np.float32)
    columns = across.reshape(height, -1)
    for start in range(0, height - reach, BLOCK):
        block = columns[start : start + BLOCK + reach]
        np.matmul(_blur_matrix(len(block)), block, out=down[start : start + BLOCK])
    return down.reshape(height - reach, count, width - reach)


def ssim_for_training(images, others):
    """SSIM of each pair, as `tf.image.ssim` gives it, with a gradient three times as fast.

    A Gaussian blur is a product with a banded matrix from either side, and
    matrix products are what processors do best.

    Args:
        images, others: Float tensors `(B, H, W, 1)` in [0, 1].

    Returns:
        Float tensor `(B,)`.
    """
    _, height, width, _ = images.shape
    down, across = _blur_matrix(height), _blur_matrix(width)
    x, y = images[..., 0], others[..., 0]  # (B, H, W)
    maps = tf.stack([x, y, x * x + y * y, x * y], axis=1)  # (B, 4, H, W)
    blurred = tf.matmul(down, tf.matmul(maps, across, transpose_b=True))  # (B, 4, H-10, W-10)
    mean_x, mean_y, squares, products = tf.unstack(blurred, axis=1)
    of_means, of_squares = mean_x * mean_y, mean_x**2 + mean_y**2
    luminance = (2 * of_means + LUMINANCE_CONSTANT) / (of_squares + LUMINANCE_CONSTANT)
    covariance, variances = products - of_means, squares - of_squares
    contrast = (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)
    return tf.reduce_mean(luminance * contrast, axis=[1, 2])


@functools.lru_cache
def _blur_matrix(size):
    """`(size - 10, size)`: each row holds the window, one pixel further on."""
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    window = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    matrix = np.zeros((size - WINDOW_SIZE + 1, size), np.float32)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW_SIZE] = window / window.sum()
    return matrix
