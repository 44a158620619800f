"""Finds generated slices that are copies of training slices."""

import numpy as np
import pandas
from scipy.stats import mannwhitneyu
from sklearn.metrics import pairwise_distances_argmin_min

from oasisvq.evaluation.image_scores import BACKGROUND

BLOCK = 512  # references compared at a time
# A copy is closer than this share of the given quantile of the test slices' distances.
COPY_SHARE, COPY_QUANTILE = 0.5, 0.05
FINEST = 0.002  # half a level of uint8: smaller distances are rounding


def find_nearest(images, references):
    """Returns the nearest reference of each image, by the root of the mean squared difference.

    Args:
        images: Float array `(n, H, W, 1)` in [0, 1].
        references: uint8 array `(m, H, W)`, which may be memory-mapped.

    Returns:
        Distances `(n,)`, and the rows `(n,)` of the references.

    Raises:
        ValueError: If sizes differ, or there is no reference.
    """
    if not len(references) or images.shape[1:3] != references.shape[1:3]:
        raise ValueError(
            f"expected references of the images' size. Received: {references.shape} for "
            f"{images.shape}"
        )
    flat = _flat(images)  # (n, P)
    least, rows = np.full(len(flat), np.inf), np.zeros(len(flat), int)
    for start in range(0, len(references), BLOCK):  # tens of thousands do not fit in memory
        block = _flat(references[start : start + BLOCK])
        closest, distances = pairwise_distances_argmin_min(flat, block)
        rows = np.where(distances < least, start + closest, rows)
        least = np.minimum(distances, least)
    # The distances above are differences of sums of squares, which are not exactly 0 for a copy.
    pairs = zip(flat, rows, strict=True)
    errors = [np.square(x - _flat(references[n : n + 1])).mean(dtype=np.float64) for x, n in pairs]
    return np.sqrt(errors), rows


def _flat(images):
    """Returns images as float32 rows in [0, 1], `(n, P)`."""
    pixels = np.asarray(images)
    scale = np.float32(255 if pixels.dtype == np.uint8 else 1)
    return pixels.reshape(len(pixels), -1).astype(np.float32) / scale


def find_copies(generated, test, train, subjects):
    """Returns whether generated slices are closer to training slices than test slices are.

    A generated slice is a copy if its distance to a training slice is below half of the distance
    of the closest 5% of the test slices; no other brain comes so close. Blurred slices are somewhat
    closer to every brain, so a ratio just below 1 proves nothing, but copies do. Test slices that
    show no brain are left out of the limit. If the limit is below the resolution of uint8, as with
    test slices that were trained on, copies cannot be recognised.

    Args:
        generated, test: Float arrays `(n, H, W, 1)` in [0, 1]; row i has the same conditions.
        train: See `find_nearest`.
        subjects: Sequence `(n,)`, the subjects of the test slices.

    Returns:
        The report: `generated_median` and `test_median` of the distances, their `ratio`,
        `copy_distance` (the limit), the number of `copies` (both `None` if copies cannot be
        recognised), and `closer_p` of the one-sided Mann-Whitney test that generated slices are
        closer, which takes the median of each subject's slices, because these are alike. And
        `distances` and `rows` of the nearest training slices, and which slices are `copies`, `(n,)`
        each.
    """
    distances, rows = find_nearest(generated, train)
    expected, _ = find_nearest(test, train)
    brains = expected[(test > BACKGROUND).any(axis=(1, 2, 3))]
    limit = COPY_SHARE * np.quantile(brains, COPY_QUANTILE) if len(brains) else 0.0
    known = limit > FINEST
    copies = (distances < limit) & known
    table = pandas.DataFrame({"generated": distances, "test": expected})
    medians = table.groupby(np.asarray(subjects, dtype=str)).median()
    closer = mannwhitneyu(medians["generated"], medians["test"], alternative="less")
    own, usual = float(np.median(distances)), float(np.median(expected))
    report = {
        "generated_median": own,
        "test_median": usual,
        "ratio": own / usual if usual > 0 else None,
        "closer_p": float(closer.pvalue),
        "copy_distance": float(limit) if known else None,
        "copies": int(copies.sum()) if known else None,
    }
    return report, {"distances": distances, "rows": rows, "copies": copies}
