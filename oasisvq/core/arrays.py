"""Writes arrays that need not fit into memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oasisvq.core.files import whole_file


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
