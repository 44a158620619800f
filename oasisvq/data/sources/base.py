"""Defines what all sources share: they yield scans of brains, each under its own key."""

import abc
import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from oasisvq.core.errors import HyperparameterError
from oasisvq.core.words import counted

if TYPE_CHECKING:  # `dataset.py --help` need not wait for nibabel
    from oasisvq.data.entries import Entry

MOST_THREADS = 8  # a session of OASIS-2 takes half a gigabyte


@dataclasses.dataclass(frozen=True)
class Shard:
    """One machine's share of the scans: number `number`, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Returns the shard of the flag `--shard`, such as `3/16`, or `WHOLE` without the flag.

        Raises:
            HyperparameterError: If there is no such shard.
        """
        if text is None:
            return WHOLE
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        expected = "a number and a count, from 1/1 up, such as 3/16"
        raise HyperparameterError(f"--shard must be {expected}. Received: {text}")

    def of(self, items: Sequence) -> Sequence:
        """Returns its share of a list: every `count`-th item, in order."""
        return items[self.number - 1 :: self.count]


WHOLE = Shard(1, 1)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A result of a source: a scan, a bad scan, or a finished archive."""

    kind: ClassVar[str]
    key: str  # unique in its source, and the same in every run; scans are sorted by key

    def facts(self) -> dict[str, Any]:
        """Returns its fields as values for JSON."""
        return {"kind": self.kind, **vars(self)}


@dataclasses.dataclass(frozen=True)
class Scan(Finding):
    """The slices of one session of one subject.

    Attributes:
        subject, session: Names; the session may be `""`.
        split: `"train"`, `"validation"`, `"test"`, or `""` if the source has no splits.
        plane: `"axial"`, `"coronal"`, `"sagittal"`, or `""` if unknown.
        pictures: Float32 arrays `(H, W)`, at least 0, in the scan's own scale.
        indices: The slices' numbers along the plane's axis, `None` if unknown.
        positions_mm: Their positions, `None` if unknown.
        source: The collection of the scan, or `""` if the source has only one.
        notes: Texts about parts that were left out.
        origin: Name and SHA-256 of the archive of the scan, or `()`.
        repeat: Which of several scans of the session, or `""`.
        group: The class folder, or `""`.
        sides: The letters of its left and right, if they are not those of its plane; see
            `sides.sides_of`.
    """

    kind: ClassVar[str] = "scan"
    subject: str
    session: str
    split: str
    plane: str
    pictures: Sequence[np.ndarray]
    indices: Sequence[int | None]
    positions_mm: Sequence[float | None]
    source: str = ""
    notes: Sequence[str] = ()
    origin: tuple = ()
    repeat: str = ""
    group: str = ""
    sides: str = ""

    def facts(self) -> dict[str, Any]:
        """Returns its fields, with the sizes of the pictures in place of the pictures."""
        facts = super().facts() | {"sizes": [picture.shape for picture in self.pictures]}
        return {name: value for name, value in facts.items() if name != "pictures"}


@dataclasses.dataclass(frozen=True)
class BadScan(Finding):
    """A scan that cannot be used, with the reason."""

    kind: ClassVar[str] = "bad"
    problem: str
    origin: tuple = ()


@dataclasses.dataclass(frozen=True)
class FinishedArchive(Finding):
    """An archive whose scans have all been read, and its size and SHA-256."""

    kind: ClassVar[str] = "part"
    record: dict[str, Any]
    origin: tuple = ()


class Source(abc.ABC):
    """A source of scans that `--dataset` can name.

    Attributes:
        name: The first part of the name of its prepared folder.
        fingerprint: List of texts that changes with the data.
        count: Number of scans; `None` if it is unknown before they are read.
        pixel_size: Size of a pixel of all slices in mm; `None` if it is unknown.
        whole_heads: Whether all slices of a scan were cut from one volume, and so show one head.
        strict_sheets: Whether a subject sheet that cannot be read is an error.
    """

    name: str
    fingerprint: list[str]
    count: int | None
    pixel_size: float | None = None
    whole_heads: ClassVar[bool] = False
    strict_sheets: ClassVar[bool] = False

    @abc.abstractmethod
    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Finding]:
        """Yields the `Scan`s, `BadScan`s and `FinishedArchive`s of a shard that a `Store` lacks.

        A shard is a share of the scans; for OASIS it is a share of the archives, so that no archive
        is read twice.
        """

    def needed(self) -> list[str]:
        """Returns the keys that a store has when all scans are made; here the scans' numbers."""
        return [f"{number:08d}" for number in range(self.count or 0)]

    def records(self) -> dict[str, dict]:
        """Returns the size and SHA-256 of each archive that is there, by its name."""
        return {}

    def sheets(self, fetch: bool) -> list[Path]:
        """Returns the paths of the subject sheets; downloads missing ones if `fetch`."""
        return []

    def inventory(self) -> "list[Entry]":
        """Returns all images of a folder, with the reason for those that are left out."""
        return []

    def listed_scans(self) -> list[tuple]:
        """Returns subject, session, split, number of slices and class of a folder's scans."""
        return []

    def describe(self) -> list[str]:
        """Returns lines on what the source holds, beside its images."""
        return [f"{self.name}: {counted(self.count, 'scan')}"]

    def _missing(self, items: Iterable, store: Any, shard: Shard) -> list[tuple[str, Any]]:
        """Returns the items of the scans that a store lacks, with their keys."""
        pairs = list(zip(self.needed(), items, strict=True))
        return [pair for pair in shard.of(pairs) if pair[0] not in store]


def in_parallel(
    function: Callable, items: Iterable, size: Callable[[Any], float] | None = None, room: float = 0
) -> Iterator:
    """Yields `function(item)` in the order of the items, on all cores.

    Threads suffice: decompression and registration take most of the time and run outside of
    Python's lock. One item per thread, and one more, is in memory.

    Args:
        function: The function of an item.
        items: The items.
        size: The function that returns how much of the room an item takes. Default: none.
        room: How much all items in memory may take, unless a single one takes more.
    """
    cores = min(os.cpu_count() or 1, MOST_THREADS)
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for item in items:
            own = size(item) if size else 0
            while waiting and own + sum(taken for _, taken in waiting) > room:
                yield waiting.popleft()[0].result()
            waiting.append((pool.submit(function, item), own))
            if len(waiting) > cores:
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()


def registration() -> Any:
    """Returns the module that registers heads, imported late: SimpleITK takes 90 MB."""
    from oasisvq.data import registration

    return registration
