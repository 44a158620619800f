"""Reads the tables in `.csv`, `.tsv` and `.xlsx` files, whichever program wrote them."""

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas

from oasisvq.core.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".xlsx")
OTHER_SUFFIXES = (".xls", ".ods", ".json")  # of tables that must be saved in another format
SEPARATORS = ",;\t|"
HEADER_WITHIN = 10  # rows; some copies have a title above


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        path: Path of the file.
        name: Name of the file, and of the worksheet if the file has several tables.
        cells: pandas table of strings; a blank is `""`. The columns have the names in the file.
        long_rows: Number of rows that were left out, as they have more cells than the header.
    """

    path: Path
    name: str
    cells: pandas.DataFrame
    long_rows: int = 0


def find_sheets(folder: Path) -> list[Path]:
    """Returns the files of a folder that are, or look like, tables or code books of tables."""
    # What a Mac and Excel leave beside files is none.
    files = [path for path in folder.iterdir() if not path.name.startswith((".", "~$"))]
    files += folder.glob("sub-*/sub-*_sessions.tsv")  # of BIDS, for each subject
    tables = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]
    if (folder / "dataset_description.json").exists():  # in BIDS a .json file explains another file
        others = [path for path in others if path.suffix != ".json" or is_code_book(path, tables)]
    return sorted(path for path in tables + others if path.is_file())


def is_code_book(path: Path, tables: Iterable[Path]) -> bool:
    """Returns whether a file explains columns, as `participants.json` and `sessions.json` do."""
    return path.suffix.lower() == ".json" and any(
        f"_{table.stem}".endswith(f"_{path.stem}") and table.suffix.lower() in SUFFIXES
        for table in tables
    )


def read_sheets(path: Path, is_key: Callable[[str], bool]) -> list[Sheet]:
    """Reads the tables of a file: one, or those of the worksheets that name subjects.

    Args:
        path: Path of the file.
        is_key: Function of the name of a column, true if the column names subjects or sessions.
            The first row with such a name is the header.

    Raises:
        DatasetError: If the file cannot be read, or no column names subjects.
    """
    try:
        grids = _read_grids(path)
    # pandas, and openpyxl beneath it, raise many kinds of exception on damaged files.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DatasetError(
            f"{path}: cannot be read as a sheet ({reason}). Repair it, or take it out"
        ) from error
    tables = {name: table for name, rows in grids.items() if (table := _from_header(rows, is_key))}
    if not tables:
        raise DatasetError(
            f"{path}: no column names the subjects. Expected one named ID or MRI ID in the first "
            f"{HEADER_WITHIN} rows; repair the sheet, or take it out"
        )
    if path.suffix.lower() == ".xlsx":
        names = {
            name: path.name if len(tables) == 1 else f"{path.name} ({name})" for name in tables
        }
        return [Sheet(path, names[name], *_to_table(rows)) for name, rows in tables.items()]
    separator = max(tables, key=lambda name: len(tables[name][0]))  # it gives the widest header
    return [Sheet(path, path.name, *_to_table(tables[separator], separator))]


def _read_grids(path: Path) -> dict[str, list[list[str]]]:
    """Returns rows of cells, by the name of the worksheet or by each possible separator."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{suffix} is not supported; save it as .xlsx or .csv")
    if suffix == ".xlsx":
        sheets = pandas.read_excel(
            path, sheet_name=None, header=None, dtype=str, na_filter=False, engine="openpyxl"
        )
        return {str(name): _strip(sheet.fillna("").to_numpy()) for name, sheet in sheets.items()}
    text = _decode(path.read_bytes())
    if "\0" in text:
        raise ValueError("it is not text")
    stated = re.match(r"\W?sep=(.)", text, re.I)  # Excel's first line
    return {
        separator: _strip(
            csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        )
        for separator in (stated[1] if stated else SEPARATORS)
    }


def _decode(data: bytes) -> str:
    """Returns the text in UTF-8, in UTF-16 with or without a byte order mark, or in Latin-1."""
    even, odd = data[:4096:2], data[1:4096:2]
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif 0 not in even and odd.count(0) > len(odd) / 2:  # in Western text every second byte is 0
        encoding = "utf-16-le"
    elif 0 not in odd and even.count(0) > len(even) / 2:
        encoding = "utf-16-be"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _strip(rows: Iterable[Iterable[str]]) -> list[list[str]]:
    """Returns rows without blanks around their cells, and without blank cells at their ends."""
    stripped = []
    for row in rows:
        cells = [cell.strip().removesuffix(" 00:00:00") for cell in row]  # dates have no time
        while cells and not cells[-1]:
            cells.pop()
        stripped.append(cells)
    return stripped


def _from_header(rows: list[list[str]], is_key: Callable[[str], bool]) -> list[list[str]]:
    """Returns the rows from the header on; `[]` without one."""
    tops = [n for n, row in enumerate(rows[:HEADER_WITHIN]) if any(map(is_key, row))]
    # A single cell may be a title.
    return rows[max(tops, key=lambda n: len(set(rows[n])) > 1) :] if tops else []


def _to_table(rows: list[list[str]], separator: str = "") -> tuple[pandas.DataFrame, int]:
    """Returns a table of the rows below the first, and the number of rows that are too long."""
    names, body = rows[0], [row for row in rows[1:] if row]
    width = max(map(len, body), default=len(names))
    if separator and len(names) > width:  # an unquoted separator, as in `sex (1=m, 2=f)`
        outside = rf"{re.escape(separator)}(?![^(]*\))"
        names = min(names, re.split(outside, separator.join(names)), key=len)
    elif {len(row) for row in body} == {len(names) + 1} and all(
        row[0] == str(number) and not row[1].isdecimal() for number, row in enumerate(body, 1)
    ):
        names = ["", *names]  # R numbers the rows, and gives the numbers no name
    fitting = [row + [""] * (len(names) - len(row)) for row in body if len(row) <= len(names)]
    table = pandas.DataFrame(fitting, columns=names, dtype=str)
    table = table.loc[:, (table.columns != "") & ~table.columns.duplicated()]
    # A comma before three digits may separate thousands if it does not separate cells.
    decimals = r"\d{1,2}|\d{4,}" if separator == "," else r"\d+"
    commas = rf"^([+-]?\d+),({decimals})(\s*[A-Za-z]*)$"
    return table.replace(commas, r"\1.\2\3", regex=True), len(body) - len(fitting)
