"""Subject sheets: age, sex, CDR and more of each session, from `.csv` or `.xlsx`."""

import re

import pandas

from errors import DatasetError

SUFFIXES = (".csv", ".xlsx")
# Names of the column that says who, best first: OASIS-1 has `ID`, OASIS-2 `MRI ID`, and spellings
# vary between copies. Compared without case, blanks and marks.
WHO = ("mriid", "id", "sessionid", "subjectid", "subject")
RENAMED = {"mf": "sex", "gender": "sex", "mrdelay": "delay"}
KNOWN = ("age", "sex", "cdr")  # columns that every table of slices has


def read_sheet(path):
    """Reads a sheet.

    Returns:
        A table with the column `ID` and the others in small letters, a row for
        each ID; a blank stays unknown. `None` if no column says who.

    Raises:
        DatasetError: If the file cannot be read.
    """
    try:
        excel = path.suffix.lower() == ".xlsx"
        sheet = (pandas.read_excel if excel else pandas.read_csv)(path, dtype=str)
    # pandas, and openpyxl beneath it, raise many kinds of exception on damaged files.
    except Exception as error:
        raise DatasetError(
            f"{path}: cannot be read as a sheet ({error}). Mend it, or take it out"
        ) from error
    plain = {column: re.sub(r"[^a-z0-9]", "", str(column).lower()) for column in sheet}
    who = next((c for name in WHO for c in sheet if plain[c] == name), None)
    if who is None:
        return None
    names = {c: RENAMED.get(plain[c], str(c).strip().lower()) for c in sheet}
    sheet = sheet.rename(columns=names | {who: "ID"})
    sheet = sheet.loc[:, ~sheet.columns.duplicated()].dropna(subset="ID")
    sheet["ID"] = sheet["ID"].str.strip()
    if "sex" in sheet:
        sheet["sex"] = sheet["sex"].str.strip().str.upper().str[:1]
    for column in set(sheet) - {"ID", "sex"}:
        numbers = pandas.to_numeric(sheet[column], errors="coerce")
        if column in KNOWN or numbers.notna().sum() == sheet[column].notna().sum():
            sheet[column] = numbers
    return sheet.drop_duplicates("ID")


def sheet_in_folder(folder):
    """The first sheet that says who, of those that lie in a folder; or `None`."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            sheet = read_sheet(path)
            if sheet is not None:
                return sheet
    return None


def join_sheet(table, sheet):
    """Adds a sheet's columns to the slices of each session, or of each subject if it names those.

    Args:
        table: A row a slice, with `subject` and `session`.
        sheet: From `read_sheet`, or `None`.

    Returns:
        The table, with age, sex and cdr in any case, and the names of the
        sessions that have no row in the sheet.
    """
    sessions = table["subject"] + ("_" + table["session"]).where(table["session"] != "", "")
    if sheet is None:
        return table.assign(**dict.fromkeys(KNOWN)), sorted(set(sessions))
    sheet = sheet.drop(columns=[column for column in sheet if column in table])
    ids = sessions if sessions.isin(sheet["ID"]).any() else table["subject"]
    missing = sorted(set(sessions[~ids.isin(sheet["ID"])]))
    table = table.assign(ID=ids).merge(sheet, on="ID", how="left").drop(columns="ID")
    return table.assign(**{c: None for c in KNOWN if c not in table}), missing
