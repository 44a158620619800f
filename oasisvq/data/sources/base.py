"""What all sources share: scans of brains, each under a key of its own, one after another."""

import abc
import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from oasisvq.core.errors import HyperparameterError

MOST_THREADS = 8  # a session of OASIS-2 at work takes half a gigabyte


@dataclasses.dataclass(frozen=True)
class Shard:
    """A machine's share of a job: the `number`-th, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Returns the shard that `--shard` names, as `3/16`; the whole job without the flag.

        Raises:
            HyperparameterError: If there is no such shard.
        """
        if text is None:
            return WHOLE
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        expected = "a number and how many there are, from 1/1 up, as 3/16"
        raise HyperparameterError(f"--shard must be {expected}. Received: {text}")

    def of(self, items: Sequence) -> Sequence:
        """Returns its share of a list, in order: every `count`-th."""
        return items[self.number - 1 :: self.count]


WHOLE = Shard(1, 1)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a source yields: a scan, or a fact about one or about an archive."""

    kind: ClassVar[str]
    key: str  # unique in its source and the same in every run; scans are sorted by it

    def facts(self) -> dict[str, Any]:
        """Returns what is known of it, as JSON knows it."""
        return {"kind": self.kind, **vars(self)}


@dataclasses.dataclass(frozen=True)
class Scan(Finding):
    """The slices of one session of one subject.

    Attributes:
        subject, session: Names; the session may be `""`.
        split: `"train"`, `"validation"`, `"test"`, or `""` where the source leaves it to us.
        plane: `"axial"`, `"coronal"`, `"sagittal"`, or `""` if unknown.
        pictures: Float32 arrays `(H, W)`, at least 0, in the scan's own scale.
        indices: The slices' numbers along the plane's axis, `None` if unknown.
        positions_mm: Their positions, `None` if unknown.
        source: The collection it is from, or `""` for that of all scans.
        notes: Texts on what was left out of it.
        origin: Name and SHA-256 of the archive it is from, or `()`.
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

    def facts(self) -> dict[str, Any]:
        """Returns all but the pictures, and their sizes."""
        facts = super().facts() | {"sizes": [picture.shape for picture in self.pictures]}
        return {name: value for name, value in facts.items() if name != "pictures"}


@dataclasses.dataclass(frozen=True)
class BadScan(Finding):
    """A scan that cannot be used, and why."""

    kind: ClassVar[str] = "bad"
    problem: str
    origin: tuple = ()


@dataclasses.dataclass(frozen=True)
class FinishedPart(Finding):
    """An archive whose scans have all been read, and its size and SHA-256."""

    kind: ClassVar[str] = "part"
    record: dict[str, Any]
    origin: tuple = ()


class Source(abc.ABC):
    """What `--dataset` can name.

    Attributes:
        name: How its prepared folder is called.
        fingerprint: List of texts that changes with the data.
        count: How many scans it has; `None` if that is unknown before they are read.
    """

    name: str
    fingerprint: list[str]
    count: int | None

    @abc.abstractmethod
    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Finding]:
        """Yields the `Scan`s, `BadScan`s and `FinishedPart`s of a shard that a `Store` lacks.

        A share is of scans; of OASIS, of archives, so that none is read twice.
        """

    def needed(self) -> list[str]:
        """Returns the keys that a store holds once all scans are made: here, the scans' places."""
        return [f"{number:08d}" for number in range(self.count or 0)]

    def records(self) -> dict[str, dict]:
        """Returns the size and SHA-256 of each archive at hand, by its name."""
        return {}

    def sheets(self, fetch: bool) -> list[Path]:
        """Returns the paths of the subject sheets, those not at hand downloaded if `fetch`."""
        return []

    def _missing(self, items: Iterable, store: Any, shard: Shard) -> list[tuple[str, Any]]:
        """Returns, of all scans' items, those that are to be made, with their keys."""
        pairs = list(zip(self.needed(), items, strict=True))
        return [pair for pair in shard.of(pairs) if pair[0] not in store]


def in_parallel(function: Callable, items: Iterable) -> Iterator:
    """Yields `function(item)` in the order of the items, on all cores.

    Threads will do: decompression and registration, which take the time, run outside of Python's
    lock. No more than one item a thread, and one, is in memory.
    """
    cores = min(os.cpu_count() or 1, MOST_THREADS)
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
