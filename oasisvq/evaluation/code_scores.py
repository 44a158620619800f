"""Scores code grids by the frequency of each code at each position, a prior without a network."""

import numpy as np
import tensorflow as tf


def cells_with_brain(images, downsample):
    """Returns which positions of the code grid touch the brain, pixels above 0.

    Args:
        images: Float array `(B, H, W, 1)` in [0, 1].
        downsample: Pixels per code along each axis.

    Returns:
        Boolean array `(B, h, w)`.
    """
    # "SAME" pads as the encoder does.
    cells = tf.nn.max_pool2d(images, downsample, downsample, "SAME")
    return cells.numpy()[..., 0] > 0


def count_codes(code_indices, num_embeddings):
    """Returns the count of each code of `(n, h, w)` at each position: int64 `(h, w, K)`."""
    _, height, width = code_indices.shape
    counts = np.zeros((height, width, num_embeddings), np.int64)
    rows, columns = np.indices((height, width))
    for grid in code_indices:
        counts[rows, columns, grid] += 1
    return counts


def frequencies_by_position(counts, smoothing):
    """Returns how frequent each code is at each position.

    A code that was never seen at a position gets a share of its overall frequency:
    `(counts + smoothing * overall) / (n + smoothing)`.

    Args:
        counts: `(h, w, K)` of n slices, see `count_codes`.
        smoothing: Float above 0, the weight of the overall frequencies in slices.

    Returns:
        Float array `(h, w, K)`, all above 0; those of a position add up to 1.
    """
    overall = counts.sum(axis=(0, 1)) + 1.0
    overall /= overall.sum()
    slices = counts.sum(axis=2, keepdims=True)  # (h, w, 1), all equal
    return (counts + smoothing * overall) / (slices + smoothing)


def bits_by_position(frequencies, code_indices):
    """Returns the bits per code with the training frequencies of each position as the prior.

    Args:
        frequencies: `(h, w, K)`, see `frequencies_by_position`.
        code_indices: `(n, h, w)`.

    Returns:
        Float array `(n,)`, the mean over each grid.
    """
    rows, columns = np.indices(frequencies.shape[:2])
    return np.array([-np.log2(frequencies[rows, columns, grid]).mean() for grid in code_indices])


def choose_smoothing(counts, code_indices):
    """Returns the smoothing with which validation slices take the fewest bits."""

    def cost(smoothing):
        return bits_by_position(frequencies_by_position(counts, smoothing), code_indices).mean()

    return min([0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0], key=cost)
