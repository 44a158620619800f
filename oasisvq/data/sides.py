"""Tells which side of the head is on the left of a slice."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Sides = tuple[str, str]  # the letters of what is on the left and on the right of a picture
UNKNOWN: Sides = ("", "")
# Slices of volumes, as `volumes.cut_slice` turns them: L and R are the subject's.
PLANE_SIDES: dict[str, Sides] = {
    "axial": ("L", "R"),
    "coronal": ("L", "R"),
    "sagittal": ("P", "A"),
}
KNOWN_SIDES: dict[str, Sides] = {"LR": ("L", "R"), "RL": ("R", "L")}  # of `slices.csv`
NOT_KNOWN = "?"  # in the place of letters, for slices whose plane is known and their sides are not
# Pictures do not say which side is left. Only of these three public sets of pictures of OASIS-1 is
# it known: by comparison with volumes of the same heads, see docs/data.md. They are recognised by
# their whole names, with the numbers of their slices, and by their height and width.
OASIS1_PICTURES = (
    (re.compile(r"OAS1_\d{4}_MR\d\.9\d\.png"), (176, 176), "RL"),  # coronal, 90 to 99
    # Axial, 71 to 102, the front below.
    (re.compile(r"OAS1_\d{4}_MR\d\.(7[1-9]|[89]\d|10[0-2])\.jpg"), (208, 176), "RL"),
    (re.compile(r"OAS1_\d{4}_MR\d_a\.jpg"), (208, 176), "LR"),  # axial
)


def sides_of_pictures(names: Sequence[str], pictures: Sequence[np.ndarray]) -> str:
    """Returns the letters of the left and the right of pictures of known sets, such as `"RL"`.

    Args:
        names: The names of their files.
        pictures: Arrays `(H, W)` of the same length.

    Returns:
        The letters, or `""` if one picture is of no known set, or if two have different sides.
    """
    found = {
        next(
            (s for known, size, s in OASIS1_PICTURES if known.fullmatch(name) and size == shape), ""
        )
        for name, shape in zip(names, (picture.shape for picture in pictures), strict=True)
    }
    return found.pop() if len(found) == 1 else ""


def sides_of(table: Any) -> list[Sides]:
    """Returns the letters on the left and the right of each slice of a table.

    Args:
        table: One row per slice, with its plane (`""` for pictures) and its `sides`, as in
            `slices.csv`: two letters, `NOT_KNOWN`, or `""` for those of the plane.

    Returns:
        List of pairs: `("L", "R")` if the subject's left is on the left, `("R", "L")` if it is on
        the right, `("P", "A")` if the back of the head is on the left, and `UNKNOWN`.
    """
    return [
        PLANE_SIDES.get(plane, UNKNOWN) if not sides else KNOWN_SIDES.get(sides, UNKNOWN)
        for plane, sides in zip(table["plane"], table["sides"], strict=True)
    ]


def common_sides(sides: Sequence[Sides]) -> Sides:
    """Returns the letters of slices if they all have the same, or `UNKNOWN`."""
    return sides[0] if len(set(sides)) == 1 else UNKNOWN
