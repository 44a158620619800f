"""Checks and describes the conditions of a slice: position, and the subject's age, sex and CDR."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from oasisvq.core.errors import HyperparameterError

CONDITIONS = ("position", "age", "sex", "cdr")  # the columns of an array of conditions
SEXES = {"F": 0.0, "M": 1.0}
LETTERS = {number: letter for letter, number in SEXES.items()}


def choose_conditions(
    conditions: np.ndarray, chosen: dict[str, Any], trained: np.ndarray, folder: Path
) -> np.ndarray:
    """Returns conditions of slices, with the chosen values in place of their own.

    If age, sex or CDR is chosen, those that are not chosen become unknown, because they belong to
    other people.

    Args:
        conditions: float32 `(n, 4)`; NaN is unknown.
        chosen: The chosen values by their names, a sex as its letter; `None` if not chosen.
        trained: Conditions of the slices that a run was trained on, float32 `(m, 4)`.
        folder: The run folder, for messages.

    Raises:
        HyperparameterError: If those slices lack a chosen condition, or it is out of their range.
    """
    conditions = conditions.copy()
    if any(chosen[name] is not None for name in CONDITIONS[1:]):
        conditions[:, 1:] = np.nan
    for number, name in enumerate(CONDITIONS):
        if chosen[name] is None:
            continue
        flag = "--slice-position" if name == "position" else f"--{name}"
        value, known = SEXES.get(chosen[name], chosen[name]), np.unique(trained[:, number])
        known = known[~np.isnan(known)]
        if not len(known):
            raise HyperparameterError(
                f"{flag}: {folder} was trained on slices of unknown {name}. Leave out {flag}"
            )
        low, high = known[0] - 1e-3, known[-1] + 1e-3  # bounds are accepted as they are printed
        allowed, fits = f"from {known[0]:g} to {known[-1]:g}", low <= value <= high
        if name in ("sex", "cdr"):
            values = [LETTERS[x] if name == "sex" else f"{x:g}" for x in known.tolist()]
            allowed, fits = f"one of {', '.join(values)}", np.abs(known - value).min() < 1e-3
        if not fits:
            raise HyperparameterError(
                f"{flag} must be {allowed}, as in the slices that {folder} was trained on. "
                f"Received: {chosen[name]}"
            )
        conditions[:, number] = value
    return conditions


def spread_conditions(trained: np.ndarray, ages: int, positions: int) -> np.ndarray:
    """Returns conditions `(ages, positions, 4)` that span those of the training slices `(n, 4)`.

    Values that round to the same number are taken once. If all training slices lack the age or the
    position, it is unknown here too.
    """

    def spread(column: np.ndarray, count: int) -> np.ndarray:
        known = column[~np.isnan(column)] if not np.isnan(column).all() else np.array([np.nan])
        return np.unique(np.quantile(known, np.linspace(0.05, 0.95, count)).round())

    age, position = spread(trained[:, 1], ages), spread(trained[:, 0], positions)
    conditions = np.full((len(age), len(position), len(CONDITIONS)), np.nan, np.float32)
    conditions[..., 0], conditions[..., 1] = position, age[:, None]
    return conditions


def describe_conditions(conditions: np.ndarray) -> list[dict[str, Any]]:
    """Returns a dictionary for each row of conditions `(n, 4)`, without the unknown ones."""
    return [
        {
            name: LETTERS[value] if name == "sex" else value
            for name, value in zip(CONDITIONS, row, strict=True)
            if not math.isnan(value)
        }
        for row in conditions.tolist()
    ]
