"""What the columns of subject sheets say."""

import json
from pathlib import Path

import pandas
import pytest

from oasisvq.data.sheet_columns import date_columns, interpret, unnamed_keys
from oasisvq.data.sheets import Sheet


def values_of(column, name, texts, folder=Path()):
    """Returns what a column says: values, with `None` for unknown ones, and unclear texts."""
    columns = interpret(
        Sheet(folder / "a.csv", "a.csv", pandas.DataFrame({"ID": "x", name: texts}))
    )
    if column not in columns.values:
        return None, {}
    values = [None if pandas.isna(value) else value for value in columns.values[column]]
    return values, columns.unclear[column]


@pytest.mark.parametrize(
    "name",
    [
        "age_bl",
        "interview_age",
        "Age at time of scan",
        "Age at examination",
        "Patient's Age",
        "Current age",
        "Chronological age",
        "Age_at_recruitment",
        "Alter",
    ],
)
def test_columns_of_ages_have_many_names(name):
    assert values_of("age", name, ["70"]) == ([70], {})


@pytest.mark.parametrize(
    "name", ["Mother's age", "Age of onset", "Age at diagnosis", "Brain age", "Age group", "Age2"]
)
def test_other_ages_are_not_the_subjects(name):
    assert values_of("age", name, ["70"]) == (None, {})


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("74y6m", 74.5),
        ("74 years 6 months", 74.5),
        ("74 Jahre", 74),
        ("74 años", 74),
        ("18 mo", 1.5),
    ],
)
def test_ages_have_units_in_words(text, age):
    assert values_of("age", "Age", [text])[0] == [age]


def test_ages_at_an_interview_are_months_if_they_cannot_be_years():
    assert values_of("age", "interview_age", ["840", "96"])[0] == [70, 8]
    assert values_of("age", "interview_age", ["70", "96"])[0] == [70, 96]


@pytest.mark.parametrize(
    "name", ["Sex_male1_female2", "sex_1m_2f", "Sex: 1 male 2 female", "Gender (M 1, F 2)"]
)
def test_names_of_columns_tell_the_codes_of_sexes(name):
    assert values_of("sex", name, ["1", "2", "3"])[0] == ["M", "F", None]


@pytest.mark.parametrize(
    "name", ["Sex (M/F)", "Sex at visit 1", "sex 1 male", "Sex male 1 or male 2"]
)
def test_half_a_code_book_is_none(name):
    assert values_of("sex", name, ["1", "2"])[0] == [None, None]


@pytest.mark.parametrize(
    "facts",
    [
        {"Description": "Sex of the participant: 1 = male, 2 = female"},
        {"Description": "coded as male (1) or female (2)"},
        {"Levels": {"1": "male", "2": "female"}},
        {"Levels": {"Male": 1, "Female": 2}},
        {"Levels": ["1=male", "2=female"]},
    ],
)
def test_code_books_tell_the_codes_of_sexes(tmp_path, facts):
    (tmp_path / "a.json").write_text(json.dumps({"sex": facts}))
    assert values_of("sex", "sex", ["1", "2"], tmp_path)[0] == ["M", "F"]


@pytest.mark.parametrize(
    "book", ['{"sex": {"Levels": ["male", "female"]}}', '{"sex": {"Levels": 2}}', "[" * 100_000]
)
def test_code_books_that_tell_nothing_leave_numbers_unknown(tmp_path, book):
    (tmp_path / "a.json").write_text(book)
    values, unclear = values_of("sex", "sex", ["1", "2"], tmp_path)
    assert values == [None, None]
    assert unclear == {0: "1", 1: "2"}


@pytest.mark.parametrize("number", ["1.5", "2.5", "4", "12"])
def test_sums_of_boxes_are_not_the_cdr(number):
    values, unclear = values_of("cdr", "CDR total", ["0", "0.5", number])
    assert values == [None] * 3
    assert unclear[2] == number
    assert values_of("cdr", "CDR", ["0", "0.5", "-9", "999", "mild"])[0] == [
        0,
        0.5,
        None,
        None,
        None,
    ]


def test_keys_without_a_telling_name_have_different_texts():
    cells = {
        "Age": ["701", "702"],
        "Twin": ["a", "b"],
        "Score": ["1", "2"],
        "Site": ["x1", "y1"],
        "Serial": ["101", "102"],
    }
    assert unnamed_keys(pandas.DataFrame(cells)) == ["Serial"]


def test_dates_of_scans_are_told_from_others():
    names = ["Acq Date", "Scan_Date", "EXAMDATE", "acq_time", "Downloaded", "Date of birth", "Age"]
    cells = pandas.DataFrame({name: ["2019-05-03"] for name in names[:-1]} | {"Age": ["70"]})
    assert date_columns(cells) == (names[:4], ["Downloaded"])
