"""Writes files that are complete or absent, and locks them against other processes."""

import contextlib
import hashlib
import io
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from oasisvq.core.errors import WriteError

if TYPE_CHECKING:
    import keras

PARTIAL = ".partial"
LARGEST_JSON = 2**28  # bytes


@contextlib.contextmanager
def whole_file(path: str | Path, owner: str = "") -> Iterator[Path]:
    """Gives the block a path beside `path`, with the same suffix, to write to.

    If the block succeeds, that file is flushed to the disk and renamed to `path`. If it fails, the
    file is deleted, and an earlier file at `path` stays as it was.

    Args:
        path: The path of the file; its folder is made.
        owner: Text that distinguishes processes that write to the same path at the same time.

    Raises:
        WriteError: If the disk is full, or the file cannot be written for another reason.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL}{owner}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if not isinstance(error, OSError):
            raise
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}). An earlier file there is "
            "unchanged: make room on the disk, or change its permissions, and run the same command "
            "again"
        ) from error


def _flush_folder(folder: Path) -> None:
    """Makes the new name safe from a failing machine, if the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, content: str | dict[str, Any]) -> None:
    """Writes a text, or a dictionary as JSON, completely or not at all."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: If it is no regular file, is too large, or does not hold JSON.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_JSON:
        raise ValueError(f"not a regular file of at most {LARGEST_JSON:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


class _WeightsInMemory(io.BytesIO):
    """A buffer that Keras takes for a file of weights, because of the suffix of its name."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: "keras.Model", path: str | Path) -> None:
    """Writes the weights of a Keras model without its optimizer, completely or not at all."""
    # They are written to memory first: on a full disk, HDF5 crashes the process at its end.
    weights, optimizer = _WeightsInMemory(), getattr(model, "optimizer", None)
    model.optimizer = None  # or Keras would save it too
    try:
        model.save_weights(weights)
    finally:
        model.optimizer = optimizer
    with weights.getbuffer() as content, whole_file(path) as partial:
        partial.write_bytes(content)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: str | Path) -> None:
    """Deletes the partial files of killed processes in a folder and below it."""
    for partial in Path(folder).rglob(f"{PARTIAL}*"):
        if partial.is_file():
            partial.unlink()


@contextlib.contextmanager
def one_at_a_time(
    path: str | Path, activity: str, cancelled: threading.Event | None = None
) -> Iterator[None]:
    """Holds a lock file, after a line on standard error if another process holds it.

    The operating system releases the lock when a process ends for any reason.

    Args:
        path: The lock file, which is not deleted.
        activity: What the holder of the lock does, such as `"downloads disc 1"`.
        cancelled: An event that ends the waiting.

    Raises:
        filelock.Timeout: If `cancelled` was set while waiting.
        WriteError: If the lock file cannot be made.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Waiting for another process that {activity}", file=sys.stderr)
        lock.acquire(cancel_check=cancelled.is_set if cancelled else None)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be locked ({error.strerror or error}). Make room on the disk, or "
            "change the permissions of the folder, and run the same command again"
        ) from error
    try:
        yield
    finally:
        lock.release()
