"""Subjects that show the same head under two names, and pictures of one head under no name."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas
from scipy import ndimage

from oasisvq.core.words import counted

CELLS = 32  # along each side of a described slice; even, so that a mirrored one has the same cells
EXTENT = 1.7  # half a side, in radii of the head
LEAST_SIDE = 1.4  # pixels of a cell: finer ones show the noise of JPEG, or nothing in a blurred one
SMALLEST = 32  # pixels of the longer side
DARK = 0.05  # brightness above the ground that counts as head
LEAST_AREA = 0.025  # of the longer side, squared: the tip of a lobe looks like any other
BOUND = 2.5  # standard deviations at which details are cut: a bright vessel is not the whole head
FAINT = 1e-3  # a slice whose details have no more than this, in [0, 1], shows no head
BLOCK = 256  # slices, or scans, at a time
VALUES = 32  # of brightness: a picture of fewer is a mask, or the tip of a lobe
MOST_SLICES = 50_000  # of which each is compared with all: as long again as describing them
# What follows was set on half of the subjects of OASIS-1 and OASIS-2, and tested on the others:
# tests/experiments/near_duplicates.py prints the table.
FLOOR, CEILING = 0.6, 0.85
SURE = 0.95  # no two heads are so alike, nor slices of one 2 mm apart
FEW, USUAL = 500, 0.76  # so many pairs weigh as much as the threshold that is usual
MANY = 0.15, 2  # pairs of one head are no more than this share of all pairs, and so many
WRONG = 0.02  # partners that a subject, or a picture without a name, is expected to find wrongly
MOST_NAMES, MOST_PICTURES = 10, 400  # of a head, unless SURE
# On 76 persons' axial slices, and 153 persons' coronal ones, on whom nothing was set.
MEASURED = (
    "In a test on real axial slices 1, 2, 3 and 4 mm apart, 100%, 99%, 23% and 0% of the pairs of "
    "slices of one head came into one group (coronal: 100%, 94% and 8%), so that nearly every "
    "head whose slices lie 3 mm apart or more comes into several splits"
)
DOUBT = 0.05  # a picture so little below the threshold may belong to the group all the same


@dataclass(frozen=True)
class Likeness:
    """What comparing all subjects with one another has found.

    Attributes:
        pairs: `{"subjects": [a, b], "similarity": float}` of each pair that shows one head, by
            name.
        figures: What the threshold was taken from, see `Tally.figures`, for each way to compare
            that was used: slices `"at the same positions"`, `"nearest slices"` of scans that
            share none, and `"any slices"` of those that do.
    """

    pairs: list[dict[str, Any]]
    figures: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Heads:
    """Pictures without names, grouped into heads.

    Attributes:
        numbers: Integer array `(N,)`, each picture's head, counted from 0 as they come.
        figures: As `Tally.figures`, with the counts of pictures, heads, pictures alone in their
            group, and pictures in doubt: nearly alike enough for a group that they are not in.
    """

    numbers: np.ndarray
    figures: dict[str, Any]

    def __str__(self) -> str:
        """States how the pictures were grouped, and how sure that is."""
        known = self.figures
        shares = [f"{known[name] / max(known['pictures'], 1):.0%}" for name in ("alone", "doubt")]
        return (
            f"grouped {counted(known['pictures'], 'picture')} into "
            f"{counted(known['heads'], 'head')} by likeness (at least {known['threshold']:.3f}); "
            f"{shares[0]} of the pictures are alone and "
            f"{shares[1]} in doubt. {MEASURED}"
        )


@dataclass
class Tally:
    """The similarities of all pairs as a histogram, and the most similar pairs themselves."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(2001, np.int64))
    kept: list[np.ndarray] = field(default_factory=list)  # (n, 3): two numbers and a similarity

    def add(self, similarities: np.ndarray, counted: np.ndarray, start: int) -> None:
        """Adds similarities `(n, N)` of `n` things, from number `start` on, where `counted`."""
        thousandths = np.rint(similarities[counted].clip(-1, 1) * 1000).astype(int)
        self.counts += np.bincount(thousandths + 1000, minlength=2001)
        found = np.argwhere(counted & (similarities >= FLOOR))
        values = similarities[tuple(found.T)]
        self.kept.append(np.column_stack([found + (start, 0), values]))

    def figures(self, things: int, least: float = FLOOR) -> dict[str, Any]:
        """Returns the threshold for so many subjects, or pictures, and the figures beside it."""
        threshold = max(_threshold(self.counts, WRONG / max(things - 1, 1)), least)
        values = np.flatnonzero(self.counts) / 1000 - 1
        below, above = values[values < threshold], values[values >= threshold]
        return {
            "threshold": round(threshold, 3),
            "pairs": int(self.counts.sum()),
            "highest_below": round(float(below.max()), 3) if below.size else None,
            "lowest_above": round(float(above.min()), 3) if above.size else None,
        }

    def pairs(self, threshold: float) -> Iterator[tuple[int, int, float]]:
        """Yields the pairs that reach a threshold, the most similar first."""
        kept = np.concatenate([*self.kept, np.empty((0, 3))])
        kept = kept[np.round(kept[:, 2], 3) >= threshold]
        for one, other, similarity in kept[np.argsort(-kept[:, 2], kind="stable")]:
            yield int(one), int(other), float(similarity)


def _threshold(counts: np.ndarray, share: float) -> float:
    """Returns the similarity that no more than a `share` of pairs of different heads reaches.

    Similarities of different heads, against the square root of the normal deviate of their rank,
    lie near a straight line, which goes through their 90th and 99th percentile. Pairs above the
    threshold are one head's, so that they are taken out and the line is drawn anew. Few pairs
    hardly move the usual threshold, unless most of them are that alike: heads that are all alike,
    as invented ones are, are not one head.
    """
    roots = [NormalDist().inv_cdf(1 - p) ** 0.5 for p in (0.1, 0.01, min(share, 0.01))]
    threshold = CEILING
    for _ in range(5):
        others = np.cumsum(counts[: int(round((threshold + 1) * 1000))])
        if not others[-1]:
            break
        low, high = np.searchsorted(others, np.array([0.9, 0.99]) * others[-1]) / 1000 - 1
        line = high + (high - low) * (roots[2] - roots[1]) / (roots[1] - roots[0])
        estimate = (others[-1] * line + FEW * USUAL) / (others[-1] + FEW)
        threshold = float(np.clip(estimate, FLOOR, CEILING))
    if _are_many(counts, threshold):
        threshold = CEILING
    return round(threshold if counts.any() else USUAL, 3)


def _are_many(counts: np.ndarray, threshold: float) -> bool:
    """Tells whether more pairs reach a threshold than can be of one head each."""
    above = counts[int(round((threshold + 1) * 1000)) :].sum()
    return above > MANY[0] * counts.sum() + MANY[1]


def compare_subjects(slices: np.ndarray, table: pandas.DataFrame) -> Likeness:
    """Compares all subjects, and tells which pairs are too alike to be two heads.

    The similarity of two scans is the mean, over the positions they share, of the correlation
    between their slices' `details`. It is also that of their two most similar slices of one plane,
    wherever they lie: positions may count from elsewhere, in another source or under other names.
    For scans of one source that share a position it must reach `CEILING`. A scan may be mirrored
    or upside down. No mean of the population is taken off, so that a similarity means the same
    among three subjects and three hundred; only the threshold follows the data.

    Slices of equal pixels are one head (1.0), unless more than `MOST_NAMES` subjects have them, as
    they may have a legend.

    Args:
        slices: uint8 array `(N, H, W)`; may be memory-mapped.
        table: A row a slice, with subject, session, plane, index, position_mm and, where there
            are several, source. Where both index and position are unknown, a scan's first slice
            is compared with another's first.

    Returns:
        A `Likeness`. Slices of less than 32 pixels are found only if they are equal.
    """
    figures, found = {}, _equal_pairs(slices, table["subject"].to_numpy())
    if max(slices.shape[1:]) >= SMALLEST:
        figures = _add_similar_pairs(found, slices, table)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    joined, _ = _join(((*pair, value) for pair, value in ranked), MOST_NAMES)
    return Likeness([{"subjects": [a, b], "similarity": s} for a, b, s in sorted(joined)], figures)


def _equal_pairs(slices: np.ndarray, subjects: np.ndarray) -> dict[tuple[str, str], float]:
    """Returns the pairs of subjects with a slice of equal pixels, wherever it lies, and 1.0."""
    owners: dict[str, set[str]] = {}
    for picture, subject in zip(slices, subjects, strict=True):
        if np.count_nonzero(np.bincount(picture.ravel(), minlength=256)) >= VALUES:
            owners.setdefault(fingerprint(picture), set()).add(subject)
    groups = (sorted(names) for names in owners.values() if len(names) <= MOST_NAMES)
    return {pair: 1.0 for names in groups for pair in itertools.combinations(names, 2)}


def fingerprint(picture: np.ndarray) -> str:
    """Returns a hash of a uint8 picture `(H, W)` without its black border."""
    rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    if rows.size:
        picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    text = str(picture.shape).encode() + picture.tobytes()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _add_similar_pairs(found: dict, slices: np.ndarray, table: Any) -> dict[str, dict[str, Any]]:
    """Adds the pairs of subjects that are alike to those `found`; returns `Likeness.figures`."""
    described = _describe(slices)
    table = table.reset_index(drop=True)
    table = table.assign(source=table.get("source", ""))
    keys = [key for key in ("source", "subject", "session", "repeat", "class") if key in table]
    scan = table.groupby(keys, dropna=False).ngroup().to_numpy()
    subjects = table.groupby(scan)["subject"].first().to_numpy()
    persons = np.unique(subjects, return_inverse=True)[1]
    ways = {"at the same positions": Tally(), "nearest slices": Tally(), "any slices": Tally()}
    same, apart, anywhere = ways.values()
    _compare_positions(described, table, scan, persons, same)
    _compare_nearest(described, table, scan, persons, apart, anywhere)
    if _are_many(anywhere.counts, CEILING):  # everybody has the same legend
        del ways["any slices"]
    figures = {}
    for way, tally in ways.items():
        if tally.counts.any():
            least = CEILING if tally is anywhere else FLOOR
            figures[way] = tally.figures(persons.max() + 1, least)
            for one, other, similarity in tally.pairs(figures[way]["threshold"]):
                pair = tuple(sorted((subjects[one], subjects[other])))
                found[pair] = max(round(similarity, 3), found.get(pair, 0.0))
    return figures


def group_heads(slices: np.ndarray, scans: np.ndarray | None = None) -> Heads:
    """Groups pictures without any names into heads, by their likeness.

    A picture belongs to the group of each that it is more alike than other heads' pictures are.
    So neighbouring slices form a chain, and a head's slices one group if they are no more than
    about 2 mm apart; slices 4 mm apart are no more alike than those of two heads.

    Args:
        slices: uint8 array `(N, H, W)`; may be memory-mapped.
        scans: Integer array `(N,)`, the volume of each slice: all slices of one are one head's.

    Returns:
        `Heads`. Every picture of less than 32 pixels is taken for another head.
    """
    tally, alone, count = Tally(), np.arange(len(slices)), len(slices)
    shows = count and max(slices.shape[1:]) >= SMALLEST
    described = _describe(slices) if shows else np.zeros((4, 0, 1), np.float32)
    for start in range(0, described.shape[1], BLOCK):
        alike = _similarities(described[:, start : start + BLOCK], described)
        numbers = alone[start : start + BLOCK, None]
        tally.add(alike, numbers < alone, start)
    figures = tally.figures(count)
    known = _pairs_of_scans(scans) if scans is not None else []
    pairs = itertools.chain(known, tally.pairs(figures["threshold"]))
    _, groups = _join(pairs, MOST_PICTURES)
    firsts = np.array([min(groups.get(number, [number])) for number in alone], int)
    numbers = np.unique(firsts, return_inverse=True)[1]
    doubted = {
        number
        for one, other, _ in tally.pairs(figures["threshold"] - DOUBT)
        for number in (one, other)
        if numbers[one] != numbers[other]
    }
    counts = {"pictures": count, "heads": len(np.unique(numbers)), "doubt": len(doubted)}
    sizes = np.bincount(numbers, minlength=1)
    return Heads(numbers, figures | counts | {"alone": int((sizes == 1).sum())})


def _pairs_of_scans(scans: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns each slice of a scan with the scan's first one, and 1.0."""
    _, firsts, numbers = np.unique(scans, return_index=True, return_inverse=True)
    return [(int(firsts[scan]), slice_, 1.0) for slice_, scan in enumerate(numbers)]


def name_heads(slices: np.ndarray, numbers: np.ndarray) -> list[str]:
    """Returns the name of each picture's head, which other heads and file names do not change.

    It is the first of the fingerprints of the head's pictures, in alphabetical order.
    """
    prints: Any = pandas.Series([fingerprint(picture) for picture in slices])
    return list("head_" + prints.groupby(numbers).transform("min"))


def _join(pairs: Iterable[tuple[Any, Any, float]], most: int) -> tuple[list, dict[Any, list]]:
    """Joins pairs, the most similar first, but into no group of more than `most`.

    A chain of wrong pairs would otherwise make everybody one person. Only pairs above `SURE` make
    larger groups.

    Returns:
        The pairs that lie in one group each, and a dictionary of each one's group.
    """
    groups: dict[Any, list] = {}
    joined = []
    for one, other, similarity in pairs:
        first, second = groups.setdefault(one, [one]), groups.setdefault(other, [other])
        if first is not second:
            if len(first) + len(second) > most and similarity < SURE:
                continue
            first, second = sorted((first, second), key=len, reverse=True)
            first += second
            groups |= dict.fromkeys(second, first)
        joined.append((one, other, similarity))
    return joined, groups


def _compare_positions(
    described: np.ndarray, table: Any, scan: np.ndarray, persons: np.ndarray, tally: Tally
) -> None:
    """Tallies the similarities of scans that share positions."""
    slots = pandas.DataFrame({"position": _positions(table, scan), "scan": scan})
    groups = slots.drop_duplicates().groupby("position").groups.values()
    at_positions = [rows.to_numpy() for rows in groups]
    present = pandas.crosstab(slots["scan"], slots["position"]).clip(upper=1).to_numpy(np.float32)
    for start in range(0, len(persons), BLOCK):
        shared = present[start : start + BLOCK] @ present.T
        sums = np.zeros((4, *shared.shape), np.float32)
        for rows in at_positions:
            rows = rows[scan[rows] >= start]
            block = rows[scan[rows] < start + BLOCK]
            products = described[:, block] @ described[:, rows].transpose(0, 2, 1)
            sums[:, (scan[block] - start)[:, None], scan[rows]] += products
        alike = _best_flip(sums) / np.maximum(shared, 1)
        tally.add(alike, _once(start, len(sums[0]), persons) & (shared > 0), start)


def _compare_nearest(
    described: np.ndarray,
    table: Any,
    scan: np.ndarray,
    persons: np.ndarray,
    apart: Tally,
    anywhere: Tally,
) -> None:
    """Tallies the similarities of the most alike slices of scans, wherever they lie.

    Those of scans that share no position, or are of two sources that happen to share one, go to
    the tally `apart`, others `anywhere`. The latter are left out if there are more than
    `MOST_SLICES`, or if every scan is one slice, which has been compared.
    """
    order = np.argsort(scan, kind="stable")
    described, table, scan = described[:, order], table.iloc[order], scan[order]
    plane = table["plane"].fillna("").to_numpy()
    source = pandas.factorize(table["source"])[0]
    starts = np.flatnonzero(np.diff(scan, prepend=-1))
    slot = _positions(table, scan)
    present = pandas.crosstab(scan, slot).clip(upper=1).to_numpy(np.float32)
    ends = [*starts[1:], len(scan)]
    all_pairs = len(persons) < len(scan) <= MOST_SLICES
    step = max(BLOCK * len(persons) // len(scan), 1)
    for start in range(0, len(persons), step):
        stop = min(start + step, len(persons))
        wanted = _once(start, stop - start, persons)
        shares_none = present[start:stop] @ present.T == 0
        distant = shares_none | (source[starts[start:stop], None] != source[starts])
        if not (wanted & (distant | all_pairs)).any():
            continue
        first = starts[start]  # earlier ones have been compared with these
        rows = slice(first, ends[stop - 1])
        names = plane[rows, None]
        allowed = (names == plane[first:]) | (names == "") | (plane[first:] == "")
        alike = np.where(allowed, _similarities(described[:, rows], described[:, first:]), -2)
        alike = np.maximum.reduceat(alike, starts[start:] - first, axis=1)
        alike = np.maximum.reduceat(alike, starts[start:stop] - first, axis=0)
        alike = np.pad(alike, ((0, 0), (start, 0)), constant_values=-2)
        wanted &= alike > -2
        apart.add(alike, wanted & distant, start)
        if all_pairs:
            anywhere.add(alike, wanted & ~distant, start)


def _once(start: int, count: int, persons: np.ndarray) -> np.ndarray:
    """Tells for `count` scans from `start` on, and all, `(count, scans)`, which pairs to count.

    They are each pair of different persons, once.
    """
    scans = np.arange(start, start + count)[:, None]
    return (scans < np.arange(len(persons))) & (persons[scans] != persons)


def _describe(slices: np.ndarray) -> np.ndarray:
    """Returns the parities `(4, N, 256)` of all slices' details."""
    starts = range(0, len(slices), BLOCK)
    return np.concatenate([_parities(details(slices[s : s + BLOCK])) for s in starts], axis=1)


def _parities(described: np.ndarray) -> np.ndarray:
    """Splits details into what stays and what changes its sign when mirrored and turned over.

    The products of the four parts, added up with the signs that they have then, are correlations
    with a slice in four orientations, for the price of one.

    Returns:
        Float32 array `(4, n, 256)`: what stays, what changes upside down, mirrored, by either.
    """
    parts = described.reshape(1, -1, CELLS, CELLS)
    for axis in (2, 3):
        first, last = np.split(parts, 2, axis)
        last = np.flip(last, axis)
        parts = np.concatenate([first + last, first - last]) / np.float32(2**0.5)
    return parts.reshape(4, len(described), -1)


def _similarities(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the correlations `(n, N)` of slices by their parities, in the best orientation."""
    return _best_flip(some @ others.transpose(0, 2, 1))


def _best_flip(products: np.ndarray) -> np.ndarray:
    """Returns the highest sum `(n, N)` of the four parities' products `(4, n, N)`."""
    even, turned, mirrored, both = products
    upright = even + turned + np.abs(mirrored + both)
    return np.maximum(upright, even - turned + np.abs(mirrored - both))


def details(slices: np.ndarray) -> np.ndarray:
    """Returns what tells one head from another: small pictures less their blur, of length 1.

    The head's middle is moved to that of the picture, and its radius is made the same, so that it
    may lie elsewhere or have larger pixels; the blur takes away what all heads share.

    Args:
        slices: uint8 array `(n, H, W)`.

    Returns:
        Float32 array `(n, 1024)`; their products are correlations. Zeros for a slice that shows no
        head.
    """
    pictures = np.asarray(slices, np.float32) / 255
    edges = [pictures[:, [0, -1]], pictures[:, :, [0, -1]].transpose(0, 2, 1)]
    ground = np.median(np.concatenate(edges, axis=2).reshape(len(pictures), -1), axis=1)
    pictures = (pictures - ground[:, None, None]).clip(0)
    area = (pictures > DARK).sum(axis=(1, 2))
    weights = np.sqrt(pictures)  # nearly the outline's middle, however bright a part may be
    middles, spreads = zip(*(_moments(weights.sum(axis=axis)) for axis in (2, 1)), strict=True)
    side = np.maximum(2 * EXTENT / CELLS * np.sqrt(sum(spreads)), LEAST_SIDE)  # of a cell
    rows, columns = (
        _averages(middle, side, length)
        for middle, length in zip(middles, slices.shape[1:], strict=True)
    )
    small = rows @ pictures @ columns.transpose(0, 2, 1)  # (n, CELLS, CELLS)
    small[area < LEAST_AREA * max(slices.shape[1:]) ** 2] = 0
    small -= ndimage.gaussian_filter(small, (0, 1, 1))
    bound = BOUND * small.std(axis=(1, 2), keepdims=True)
    small = small.clip(-bound, bound).reshape(len(small), -1)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), FAINT)


def _moments(profiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean place and the variance `(n,)`, in pixels, of weights `(n, length)`."""
    mass = np.maximum(profiles.sum(axis=1), FAINT)
    places = np.arange(profiles.shape[1]) + 0.5
    middle = profiles @ places / mass
    return middle, (profiles * (places - middle[:, None]) ** 2).sum(axis=1) / mass


def _averages(middle: np.ndarray, side: np.ndarray, length: int) -> np.ndarray:
    """Returns matrices `(n, CELLS, length)` that average pixels over cells around `middle`.

    A pixel on a border counts for both cells in part, or a grid of odd cells would pass for detail.
    """
    borders = middle[:, None] + (np.arange(CELLS + 1) - CELLS / 2) * side[:, None]
    below, above = borders[:, :-1, None], borders[:, 1:, None]
    pixels = np.arange(length)
    covered = (np.minimum(above, pixels + 1) - np.maximum(below, pixels)).clip(0)
    return (covered / side[:, None, None]).astype(np.float32)


def _positions(table: pandas.DataFrame, scan: np.ndarray) -> np.ndarray:
    """Returns a number `(N,)` for each slice's plane and millimetre; else index; else order."""
    kind, place = _places(table)
    order = table.groupby(scan).cumcount()
    place = np.where(np.isnan(place), order, np.floor(place + 0.5))  # `round` joins halves
    keys = pandas.DataFrame({"plane": table["plane"].to_numpy(), "kind": kind, "place": place})
    return keys.groupby(["plane", "kind", "place"], dropna=False).ngroup().to_numpy()


def _places(table: pandas.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each slice is placed by, 0 for mm, 1 for index and 2 for nothing; and where."""
    numbers: Any = table[["position_mm", "index"]].apply(pandas.to_numeric)
    numbers = numbers.to_numpy(float, na_value=np.nan)
    kind = np.select([~np.isnan(numbers[:, 0]), ~np.isnan(numbers[:, 1])], [0, 1], 2)
    return kind, np.where(kind == 0, numbers[:, 0], numbers[:, 1])
