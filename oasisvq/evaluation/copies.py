"""Finds generated slices that are copies of training slices, whole or by half.

A copy may be moved, turned, enlarged or mirrored a little: slices are compared by
`near_duplicates.details`, which hardly feel that.
"""

import numpy as np
from scipy import ndimage

from oasisvq.core.intensities import as_floats, as_levels
from oasisvq.core.threads import in_blocks
from oasisvq.data.near_duplicates import CELLS, details
from oasisvq.evaluation.planted import enlarged

BLOCK = 64  # slices that a thread describes at a time
FAINT = 25  # of 255: noise on the ground, however faint, would make a head look larger
# Of real slices, this share is less alike to training slices than some likeness; a copy is more so
# by this part of what is left to 1.
USUAL, MARGIN = 0.995, 0.1
SHIFT, TURN = 3, 2.0  # pixels and degrees: how planted copies differ
PLANTED = 200  # copies of each kind
HALVES = slice(0, CELLS // 2), slice(CELLS // 2, CELLS)


def describe(images):
    """Returns what tells one head from another, of slices in [0, 1] or uint8: `(n, 32, 32)`."""

    def describe_block(block):
        block = block if block.dtype == np.uint8 else as_levels(block)
        return details(np.where(block > FAINT, block, 0))

    described = np.concatenate(in_blocks(describe_block, images, size=BLOCK))
    return described.reshape(-1, CELLS, CELLS)


class References:
    """Slices that others may be copies of.

    Args:
        described: Float array `(m, 32, 32)`, see `describe`.
        persons: Array `(m,)`, whom each shows. Default: nobody who is compared with them.
    """

    def __init__(self, described, persons=None):
        self.persons = np.full(len(described), "") if persons is None else np.asarray(persons)
        self.whole = _normalised(described)
        self.halves = [_normalised(described[:, :, half]) for half in HALVES]

    def most_alike(self, images, persons=None):
        """Returns how alike each slice, or its mirror image, is to its most similar reference.

        Args:
            images: Array `(n, H, W)`, see `describe`.
            persons: Array `(n,)`, whom each shows: references of the same person do not count.
                Default: nobody among the references.

        Returns:
            Two arrays `(2, n)`, each for whole slices and for halves: the highest correlation, and
            the row of the reference that has it.
        """
        persons = np.full(len(images), None) if persons is None else np.asarray(persons)
        found = in_blocks(self._most_alike, describe(images), persons, size=BLOCK)
        return tuple(np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))

    def _most_alike(self, described, persons):
        orientations = described, described[:, :, ::-1]
        own = persons[:, None] == self.persons  # (n, m)

        def likeness(one, references):
            return np.where(own, -1, _normalised(one) @ references.T)

        whole = np.max([likeness(one, self.whole) for one in orientations], axis=0)  # (n, m)
        halves = [
            likeness(one[:, :, half], references)
            for one in orientations
            for half, references in zip(HALVES, self.halves, strict=True)
        ]
        both = np.stack([whole, np.max(halves, axis=0)])  # (2, n, m)
        return both.max(axis=2), both.argmax(axis=2)


def _normalised(described):
    """Returns rows `(n, cells)` of mean 0 and length 1; their products are correlations."""
    rows = described.reshape(len(described), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def find_copies(
    generated,
    real,
    train,
    seed=0,
    persons=None,
    train_persons=None,
    brains=None,
    planted=PLANTED,
):
    """Returns which generated slices are copies of training slices, and what the test can find.

    Two limits, one for whole slices and one for halves, are set on real slices. What they find of
    planted copies stands beside the verdict, and which share of real slices they take for copies if
    they are set on others: either half of the slices is judged by the limits of the other half.

    Args:
        generated, real: Float arrays `(n, H, W)` and `(r, H, W)` in [0, 1]; the real slices of a
            person lie next to one another.
        train: uint8 array `(m, H, W)`, the training slices, which may lie on disk.
        seed: Integer, draws the planted copies.
        persons, train_persons: Arrays `(r,)` and `(m,)`, whom the real and the training slices
            show, if some show the same: a slice is no copy of its own person's.
        brains: Array `(n,)`, which brain each generated slice is of. Default: each is a brain.
        planted: Integer, copies of each kind.

    Returns:
        The report: `copies` and `half_copies`, numbers of brains with such a slice; `share` of
        brains; `whole_limit` and `half_limit`; `slices_each`, how many slices a brain has;
        `false_alarms`, the share of groups of so many real slices that are flagged; and `found`,
        the share found of each kind of planted copy. And for the figures `copies` `(n,)`, which
        are copies; `halves` `(n,)`, which are so by half only; `alike` `(n,)` and `rows` `(n,)`,
        how like which training slices, whole or by half.
    """
    references = References(describe(train), train_persons)
    of_real = references.most_alike(real, persons)[0]
    limits = _limits(of_real)
    parts = np.array_split(of_real, 2, axis=1)
    false = [(one > _limits(other)).any(axis=0) for one, other in (parts, parts[::-1])]
    alike, rows = references.most_alike(generated)
    flagged = alike > limits  # (2, n)
    copies = flagged.any(axis=0)
    brains = np.arange(len(generated)) if brains is None else np.asarray(brains)
    halves = copies & ~flagged[0]
    whole, either = (len(np.unique(brains[some])) for some in (flagged[0], copies))
    count = len(np.unique(brains))
    slices_each = len(generated) // count
    report = {
        "copies": whole,
        "half_copies": either - whole,
        "share": either / count,
        "whole_limit": float(limits[0, 0]),
        "half_limit": float(limits[1, 0]),
        "slices_each": slices_each,
        "false_alarms": _share_of_groups(np.concatenate(false), slices_each),
        "found": {
            name: float((references.most_alike(images)[0] > limits).any(axis=0).mean())
            for name, images in plant_copies(train, real, seed, planted)
        },
    }
    alike, rows = (np.where(halves, one[1], one[0]) for one in (alike, rows))
    return report, {"alike": alike, "rows": rows, "copies": copies, "halves": halves}


def describe_search(copies):
    """Returns a text on what the search finds, from the report of `find_copies`."""
    found = ", ".join(f"{name} {share:.0%}" for name, share in copies["found"].items())
    slices_each = copies.get("slices_each", 1)  # earlier reports do not tell it
    real = "real slices" if slices_each == 1 else f"groups of {slices_each} real slices"
    return (
        f"planted copies found: {found}; {copies['false_alarms']:.1%} of {real} of other persons "
        "are taken for copies"
    )


def _share_of_groups(flags, size):
    """Returns the share of groups of `size` neighbouring slices `(n,)` with one that is flagged."""
    starts = range(0, len(flags) - len(flags) % size or 1, size)
    return float(np.mean([flags[start : start + size].any() for start in starts]))


def _limits(alike):
    """Returns the likeness above which a slice is a copy, `(2, 1)`, from real slices' `(2, n)`."""
    usual = np.quantile(alike, USUAL, axis=1, keepdims=True)
    return usual + MARGIN * (1 - usual)


def plant_copies(train, others, seed, count=PLANTED):
    """Yields the name of each kind of copy, and copies of training slices `(n, H, W)`.

    Args:
        train: uint8 array `(m, H, W)`.
        others: Float array `(r, H, W)`, slices of persons who were not trained on; the other half
            of a head comes from one of them.
        seed: Integer.
        count: Integer, copies of each kind.
    """
    random = np.random.default_rng([seed, 5])
    rows = random.permutation(len(train))[:count]
    images = as_floats(train[rows])
    yield "moved by up to 3 pixels", np.stack([_moved(image, random) for image in images])
    yield "turned by 2 degrees", np.stack([_turned(image, random) for image in images])
    yield "2% larger", np.stack([enlarged(image) for image in images])
    yield "mirrored", images[:, :, ::-1]
    strangers = others[random.integers(len(others), size=len(rows))]
    middle, left = images.shape[2] // 2, random.random(len(rows)) < 0.5
    columns = np.arange(images.shape[2]) < middle
    copied = np.where(left[:, None, None], columns, ~columns)
    yield "one half of a head", np.where(copied, images, strangers)


def _moved(image, random):
    return ndimage.shift(image, random.uniform(-SHIFT, SHIFT, 2), order=1)


def _turned(image, random):
    return ndimage.rotate(image, random.choice([-TURN, TURN]), reshape=False, order=1)
