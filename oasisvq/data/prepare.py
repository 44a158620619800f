"""A source made into slices on disk, scan by scan; what was interrupted goes on, and machines may
share the work."""

import contextlib
import glob
import hashlib
import json
import shutil
import sys
import zipfile

import numpy as np
import pandas
from tqdm import tqdm

from oasisvq.data.near_duplicates import near_duplicates
from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.core.files import sha256, sweep, whole_file, write_array, write_text
from oasisvq.core.locks import one_at_a_time
from oasisvq.data.demographics import join_sheet, read_sheets
from oasisvq.data.sources.base import WHOLE, BadScan, FinishedPart, Scan, open_source
from oasisvq.data.volumes import resized

FULL_SCALE_PERCENTILE = 99.8  # of the pixels above 0, per scan
FORMAT = 2  # raise it when the files of a prepared folder change
EARLY = 20  # scans; if the first so many are all bad, so are the rest
COLUMNS = (
    "subject", "session", "source", "plane", "index", "position_mm", "height", "width", "split",
)  # fmt: skip
TEXT_COLUMNS = dict.fromkeys(("subject", "session", "source", "plane", "split"), str)
SHOWN = 10  # problems that the closing summary names
# What a prepared folder's contents depend on, beside the files of the source.
SLICE_FIELDS = (
    "plane", "slice_range", "slice_unit", "slices_per_volume", "subject_pattern", "demo_subjects",
    "oasis1_image", "disc_numbers",
)  # fmt: skip


def prepare(hyperparameters, data_dir, shard=WHOLE):
    """The folder with the slices of a source, made now unless it is there already.

    Args:
        hyperparameters: `Hyperparameters`; which source, and which slices.
        data_dir: Path of the folder that prepared slices, and downloads, go to.
        shard: `Shard`, the only scans that are to be made now. Whoever finds those of all
            others made, by processes that share `data_dir`, puts them together.

    Returns:
        Path of a folder with `slices.npy`, `slices.csv` and `dataset.json`. Their bytes
        depend on the source and the options alone, not on interruptions nor on shares.
        `None` if scans of other shards are missing still.

    Raises:
        DatasetError: If the source cannot be used; the message says why.
        ArchiveError, DownloadError: If one of its archives cannot be read, or had.
    """
    source = open_source(hyperparameters, data_dir)
    options = {name: getattr(hyperparameters, name) for name in SLICE_FIELDS}
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
        _make_share(source, shard, folder, partial, hyperparameters.max_bad_scans)
    with _alone(folder):
        if folder.is_dir():
            _check_ready(source, folder)
        elif shard != WHOLE and not _holds_all(partial, source):
            return None
        else:
            _wait_for_shares(folder)
            store = Store(partial)
            sheets = source.sheets(fetch=True)
            _make_records(source, store, hyperparameters.max_bad_scans)
            _check_bad(source, store, hyperparameters.max_bad_scans)
            _assemble(source, store, options, sheets, partial / "whole")
            (partial / "whole").rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _alone(folder):
    """Held by who puts slices together, and for a moment by who begins a share: so that a share
    which is at work is seen, and none begins while its records may be put away."""
    return one_at_a_time(folder.with_name(f".{folder.name}.mutex"), f"prepares {folder}")


def _make_share(source, shard, folder, partial, max_bad_scans):
    """Records a shard's scans, beside other processes that record theirs."""
    name = f"{shard.number}-of-{shard.count}"
    mutex = folder.with_name(f".{folder.name}.{name}.mutex")
    with contextlib.ExitStack() as at_work:
        with _alone(folder):
            if folder.is_dir():
                return
            at_work.enter_context(one_at_a_time(mutex, f"prepares shard {name} of {folder}"))
        _make_records(source, Store(partial, name), max_bad_scans, shard)


def _wait_for_shares(folder):
    """Waits until no shard of the folder is at work; the next one cannot begin before we end."""
    for mutex in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.*-of-*.mutex")):
        with one_at_a_time(mutex, f"prepares a shard of {folder}"):
            pass
        mutex.unlink(missing_ok=True)


def _holds_all(partial, source):
    """Whether the scans of all shards are made."""
    names = {path.name for path in partial.glob("*.npz")}
    return all(_record_name(key) in names for key in source.needed())


def _check_ready(source, folder):
    """Compares a folder with the archives and sheets at hand. What a sheet says is brought up to
    date; other archives than it was made from are the user's to decide on."""
    try:
        description = json.loads((folder / "dataset.json").read_text())
        parts, sheets = description["parts"], description["sheets"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # whoever opens the folder will say so
    for name, record in source.records().items():
        if parts.get(name) not in (None, record):
            raise DatasetError(
                f"{name}: is not the archive that {folder} was made from. Delete that folder to "
                "have it made anew"
            )
    paths = source.sheets(fetch=False)
    changed = paths and _sums(paths) != sheets
    if not changed and "near_duplicates" in description:
        return
    try:
        table = pandas.read_csv(folder / "slices.csv", dtype=TEXT_COLUMNS)
        table = table[list(COLUMNS)].fillna(dict.fromkeys(TEXT_COLUMNS, ""))
        slices = np.load(folder / "slices.npy", mmap_mode="r")
        if "near_duplicates" not in description:  # made by an earlier version
            description["near_duplicates"] = near_duplicates(slices, table)
    except (OSError, EOFError, ValueError, LookupError):
        return  # as above
    if changed:
        description |= _write_table(table, paths, folder)
    _write_description(description, folder)


class Store:
    """What of a source is done, on disk: a file for each scan, written whole or not at all.

    Args:
        folder: Path of the folder for it.
        share: Name of the shard that the process makes, or `""`. With a name, it leaves
            alone what others may be at.
    """

    def __init__(self, folder, share=""):
        self.folder, self.share = folder, share
        folder.mkdir(parents=True, exist_ok=True)
        if not share:
            shutil.rmtree(folder / "whole", ignore_errors=True)
            sweep(folder)
        self.facts = {}  # from key to what is known of a scan, or of a part of the source
        for path in folder.glob("[!.]*.npz"):  # not what others are writing
            try:
                facts = self._read_facts(path)
                self.facts[facts["key"]] = facts
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)  # torn by a failing machine; it is made again

    def __contains__(self, key):
        return key in self.facts

    def add(self, facts, pictures=()):
        """Records `facts`, a dictionary with a `key`, and uint8 pictures of any shapes."""
        path = self._path(facts["key"])
        arrays = {f"picture_{number:04d}": picture for number, picture in enumerate(pictures)}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with whole_file(path, self.share) as partial:
            np.savez(partial, facts=text, **arrays)
        self.facts[facts["key"]] = facts

    def pictures(self, key):
        with np.load(self._path(key)) as arrays:
            return [arrays[name] for name in sorted(arrays) if name != "facts"]

    def forget(self, key):
        self._path(key).unlink(missing_ok=True)
        del self.facts[key]

    def forget_others(self, part, sha256):
        """Drops what came from an archive of this name with another checksum."""
        for key, facts in list(self.facts.items()):
            name, own = facts.get("origin") or (None, None)
            if name == part and own != sha256:
                self.forget(key)

    def _path(self, key):
        return self.folder / _record_name(key)

    def _read_facts(self, path):
        with np.load(path) as arrays:
            return json.loads(arrays["facts"].tobytes())


def _record_name(key):
    return f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _make_records(source, store, max_bad_scans, shard=WHOLE):
    """Records all scans of a source, or of a shard of it, those that cannot be used as such."""
    total = None if source.count is None else len(shard.of(range(source.count)))
    scans = source.scans(store, shard)
    for scan in tqdm(scans, total=total, desc="Slicing", unit="scan", disable=None):
        store.add(*(_record(scan) if isinstance(scan, Scan) else (scan.facts(), ())))
        if len(store.facts) == EARLY and max_bad_scans < 1:
            _check_bad(source, store, 1 - 1 / EARLY)


def _check_bad(source, store, most):
    """Raises `DatasetError` if more than this share of the scans is bad, or all are."""
    bad = sorted(key for key, facts in store.facts.items() if facts["kind"] == BadScan.kind)
    parts = [key for key, facts in store.facts.items() if facts["kind"] == FinishedPart.kind]
    total = len(store.facts) - len(parts)
    if not total:
        raise DatasetError(f"{source.name}: holds no scan")
    if len(bad) > most * total or len(bad) == total:
        first = store.facts[bad[0]]["problem"]
        if not store.share:
            for key in (*bad, *parts):  # once an archive is replaced, they are tried again
                store.forget(key)
            if not parts:
                shutil.rmtree(store.folder)
        raise DatasetError(
            f"{first}. So it is with {len(bad)} of {total} scans; --max-bad-scans says how many "
            "may be left out"
        )


def _record(scan):
    """A scan's facts and its pictures as uint8; or facts alone if there is nothing to see."""
    try:
        return scan.facts(), _to_uint8(scan)
    except VolumeError as error:
        return BadScan(scan.key, str(error), scan.origin).facts(), ()


def _to_uint8(scan):
    """A scan's pictures, scaled together so that 255 is its full scale."""
    stack = np.concatenate([picture.ravel() for picture in scan.pictures])
    foreground = stack[stack > 0]
    if not foreground.size:
        raise VolumeError(
            f"subject {scan.subject} {scan.session}: all its slices are black. Choose other slices "
            "with --slice-range, or take the scan out"
        )
    full_scale = np.percentile(foreground, FULL_SCALE_PERCENTILE)
    return [
        np.round((picture / full_scale).clip(0, 1) * 255).astype(np.uint8)
        for picture in scan.pictures
    ]


def _assemble(source, store, options, sheets, folder):
    """Makes the three files of a prepared folder from the records, in the order of their keys."""
    kinds = {"scan": [], "bad": [], "part": []}
    for _, facts in sorted(store.facts.items()):
        kinds[facts["kind"]].append(facts)
    rows = [row for scan in kinds["scan"] for row in _rows(scan, source.name)]
    table = pandas.DataFrame(rows, columns=COLUMNS)
    sizes = {row[6:8] for row in rows}
    shape = tuple(max(sides) for sides in zip(*sizes, strict=True))
    folder.mkdir()
    pictures = (picture for scan in kinds["scan"] for picture in store.pictures(scan["key"]))
    fitted = (fit_picture(picture, shape) for picture in pictures)
    write_array(folder / "slices.npy", (len(rows), *shape), fitted)
    slices = np.load(folder / "slices.npy", mmap_mode="r")
    description = {
        "source": source.name,
        "options": options,
        "subjects": int(table["subject"].nunique()),
        "scans": len(kinds["scan"]),
        "slices": len(table),
        "image_shape": list(shape),
        "sizes_found": sorted(map(list, sizes)),
        "intensity": f"255 is the {FULL_SCALE_PERCENTILE}th percentile of the scan's pixels above "
        "0; brighter ones are clipped",
        "bad_scans": {facts["key"]: facts["problem"] for facts in kinds["bad"]},
        "notes": {facts["key"]: facts["notes"] for facts in kinds["scan"] if facts["notes"]},
        "parts": {facts["key"]: facts["record"] for facts in kinds["part"]},
        "near_duplicates": near_duplicates(slices, table),
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
        **_write_table(table, sheets, folder),
    }
    _write_description(description, folder)
    _summarise(description)


def _write_table(table, sheets, folder):
    """Writes `slices.csv`, what the sheets say of each session included; returns facts of that."""
    table, without_row = join_sheet(table, read_sheets(sheets))
    table["index"] = table["index"].astype("Int64")
    with whole_file(folder / "slices.csv") as partial:
        table.to_csv(partial, index=False)
    return {"sheets": _sums(sheets), "sessions_without_a_row": without_row}


def _sums(sheets):
    return {path.name: sha256(path) for path in sheets}


def _write_description(description, folder):
    description["sha256"] = {n: sha256(folder / n) for n in ("slices.npy", "slices.csv")}
    write_text(folder / "dataset.json", description)


def _rows(scan, source_name):
    """The rows of `slices.csv` for a scan's facts, in the order of `COLUMNS`."""
    who = scan["subject"], scan["session"], scan["source"] or source_name, scan["plane"]
    for index, position, size in zip(
        scan["indices"], scan["positions_mm"], scan["sizes"], strict=True
    ):
        yield (*who, index, position, *size, scan["split"])


def _summarise(description):
    """The closing lines: what was made, what was left out and why."""
    print(
        f"{description['source']}: {description['slices']:,} slices of {description['scans']} scans"
    )
    bad, notes = description["bad_scans"], description["notes"]
    lines = [*bad.values(), *(note for of_scan in notes.values() for note in of_scan)]
    if bad:
        print(f"Left out: {len(bad)}")
    for line in lines[:SHOWN]:
        print(f"  {line}")
    if len(lines) > SHOWN:
        print(f"  and {len(lines) - SHOWN} more, in dataset.json")
    missing = len(description["sessions_without_a_row"])
    if missing and description["sheets"]:
        print(f"{missing} sessions have no row in the subject sheet; what it tells is unknown")


def fit_picture(picture, shape):
    """A uint8 picture `(H, W)` amid black of another `shape`, never squashed.

    One that is too large in either direction is made smaller in both alike.
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
