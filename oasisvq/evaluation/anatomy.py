"""Measures the anatomy of slices: tissues, left against right, and the form of the white matter."""

import itertools

import numpy as np
import pandas
from scipy import ndimage

from oasisvq.core.intensities import LEVELS, as_levels
from oasisvq.core.threads import in_blocks

HEAD = 0.1  # intensity above which a pixel may be brain; the ground of new brains is below it
START = (0.25, 0.55, 0.8)  # intensities of fluid, grey and white matter to begin with
ROUNDS = 60  # of the fit, after which it hardly changes
FLUID, GREY, WHITE = 1, 2, 3  # labels of pixels; 0 is the ground
SMALL = 20  # pixels of 1 mm²: a smaller piece of white matter is an island
DEEP = 12.0  # mm below the brain's outline: fluid there is in the ventricles
BLOCK = 32  # slices that a thread measures at a time
CELL = 8  # pixels along each side of what is compared between left and right
QUANTITIES = (
    *("brain_area", "tissue_fraction", "ventricles", "ventricle_asymmetry", "mirror_correlation"),
    *("islands", "holes", "ribbon", "sharpness", "fine_detail"),
)
# What a classifier is given of each slice, by its name in the report.
FORM = ("islands", "holes", "ribbon")


def measure_anatomy(images, pixel_size=1.0):
    """Measures quantities of each slice, and what differs between its left and its right.

    Args:
        images: Float array `(n, H, W)` in [0, 1], brains without the skull.
        pixel_size: Float, mm. Lengths and areas are counted in pixels of this size.

    Returns:
        A data frame with a row a slice and the columns of `QUANTITIES`: `brain_area`, mm²;
        `tissue_fraction`, grey and white matter over the brain, which falls with age;
        `ventricles`, the share of the brain that is fluid deep inside; `ventricle_asymmetry`, the
        difference of both sides over their sum; `mirror_correlation` of the brain and its mirror
        image; `islands` of white matter and `holes` in it, their number; `ribbon`, the share of the
        outline of the tissue that is grey; `sharpness`, the root mean square of the gradient;
        `fine_detail`, the logarithm of the mean squared Laplacian over that of the gradient. And
        float32 `(n, cells)`, the absolute differences of left and right, see `_cells`.
    """

    def measure(some):
        brains = brain_masks(some)
        labels = label_tissues(some, brains)
        return [_measure(*one, pixel_size) for one in zip(some, brains, labels, strict=True)]

    measured = itertools.chain.from_iterable(in_blocks(measure, images, size=BLOCK))
    rows, differences = zip(*measured, strict=True)
    return pandas.DataFrame(rows, columns=QUANTITIES), np.array(differences, np.float32)


def brain_masks(images):
    """Returns the largest piece of each slice that is not ground, without holes: `(n, H, W)`."""
    masks = np.zeros(images.shape, bool)
    for image, mask in zip(images, masks, strict=True):
        pieces, count = ndimage.label(image > HEAD)
        if count:
            sizes = np.bincount(pieces.ravel())
            mask[:] = ndimage.binary_fill_holes(pieces == 1 + sizes[1:].argmax())
    return masks


def label_tissues(images, brains):
    """Labels each pixel as ground, fluid, grey or white matter.

    The histogram of each slice's brain is fitted by a mixture of three Gaussians that share one
    variance. With a variance each, the fit often takes part of the grey matter for fluid.

    Args:
        images: Float array `(n, H, W)` in [0, 1].
        brains: Boolean array `(n, H, W)`.

    Returns:
        uint8 array `(n, H, W)`.
    """
    levels = as_levels(images)
    pairs = zip(levels, brains, strict=True)
    counts = np.array([np.bincount(one[brain], minlength=LEVELS) for one, brain in pairs])
    tissues = _fit_mixture(counts).argmax(axis=2).astype(np.uint8) + FLUID  # (n, 256)
    pictures = zip(tissues, levels, brains, strict=True)
    return np.array([np.where(brain, of[level], 0) for of, level, brain in pictures], np.uint8)


def _fit_mixture(counts):
    """Fits three Gaussians of one variance to histograms `(n, 256)`, by expectation-maximisation.

    Returns:
        Float array `(n, 256, 3)`: how likely each level is of each Gaussian, darkest first.
    """
    levels = np.arange(LEVELS) / (LEVELS - 1)
    counts = counts[..., None] + 1e-6  # a slice without brain is no division by 0
    means = np.repeat([START], len(counts), axis=0)[:, None]  # (n, 1, 3)
    weights, variance = np.full(means.shape, 1 / 3), np.full((len(counts), 1, 1), 0.01)
    for _ in range(ROUNDS):
        errors = (levels[:, None] - means) ** 2  # (n, 256, 3)
        errors -= errors.min(axis=2, keepdims=True)  # or a level far from all is of none
        densities = weights * np.exp(-errors / (2 * variance)) + 1e-300
        shares = densities / densities.sum(axis=2, keepdims=True)
        owned = shares * counts
        sizes = owned.sum(axis=1, keepdims=True)  # (n, 1, 3)
        means = (owned * levels[:, None]).sum(axis=1, keepdims=True) / sizes
        spread = (owned * (levels[:, None] - means) ** 2).sum(axis=(1, 2), keepdims=True)
        variance = np.maximum(spread / sizes.sum(axis=2, keepdims=True), 1e-4)
        weights = sizes / sizes.sum(axis=2, keepdims=True)
    return shares


def _measure(image, brain, labels, pixel_size):
    """Returns the `QUANTITIES` of one slice `(H, W)`, and its differences of left and right."""
    area, axis = int(brain.sum()), _axis(brain)
    white, tissue = labels == WHITE, labels >= GREY
    depth = ndimage.distance_transform_edt(brain) * pixel_size
    fluid = (labels == FLUID) & (depth > DEEP)
    left, right = fluid[:, : (axis + 1) // 2].sum(), fluid[:, axis // 2 + 1 :].sum()
    smooth = ndimage.uniform_filter(image, 3)  # an odd number: an even one moves the image
    shared = brain & _mirrored(brain, axis)
    outline = tissue & ~ndimage.binary_erosion(tissue)
    gradient = np.stack(np.gradient(image))
    steepness = float((gradient**2).sum(axis=0)[brain].mean()) if brain.any() else 0.0
    bend = float((ndimage.laplace(image)[brain] ** 2).mean()) if brain.any() else 0.0
    small = SMALL / pixel_size**2
    quantities = (
        area * pixel_size**2,
        tissue.sum() / max(area, 1),
        fluid.sum() / max(area, 1),
        (left - right) / max(left + right, small),
        _correlation(smooth[shared], _mirrored(smooth, axis)[shared]),
        _small_pieces(white, small),
        _small_pieces(brain & ~white, small),
        (outline & (labels == GREY)).sum() / max(outline.sum(), 1),
        np.sqrt(steepness),
        np.log((bend + 1e-9) / (steepness + 1e-9)),
    )
    return quantities, _cells(np.abs(image - _mirrored(image, axis)) * shared, axis)


def _axis(brain):
    """Returns the sum of the numbers of two columns of a brain `(H, W)` that mirror one another.

    So the line between its halves may lie between two columns, or in the middle of one.
    """
    columns = brain.sum(axis=0)
    if not columns.any():
        return len(columns) - 1
    return int(2 * np.average(np.arange(len(columns)), weights=columns) + 0.5)


def _mirrored(image, axis):
    """Returns an image mirrored about its axis, see `_axis`; what comes from outside is 0."""
    columns = axis - np.arange(image.shape[1])
    inside = (columns >= 0) & (columns < image.shape[1])
    return image[:, columns * inside] * inside


def _cells(difference, axis):
    """Returns the mean difference in cells of 8x8 pixels, from the middle outwards: `(cells,)`."""
    height, width = difference.shape
    rows, columns = max(height // CELL, 1), max(width // 2 // CELL, 1)
    half = np.zeros((rows * CELL, columns * CELL))
    part = difference[: len(half), axis // 2 + 1 :][:, : half.shape[1]]
    half[: len(part), : part.shape[1]] = part
    return half.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3)).ravel()


def _correlation(x, y):
    """Returns the correlation of two arrays, 0 if one of them is even."""
    return float(np.corrcoef(x, y)[0, 1]) if x.size and np.ptp(x) and np.ptp(y) else 0.0


def _small_pieces(mask, most):
    """Returns how many connected pieces of a mask have fewer pixels than `most`."""
    sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    return int((sizes < most).sum())
