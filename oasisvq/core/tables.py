"""Writes and reads CSV files whose texts a spreadsheet does not run as formulas."""

import re
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.files import whole_file

# What a spreadsheet runs as a formula, and what `shielded` made of it; a number is none.
FORMULA = re.compile(r"(?![+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\Z)'*[=+\-@\t\r]")
SHIELDED = re.compile(r"'+[=+\-@\t\r]")


def shielded(value: Any) -> Any:
    """Returns a value, a text that is like a formula with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _bared(value: Any) -> Any:
    """Returns what `shielded` had as its argument."""
    return value[1:] if isinstance(value, str) and SHIELDED.match(value) else value


def write_table(path: Path, table: Any) -> None:
    """Writes a pandas table without its index as CSV, completely or not at all."""
    safe = _mapped(table, shielded)
    with whole_file(path) as partial:
        safe.to_csv(partial, index=False)


def read_table(path: Path, **options: Any) -> Any:
    """Reads a pandas table that `write_table` wrote; for the options see `pandas.read_csv`."""
    return _mapped(pandas.read_csv(path, index_col=False, **options), _bared)


def _mapped(table: Any, function: Any) -> Any:
    """Returns a table with a function applied to its texts and the names of its columns."""
    texts = {
        number: column.map(function)
        for number, (_, column) in enumerate(table.items())
        if not pandas.api.types.is_numeric_dtype(column)
    }
    columns = [texts.get(number, table.iloc[:, number]) for number in range(table.shape[1])]
    mapped = pandas.concat(columns, axis=1) if columns else table.copy()
    return mapped.set_axis([function(name) for name in table.columns], axis=1)
