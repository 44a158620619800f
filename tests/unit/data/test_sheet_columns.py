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
        "Age at interview",
        "Age (yrs)",
        "Âge",
        "Età",
        "Idade",
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
        ("18 mois", 1.5),
        ("10 jours", None),
    ],
)
def test_ages_have_units_in_words(text, age):
    assert values_of("age", "Age", [text])[0] == [age]


def test_ages_at_an_interview_are_months_if_they_cannot_be_years():
    assert values_of("age", "Age at interview", ["840", "96"])[0] == [70, 8]
    assert values_of("age", "Age at interview", ["70", "96"])[0] == [70, 96]


def test_the_interview_age_of_the_nimh_is_months():
    assert values_of("age", "interview_age", ["6", "96"])[0] == [0.5, 8]


@pytest.mark.parametrize(
    ("name", "text", "age"),
    [
        ("Age (mo)", "18", 1.5),
        ("age_mos", "18", 1.5),
        ("ageInWks", "52.17857142857143", 1),
        ("Alter (Monate)", "18", 1.5),
        ("Edad en meses", "18", 1.5),
        ("Âge (années)", "18", 18),
        ("Alter (Jahre)", "18", 18),
        ("Age (years, months)", "18", None),
    ],
)
def test_names_of_columns_tell_the_unit_of_ages(name, text, age):
    assert values_of("age", name, [text])[0] == [age]


@pytest.mark.parametrize(
    ("facts", "age"),
    [
        ({"Description": "age in months at scan"}, 1.5),
        ({"LongName": "Age (months)"}, 1.5),
        ({"Description": "Postmenstrual age at scan in weeks"}, 18 * 7 / 365.25),
        ({"Description": "age, days"}, 18 / 365.25),
        ({"Units": "years", "Description": "in months"}, 18),
        ({"Description": "age in years, 6 months after surgery"}, 18),
        ({"Description": "in years, of infants in months"}, None),
        ({"Description": "Age at the start of 12 months of study"}, 18),
        ({"Units": "M"}, 1.5),
        ({"Description": "Alter in Monaten"}, 1.5),
        ({"Description": "standardised age"}, None),
        ({"Units": "z-score"}, None),
        ({"Levels": {"18": "18 to 24", "25": "25 to 30"}}, None),
    ],
)
def test_code_books_tell_the_unit_of_ages(tmp_path, facts, age):
    (tmp_path / "a.json").write_text(json.dumps({"scan_age": facts}))
    assert values_of("age", "scan_age", ["18"], tmp_path)[0] == [age and pytest.approx(age)]


@pytest.mark.parametrize(
    ("column", "units", "ages"),
    [
        ("Unit", ["months", "Y"], [1.5, 18]),
        ("Age unit", ["M", ""], [1.5, 18]),
        ("age_units", ["decades", "years"], [None, 18]),
        ("Unit", ["ICU", "M"], [18, 18]),  # of a hospital
    ],
)
def test_another_column_tells_the_unit_of_ages(column, units, ages):
    cells = pandas.DataFrame({"ID": ["a", "b"], "Age": ["18", "18"], column: units})
    values = interpret(Sheet(Path("a.csv"), "a.csv", cells)).values["age"]
    assert [None if pandas.isna(age) else age for age in values] == ages


@pytest.mark.parametrize(
    ("texts", "ages"),
    [
        (["-1.40", "0.7", "1.4"], [None] * 3),
        (["-12", "-3", "0", "15"], [None] * 4),
        (["-9", "0", "9"], [None] * 3),
        (["-9", "65", "71"], [None, 65, 71]),
        (["-9999", "65", "71"], [None, 65, 71]),
    ],
)
def test_a_column_with_negative_ages_has_no_years(texts, ages):
    values, unclear = values_of("age", "Age", texts)
    assert values == ages
    assert len(unclear) == ages.count(None)


@pytest.mark.parametrize("other", ["interview", "assessment", "test", "visit"])
def test_the_age_at_the_scan_goes_before_that_at_anything_else(other):
    cells = pandas.DataFrame({"ID": ["a"], f"Age at {other}": ["60"], "Age at MRI": ["70"]})
    assert list(interpret(Sheet(Path("a.csv"), "a.csv", cells)).values["age"]) == [70]


@pytest.mark.parametrize(
    ("letters", "sexes"),
    [
        ("VM", [None, None]),  # varón, mujer; or vrouw, man
        ("FN", [None, None]),  # férfi, nő
        ("MN", [None, None]),
        ("HM", [None, None]),  # hombre, mujer
        ("HF", ["M", "F"]),
        ("EK", ["M", "F"]),
        ("MK", ["M", "F"]),
        ("mw", ["M", "F"]),
        ("MFUX", ["M", "F", None, None]),
    ],
)
def test_letters_are_sexes_in_one_known_language_only(letters, sexes):
    assert values_of("sex", "Sex", list(letters))[0] == sexes


@pytest.mark.parametrize(
    "words",
    [
        "Homme,Femme",
        "Hombre,Mujer",
        "Varón,Mujer",
        "Männlich,Weiblich",
        "Uomo,Donna",
        "Erkek,Kadın",
    ],
)
def test_sexes_are_words_of_other_languages(words):
    assert values_of("sex", "Sexe", words.split(","))[0] == ["M", "F"]


@pytest.mark.parametrize(
    "name",
    [
        "Rater gender",
        "Sex of caregiver",
        "Sex of first child",
        "Partner's sex",
        "Wife sex",
        "Sex of teacher",
        "Boss's sex",
    ],
)
def test_the_sex_of_others_is_not_the_subjects(name):
    assert values_of("sex", name, ["M"]) == (None, {})
    cells = pandas.DataFrame({"ID": ["a"], name: ["M"], "Biological sex": ["F"]})
    assert list(interpret(Sheet(Path("a.csv"), "a.csv", cells)).values["sex"]) == ["F"]


@pytest.mark.parametrize(
    "levels",
    [
        {"0": "not male", "1": "male"},
        {"1": "male", "0": "other"},
        {"1": "male or female", "0": "female"},
    ],
)
def test_levels_that_name_one_sex_only_tell_nothing(tmp_path, levels):
    (tmp_path / "a.json").write_text(json.dumps({"sex": {"Levels": levels}}))
    assert values_of("sex", "sex", ["0", "1"], tmp_path)[0] == [None, None]


def test_levels_explain_letters_too(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"sex": {"Levels": {"V": "varón", "M": "mujer"}}}))
    assert values_of("sex", "sex", ["V", "M"], tmp_path)[0] == ["M", "F"]
    for levels in ({"M": "mujer"}, {"M": "moteris"}):
        (tmp_path / "a.json").write_text(json.dumps({"sex": {"Levels": levels}}))
        assert values_of("sex", "sex", ["M"], tmp_path)[0] == [None]


@pytest.mark.parametrize("name", ["Sex of participant", "Gender of the patient", "Patient's sex"])
def test_the_subjects_sex_has_many_names(name):
    assert values_of("sex", name, ["M"]) == (["M"], {})


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
