"""Writes arrays that need not fit into memory."""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oasisvq.core.errors import WriteError
from oasisvq.core.files import whole_file

BLOCK = 2**20  # bytes written at a time


def write_array(path: str | Path, shape: Iterable[int], blocks: Iterable[np.ndarray]) -> None:
    """Writes a uint8 array as `.npy`, completely or not at all, block by block.

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


def array_on_disk(shape: Iterable[int]) -> np.memmap:
    """Returns a uint8 array of zeros in a temporary file, which is deleted with the array.

    Raises:
        WriteError: If the disk of the temporary folder has no room for it.
    """
    shape = tuple(map(int, shape))
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file, math.prod(shape))
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise WriteError(
            f"{tempfile.tempdir or 'temporary folder'}: cannot hold a temporary file of "
            f"{math.prod(shape):,} bytes ({error.strerror or error}). Make room there, or name "
            "another folder in the environment variable TMPDIR"
        ) from error


def _reserve(file: BinaryIO, size: int) -> None:
    """Gives a file its size and its room on the disk.

    A mapped page for which the disk has no room would kill the process (SIGBUS).
    """
    with contextlib.suppress(AttributeError, OSError):  # not every system and disk can do it
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, BLOCK):
        file.write(bytes(min(BLOCK, size - start)))
    file.flush()
