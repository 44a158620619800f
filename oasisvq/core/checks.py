"""Checks the arrays and numbers in files of unknown origin."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from oasisvq.core.errors import COPY_WHOLE, RunFolderError


def unpack(file: str | Path | IO[bytes], most: int) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, which is not trusted.

    Args:
        file: The path, or the open file.
        most: The bytes that they may have in all.

    Raises:
        ValueError: If they have more. NumPy and zipfile raise further errors for damaged files.
    """
    with np.load(file, allow_pickle=False) as arrays:
        size = sum(member.file_size for member in arrays.zip.infolist())
        if size > most:
            raise ValueError(f"{size} bytes of arrays. Expected {most} at most")
        return dict(arrays)


def check_array(
    name: str,
    array: np.ndarray,
    shape: Iterable[int | None],
    kinds: str,
    low: float = -math.inf,
    high: float = math.inf,
    unknown: bool = False,
) -> None:
    """Checks the shape, the type and the numbers of an array from a file.

    Args:
        name: Its name, for the message.
        array: The array.
        shape: The expected shape; `None` stands for any length above 0.
        kinds: The letters of the expected `dtype.kind`.
        low, high: The closed range of its numbers, which must be finite.
        unknown: Whether a number may be NaN.

    Raises:
        ValueError: If it is another array.
    """
    shape = tuple(shape)
    fits = len(shape) == array.ndim and all(
        found > 0 if wanted is None else found == wanted
        for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        raise ValueError(
            f"{name}: expected {shape} of kind {kinds}. Received: {array.shape} {array.dtype}"
        )
    numbers = array[~np.isnan(array)] if unknown else array
    if not (np.isfinite(numbers) & (numbers >= low) & (numbers <= high)).all():
        raise ValueError(f"{name}: expected finite numbers from {low:g} to {high:g}")


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """Returns numbers that a run's weights have led to, if all of them are finite.

    Raises:
        RunFolderError: If one is not, so that the weights cannot be those of a training.
    """
    if not np.isfinite(array).all():
        raise RunFolderError(
            f"the weights of the run lead to {what} beyond all bounds. {COPY_WHOLE}"
        )
    return array


def check_number(
    name: str,
    number: Any,
    kinds: tuple[type, ...] = (int, float),
    low: float = -sys.float_info.max,
    high: float = sys.float_info.max,
) -> None:
    """Checks the type and the closed range of a number from a JSON file.

    Raises:
        ValueError: If it is of another type, out of range or not finite.
    """
    if type(number) not in kinds or not low <= number <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}. Received: {number}")
