"""Columns of subjects, visits and dates, and the sessions that they name."""

from pathlib import Path

import pandas
import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.data.sheet_matches import match_sheet
from oasisvq.data.sheets import Sheet


def match(columns, *sessions):
    """Returns what is found of some sessions, such as `a/V1`."""
    names = [tuple(name.split("/")) if "/" in name else (name, "") for name in sessions]
    cells = pandas.DataFrame(columns, dtype=str)
    return match_sheet(Sheet(Path("a.csv"), "a.csv", cells), names)


def rows(columns, *sessions):
    """Returns the number of the row of each session, or `None`."""
    found = match(columns, *sessions).found.rows
    names = [tuple(name.split("/")) if "/" in name else (name, "") for name in sessions]
    return [found[name][0] if name in found else None for name in names]


KEYS = """CCID PATNO NACCID BraTS21ID BraTS_2020_subject_ID ID_Subject ID_number pid MRN guid
subjectkey Code Nr Proband MR_session Session Pat.-Nr. whatever T1"""


@pytest.mark.parametrize("key", KEYS.split())
def test_any_column_of_the_names_is_a_key(key):
    cells = {key: ["P02", "P01"], "Age": ["70", "71"], "Site": ["P01", "P02"]}
    assert rows(cells, "P01", "P02") == [1, 0]


def test_the_key_that_joins_most_is_taken():
    names = {
        "SUB_ID": ["50003", "50004", "50952"],
        "FILE_ID": ["Pitt_0050003", "Pitt_0050004", "no_filename"],
    }
    sessions = "Pitt_0050003", "Pitt_0050004", "NYU_0050952"
    assert rows(names, *sessions) == [0, 1, None]
    assert rows({"SUB_ID": names["SUB_ID"]}, *sessions) == [0, 1, 2]


def test_ids_of_others_are_no_keys():
    twins = {"Co-Twin ID": ["b", "c", "a"], "Subject ID": ["a", "b", "x"]}
    assert rows(twins, "a", "b", "c") == [0, 1, None]
    assert rows({"Rater ID": ["a", "b"], "Code": ["b", "a"]}, "a", "b") == [1, 0]
    with pytest.raises(DatasetError, match=r"a\.csv: no column names the subjects"):
        match({"Twin ID": ["a", "b"], "Age": ["1", "2"]}, "a", "b")


def test_row_numbers_are_no_subjects():
    assert rows({"No": ["1", "2"], "Age": ["70", "71"]}, "P01", "P02") == [None, None]


def test_separators_and_leading_zeros_do_not_matter_if_that_is_clear():
    names = {"ID": ["AD-1", "AD-2", "AD-10", "HC1"]}
    assert rows(names, "AD_01", "AD_02", "AD_10", "HC_001") == [0, 1, 2, 3]
    assert rows({"ID": ["AD-1", "AD-01"]}, "AD_001", "b") == [None, None]
    assert rows({"ID": ["AD-1"]}, "AD_01", "AD_001") == [None, None]
    assert rows({"ID": ["AD-1-1"]}, "AD_11") == [0]  # as before


@pytest.mark.parametrize(
    "column", ["Acq Date", "Scan_Date", "Session", "EXAMDATE", "acq_time", "Date"]
)
@pytest.mark.parametrize(
    "dates",
    [
        ["5/3/2019", "6/30/2020"],
        ["3/5/2019", "30/6/2020"],
        ["5/3/2019", "6/10/2020"],  # the sessions have both days, month first
        ["03.05.2019", "30.06.2020"],
        ["20190503", "20200630"],
        ["2019-05-03", "2020-06-30 10:00"],
    ],
)
def test_rows_are_joined_by_date(column, dates):
    second = "2020-06-10_08_16_44.0" if "6/10/2020" in dates else "20200630"
    cells = {"Subject": ["a", "a"], "Visit": ["sc", "m12"], column: dates, "Age": ["70", "71"]}
    assert rows(cells, "a/20190503", f"a/{second}") == [0, 1]


def test_unclear_orders_of_day_and_month_are_not_joined():
    cells = {"Subject": ["a", "a"], "Scan Date": ["5/3/2019", "3/5/2019"], "Age": ["70", "71"]}
    found = match(cells, "a/20190503", "a/20190305")
    assert (found.found.rows, found.undated) == ({}, ["Scan Date"])


def test_dates_of_other_things_do_not_part_rows():
    cells = {"Subject": ["a", "b"], "Birth date": ["1950-01-01", "1951-01-01"], "Age": ["70", "71"]}
    assert rows(cells, "a/20190503", "b/20190503") == [0, 1]
    assert rows(cells | {"Downloaded": ["2024-01-01"] * 2}, "a/20190503", "b/20190503") == [0, 1]


def test_visits_counted_from_0_are_not_those_counted_from_1():
    cells = {"Subject": ["a", "a"], "Visit": ["0", "1"], "Age": ["70", "71"]}
    for sessions in (["a/V1", "a/V2"], ["a/V1"]):
        found = match(cells, *sessions).found
        assert (found.rows, found.shifted) == ({}, True)
    assert rows(cells, "a/V0", "a/V1") == [0, 1]
    assert match(cells | {"Visit": ["1", "2"]}, "a/V0", "a/V1").found.shifted


def test_months_are_visits():
    cells = {"Subject": ["a", "a"], "Month": ["0", "12"], "Age": ["70", "71"]}
    assert rows(cells, "a/ses-bl", "a/ses-M12") == [0, 1]
