"""Reads subject sheets, `.csv` or `.xlsx`, with the age, sex, CDR and more of each session."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.errors import DatasetError

SUFFIXES = (".csv", ".xlsx")
HEADER_WITHIN = 10  # rows; some copies have a title above
# Names of the column with the session or subject, best first: OASIS-1 has `ID`, OASIS-2 `MRI ID`.
# Copies are spelled differently, so only letters and digits are compared, in small letters.
WHO = ("mriid", "id", "sessionid", "subjectid", "subject")
RENAMED = {"mf": "sex", "gender": "sex", "mrdelay": "delay"}
KNOWN = ("age", "sex", "cdr")  # the columns that every table of slices has


def read_sheet(path: Path) -> pandas.DataFrame | None:
    """Reads a sheet.

    Returns:
        A table with the column `ID` and the others in small letters, with one row per ID; a blank
        is unknown. `None` if no column names sessions or subjects.

    Raises:
        DatasetError: If the file cannot be read.
    """
    try:
        rows = _rows(path)
    # pandas, and openpyxl beneath it, raise many kinds of exception on damaged files.
    except Exception as error:
        raise DatasetError(
            f"{path}: cannot be read as a sheet ({error}). Repair it, or take it out"
        ) from error
    top = next((n for n, row in enumerate(rows[:HEADER_WITHIN]) if _who(row)), None)
    if top is None:
        return None
    columns = [str(cell).strip() for cell in rows[top]]
    blank = [""] * len(columns)
    body = [[*row, *blank][: len(columns)] for row in rows[top + 1 :]]
    sheet = pandas.DataFrame(body, columns=columns)
    sheet = sheet.astype("string").replace(r"^\s*$", pandas.NA, regex=True)
    who = _who(sheet.columns)
    names = {c: RENAMED.get(_plain(c), c.lower()) for c in sheet}
    sheet = sheet.rename(columns=names | {who: "ID"})
    sheet = sheet.loc[:, ~sheet.columns.duplicated()].dropna(subset="ID")
    sheet["ID"] = sheet["ID"].str.strip()
    if "sex" in sheet:
        sheet["sex"] = sheet["sex"].str.strip().str.upper().str[:1]
    for column in set(sheet) - {"ID", "sex"}:
        numbers: Any = pandas.to_numeric(sheet[column], errors="coerce")
        if column in KNOWN or numbers.notna().sum() == sheet[column].notna().sum():
            sheet[column] = numbers
    return sheet.drop_duplicates("ID")


def _rows(path: Path) -> list[list[str]]:
    """Returns the cells of a sheet as text, one list per row."""
    if path.suffix.lower() == ".xlsx":
        table = pandas.read_excel(path, header=None, dtype=str)
        return table.astype(object).where(table.notna(), "").to_numpy().tolist()
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise ValueError("no text")
    separator = max(",;\t", key=text.count)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _who(columns: Iterable[str]) -> str | None:
    """Returns the column with the session or subject among some names; or `None`."""
    return next((c for name in WHO for c in columns if _plain(c) == name), None)


def read_sheets(paths: Iterable[Path]) -> pandas.DataFrame | None:
    """Reads several sheets as one table; returns `None` without a sheet.

    Raises:
        DatasetError: If a sheet cannot be read, or names no sessions or subjects.
    """
    sheets = []
    for path in paths:
        if (sheet := read_sheet(path)) is None:
            raise DatasetError(
                f"{path}: no column names the subjects. Expected one named ID or MRI ID in the "
                f"first {HEADER_WITHIN} rows; repair the sheet, or take it out"
            )
        sheets.append(sheet)
    return pandas.concat(sheets) if sheets else None


def join_sheet(table: Any, sheet: pandas.DataFrame | None) -> tuple[Any, list[str]]:
    """Adds the columns of a sheet to a table of slices, by session or by subject.

    Args:
        table: pandas table with one row per slice, its `subject` and its `session`.
        sheet: From `read_sheet`, or `None`.

    Returns:
        The table, always with age, sex and cdr, and the names of the sessions without a row in the
        sheet.
    """
    sessions = table["subject"] + ("_" + table["session"]).where(table["session"] != "", "")
    if sheet is None:
        return table.assign(**dict.fromkeys(KNOWN)), sorted(set(sessions))
    sheet = sheet.drop(columns=[column for column in sheet if column in table])
    ids = sessions if sessions.isin(sheet["ID"]).any() else table["subject"]
    missing = sorted(set(sessions[~ids.isin(sheet["ID"])]))
    table = table.assign(ID=ids).merge(sheet, on="ID", how="left").drop(columns="ID")
    return table.assign(**{c: None for c in KNOWN if c not in table}), missing
