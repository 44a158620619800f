"""Reads the tables in `.csv`, `.tsv` and `.xlsx` files, whichever program wrote them."""

import csv
import dataclasses
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import openpyxl
import pandas

from oasisvq.core.errors import DatasetError
from oasisvq.data.splits import RECORD

SUFFIXES = (".csv", ".tsv", ".xlsx")
OTHER_SUFFIXES = (".xls", ".ods", ".json")  # of tables that must be saved in another format
SEPARATORS = ",;\t|"
LISTING = ("path", "taken", "reason")  # the first columns of what `--list --output` writes
HEADER_WITHIN = 10  # rows; some copies have a title above
# A larger sheet is refused while it is read, before it fills the memory.
LARGEST_FILE = 2**25  # bytes
LARGEST_UNPACKED = 2**26  # bytes of an .xlsx file
MOST_TAGS = 2**22  # in the XML of an .xlsx file: cells have up to four, of up to 300 bytes each
MOST_OTHER_TAGS = 2**18  # in its parts without cells, which become larger objects
MOST_COLUMNS = 2**12
MOST_CELLS = 2**21  # with the blank ones that a table of these rows and columns has
LARGEST_CELL = 2**15  # characters; Excel's are no longer


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
    others = [path for path in others if path.name != RECORD]  # we write it, if this is --data-dir
    if (folder / "dataset_description.json").exists():  # in BIDS a .json file explains another file
        others = [path for path in others if path.suffix != ".json" or is_code_book(path, tables)]
    return sorted(path for path in tables + others if path.is_file() and not is_listing(path))


def is_listing(path: Path) -> bool:
    """Returns whether a file is one that `--list --output` wrote, with whatever separator."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    with path.open("rb") as file:
        return tuple(re.findall(r"\w+", _decode(file.read(40)))[: len(LISTING)]) == LISTING


def is_code_book(path: Path, tables: Iterable[Path]) -> bool:
    """Returns whether a file explains columns, as `participants.json` and `sessions.json` do."""
    return path.suffix.lower() == ".json" and any(
        f"_{table.stem}".endswith(f"_{path.stem}") and table.suffix.lower() in SUFFIXES
        for table in tables
    )


def read_sheets(path: Path, is_key: Callable[[str], bool], suffix: str = "") -> list[Sheet]:
    """Reads the tables of a file: one, or those of the worksheets that name subjects.

    Args:
        path: Path of the file.
        is_key: Function of the name of a column, true if the column names subjects or sessions.
            The first row with such a name is the header.
        suffix: The suffix by which it is read, if the path has another one.

    Raises:
        DatasetError: If the file cannot be read or is too large, or no column names subjects.
    """
    suffix = (suffix or path.suffix).lower()
    tables = {}
    try:
        for name, rows in _read_grids(path, suffix, is_key).items():
            if table := _from_header(rows, is_key):
                tables[name] = _to_table(table, name if suffix != ".xlsx" else "")
    # openpyxl and the parser beneath it raise many kinds of exception on damaged files.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DatasetError(
            f"{path}: cannot be read as a sheet ({reason}). Repair it, or take it out"
        ) from error
    if not tables:
        raise DatasetError(
            f"{path}: no column names the subjects. Expected one named ID or MRI ID in the first "
            f"{HEADER_WITHIN} rows; repair the sheet, or take it out"
        )
    several = len(tables) > 1
    return [
        Sheet(path, f"{path.name} ({name})" if several else path.name, *table)
        for name, table in tables.items()
    ]


def _read_grids(
    path: Path, suffix: str, is_key: Callable[[str], bool]
) -> dict[str, list[list[str]]]:
    """Returns rows of cells, by the name of the worksheet or by the separator."""
    if suffix not in SUFFIXES:
        raise ValueError(f"{suffix} is not supported; save it as .xlsx or .csv")
    if not path.is_file():  # a pipe would never end
        raise ValueError("it is not a regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    if suffix == ".xlsx":
        return _read_worksheets(path)
    text = _decode(path.read_bytes())
    if "\0" in text:
        raise ValueError("it is not text")
    stated = re.match(r"\W?sep=(.)", text, re.I)  # Excel's first line
    separator = stated[1] if stated else _separator(text, is_key)
    return {separator: _rows(text, separator)} if separator else {}


def _rows(text: str, separator: str) -> list[list[str]]:
    """Returns the rows of a text, where a single quotation mark hides no other rows.

    Raises:
        ValueError: If the table is too large, or if quotation marks may hide rows.
    """
    rows = _strip(_split(text, separator))
    if not any(re.search(r"[\r\n]", cell) for row in rows for cell in row):
        return rows
    try:
        for _ in _split(text, separator, strict=True):
            pass
    except csv.Error as error:
        counts = [line.count(separator) for line in text.splitlines() if line.strip()]
        if len(set(counts[counts.index(max(counts)) :])) > 1:
            raise ValueError("a quotation mark is not closed") from error
        plain = _strip(_split(text, separator, quoting=csv.QUOTE_NONE))
        return [[cell.strip('"') for cell in row] for row in plain]
    return rows


def _split(text: str, separator: str, **options: Any) -> Iterator[list[str]]:
    """Yields the rows of a text."""
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, **options)


def _separator(text: str, is_key: Callable[[str], bool]) -> str:
    """Returns the separator that gives the widest header; `""` if none gives one."""
    widths = {}
    for separator in SEPARATORS:
        rows = _strip(itertools.islice(_split(text, separator), HEADER_WITHIN))
        if table := _from_header(rows, is_key):
            widths[separator] = len(table[0])
    return max(widths, key=lambda separator: widths[separator], default="")


def _read_worksheets(path: Path) -> dict[str, list[list[str]]]:
    """Returns the rows of cells of each worksheet of an `.xlsx` file."""
    has_formulas = _look_at_parts(path)
    values = _read_cells(path, data_only=True)
    if not has_formulas:
        return values
    # A formula without a saved value stays a formula, so that it is no blank.
    written = _read_cells(path, data_only=False)
    return {
        name: [_with_formulas(*pair) for pair in zip_longest(rows, written[name], fillvalue=[])]
        for name, rows in values.items()
    }


def _with_formulas(values: list[str], written: list[str]) -> list[str]:
    """Returns a row of values, and formulas in the place of blank ones."""
    pairs = zip_longest(values, written, fillvalue="")
    return [value or (text if text.startswith("=") else "") for value, text in pairs]


def _read_cells(path: Path, data_only: bool) -> dict[str, list[list[str]]]:
    """Returns the rows of texts of each worksheet, with values or with formulas."""
    with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
        # Read row by row, or a single far cell would fill the memory with blank ones.
        book = openpyxl.load_workbook(file, read_only=True, data_only=data_only, keep_links=False)
        try:
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # the file only claims them
            grids, room = {}, MOST_CELLS
            for sheet in book.worksheets:
                rows = grids[sheet.title] = _strip(map(_texts, sheet.iter_rows()), room)
                room -= len(rows)
            return grids
        finally:
            book.close()


def _look_at_parts(path: Path) -> bool:
    """Returns whether an `.xlsx` file has formulas.

    Raises:
        ValueError: If its parts would fill the memory.
    """
    with zipfile.ZipFile(path) as members:
        if sum(member.file_size for member in members.infolist()) > LARGEST_UNPACKED:
            raise ValueError(f"it unpacks to more than {LARGEST_UNPACKED:,} bytes")
        tags = {True: 0, False: 0}  # in parts with cells, and in others
        formulas = False
        for name in members.namelist():
            part = members.read(name)
            tags[name.startswith(("xl/worksheets/", "xl/sharedStrings"))] += part.count(b"<")
            formulas |= "worksheets/" in name and bool(re.search(rb"<(?:\w+:)?f[ />]", part))
    if tags[True] > MOST_TAGS or tags[False] > MOST_OTHER_TAGS:
        raise ValueError(
            f"its parts have more than {MOST_TAGS:,} tags, or {MOST_OTHER_TAGS:,} without cells"
        )
    return formulas


def _texts(row: Iterable[Any]) -> list[str]:
    """Returns the cells of a row of a worksheet as texts; blanks and errors are `""`."""
    return [
        "" if cell.value is None or cell.data_type == "e" else _text(cell.value) for cell in row
    ]


def _text(value: Any) -> str:
    """Returns a value as text, a whole number without decimals."""
    value = getattr(value, "text", value)  # of a formula over several cells
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


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


def _strip(rows: Iterable[list[str]], most: int = MOST_CELLS) -> list[list[str]]:
    """Returns rows without blanks around their cells, and without blank cells at their ends.

    Raises:
        ValueError: If a table of them has more than `most` cells, or is otherwise too large.
    """
    stripped, visited, filled, widest = [], 0, 0, 1
    for row in rows:
        visited += len(row) + 1
        cells = [cell.strip().removesuffix(" 00:00:00") for cell in row]  # dates have no time
        while cells and not cells[-1]:
            cells.pop()
        stripped.append(cells)
        filled, widest = filled + bool(cells), max(widest, len(cells))
        if widest > MOST_COLUMNS or any(len(cell) > LARGEST_CELL for cell in cells):
            raise ValueError(
                f"it has more than {MOST_COLUMNS:,} columns, or {LARGEST_CELL:,} characters in a "
                "cell"
            )
        if visited > 8 * MOST_CELLS or filled * widest > most:
            raise ValueError(f"it has more than {MOST_CELLS:,} cells, blank ones included")
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
        outside = rf"{re.escape(separator)}(?![^(]{{0,999}}\))"
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
