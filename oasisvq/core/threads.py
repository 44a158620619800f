"""Shares work between threads, and limits how many NumPy takes."""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

# Looking for the libraries takes as long as scoring some slices, so it is done once.
_libraries = functools.cache(ThreadpoolController)


def one_blas_thread() -> AbstractContextManager:
    """Returns a context in which NumPy's products take one thread: small ones are faster then."""
    return _libraries().limit(limits=1, user_api="blas")


def in_blocks(function: Callable[..., Any], *arrays: np.ndarray, size: int) -> list[Any]:
    """Returns what a function gives for each block of rows, in order; threads share the blocks.

    Args:
        function: Takes a block of each array.
        arrays: Arrays of n rows each.
        size: Rows of a block; the last may have fewer.
    """
    parts = [slice(start, start + size) for start in range(0, len(arrays[0]), size)]
    # With threads of BLAS as well there would be too many.
    with one_blas_thread(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda part: function(*(array[part] for array in arrays)), parts))
