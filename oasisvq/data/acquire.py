"""The archives and sheets of OASIS as they come to hand: found in a folder, or downloaded."""

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
from pathlib import Path

from isal import igzip

from oasisvq.data.download import download, remote_size, verify
from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.data.oasis import COLLECTIONS, MIRROR, TERMS, Collection, find_archive, find_folder, find_loose_sessions, find_sheet

PIECE = 2**20  # bytes read at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One archive of a collection, packed or unpacked.

    Attributes:
        collection: `OASIS1` or `OASIS2`.
        name: Of the archive, or of a folder of sessions from several.
        number: Of the archive; `None` for such a folder.
        path: Where it is; `None` if it must be downloaded.
    """

    collection: Collection
    name: str
    number: int | None
    path: Path | None


def choose_parts(dataset, discs, data_dir):
    """The parts of `oasis`, `oasis1` or `oasis2`, in the same order wherever they are.

    Args:
        dataset: Name of the dataset.
        discs: Numbers of the archives wanted, `()` for all.
        data_dir: Path of the folder where archives and unpacked folders are looked for.

    Raises:
        DatasetError: If there are no archives of those numbers.
    """
    known = {number for collection in COLLECTIONS[dataset] for number in collection.numbers}
    if not known.issuperset(discs):
        raise DatasetError(
            f"--discs: {dataset} has no archive {min(set(discs) - known)}. OASIS-1 has 1 to 12, "
            "OASIS-2 1 and 2"
        )
    parts = []
    for collection in COLLECTIONS[dataset]:
        numbers = [n for n in collection.numbers if not discs or n in discs]
        found = [_find(collection, number, data_dir) for number in numbers]
        loose = [] if discs else find_loose_sessions(data_dir, collection)
        if loose:  # the user's choice of sessions, from whichever archives
            found = [part for part in found if part.path]
            found += [Part(collection, f"sessions in {path.name}", None, path) for path in loose]
        parts += found
    return parts


def _find(collection, number, data_dir):
    path = find_archive(data_dir, collection, number) or find_folder(data_dir, collection, number)
    return Part(collection, collection.archive.format(number), number, path)


def announce(parts, data_dir):
    """Says what will be downloaded, how large it is, and under which terms.

    Raises:
        DatasetError: If the disk has no room for it.
    """
    missing = [part for part in parts if part.path is None]
    if not missing:
        return
    with concurrent.futures.ThreadPoolExecutor(len(missing)) as askers:
        asked = askers.map(lambda part: remote_size(address(part), timeout=(5, 10)), missing)
    sizes = dict(zip(missing, asked, strict=True))
    needed = sum(
        (size or part.collection.bytes_each) - _arrived(data_dir / part.name)
        for part, size in sizes.items()
    )
    place = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    for part in missing:
        say_terms(part.collection)
    for part, size in sizes.items():
        about = f"{(size or part.collection.bytes_each) / 1e9:.2f} GB"
        print(f"To fetch: {address(part)} ({about if size else f'about {about}'})")
    print(f"Still to come {needed / 1e9:.1f} GB, to {data_dir} ({free / 1e9:.1f} GB free)")
    if needed > free:
        raise DatasetError(
            f"{data_dir}: {needed / 1e9:.1f} GB are to be fetched, {free / 1e9:.1f} GB are free. "
            "Make room, choose fewer --discs, or give another --data-dir"
        )


def _arrived(path):
    """Bytes of an interrupted download."""
    part = path.with_name(f"{path.name}.part")
    return part.stat().st_size if part.exists() else 0


@functools.cache  # once is enough
def say_terms(collection):
    """Prints the terms of use and what to write in every publication."""
    print(f"{collection.title}. {TERMS}:\n  {collection.acknowledgement}.")


def address(part):
    """The URL of a part."""
    return f"{os.environ.get('OASIS_MIRROR', MIRROR).rstrip('/')}/{part.name}"


def supplied(parts, data_dir):
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


def _supply(part, data_dir, cancelled):
    path = part.path or data_dir / part.name
    if part.path is None:
        download(
            address(part), path, check_archive,
            known_md5=part.collection.md5.get(part.number), cancelled=cancelled,
            remedy=f"If the server gives it only after a signed agreement, fetch {part.name} by "
            f"hand and put it into {data_dir}; or choose others with --discs",
        )  # fmt: skip
    part = dataclasses.replace(part, path=path)
    return part, {} if path.is_dir() else archive_record(path)


def archive_record(path):
    """Size and SHA-256 of an archive, from its lock record if it has not changed since.

    Raises:
        DownloadError: If it is another file than the one on record.
    """
    record = verify(path, remedy=f"Delete {path} to have it fetched again")
    return {name: record[name] for name in ("size", "sha256")}


def forget_record(path):
    """Deletes the lock record of an archive that was put there by hand and proved damaged, so that
    another may take its place."""
    lock = path.with_name(f"{path.name}.lock")
    if lock.exists() and json.loads(lock.read_text())["url"] is None:
        lock.unlink()


def check_archive(path):
    """Refuses a file that is no whole `.tar.gz`: decompresses it, up to the checksum at its end.

    Raises:
        ValueError: With the reason.
    """
    try:
        with igzip.open(path) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "replace")
            while stream.read(PIECE):
                pass
    # igzip has errors of its own beside OSError and EOFError, tarfile too.
    except Exception as error:
        raise ValueError(f"no whole .tar.gz ({type(error).__name__}: {error})") from error


def find_or_fetch_sheet(data_dir, collection):
    """Path of a collection's subject sheet; `None`, and a line on it, if there is none to be had.

    Sessions are of use without it, so that a server which does not give it stops nothing.
    """
    path = find_sheet(data_dir, collection)
    if path is None:
        path = data_dir / Path(collection.sheet_url).name
        url = collection.sheet_url
        if "OASIS_MIRROR" in os.environ:
            url = f"{os.environ['OASIS_MIRROR'].rstrip('/')}/{path.name}"
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


def check_sheet(path):
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
