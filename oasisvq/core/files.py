"""Files that are whole or not there, however their writing ends; and one process at a time."""

import contextlib
import hashlib
import io
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from oasisvq.core.errors import WriteError

if TYPE_CHECKING:
    import keras

PARTIAL = ".partial"


@contextlib.contextmanager
def whole_file(path: str | Path, owner: str = "") -> Iterator[Path]:
    """Gives the block a path beside `path`, with the same suffix, to write to.

    When the block ends well, what lies there is flushed to the disk and takes the name of `path`.
    When it does not, it is deleted, and the file of that name is as it was.

    Args:
        path: Where the file shall lie; its folder is made.
        owner: Text that keeps apart processes which write one path at the same time.

    Raises:
        WriteError: If the disk is full, or does not take the file for another reason.
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
    except OSError as error:
        _delete(partial)
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}). What lay there is as it was: "
            "make room on the disk, or see to its permissions, and run the same command again"
        ) from error
    except BaseException:
        _delete(partial)
        raise


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _flush_folder(folder: Path) -> None:
    """Makes the new name itself outlast a failing machine, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, content: str | dict[str, Any]) -> None:
    """Writes a text, or a dictionary as JSON, whole or not at all."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text)


def write_array(path: str | Path, shape: Iterable[int], blocks: Iterable[np.ndarray]) -> None:
    """Writes a uint8 array as `.npy`, whole or not at all, block by block.

    A memory-mapped file would kill the process when the disk is full.

    Args:
        path: The file to write.
        shape: The shape of the whole array.
        blocks: The uint8 arrays that it consists of, in order.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, np.uint8).data)


class _WeightsInMemory(io.BytesIO):
    """A buffer that Keras takes for a file of weights: it asks for the ending of the name."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: "keras.Model", path: str | Path) -> None:
    """Writes the weights of a Keras model, without its optimizer, whole or not at all."""
    # They go through memory: when a disk is full, HDF5 crashes the process at its end.
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
    """Deletes what writers that were killed have left in a folder and below it."""
    for partial in Path(folder).rglob(f"{PARTIAL}*"):
        if partial.is_file():
            partial.unlink()


@contextlib.contextmanager
def one_at_a_time(
    path: str | Path, activity: str, cancelled: threading.Event | None = None
) -> Iterator[None]:
    """Holds a lock file, and says once, on standard error, if another process has it.

    The operating system releases the lock when a process ends, however it ends.

    Args:
        path: The lock file, which stays.
        activity: What the holder of the lock does, as in `"downloads disc 1"`.
        cancelled: An event that ends the waiting.

    Raises:
        filelock.Timeout: If `cancelled` was set while waiting.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Waiting for another process that {activity}", file=sys.stderr)
        lock.acquire(cancel_check=cancelled.is_set if cancelled else None)
    try:
        yield
    finally:
        lock.release()
