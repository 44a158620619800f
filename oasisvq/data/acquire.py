"""Finds the archives and sheets of OASIS in a folder, and downloads those that are missing."""

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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isal import igzip

from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.data import oasis
from oasisvq.data.demographics import read_sheets
from oasisvq.data.download import download, lock_file, remote_size, verify
from oasisvq.data.oasis import COLLECTIONS, Collection
from oasisvq.data.sheets import LARGEST_FILE

PIECE = 2**20  # bytes read at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Archive:
    """One archive of a collection, packed or unpacked.

    Attributes:
        collection: `OASIS1` or `OASIS2`.
        name: Its name, or that of a folder with sessions from several archives.
        path: Its path; `None` if it must be downloaded.
    """

    collection: Collection
    name: str
    path: Path | None

    @property
    def url(self) -> str:
        """The address from which the archive is downloaded."""
        return _mirrored(f"{oasis.MIRROR}/{self.name}")


def _mirrored(url: str) -> str:
    """Returns the address of a file at the server in OASIS_MIRROR, or the unchanged address."""
    mirror = os.environ.get("OASIS_MIRROR")
    return f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}" if mirror else url


def choose_archives(dataset: str, discs: Iterable[int], data_dir: Path) -> list[Archive]:
    """Returns the archives of `oasis`, `oasis1` or `oasis2`, in an order that is always the same.

    Args:
        dataset: The name of the dataset.
        discs: The numbers of the wanted archives, `()` for all.
        data_dir: The folder in which archives and unpacked folders may be.

    Raises:
        DatasetError: If an archive has no such number.
    """
    known = {number for collection in COLLECTIONS[dataset] for number in collection.numbers}
    if unknown := set(discs) - known:
        raise DatasetError(
            f"--discs: {dataset} has no archive {min(unknown)}. OASIS-1 has 1 to 12, "
            "OASIS-2 1 and 2"
        )
    archives = []
    for collection in COLLECTIONS[dataset]:
        numbers = [number for number in collection.numbers if not discs or number in discs]
        found = []
        for number in numbers:
            where = data_dir, collection, number
            path = oasis.find_archive(*where) or oasis.find_folder(*where)
            found.append(Archive(collection, collection.archive.format(number), path))
        loose = [] if discs else oasis.find_loose_sessions(data_dir, collection)
        if loose:  # the user chose these sessions, from any archives
            found = [archive for archive in found if archive.path]
            found += [Archive(collection, f"sessions in {path.name}", path) for path in loose]
        archives += found
    return archives


def announce(archives: Iterable[Archive], data_dir: Path) -> None:
    """Prints the downloads to come, their sizes and the terms of use.

    Raises:
        DatasetError: If the disk has no room for them.
    """
    missing = [archive for archive in archives if archive.path is None]
    if not missing:
        return
    with concurrent.futures.ThreadPoolExecutor(len(missing)) as threads:
        sizes = [*threads.map(lambda archive: remote_size(archive.url, timeout=(5, 10)), missing)]
    for archive in missing:
        say_terms(archive.collection)
    needed = 0
    for archive, size in zip(missing, sizes, strict=True):
        about = "" if size else "about "
        size = size or archive.collection.bytes_each
        print(f"To fetch: {archive.url} ({about}{size / 1e9:.2f} GB)")
        arrived = data_dir / f"{archive.name}.part"
        needed += size - (arrived.stat().st_size if arrived.exists() else 0)
    place = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    print(f"Still to fetch: {needed / 1e9:.1f} GB to {data_dir} ({free / 1e9:.1f} GB free)")
    if needed > free:
        raise DatasetError(
            f"{data_dir}: {needed / 1e9:.1f} GB to fetch, but only {free / 1e9:.1f} GB are free. "
            "Make room, choose fewer --discs, or give another --data-dir"
        )


@functools.cache  # once is enough
def say_terms(collection: Collection) -> None:
    """Prints the terms of use, and the acknowledgement for every publication."""
    print(f"{collection.title}. {oasis.TERMS}:\n  {collection.acknowledgement}.")


def supplied(archives: Iterable[Archive], data_dir: Path) -> Iterator[tuple[Archive, dict]]:
    """Yields each archive with its path and its record, and downloads later ones meanwhile.

    Archives that are already there come first. The record is a dictionary of size and SHA-256,
    empty for unpacked folders.

    Raises:
        DownloadError: If an archive cannot be downloaded, after those before it were yielded.
    """
    archives = sorted(archives, key=lambda archive: archive.path is None)
    cancelled, ready = threading.Event(), queue.SimpleQueue()

    def fetch():
        for archive in archives:
            try:
                ready.put(_supply(archive, data_dir, cancelled))
            except Exception as error:  # it is raised below, where the archive is awaited
                ready.put(error)
                return

    # A daemon, so that an interrupt does not wait for a server that no longer answers. The bytes
    # received are on disk, and the next download resumes from there.
    threading.Thread(target=fetch, daemon=True).start()
    try:
        for _ in archives:
            result = ready.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:  # after an error or an interrupt, or when the caller stops early
        cancelled.set()


def _supply(archive: Archive, data_dir: Path, cancelled: threading.Event) -> tuple[Archive, dict]:
    """Returns an archive with its path and its record, downloaded if it is missing."""
    path = archive.path or data_dir / archive.name
    if archive.path is None:
        download(
            archive.url,
            path,
            check_archive,
            known_md5=archive.collection.md5.get(archive.name),
            remedy=f"If the server gives it only after a signed agreement, fetch {archive.name} by "
            f"hand and put it into {data_dir}; or choose others with --discs",
            cancelled=cancelled,
        )
    record = {} if path.is_dir() else archive_record(path)
    return dataclasses.replace(archive, path=path), record


def archive_record(path: Path) -> dict[str, Any]:
    """Returns the size and SHA-256 of an archive, and reads it only if it is new or has changed.

    Raises:
        DownloadError: If it is not the file on record.
    """
    record = verify(path, remedy=f"Delete {path} to have it fetched again")
    return {name: record[name] for name in ("size", "sha256")}


def forget_record(path: Path) -> None:
    """Deletes the lock record of a damaged archive from the user, so that it can be replaced."""
    lock = lock_file(path)
    if lock.exists() and json.loads(lock.read_text())["url"] is None:
        lock.unlink()


def check_archive(path: Path) -> None:
    """Checks that a file is a complete `.tar.gz`, by decompressing it up to its final checksum.

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
        raise ValueError(f"not a complete .tar.gz ({type(error).__name__}: {error})") from error


def find_or_fetch_sheet(data_dir: Path, collection: Collection) -> Path | None:
    """Returns the path of a collection's subject sheet, downloaded if it is missing.

    Sessions are useful without their sheet, so if the download fails, the user is told and the
    result is `None`.
    """
    path = oasis.find_sheet(data_dir, collection)
    if path is None:
        path, url = data_dir / Path(collection.sheet_url).name, _mirrored(collection.sheet_url)
        say_terms(collection)
        print(f"To fetch: {url}")
        try:
            download(url, path, check_sheet, retries=1, timeout=(10, 20), largest=LARGEST_FILE)
        except DownloadError as error:
            print(
                f"{collection.title}: without its subject sheet, age, sex and CDR stay unknown "
                f"({error}) Put {path.name}, or the sheet as .csv, into {data_dir}",
                file=sys.stderr,
            )
            return None
    return path


def check_sheet(path: Path) -> None:
    """Checks that a file is an `.xlsx` that can be read as a subject sheet, whatever its name.

    Raises:
        ValueError: With the reason.
    """
    try:
        read_sheets(path, ".xlsx")
    except DatasetError as error:
        raise ValueError(f"not a subject sheet: {error}") from error
