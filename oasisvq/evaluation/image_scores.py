"""Scores how alike two slices are: SSIM, MS-SSIM and PSNR."""

import numpy as np

from oasisvq.core.threads import in_blocks
from oasisvq.nn.losses import WINDOW_SIZE, blur_matrix, luminance_and_contrast, maps_to_blur

# The fastest of 8 to 166 rows or columns per product, and of 1 to 8 slices per thread.
BLOCK = 16
SLICES_AT_ONCE = 2
# Five scales, each half the last; the coarsest must still hold the window.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_FOR_MULTISCALE = WINDOW_SIZE * 2**4  # 176 pixels
# Brain is well above this intensity, and the faint background of generated slices below it.
BACKGROUND = 0.02
SCORE_NAMES = ("ssim", "ssim_brain", "ms_ssim", "psnr")


def slice_scores(images, others):
    """Returns the scores of each pair of slices.

    Args:
        images: Float array `(B, H, W, 1)` in [0, 1], the originals. Pixels above 0 are the brain.
        others: Float array of the same shape in [0, 1].

    Returns:
        Dictionary of float arrays `(B,)`: `ssim` over the whole image; `ssim_brain`, the mean of
        the SSIM map over the brain, NaN without brain; `ms_ssim`, NaN for sides under 176 pixels;
        `psnr` in decibels.

    Raises:
        ValueError: If a pixel lies outside [0, 1], or a side is under 11 pixels.

    Reference:

    - [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861), equation 13
    - [Wang et al., 2003](https://doi.org/10.1109/ACSSC.2003.1292216) for MS-SSIM
    """
    images, others = check_intensities(images=images, others=others).values()
    if min(images.shape[1:3]) < WINDOW_SIZE:
        raise ValueError(f"expected sides of at least {WINDOW_SIZE}. Received: {images.shape}")
    scores = in_blocks(_scores, images[..., 0], others[..., 0], size=SLICES_AT_ONCE)
    scores = np.concatenate(scores, axis=1)  # (4, B)
    return dict(zip(SCORE_NAMES, scores, strict=True))


def check_intensities(**images):
    """Returns images as float32; raises a `ValueError` that names images outside [0, 1]."""
    arrays = {name: np.asarray(pixels, np.float32) for name, pixels in images.items()}
    for name, pixels in arrays.items():
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails too
            raise ValueError(
                f"{name} must lie in [0, 1]. Received: {pixels.min()} to {pixels.max()}"
            )
    return arrays


def _scores(images, others):
    """Returns `SCORE_NAMES` of float32 slices `(B, H, W)`: float64 `(4, B)`."""
    # Two equal slices have no error; 100 dB keeps a mean over slices finite.
    errors = np.square(images - others).mean((1, 2), dtype=np.float64).clip(1e-10)
    images, others = (np.ascontiguousarray(x.transpose(1, 0, 2)) for x in (images, others))
    luminance, contrast = _ssim_maps(images, others)
    ssim = luminance * contrast  # (H - 10, B, W - 10)
    border = WINDOW_SIZE // 2  # the map begins where the window first fits
    brain = images[border:-border, :, border:-border] > 0
    with np.errstate(invalid="ignore"):  # a slice without brain
        in_brain = _means(ssim * brain) / _means(brain)
    multiscale = _multiscale(images, others, contrast)
    return np.stack([_means(ssim), in_brain, multiscale, -10 * np.log10(errors)])


def _means(maps):
    """Returns the mean of each slice of `(H, B, W)`: `(B,)`."""
    return maps.mean(axis=(0, 2), dtype=np.float64)


def _multiscale(images, others, contrast):
    """Returns the MS-SSIM of slices `(H, B, W)` with these contrast maps; NaN if too small."""
    if min(images.shape[0], images.shape[2]) < SMALLEST_FOR_MULTISCALE:
        return np.full(images.shape[1], np.nan)
    means = [_means(contrast)]
    for _ in SCALE_WEIGHTS[1:]:
        images, others = _halved(images), _halved(others)
        luminance, contrast = _ssim_maps(images, others)
        means.append(_means(contrast))
    means[-1] = _means(luminance * contrast)  # luminance counts only at the coarsest scale
    return np.prod(np.clip(means, 0, None) ** np.array(SCALE_WEIGHTS)[:, None], axis=0)


def _halved(images):
    """Returns the means of 2x2 pixels of `(H, B, W)`; an odd side has its last pixels doubled."""
    height, _, width = images.shape
    if height % 2 or width % 2:
        images = np.pad(images, ((0, height % 2), (0, 0), (0, width % 2)), mode="edge")
    rows = images[::2] + images[1::2]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _ssim_maps(images, others):
    """Returns luminance and contrast of slices `(H, B, W)`, `(H - 10, B, W - 10)` each."""
    blurred = _blurred(np.concatenate(maps_to_blur(images, others), axis=1))
    return luminance_and_contrast(*np.split(blurred, 4, axis=1))


def _blurred(maps):
    """Returns float32 maps `(H, n, W)` blurred where the window fits, `(H - 10, n, W - 10)`.

    They are multiplied by `blur_matrix` from both sides, in blocks, as most of the matrix is 0.
    """
    height, count, width = maps.shape
    reach = WINDOW_SIZE - 1
    across = np.empty((height * count, width - reach), np.float32)
    rows = maps.reshape(height * count, width)
    for start in range(0, width - reach, BLOCK):
        block = rows[:, start : start + BLOCK + reach]
        np.matmul(block, blur_matrix(block.shape[1]).T, out=across[:, start : start + BLOCK])
    down = np.empty((height - reach, count * (width - reach)), np.float32)
    columns = across.reshape(height, -1)
    for start in range(0, height - reach, BLOCK):
        block = columns[start : start + BLOCK + reach]
        np.matmul(blur_matrix(len(block)), block, out=down[start : start + BLOCK])
    return down.reshape(height - reach, count, width - reach)
