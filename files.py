"""Files that are whole or not there, however their writing ends."""

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path

from errors import WriteError

__all__ = ["PARTIAL", "save_weights", "sha256", "sweep", "whole_file", "write_array", "write_text"]

PARTIAL = ".partial"


@contextlib.contextmanager
def whole_file(path, owner=""):
    """Gives the block a path beside `path`, with its suffix, to write to. When the block ends
    well, what lies there is flushed to the disk and takes the name of `path`; when it does not,
    it is deleted, and the file of that name is as it was.

    Args:
        path: Where the file shall lie; its folder is made.
        owner: Text that keeps apart processes which write one path at the same time.

    Raises:
        WriteError: If the disk is full, or will not take the file for another reason.
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


def _delete(path):
    with contextlib.suppress(OSError):
        path.unlink()


def _flush_folder(folder):
    """Makes the new name itself outlast a failing machine, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path, text):
    """Writes text, or a dictionary as JSON, whole or not at all."""
    if isinstance(text, dict):
        text = json.dumps(text, indent=2) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text)


class _WeightsInMemory(io.BytesIO):
    """What Keras takes for a file of weights: it asks for the ending of the name."""

    def __str__(self):
        return "memory.weights.h5"


def save_weights(model, path):
    """Writes a Keras model's weights, whole or not at all."""
    # By way of memory: when a disk is full, HDF5 crashes the process at its end.
    weights = _WeightsInMemory()
    model.save_weights(weights)
    with whole_file(path) as partial:
        partial.write_bytes(weights.getbuffer())


def write_array(path, shape, blocks):
    """Writes a uint8 array of `shape` as `.npy`, whole or not at all, block by block.

    A memory-mapped file would kill the process when the disk is full.

    Args:
        shape: Of the whole array.
        blocks: Iterable of uint8 arrays that make it up, in order.
    """
    import numpy as np  # not at the top: `--help` would wait for it

    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, np.uint8).data)


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder):
    """Deletes what writers that were killed have left in a folder and below it."""
    for litter in Path(folder).rglob(f"{PARTIAL}*"):
        if litter.is_file():
            litter.unlink()
