"""Finds subjects that show the same head under two names."""

from typing import Any

import numpy as np
import pandas
from scipy import ndimage

# Measured with these two: of the 46,665 pairs of 306 subjects of OASIS-1 (ten coronal slices each)
# OAS1_0079 and OAS1_0193 have 0.962, the next pair 0.731. The highest of 152 axial slices is 0.755,
# of 200 invented subjects 0.743. A head has 0.97 with itself moved by some pixels, blurred or in
# another contrast; turned by two degrees or 3% larger, 0.88.
CELLS = 32  # along a slice's longer side
THRESHOLD = 0.85
SMALLEST = 44  # pixels of the longer side; in smaller slices a cell is hardly a pixel
DARK = 0.05  # intensity of a cell that shows no brain
LEAST_CELLS = 64  # bright cells that a slice needs: all tips of lobes look alike
FAINT = 1e-3  # a slice with fainter details, in [0, 1], shows no head
BLOCK = 512  # slices, or scans, at a time


def near_duplicates(slices: np.ndarray, table: pandas.DataFrame) -> list[dict[str, Any]]:
    """Finds pairs of subjects whose slices at the same positions are too alike for two heads.

    The similarity of two scans is the correlation of the `details` of their slices, averaged over
    the positions that both have; the similarity of two subjects is that of their most similar
    scans. No mean of the population is subtracted, so it does not depend on the other subjects.

    Args:
        slices: uint8 array `(N, H, W)`; may be memory-mapped.
        table: One row per slice, with subject, session, plane, index and position_mm. If index and
            position are unknown, the n-th slices of two scans are compared.

    Returns:
        List of `{"subjects": [a, b], "similarity": float}`, sorted by name; empty for slices under
        44 pixels.
    """
    if max(slices.shape[1:]) < SMALLEST:
        return []
    table = table.reset_index(drop=True)
    scan = table.groupby(["subject", "session"], dropna=False).ngroup().to_numpy()
    subjects = table.groupby(scan)["subject"].first().to_numpy()
    slots = pandas.DataFrame({"position": _positions(table, scan), "scan": scan})
    groups = slots.drop_duplicates().groupby("position").groups.values()
    at_positions = [rows.to_numpy() for rows in groups]
    starts = range(0, len(slices), BLOCK)
    described = np.concatenate([details(slices[start : start + BLOCK]) for start in starts])
    present = pandas.crosstab(slots["scan"], slots["position"]).clip(upper=1).to_numpy(np.float32)
    found = {}
    for start in range(0, len(subjects), BLOCK):
        sums = np.zeros((min(BLOCK, len(subjects) - start), len(subjects)), np.float32)
        shared = present[start : start + BLOCK] @ present.T
        for rows in at_positions:
            rows = rows[scan[rows] >= start]
            block = rows[scan[rows] < start + BLOCK]
            sums[np.ix_(scan[block] - start, scan[rows])] += described[block] @ described[rows].T
        for one, other in np.argwhere((sums >= THRESHOLD * shared) & (shared > 0)):
            pair = tuple(sorted((subjects[start + one], subjects[other])))
            similarity = float(sums[one, other] / shared[one, other])
            if pair[0] != pair[1]:
                found[pair] = max(similarity, found.get(pair, 0.0))
    return [
        {"subjects": list(pair), "similarity": round(similarity, 3)}
        for pair, similarity in sorted(found.items())
    ]


def details(slices: np.ndarray) -> np.ndarray:
    """Returns what distinguishes heads: small pictures minus their blur, scaled to length 1.

    The centre of mass is moved to the middle, so the place of the head does not matter. The blur
    contains what all heads share.

    Args:
        slices: uint8 array `(n, H, W)`.

    Returns:
        Float32 array `(n, h * w)`, whose products are correlations; zeros for a slice without
        details.
    """
    height, width = slices.shape[1:]
    side = max(height, width) / CELLS  # of a cell, in pixels
    small = _averages(height, side) @ _centred(slices) @ _averages(width, side).T  # (n, h, w)
    small[(small > DARK).sum(axis=(1, 2)) < LEAST_CELLS] = 0
    small -= ndimage.gaussian_filter(small, (0, 1, 1))
    small = small.reshape(len(small), -1)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), FAINT)


def _centred(slices: np.ndarray) -> np.ndarray:
    """Returns float32 slices `(n, H, W)` in [0, 1], their centres of mass rolled to the middle."""
    pictures = np.asarray(slices, np.float32) / 255
    middles = (np.array(pictures.shape[1:]) - 1) / 2
    for number, picture in enumerate(pictures):
        profiles = picture.sum(axis=1), picture.sum(axis=0)
        mass = max(float(profiles[0].sum()), FAINT)
        centres = [profile @ np.arange(len(profile)) / mass for profile in profiles]
        moves = np.round(middles - centres).astype(int) if mass > FAINT else (0, 0)
        pictures[number] = np.roll(picture, moves, (0, 1))
    return pictures


def _averages(length: int, side: float) -> np.ndarray:
    """Returns the matrix `(cells, length)` that averages pixels over cells of `side` pixels.

    A pixel on a border counts for both cells in part; else a grid of unequal cells would look like
    detail.
    """
    cells = int(np.ceil(length / side - 1e-6))
    borders = (np.arange(cells + 1) - cells / 2) * side + length / 2
    pixels = np.arange(length)
    below, above = borders[:-1, None], borders[1:, None]
    covered = (np.minimum(above, pixels + 1) - np.maximum(below, pixels)).clip(0)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


def _positions(table: pandas.DataFrame, scan: np.ndarray) -> np.ndarray:
    """Returns a number `(N,)` for the plane and position of each slice, in mm, index or order."""
    numbers: Any = table[["position_mm", "index"]].apply(pandas.to_numeric)
    position, index = (numbers["position_mm"] + 0.5) // 1, numbers["index"]  # `round` goes to even
    place = position.fillna(index).fillna(table.groupby(scan).cumcount())
    kinds = [table["plane"], position.isna(), index.isna()]
    return table.groupby([*kinds, place], dropna=False).ngroup().to_numpy()
