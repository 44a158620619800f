"""Sheets with a column per visit."""

from pathlib import Path

import pandas
import pytest

from oasisvq.data.sheet_matches import match_sheet
from oasisvq.data.sheets import Sheet
from oasisvq.data.wide_sheets import visit_columns


def values(cells, *visits, column="age"):
    """Returns the values of the sessions of a person `a`, `None` where they are unknown."""
    table = pandas.DataFrame({"ID": ["a"], **{name: [text] for name, text in cells.items()}})
    match = match_sheet(Sheet(Path("a.csv"), "a.csv", table), [("a", visit) for visit in visits])
    found = match.table.get(column, pandas.Series(dtype=float))
    found = [found.get(("a", visit)) for visit in visits]
    return [None if pandas.isna(value) else value for value in found]


@pytest.mark.parametrize(
    ("names", "visits"),
    [
        (("age_baseline", "age_followup"), ("baseline", "followup")),
        (("age_bl", "age_fu"), ("bl", "FU")),
        (("age", "age at follow-up"), ("bl", "fu")),
        (("Age", "Age at last visit", "follow-up age"), ("ses-pre", "follow-up")),
        (("Age at visit 1", "Age at visit 2"), ("V1", "V2")),
        (("age_t1", "age_t2"), ("tp1", "tp2")),
        (("ses-1_age", "ses-2_age"), ("ses-1", "ses-2")),
        (("Age at first scan", "Age at second scan"), ("scan1", "scan2")),
        (("Age scan 1", "Age scan 2"), ("1", "2")),
        (("age_pre", "age_post"), ("pre", "post")),
        (("age", "age at 2-year follow-up"), ("M00", "M24")),
        (("age_m00", "age_m24"), ("baseline", "24months")),
        (("age_2010", "age_2016"), ("2010", "2016")),
        (("age_1", "age_2"), ("V1", "V2")),
        (("age_years_baseline", "age_followup_years"), ("baseline", "followup")),
        (("Age at baseline MRI", "Age at follow-up MRI"), ("bl", "fu")),
        (("AgeTime1", "AgeTime2"), ("T1", "T2")),
        (("age_y0", "age_y2"), ("year0", "year2")),
        (("age", "age_fu_24m"), ("baseline", "M24")),
        (("age_wave1", "age_wave2"), ("wave1", "wave2")),
        (("Age at interview v1", "MRI age v1", "Age at MRI v2"), ("V1", "V2")),
    ],
)
def test_columns_of_visits_go_to_their_visits(names, visits):
    ages = ["60", "65"]
    if len(names) == 3:
        ages = ["60", "70", "65"] if names[0] == "Age" else ["40", "60", "65"]
    assert values(dict(zip(names, ages, strict=True)), *visits) == [60, 65]


@pytest.mark.parametrize(
    ("names", "visits", "expected"),
    [
        (("age_baseline", "age_followup"), ("V1", "V2"), [None, None]),
        (("age_v1", "age_v2"), ("V1", "V3"), [60, None]),
        (("age_v1", "age_v2"), ("V0", "V1"), [None, None]),  # counted from 0
        (("age", "age_v3"), ("V1", "V2", "V3"), [60, None, 65]),
        (("age", "age at follow-up"), ("",), [None]),
        (("age", "age at follow-up"), ("fu",), [65]),
        (("age", "Age^2"), ("V1", "V2"), [60, 60]),
        (("age", "age_baseline"), ("V1",), [60]),
    ],
)
def test_other_visits_are_unknown(names, visits, expected):
    assert values(dict(zip(names, ["60", "65"], strict=True)), *visits) == expected


def test_other_columns_are_about_all_visits():
    cells = {"age_v1": "60", "age_v2": "65", "CDR": "0", "CDR_v2": "1", "sex": "F"}
    assert values(cells, "V1", "V2", "V3", column="cdr") == [0, 1, None]
    assert values(cells, "V1", "V2", "V3", column="sex") == ["F"] * 3


def test_a_sheet_of_visits_has_rows_for_them():
    table = {"ID": ["a", "a"], "visit": ["1", "2"], "age": ["60", "65"], "age_v2": ["65", "66"]}
    sheet = Sheet(Path("a.csv"), "a.csv", pandas.DataFrame(table))
    assert list(match_sheet(sheet, [("a", "V1"), ("a", "V2")]).table["age"]) == [60, 65]


def test_names_of_columns_tell_units_of_single_visits():
    assert values({"age_months_v1": "18", "age_months_v2": "30"}, "V1", "V2") == [1.5, 2.5]


def test_long_names_of_columns_take_no_time():
    assert visit_columns(["age " + "visit 1 " * 4000]) == []


def test_columns_about_no_visit_after_entry_are_left_alone():
    assert (
        visit_columns(["age", "age_bl", "Age at first scan", "Age^2", "CDR", "age at death"]) == []
    )
