"""Tells which side of the head is on the left of a slice."""

import re
from collections.abc import Sequence
from typing import Any

Sides = tuple[str, str]  # the letters of what is on the left and on the right of a picture
UNKNOWN: Sides = ("", "")
# Slices of volumes, as `volumes.cut_slice` turns them: L and R are the subject's.
PLANE_SIDES: dict[str, Sides] = {
    "axial": ("L", "R"),
    "coronal": ("L", "R"),
    "sagittal": ("P", "A"),
}
# Pictures do not say which side is left. Only of these three public sets of pictures of OASIS-1 is
# it known: by comparison with volumes of the same heads, see docs/data.md. They are recognised by
# the height and the width of the atlas's slices, and by whether their names have a slice number.
OASIS1_SUBJECT = re.compile(r"OAS1_\d{4}")
OASIS1_PICTURES: dict[tuple[int, int, bool], Sides] = {
    (176, 176, True): ("R", "L"),  # coronal, OAS1_0001_MR1.95.png
    (208, 176, True): ("R", "L"),  # axial, the front below, OAS1_0001_MR1.85.jpg
    (208, 176, False): ("L", "R"),  # axial, OAS1_0001_MR1_a.jpg
}


def sides_of(table: Any) -> list[Sides]:
    """Returns the letters on the left and the right of each slice of a table.

    Args:
        table: One row per slice, with its subject, plane (`""` for pictures), index, height and
            width, as in `slices.csv`.

    Returns:
        List of pairs: `("L", "R")` if the subject's left is on the left, `("R", "L")` if it is on
        the right, `("P", "A")` if the back of the head is on the left, and `UNKNOWN`.
    """
    columns = (table[name] for name in ("subject", "plane", "height", "width"))
    numbered = table["index"].notna()
    return [
        PLANE_SIDES.get(plane, UNKNOWN)
        if plane or not OASIS1_SUBJECT.fullmatch(subject)
        else OASIS1_PICTURES.get((height, width, has_number), UNKNOWN)
        for subject, plane, height, width, has_number in zip(*columns, numbered, strict=True)
    ]


def common_sides(sides: Sequence[Sides]) -> Sides:
    """Returns the letters of slices if they all have the same, or `UNKNOWN`."""
    return sides[0] if len(set(sides)) == 1 else UNKNOWN
