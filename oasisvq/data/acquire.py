"""Finds the archives and sheets of OASIS in a folder, and downloads those that are not there."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import queue
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isal import igzip

from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.data import oasis
from oasisvq.data.download import download, lock_file, remote_size, verify
from oasisvq.data.oasis import COLLECTIONS, Collection

PIECE = 2**20  # bytes read at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One archive of a collection, packed or unpacked.

    Attributes:
        collection: `OASIS1` or `OASIS2`.
        name: The archive's, or that of a folder of sessions from several archives.
        path: Where it is; `None` if it must be downloaded.
    """

    collection: Collection
    name: str
    path: Path | None

    @property
    def url(self) -> str:
        """The address that the archive is downloaded from."""
        return _mirrored(f"{oasis.MIRROR}/{self.name}")


def _mirrored(url: str) -> str:
    """Returns a file's address at the server that OASIS_MIRROR names, or else its own."""
    mirror = os.environ.get("OASIS_MIRROR")
    return f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}" if mirror else url


def choose_parts(dataset: str, discs: Iterable[int], data_dir: Path) -> list[Part]:
    """Returns the parts of `oasis`, `oasis1` or `oasis2`, in the same order wherever they are.

    Args:
        dataset: The name of the dataset.
        discs: The numbers of the archives wanted, `()` for all.
        data_dir: The folder where archives and unpacked folders are looked for.

    Raises:
        DatasetError: If there are no archives of those numbers.
    """
    known = {number for collection in COLLECTIONS[dataset] for number in collection.numbers}
    if unknown := set(discs) - known:
        raise DatasetError(
            f"--discs: {dataset} has no archive {min(unknown)}. OASIS-1 has 1 to 12, "
            "OASIS-2 1 and 2"
        )
    parts = []
    for collection in COLLECTIONS[dataset]:
        numbers = [number for number in collection.numbers if not discs or number in discs]
        found = [_find_part(collection, number, data_dir) for number in numbers]
        loose = [] if discs else oasis.find_loose_sessions(data_dir, collection)
        if loose:  # the user's choice of sessions, from whichever archives
            found = [part for part in found if part.path]
            found += [Part(collection, f"sessions in {path.name}", path) for path in loose]
        parts += found
    return parts


def _find_part(collection: Collection, number: int, data_dir: Path) -> Part:
    where = data_dir, collection, number
    path = oasis.find_archive(*where) or oasis.find_folder(*where)
    return Part(collection, collection.archive.format(number), path)


def announce(parts: Iterable[Part], data_dir: Path) -> None:
    """Prints what will be downloaded, how large it is, and under which terms.

    Raises:
        DatasetError: If the disk has no room for it.
    """
    missing = [part for part in parts if part.path is None]
    if not missing:
        return
    with concurrent.futures.ThreadPoolExecutor(len(missing)) as threads:
        sizes = [*threads.map(lambda part: remote_size(part.url, timeout=(5, 10)), missing)]
    for part in missing:
        say_terms(part.collection)
    needed = 0
    for part, size in zip(missing, sizes, strict=True):
        about = "" if size else "about "
        size = size or part.collection.bytes_each
        print(f"To fetch: {part.url} ({about}{size / 1e9:.2f} GB)")
        arrived = data_dir / f"{part.name}.part"
        needed += size - (arrived.stat().st_size if arrived.exists() else 0)
    place = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    print(f"Still to come {needed / 1e9:.1f} GB, to {data_dir} ({free / 1e9:.1f} GB free)")
    if needed > free:
        raise DatasetError(
            f"{data_dir}: {needed / 1e9:.1f} GB are to be fetched, {free / 1e9:.1f} GB are free. "
            "Make room, choose fewer --discs, or give another --data-dir"
        )


@functools.cache  # once is enough
def say_terms(collection: Collection) -> None:
    """Prints the terms of use and what to write in every publication."""
    print(f"{collection.title}. {oasis.TERMS}:\n  {collection.acknowledgement}.")


def supplied(parts: Iterable[Part], data_dir: Path) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yields each part with its path and its record, downloading later ones meanwhile.

    Those at hand come first. The record is a dictionary of the archive's size and SHA-256;
    empty for unpacked folders.

    Raises:
        DownloadError: If one cannot be had; those before it have been yielded.
    """
    parts = sorted(parts, key=lambda part: part.path is None)
    cancelled, ready = threading.Event(), queue.SimpleQueue()

    def fetch():
        for part in parts:
            try:
                ready.put(_supply(part, data_dir, cancelled))
            except Exception as error:  # it belongs to whoever waits for the part
                ready.put(error)
                return

    # A daemon: an interrupt does not wait for a server that has stopped answering. What has come
    # is on disk, and is resumed.
    threading.Thread(target=fetch, daemon=True).start()
    try:
        for _ in parts:
            result = ready.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:  # an error, an interrupt, or a caller that has enough
        cancelled.set()


def _supply(part: Part, data_dir: Path, cancelled: threading.Event) -> tuple[Part, dict[str, Any]]:
    """Returns a part with its path and its record, after downloading it if it is not at hand."""
    path = part.path or data_dir / part.name
    if part.path is None:
        download(
            part.url,
            path,
            check_archive,
            known_md5=part.collection.md5.get(part.name),
            remedy=f"If the server gives it only after a signed agreement, fetch {part.name} by "
            f"hand and put it into {data_dir}; or choose others with --discs",
            cancelled=cancelled,
        )
    record = {} if path.is_dir() else archive_record(path)
    return dataclasses.replace(part, path=path), record


def archive_record(path: Path) -> dict[str, Any]:
    """Returns the size and SHA-256 of an archive, which is read only if it is new or has changed.

    Raises:
        DownloadError: If it is another file than the one on record.
    """
    record = verify(path, remedy=f"Delete {path} to have it fetched again")
    return {name: record[name] for name in ("size", "sha256")}


def forget_record(path: Path) -> None:
    """Deletes the lock record of an archive that was put there by hand and proved damaged.

    Another may take its place then.
    """
    lock = lock_file(path)
    if lock.exists() and json.loads(lock.read_text())["url"] is None:
        lock.unlink()


def check_archive(path: Path) -> None:
    """Refuses a file that is no whole `.tar.gz`: decompresses it, up to the checksum at its end.

    Raises:
        ValueError: With the reason.
    """
    try:
        with igzip.IGzipFile(path, "rb") as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "replace")
            while stream.read(PIECE):
                pass
    # igzip has errors of its own beside OSError and EOFError, tarfile too.
    except Exception as error:
        raise ValueError(f"no whole .tar.gz ({type(error).__name__}: {error})") from error


def find_or_fetch_sheet(data_dir: Path, collection: Collection) -> Path | None:
    """Returns the path of a collection's subject sheet; `None`, after a line on it, without one.

    Sessions are of use without their sheet: a server that does not give it stops nothing.
    """
    path = oasis.find_sheet(data_dir, collection)
    if path is None:
        path, url = data_dir / Path(collection.sheet_url).name, _mirrored(collection.sheet_url)
        say_terms(collection)
        print(f"To fetch: {url}")
        try:
            download(url, path, check_sheet, retries=1, timeout=(10, 20))
        except DownloadError as error:
            print(
                f"{collection.title}: without its subject sheet, age, sex and CDR stay unknown "
                f"({error}) Put {path.name}, or a .csv of it, into {data_dir}",
                file=sys.stderr,
            )
            return None
    return path


def check_sheet(path: Path) -> None:
    """Refuses a file that is no whole `.xlsx`, which is a zip archive.

    Raises:
        ValueError: With the reason.
    """
    try:
        with zipfile.ZipFile(path) as sheet:
            torn = sheet.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"no whole .xlsx ({error})") from error
    if torn:
        raise ValueError(f"no whole .xlsx ({torn} is damaged)")
