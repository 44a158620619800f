"""Makes the scans of a source into slices on disk, and reads such a prepared folder."""

import collections
import contextlib
import csv
import glob
import hashlib
import itertools
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from oasisvq.core.arrays import write_array
from oasisvq.core.errors import DatasetError, WriteError
from oasisvq.core.files import one_at_a_time, read_json, sha256, sweep, whole_file, write_text
from oasisvq.core.progress import Progress
from oasisvq.core.tables import read_table, write_table
from oasisvq.core.words import counted
from oasisvq.data.demographics import KNOWN, join_sheets
from oasisvq.data.entries import count_entries, describe_entries
from oasisvq.data.near_duplicates import compare_subjects, group_heads, name_heads
from oasisvq.data.oasis import COLLECTIONS
from oasisvq.data.sources.archives import Archives
from oasisvq.data.sources.base import WHOLE, BadScan, Finding, FinishedArchive, Scan, Shard, Source
from oasisvq.data.sources.folders import open_folder
from oasisvq.data.sources.synthetic import Demo
from oasisvq.data.splits import SPLITS, join_people, split_heads
from oasisvq.data.volumes import resized

PREPARED = ("slices.npy", "slices.csv", "dataset.json")  # the files of a prepared folder
FORMAT = 2  # to be raised when these files change
FULL_SCALE_PERCENTILE = 99.8  # of the pixels above 0, per scan
EARLY = 20  # scans; if all of the first ones are bad, the rest is not tried
WHO = ("subject", "session", "source", "plane")
WHERE = ("index", "position_mm", "height", "width")
LATER = ("repeat", "class", "sides")  # columns that earlier versions did not write
COLUMNS = (*WHO, *WHERE, "split", *LATER)
TEXT_COLUMNS: Any = dict.fromkeys((*WHO, "split", *LATER), str)
MOST_COLUMNS = 2**13  # of slices.csv: its own, and those of subject sheets
LONGEST_NAME = 200  # bytes
MOST_PROBLEMS = 10  # in the final summary
# The fields on which the contents of a prepared folder depend, besides the files of the source.
CUT = ("plane", "slice_range", "slice_unit", "slices_per_volume", "subject_pattern")
SLICE_FIELDS = (*CUT, "demo_subjects", "oasis1_image", "disc_numbers")
# These, too, where they are not at their default: folders made by earlier versions stay valid.
LATER_FIELDS = ("pixel_size", "include", "exclude", "suffix", "persons")


def read_prepared(folder: Path) -> tuple[np.ndarray, Any, dict[str, Any], dict[str, str]]:
    """Reads a folder that `prepare` made.

    Returns:
        The slices, uint8 `(N, H, W)`, memory-mapped; a pandas table with a row for each, in which
        texts are never NaN; the contents of `dataset.json`; and the dictionary of `join_people`.

    Raises:
        DatasetError: If the files are damaged, or do not belong together.
    """
    try:
        slices = np.load(folder / "slices.npy", mmap_mode="r")
        _check_cells(folder / "slices.csv")
        table: Any = read_table(
            folder / "slices.csv", dtype=TEXT_COLUMNS, keep_default_na=False, na_values=[""]
        )
        table = table.assign(**{name: "" for name in LATER if name not in table})
        description = read_json(folder / "dataset.json")
        missing = {*COLUMNS, *KNOWN} - set(table)
        if missing or not isinstance(description, dict):
            raise ValueError(f"missing: {sorted(missing) or 'the facts of dataset.json'}")
        source = description.get("source")
        if not _is_plain(source):  # reports and run folders are named after it
            raise ValueError(f"the source in dataset.json is no plain name: {source!r:.80}")
        if type(description.get("slices", 0)) is not int:
            raise ValueError("the number of slices is not a number")
        for column in (*WHERE, "age", "cdr"):
            table[column] = pandas.to_numeric(table[column])
            if np.isinf(table[column].to_numpy(float)).any():
                raise ValueError(f"a number in column {column} is not finite")
        texts = {name: table[name].astype(object).fillna("") for name in TEXT_COLUMNS}
        table = table.assign(**texts)
        if not set(table["split"]) <= {*SPLITS, ""}:
            raise ValueError(f"unknown split: {set(table['split'])}")
        pairs = description.get("near_duplicates")
        people = join_people(pair["subjects"] for pair in pairs or ())
    # For a damaged header NumPy also raises errors of Python's tokenizer and parser.
    except Exception as error:
        raise DatasetError(
            f"{folder}: not a prepared dataset ({error}). Delete the folder, and it is made again"
        ) from error
    if slices.ndim != 3 or slices.dtype != np.uint8 or len(table) != len(slices):
        raise DatasetError(
            f"{folder}: slices.npy and slices.csv do not belong together ({slices.shape} "
            f"{slices.dtype}, {len(table)} rows). Delete the folder, and it is made again"
        )
    if pairs is None:  # made by an earlier version
        description["near_duplicates"] = compare_subjects(slices, table).pairs
        people = join_people(pair["subjects"] for pair in description["near_duplicates"])
    return slices, table, description, people


def _check_cells(path: Path) -> None:
    """Raises a `ValueError` if pandas would fill the memory with cells that a CSV file lacks."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = len(next(rows, []))
        # Each cell takes a byte in a file that `write_table` wrote.
        if columns > MOST_COLUMNS or columns * sum(1 for _ in rows) > path.stat().st_size:
            raise ValueError(f"{path.name}: {columns:,} columns are not in each of its rows")


def _is_plain(name: object) -> bool:
    """Returns whether a text from a file can be a part of a file's name in any folder."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and len(name.encode(errors="replace")) <= LONGEST_NAME
        and not any(c in "/\\" or not c.isprintable() for c in name)
    )


def prepare(config: Any, data_dir: Path, shard: Shard = WHOLE) -> Path | None:
    """Returns the folder with the slices of a source, which is made if it does not exist.

    Args:
        config: `DataConfig`: which source, and which slices. A prepared folder is also a source.
        data_dir: Path of the folder for prepared slices and downloads.
        shard: The scans to make now. Processes with other shards share `data_dir`; the process
            that finds all shards made joins them in one folder.

    Returns:
        Path of a folder with `slices.npy`, `slices.csv` and `dataset.json`. Their bytes depend only
        on the source and the options, not on interruptions or shards. `None` if scans of other
        shards are still missing.

    Raises:
        DatasetError: If the source cannot be used; the message says why.
        ArchiveError, DownloadError: If one of its archives cannot be read, or downloaded.
    """
    if all((Path(config.dataset) / name).is_file() for name in PREPARED):
        if config.include or config.exclude:
            raise DatasetError(
                f"{config.dataset}: holds prepared slices, among which --include and --exclude "
                "choose nothing. Give the folder with the images, or leave them away"
            )
        return Path(config.dataset)
    source = open_source(config, data_dir)
    options = {name: getattr(config, name) for name in SLICE_FIELDS}
    default = type(config)()
    later = {name: getattr(config, name) for name in LATER_FIELDS}
    options |= {name: value for name, value in later.items() if value != getattr(default, name)}
    identity = options | {"format": FORMAT, "files": source.fingerprint}
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    folder = data_dir / f"{source.name}-{digest}"
    partial = data_dir / f".{folder.name}.partial"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(
            f"{data_dir}: cannot be written ({error.strerror}). Give another --data-dir"
        ) from error
    if shard != WHOLE:
        _make_shard(source, shard, folder, partial, config.max_bad_scans)
    with _alone(folder):
        recorded = ((partial / _record_name(key)).is_file() for key in source.needed())
        if folder.is_dir():
            _check_ready(source, folder)
        elif shard != WHOLE and not all(recorded):
            return None
        else:
            _wait_for_shards(folder)
            store = Store(partial)
            sheets = source.sheets(fetch=True)
            _make_records(source, store, config.max_bad_scans)
            _check_bad(source, store, config.max_bad_scans)
            _assemble(source, store, options, sheets, partial / "whole")
            (partial / "whole").rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def open_source(config: Any, data_dir: Path) -> Source:
    """Returns the source that a `DataConfig` names; the archives of OASIS lie in `data_dir`."""
    if config.dataset == "demo":
        return Demo(config)
    return Archives(config, data_dir) if config.dataset in COLLECTIONS else open_folder(config)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of a process that makes the folder or begins a shard.

    A ready folder is used without it where no lock file can be written.
    """
    mutex = folder.with_name(f".{folder.name}.mutex")
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(one_at_a_time(mutex, f"prepares {folder}"))
        except WriteError:
            if not folder.is_dir():
                raise
        yield


def _make_shard(source: Source, shard: Shard, folder: Path, partial: Path, most: float) -> None:
    """Records the scans of a shard, while other processes may record others."""
    name = f"{shard.number}-of-{shard.count}"
    mutex = folder.with_name(f".{folder.name}.{name}.mutex")
    with contextlib.ExitStack() as at_work:
        with _alone(folder):
            if folder.is_dir():
                return
            at_work.enter_context(one_at_a_time(mutex, f"prepares shard {name} of {folder}"))
        _make_records(source, Store(partial, name), most, shard)


def _wait_for_shards(folder: Path) -> None:
    """Waits until no process makes a shard; the lock of `_alone` keeps others from beginning."""
    for mutex in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.*-of-*.mutex")):
        with one_at_a_time(mutex, f"prepares a shard of {folder}"):
            pass
        mutex.unlink(missing_ok=True)


def _check_ready(source: Source, folder: Path) -> None:
    """Updates a folder from the present sheets, and to this version.

    Raises:
        DatasetError: If it was made from other archives than the present ones.
    """
    try:
        known = read_json(folder / "dataset.json")
        parts, sheets = known["parts"], known["sheets"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # `read_prepared` will raise an error
    for name, record in source.records().items():
        if parts.get(name) not in (None, record):
            raise DatasetError(
                f"{name}: is not the archive from which {folder} was made. Delete that folder, and "
                "it is made again"
            )
    paths = source.sheets(fetch=False)
    changed = paths and (_sums(paths) != sheets or "sheet_notes" not in known)
    if changed or "near_duplicates" not in known:
        with contextlib.suppress(DatasetError):  # as above
            _, table, description, _ = read_prepared(folder)
            if changed:
                description |= _write_table(source, table[list(COLUMNS)], paths, folder)
                _print_notes(description)
            _write_description(description, folder)


class Store:
    """Stores the findings of a source on disk, each in a file that is complete or absent.

    With the name of a shard, it does not touch the files that other processes may be writing.
    """

    def __init__(self, folder: Path, shard: str = ""):
        self.folder, self.shard = folder, shard
        folder.mkdir(parents=True, exist_ok=True)
        if not shard:
            shutil.rmtree(folder / "whole", ignore_errors=True)
            sweep(folder)
        self.facts: dict[str, dict[str, Any]] = {}  # by key, see `Finding`
        for path in folder.glob("[!.]*.npz"):  # without files that others are writing
            try:
                with np.load(path) as arrays:
                    facts = json.loads(arrays["facts"].tobytes())
                self.facts[facts["key"]] = facts
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)  # damaged by a failing machine; it is made again

    def __contains__(self, key: str) -> bool:
        return key in self.facts

    def add(self, facts: dict[str, Any], pictures: Iterable[np.ndarray] = ()) -> None:
        """Records `facts`, a dictionary with a `key`, and uint8 pictures of any shapes."""
        path = self._path(facts["key"])
        arrays: Any = {f"picture_{number:04d}": picture for number, picture in enumerate(pictures)}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with whole_file(path, self.shard) as partial:
            np.savez(partial, facts=text, **arrays)
        self.facts[facts["key"]] = facts

    def found(self, kind: type[Finding]) -> list[dict[str, Any]]:
        """Returns the facts of all findings of a class, in the order of their keys."""
        return [facts for _, facts in sorted(self.facts.items()) if facts["kind"] == kind.kind]

    def pictures(self, key: str) -> list[np.ndarray]:
        """Returns the pictures that were recorded under a key."""
        with np.load(self._path(key)) as arrays:
            return [arrays[name] for name in sorted(arrays) if name != "facts"]

    def forget(self, key: str) -> None:
        """Deletes the record of a key."""
        self._path(key).unlink(missing_ok=True)
        del self.facts[key]

    def forget_others(self, part: str, sha256: str | None) -> None:
        """Deletes the records from an archive of this name with another checksum."""
        for key, facts in list(self.facts.items()):
            name, own = facts.get("origin") or (None, None)
            if name == part and own != sha256:
                self.forget(key)

    def _path(self, key: str) -> Path:
        return self.folder / _record_name(key)


def _record_name(key: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _make_records(source: Source, store: Store, most: float, shard: Shard = WHOLE) -> None:
    """Records the findings of a source, or of a shard of it, that the store lacks."""
    total = None if source.count is None else len(shard.of(range(source.count)))
    findings = source.scans(store, shard)
    for finding in Progress(findings, total=total, desc="Slicing", unit="scan"):
        pictures = _to_uint8(finding.pictures) if isinstance(finding, Scan) else []
        if isinstance(finding, Scan) and not pictures:
            problem = (
                f"subject {finding.subject} {finding.session}: all its slices are black. Choose "
                "other slices with --slice-range, or remove the scan"
            )
            finding = BadScan(finding.key, problem, finding.origin)
        store.add(finding.facts(), pictures)
        if len(store.facts) == EARLY and most < 1:
            _check_bad(source, store, 1 - 1 / EARLY)


def _check_bad(source: Source, store: Store, most: float) -> None:
    """Raises `DatasetError` if more than this share of the scans, or every scan, is bad."""
    bad, parts = store.found(BadScan), store.found(FinishedArchive)
    total = len(store.facts) - len(parts)
    if not total:
        raise DatasetError(f"{source.name}: holds no scan")
    if len(bad) > most * total or len(bad) == total:
        if not store.shard:
            for facts in (*bad, *parts):  # they are tried again once an archive is replaced
                store.forget(facts["key"])
            if not parts:
                shutil.rmtree(store.folder)
        raise DatasetError(
            f"{bad[0]['problem']}. Bad are {len(bad)} of {counted(total, 'scan')}; "
            "--max-bad-scans sets the share that may be left out"
        )


def _to_uint8(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the pictures of a scan with 255 as their full scale; `[]` if all are black."""
    foreground = np.concatenate([picture[picture > 0] for picture in pictures])
    if not foreground.size:
        return []
    full_scale = np.percentile(foreground, FULL_SCALE_PERCENTILE, overwrite_input=True)
    scaled = ((picture / full_scale).clip(0, 1) * 255 for picture in pictures)
    return [np.round(picture).astype(np.uint8) for picture in scaled]


def _assemble(
    source: Source, store: Store, options: dict, sheets: list[Path], folder: Path
) -> None:
    """Makes the three files of a prepared folder from the records, in the order of their keys."""
    scans, bad, parts = (store.found(kind) for kind in (Scan, BadScan, FinishedArchive))
    rows = [row for scan in scans for row in _rows(scan, source.name)]
    table: Any = pandas.DataFrame(rows, columns=COLUMNS)
    sizes = {tuple(size) for scan in scans for size in scan["sizes"]}
    shape = [max(sides) for sides in zip(*sizes, strict=True)]
    folder.mkdir()
    pictures = (picture for scan in scans for picture in store.pictures(scan["key"]))
    fitted = (fit_picture(picture, shape) for picture in pictures)
    write_array(folder / "slices.npy", (len(rows), *shape), fitted)
    slices = np.load(folder / "slices.npy", mmap_mode="r")
    remarks = source.describe() if source.inventory() else []
    if options.get("persons") == "by-likeness":
        numbers = [number for number, scan in enumerate(scans) for _ in scan["sizes"]]
        heads = group_heads(slices, np.array(numbers, int) if source.whole_heads else None)
        table = table.assign(subject=name_heads(slices, heads.numbers))
        splits, notes = split_heads(table)
        table, remarks = table.assign(split=splits), [f"Persons by likeness: {heads}", *notes]
    likeness = compare_subjects(slices, table)
    description = {
        "source": source.name,
        "options": options,
        "subjects": int(table["subject"].nunique()),
        "scans": len(scans),
        "slices": len(table),
        "image_shape": shape,
        "sizes_found": sorted(map(list, sizes)),
        "pixel_size_mm": source.pixel_size,
        "images": count_entries(source.inventory()),
        "remarks": remarks,
        "intensity": f"255 is the {FULL_SCALE_PERCENTILE}th percentile of the scan's pixels above "
        "0; brighter ones are clipped",
        "bad_scans": {facts["key"]: facts["problem"] for facts in bad},
        "notes": {facts["key"]: facts["notes"] for facts in scans if facts["notes"]},
        "parts": {facts["key"]: facts["record"] for facts in parts},
        "near_duplicates": likeness.pairs,
        "near_duplicates_by": likeness.figures,
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
        **_write_table(source, table, sheets, folder),
    }
    _write_description(description, folder)
    _summarise(description)


def _write_table(source: Source, table: Any, sheets: list[Path], folder: Path) -> dict[str, Any]:
    """Writes `slices.csv` with the columns of the sheets, and returns facts about the sheets."""
    table, facts = join_sheets(table, sheets, source.strict_sheets)
    table["index"] = table["index"].astype("Int64")
    write_table(folder / "slices.csv", table)
    return {"sheets": _sums(sheets), **facts}


def _sums(sheets: list[Path]) -> dict[str, str]:
    return {path.name: sha256(path) for path in sheets}


def _write_description(description: dict[str, Any], folder: Path) -> None:
    description["sha256"] = {n: sha256(folder / n) for n in ("slices.npy", "slices.csv")}
    write_text(folder / "dataset.json", description)


def _rows(scan: dict[str, Any], source_name: str) -> Iterator[tuple]:
    """Yields the rows of `slices.csv` for a scan's facts, in the order of `COLUMNS`."""
    who = scan["subject"], scan["session"], scan["source"] or source_name, scan["plane"]
    later = [scan.get(name, "") for name in ("repeat", "group", "sides")]
    columns = scan["indices"], scan["positions_mm"], scan["sizes"]
    for index, position, size in zip(*columns, strict=True):
        yield (*who, index, position, *size, scan["split"], *later)


def _summarise(description: dict[str, Any]) -> None:
    """Prints what was made, and what was left out for which reason."""
    bad, scans = description["bad_scans"], description["scans"]
    made = f"{counted(description['slices'], 'slice')} of {counted(scans, 'scan')}"
    print(f"{description['source']}: {made}")
    images = description["images"]
    left = sum(found["count"] for reason, found in images.items() if reason != "taken")
    if left:
        print(f"Images: {images['taken']:,} taken, {left:,} left out")
    for line in (*describe_entries(images), *description["remarks"]):
        print(line)
    lines = _one_of_each([*bad.values(), *itertools.chain(*description["notes"].values())])
    if bad:
        print(f"Left out: {len(bad)}")
    for line in lines[:MOST_PROBLEMS]:
        print(f"  {line}")
    if len(lines) > MOST_PROBLEMS:
        print(f"  and {len(lines) - MOST_PROBLEMS} more, in dataset.json")
    _print_notes(description)


def _one_of_each(notes: Iterable[str]) -> list[str]:
    """Returns the first of the notes, `name: text`, that differ in names and numbers only."""
    alike = collections.defaultdict(list)
    for note in notes:
        alike[re.sub(r"[\d.,]+", "", note.partition(": ")[2]) or note].append(note)
    return [
        first + (f" (and {len(others)} more such, in dataset.json)" if others else "")
        for first, *others in alike.values()
    ]


def _print_notes(description: dict[str, Any]) -> None:
    """Prints the lines about subject sheets."""
    for line in description["sheet_notes"]:
        print(line)


def fit_picture(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns a uint8 picture `(H, W)` in the middle of a black picture of another `shape`.

    A picture that is too large in one direction is shrunk by the same factor in both.
    """
    scale = min(1.0, shape[0] / picture.shape[0], shape[1] / picture.shape[1])
    if scale < 1:
        sides = (max(int(side * scale), 1) for side in picture.shape)
        picture = resized(picture, *sides).round().clip(0, 255).astype(np.uint8)
    height, width = picture.shape
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    fitted = np.zeros(shape, np.uint8)
    fitted[top : top + height, left : left + width] = picture
    return fitted
