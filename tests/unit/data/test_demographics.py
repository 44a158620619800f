"""Subject sheets in all formats and spellings, joined to sessions."""

import json
from pathlib import Path

import pandas
import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.data.demographics import join_sheets, read_sheets
from oasisvq.data.sheets import find_sheets

OASIS1 = {
    "ID": ["OAS1_0001_MR1", "OAS1_0002_MR1"],
    "M/F": ["F", "m"],
    "Hand": ["R", "R"],
    "Age": [74, 55],
    "Educ": [2, None],
    "CDR": [0, None],
    "nWBV": [0.743, 0.81],
}
OASIS2 = {
    "Subject ID": ["OAS2_0001", "OAS2_0001"],
    "MRI ID": ["OAS2_0001_MR1", "OAS2_0001_MR2"],
    "Group": ["Nondemented", "Nondemented"],
    "Visit": [1, 2],
    "MR Delay": [0, 457],
    "M/F": ["M", "M"],
    "Age": [87, 88],
    "CDR": [0, 0.5],
}


def table_of(*names):
    """Returns a table of slices, two of each session."""
    sessions = [name.split("/") if "/" in name else (name, "") for name in names for _ in range(2)]
    return pandas.DataFrame(sessions, columns=["subject", "session"])


def join(table, *paths, strict=False):
    """Returns the rows of sessions, the names of those without a row, and the notes."""
    joined, facts = join_sheets(table, paths, strict)
    assert len(joined) == len(table)
    assert joined.iloc[::2].reset_index(drop=True).equals(joined.iloc[1::2].reset_index(drop=True))
    return joined[::2], facts["sessions_without_a_row"], facts["sheet_notes"]


def write(path, text):
    path.write_text(text)
    return path


def read_one(path, column, text):
    """Returns what a column tells of a session with this text, and the notes."""
    path.write_text(f'ID;Other;"{column}"\na;1;{text}\n')
    joined, _, notes = join(table_of("a"), path)
    known = next(name for name in ("age", "sex", "cdr") if name in EXPECTED_NAMES[column])
    value = joined[known].iloc[0]
    return (None if pandas.isna(value) else value), notes


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
@pytest.mark.parametrize("columns", [OASIS1, OASIS2])
def test_both_sheets_are_read_from_all_formats(tmp_path, suffix, columns):
    path = tmp_path / f"sheet{suffix}"
    sheet = pandas.DataFrame(columns)
    separator = "\t" if suffix == ".tsv" else ","
    if suffix == ".xlsx":
        sheet.to_excel(path, index=False)
    else:
        sheet.to_csv(path, index=False, sep=separator)
    who = "MRI ID" if "MRI ID" in columns else "ID"
    joined, missing, notes = join(table_of(*(n.replace("_MR", "/MR") for n in columns[who])), path)
    assert not missing
    assert len(notes) == 1
    assert list(joined["sex"]) == [sex.upper() for sex in columns["M/F"]]
    assert list(joined["age"]) == columns["Age"]
    assert list(joined["cdr"].isna()) == [value is None for value in columns["CDR"]]
    assert "mr delay" not in joined
    assert ("delay" in joined) == ("MR Delay" in columns)


@pytest.mark.parametrize(
    "who",
    [
        "ID",
        "id",
        " Id ",
        "MRI ID",
        "MRI_ID",
        "mri.id",
        "MR ID",
        "Subject ID",
        "participant_id",
        "OASISID",
        "IXI_ID",
        "session_id",
        "filename",
        "Subject",
        "PTID",
        "patientId",
        "Anonymous_ID",
    ],
)
@pytest.mark.parametrize("sex", ["M/F", "m/f", "Sex", "Gender", "PTGENDER", "sex at birth"])
def test_spellings_vary(tmp_path, who, sex):
    path = write(tmp_path / "sheet.csv", f"{who},{sex},AGE,Cdr\n OAS1_0001_MR1 ,Female,61,\n")
    row = join(table_of("OAS1_0001/MR1"), path)[0].iloc[0]
    assert (row["sex"], row["age"]) == ("F", 61)
    assert pandas.isna(row["cdr"])


AGES = "Age|AGE|Age at scan (years)|age_at_visit|ageAtEntry|AgeatEntry|Age_in_Yrs|PatientAge|PTAGE"
EXPECTED_NAMES = {
    **dict.fromkeys([*AGES.split("|"), "Age (months)", "Age at death", "Brain age"], "age"),
    **dict.fromkeys(
        ["Sex", "SEX_ID (1=m, 2=f)", "sex [0: Female | 1: Male]", "M=1/F=2 sex"], "sex"
    ),
    **dict.fromkeys(
        ["CDR", "cdr_global", "CDGLOBAL", "CDRTOT", "CDR (0-3)", "Global CDR", "CDRSUM", "cdr_sb"],
        "cdr",
    ),
}


@pytest.mark.parametrize("column", AGES.split("|"))
def test_columns_of_ages_are_recognised(tmp_path, column):
    assert read_one(tmp_path / "a.csv", column, "74,5")[0] == 74.5


@pytest.mark.parametrize(
    ("column", "text", "age"),
    [
        ("Age", "074Y", 74),
        ("Age", "018M", 1.5),
        ("Age", "74 years old", 74),
        ("Age", "74,5 y", 74.5),
        ("Age", "0", 0),
        ("Age", "120", 120),
        ("Age (months)", "18", 1.5),
        ("Age at death", "80", None),
        ("Brain age", "80", None),
    ],
)
def test_ages_are_years(tmp_path, column, text, age):
    value, notes = read_one(tmp_path / "a.csv", column, text)
    assert value == age
    assert len(notes) == 1


@pytest.mark.parametrize("text", ["90+", "-9", "121", "inf", "60-70", "1e9", "999", "old"])
def test_ages_that_cannot_be_right_are_unknown_and_named(tmp_path, text):
    value, notes = read_one(tmp_path / "a.csv", "Age", text)
    assert value is None
    assert notes[1:] == [
        f"a.csv: age is unknown of 1 session: a. Expected an age from 0 to 120. Received: {text}"
    ]


@pytest.mark.parametrize("text", ["", "n/a", "N/A", ".", "?", "NaN", "missing"])
@pytest.mark.parametrize("column", ["Age", "Sex", "CDR"])
def test_blanks_are_unknown_without_a_word(tmp_path, column, text):
    value, notes = read_one(tmp_path / "a.csv", column, text)
    assert value is None
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("column", "text", "sex"),
    [
        *(("Sex", text, "M") for text in ("m", "MALE", "Man", "boy")),
        *(("Sex", text, "F") for text in ("f", "Female", "woman", "w")),
        ("SEX_ID (1=m, 2=f)", "2", "F"),
        ("SEX_ID (1=m, 2=f)", "1.0", "M"),
        ("sex [0: Female | 1: Male]", "0", "F"),
        ("M=1/F=2 sex", "2", "F"),
        *(("Sex", text, None) for text in ("1", "2", "other", "h")),
    ],
)
def test_sexes_are_words_or_numbers_with_a_code_book(tmp_path, column, text, sex):
    value, notes = read_one(tmp_path / "a.csv", column, text)
    assert value == sex
    assert ("sex is unknown" in " ".join(notes)) == (sex is None)


def test_a_code_book_beside_the_sheet_explains_numbers(tmp_path):
    sheet = write(
        tmp_path / "participants.tsv", "participant_id\tsex\tage\nsub-a\t1\t18\nsub-b\t2\t9\n"
    )
    levels = {"1": "Male participant", "2": {"Description": "female"}}
    facts = {"Sex": {"Levels": levels}, "age": {"Units": "months"}, "Name": "x"}
    book = write(tmp_path / "participants.json", json.dumps(facts))
    joined, _, notes = join(table_of("sub-a", "sub-b"), book, sheet)
    assert list(joined["sex"]) == ["M", "F"]
    assert list(joined["age"]) == [1.5, 0.75]
    assert len(notes) == 1


def test_letters_for_hombre_and_mujer_are_not_mixed_up(tmp_path):
    sheet = write(tmp_path / "a.csv", "ID,Sex\na,H\nb,M\n")
    assert join(table_of("a", "b"), sheet)[0]["sex"].isna().all()


@pytest.mark.parametrize(
    ("column", "text", "rating"),
    [
        *((column, "0,5", 0.5) for column in ("CDR", "cdr_global", "CDGLOBAL", "CDRTOT")),
        *((column, "3.0", 3) for column in ("CDR (0-3)", "Global CDR")),
        *((column, "1", None) for column in ("CDRSUM", "cdr_sb")),
        *(("CDR", text, None) for text in ("-1", "4", "0.7", "mild")),
    ],
)
def test_ratings_are_those_of_the_cdr(tmp_path, column, text, rating):
    assert read_one(tmp_path / "a.csv", column, text)[0] == rating


def test_what_is_no_number_is_unknown(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("ID,Age,CDR,Hand\nOAS1_0001_MR1,n/a,0.5,R\nOAS1_0002_MR1,?,#,L\n")
    joined = join(table_of("OAS1_0001/MR1", "OAS1_0002/MR1"), path)[0]
    assert joined["age"].isna().all()
    assert list(joined["cdr"].isna()) == [False, True]
    assert list(joined["hand"]) == ["R", "L"]


def test_sessions_without_a_row_are_kept_and_named(tmp_path):
    table = table_of("OAS1_0001/MR1", "OAS1_0001/MR2", "OAS1_0002/MR1")
    sheet = write(tmp_path / "a.csv", "ID,age\nOAS1_0001_MR1,74\nOAS1_0002_MR1,55\n")
    joined, missing, _ = join(table, sheet)
    assert list(joined["age"].fillna(-1)) == [74, -1, 55]
    assert missing == ["OAS1_0001_MR2"]
    assert joined["cdr"].isna().all()
    joined, missing, notes = join(table)
    assert len(missing) == len(joined) == 3
    assert joined["age"].isna().all()
    assert notes == []


def test_a_sheet_of_subjects_is_joined_too(tmp_path):
    sheet = write(tmp_path / "s.csv", "ID,age\na,60\n")
    joined, missing, _ = join(table_of("a/1", "a/2", "b/1"), sheet)
    assert list(joined["age"].fillna(-1)) == [60, 60, -1]
    assert missing == ["b_1"]


@pytest.mark.parametrize(
    "text",
    [
        "MR ID,Subject,Age\nOAS30001_MR_d0129,OAS30001,61\nOAS30001_MR_d2430,OAS30001,67\n",
        "participant_id,session_id,Age\nsub-OAS30001,ses-d0129,61\nsub-OAS30001,ses-d2430,67\n",
        "Subject,Visit,Age,SES\nOAS30001,d129,61,3\nOAS30001,d2430,67,3\n",
    ],
)
def test_each_visit_has_its_own_age(tmp_path, text):
    sheet = write(tmp_path / "a.csv", text)
    joined, _, notes = join(table_of("OAS30001/d0129", "OAS30001/d2430", "OAS30001/d9"), sheet)
    assert list(joined["age"].fillna(-1)) == [61, 67, -1]
    assert len(notes) == 1


@pytest.mark.parametrize(
    "text",
    [
        "participant_id,session_id,age\nsub-a,ses-M12,61\n",
        "Subject,label,age\na,a_clinical_d12,61\n",
    ],
)
def test_a_row_of_another_visit_is_not_joined(tmp_path, text):
    sheet = write(tmp_path / "a.csv", text)
    joined, missing, notes = join(table_of("sub-a/ses-M00"), sheet)
    assert joined["age"].isna().all()
    assert missing == ["sub-a_ses-M00"]
    assert "joined to 0 of 1 sessions; its IDs are like" in notes[0]


def test_rows_that_contradict_one_another_are_unknown_and_named(tmp_path):
    rows = "".join(f"p{n},M,{age}\n" for n in range(1, 8) for age in (70, 70.0, 71))
    sheet = write(tmp_path / "a.csv", f"ID,Sex,Age\n{rows}p8,F,50\np8,,50.0\n")
    joined, missing, notes = join(table_of(*(f"p{n}" for n in range(1, 9))), sheet)
    assert list(joined["age"].fillna(-1)) == [-1] * 7 + [50]
    assert list(joined["sex"]) == ["M"] * 7 + ["F"]
    assert not missing
    assert notes[1].endswith("so age is unknown of 7 sessions: p1, p2, p3, p4, p5 and 2 more")


def test_the_sheet_that_joins_most_is_used_first(tmp_path):
    table = table_of(*(f"OAS1_{n:04d}/MR1" for n in range(1, 6)), "OAS2_0001/MR1", "x")
    ids = [f"OAS1_{n:04d}_MR1" for n in range(1, 6)]
    folds = write(
        tmp_path / "a.csv", "subject,fold\n" + "".join(f"{n[:9]},1\n" for n in ids) + "x,1\n"
    )
    wrong = write(tmp_path / "b.csv", f"ID,Age\n{ids[0]},20\nOAS2_0001_MR1,30\n")
    right = write(tmp_path / "c.csv", "ID,Age\n" + "".join(f"{n},70\n" for n in ids))
    joined, missing, notes = join(table, folds, wrong, right)
    assert list(joined["age"].fillna(-1)) == [-1] + [70] * 4 + [30, -1]
    assert missing == []
    assert [note.partition(" (")[0] for note in notes] == [
        "c.csv: joined to 5 of 7 sessions",
        "b.csv: joined to 2 of 7 sessions",
        "a.csv: joined to 6 of 7 sessions",
        "b.csv and c.csv contradict one another, so age is unknown of 1 session: OAS1_0001_MR1",
    ]
    copy = write(tmp_path / "d.csv", right.read_text())
    assert "it adds nothing" in join(table, right, copy)[2][1]


@pytest.mark.parametrize("ids", [["q1", "q2", "q3"], ["q1", "q2", "OAS1_0002_MR1"]])
def test_a_sheet_that_hardly_joins_is_named_with_examples(tmp_path, ids):
    sheet = write(tmp_path / "a.csv", "ID,Age\n" + "".join(f"{name},60\n" for name in ids))
    notes = join(table_of(*(f"OAS1_{n:04d}/MR1" for n in range(1, 5))), sheet)[2]
    assert len(notes) == 1
    assert notes[0].endswith("its IDs are like q1, those of the files like OAS1_0001_MR1")


def test_numbers_and_file_names_join_only_where_names_do_not(tmp_path):
    table = table_of("patient01", "patient02")
    numbers = write(
        tmp_path / "a.csv", "SEX_ID (1=m, 2=f),IXI_ID,ETHNIC_ID,Age\n1,1,2,50\n2,2,1,60\n"
    )
    joined = join(table, numbers)[0]
    assert list(joined["age"]) == [50, 60]
    assert list(joined["sex"]) == ["M", "F"]
    names = write(tmp_path / "b.csv", "scan_id,ID,Age\n1,patient02,50\n2,nobody,60\n")
    assert list(join(table, names)[0]["age"].fillna(-1)) == [-1, 50]
    files = write(
        tmp_path / "c.csv", "Age,path\n50,x\\patient02_slice_3.png\n50,patient02_slice_4.png\n"
    )
    assert list(join(table, files)[0]["age"].fillna(-1)) == [-1, 50]


def test_ids_that_are_alike_are_named(tmp_path):
    sheet = write(tmp_path / "a.csv", "ID,Age\ns1.11,50\ns1_11,60\n")
    _, missing, notes = join(table_of("S1-11"), sheet)
    assert missing == ["S1-11"]
    assert "several IDs are alike" in notes[1]


def test_ids_called_na_are_names(tmp_path):
    names = ["NA", "nan", "None"]
    pandas.DataFrame({"ID": names, "Age": [1, 2, 3]}).to_excel(tmp_path / "a.xlsx", index=False)
    assert list(join(table_of(*names), tmp_path / "a.xlsx")[0]["age"]) == [1, 2, 3]


def test_a_sheet_without_rows_or_without_a_sex_is_a_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("ID,M/F,Age\n")
    _, missing, notes = join(table_of("a"), tmp_path / "a.csv")
    assert missing == ["a"]
    assert notes == ["a.csv: joined to 0 of 1 sessions; it has no rows"]
    (tmp_path / "b.csv").write_text("ID,M/F,Age\na,,60\nb,F\n")
    joined = join(table_of("a", "b"), tmp_path / "b.csv")[0]
    assert list(joined["sex"].isna()) == [True, False]
    assert list(joined["age"].isna()) == [False, True]


@pytest.mark.parametrize("name", ["sheet.xlsx", "sheet.csv"])
def test_a_broken_sheet_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\x00PK\x03\x04" * 30)
    with pytest.raises(DatasetError, match=name):
        join(table_of("a"), tmp_path / name, strict=True)
    assert join(table_of("a"), tmp_path / name)[2][0].startswith(f"{name}: cannot be read")


def test_a_table_of_other_things_is_no_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("size,place\n1,x\n")
    (tmp_path / "b.csv").write_text("ID,Age\nx,1\n")
    with pytest.raises(DatasetError, match=r"a\.csv: no column names the subjects"):
        read_sheets(tmp_path / "a.csv")
    with pytest.raises(DatasetError, match=r"a\.csv: no column names the subjects"):
        join(table_of("x"), tmp_path / "b.csv", tmp_path / "a.csv", strict=True)
    (tmp_path / "c.csv").write_text("MRI ID,Age\ny,2\n")
    paths = [Path(tmp_path / name) for name in ("b.csv", "c.csv")]
    assert list(join(table_of("x", "y"), *paths)[0]["age"]) == [1, 2]


def ages(joined):
    return list(joined["age"].fillna(-1))


def test_sheets_complete_one_another(tmp_path):
    persons = write(tmp_path / "participants.tsv", "participant_id\tsex\nsub-a\tM\nsub-b\tF\n")
    visits = write(
        tmp_path / "sessions.tsv",
        "participant_id\tsession_id\tage\nsub-a\tses-1\t70\nsub-a\tses-2\t72\nsub-b\tses-1\t50\n",
    )
    joined, missing, notes = join(
        table_of("sub-a/ses-1", "sub-a/ses-2", "sub-b/ses-1"), persons, visits
    )
    assert (ages(joined), list(joined["sex"]), missing) == ([70, 72, 50], ["M", "M", "F"], [])
    assert len(notes) == 2


def test_worksheets_complete_one_another(tmp_path):
    with pandas.ExcelWriter(tmp_path / "a.xlsx") as writer:
        for name, texts in {"Age": [70, 71], "CDR": [0, 0.5]}.items():
            sheet = pandas.DataFrame({"ID": ["a", "b"], name: texts})
            sheet.to_excel(writer, sheet_name=name, index=False)
        codes = pandas.DataFrame(
            {"Variable": ["Sex", "Sex"], "Code": [1, 2], "Meaning": ["x", "y"]}
        )
        codes.to_excel(writer, sheet_name="Codes", index=False)
    joined, _, notes = join(table_of("a", "b"), tmp_path / "a.xlsx")
    assert (ages(joined), list(joined["cdr"])) == ([70, 71], [0, 0.5])
    joined = join(table_of("P01", "P02"), tmp_path / "a.xlsx")[0]
    assert "meaning" not in joined  # a code of 1 is not the subject P01


def test_the_sessions_of_each_subject_in_bids_are_one_sheet(tmp_path):
    write(tmp_path / "dataset_description.json", "{}")
    write(tmp_path / "sessions.json", json.dumps({"sex": {"Levels": {"1": "male", "2": "female"}}}))
    for name, age in (("sub-a", 70), ("sub-b", 50)):
        (tmp_path / name).mkdir()
        text = f"session_id\tage\tsex\nses-1\t{age}\t1\nses-2\t{age + 2}\t1\n"
        write(tmp_path / name / f"{name}_sessions.tsv", text)
    write(tmp_path / "sub-b" / "sub-b_sessions.tsv", "session_id\tage\tsex\nses-1\t50\t2\n")
    table = table_of("sub-a/ses-1", "sub-a/ses-2", "sub-b/ses-1")
    joined, _, notes = join(table, *find_sheets(tmp_path), strict=True)
    assert (ages(joined), list(joined["sex"])) == ([70, 72, 50], ["M", "M", "F"])
    assert notes == [
        "sub-*/sub-*_sessions.tsv: joined to 3 of 3 sessions (age of 3, sex of 3, no cdr)"
    ]


def test_sheets_that_contradict_one_another_are_named(tmp_path):
    first = write(tmp_path / "a.csv", "ID,Age,Sex\na,70.4,M\nb,70,M\nc,50,F\n")
    other = write(tmp_path / "b.csv", "ID,Age,Sex\na,70,M\nb,40,F\n")
    third = write(tmp_path / "c.csv", "ID,Age\nb,70\n")
    joined, _, notes = join(table_of("a", "b", "c"), first, other, third)
    assert ages(joined) == [70.4, -1, 50]  # ages may be rounded to years
    assert list(joined["sex"].fillna("")) == ["M", "", "F"]
    for column in ("age", "sex"):
        text = f"b.csv and a.csv contradict one another, so {column} is unknown of 1 session: b"
        assert text in notes


def test_the_age_of_a_person_is_not_that_of_another_visit(tmp_path):
    persons = write(tmp_path / "a.csv", "ID,Age,Sex\np,60,M\nq,50,F\n")
    visits = write(tmp_path / "b.csv", "ID,Visit,Age\np,1,60\np,2,65\np,3,\n")
    joined, _, notes = join(table_of("p/V1", "p/V2", "p/V3", "q/V1"), persons, visits)
    assert ages(joined) == [60, 65, -1, 50]
    assert not any("contradict" in note for note in notes)


@pytest.mark.parametrize(
    ("column", "sessions", "expected"),
    [
        ("AgeatEntry", ["d0129", "d2430"], [65.54, 71.84]),
        ("Age at baseline", ["baseline", "year_5"], [65.19, 70.19]),
        ("age_bl", ["M00", "M06"], [65.19, 65.69]),
        ("Age at enrollment", ["1", "2"], [65.19, -1]),
        ("Age at inclusion", ["20190503", "20210503"], [65.19, -1]),
        ("Age at first scan", ["V2", "V3"], [-1, -1]),
        ("Age at entry", ["baseline", "followup"], [65.19, -1]),
    ],
)
def test_an_age_at_entry_is_not_that_at_later_sessions(tmp_path, column, sessions, expected):
    sheet = write(tmp_path / "a.csv", f"ID,{column}\np,65.19\n")
    joined, _, notes = join(table_of(*(f"p/{session}" for session in sessions)), sheet)
    assert ages(joined) == pytest.approx(expected)
    assert any("age at entry" in n or "those at entry" in n for n in notes) == (-1 in expected)


def test_one_age_at_all_visits_is_that_at_entry(tmp_path):
    rows = "p,bl,2006-04-18,84\np,m24,2008-04-20,84\nq,bl,2006-05-02,76\n"
    sheet = write(tmp_path / "a.csv", f"RID,VISCODE,EXAMDATE,AGE\n{rows}")
    dates = ["p/2006-04-18_08_20_30.0", "p/2008-04-20", "q/20060502"]
    assert ages(join(table_of(*dates), sheet)[0]) == [84, -1, 76]
    assert ages(join(table_of("p/ses-M00", "p/ses-M24", "q/ses-M00"), sheet)[0]) == [84, 86, 76]


@pytest.mark.parametrize(
    ("visits", "expected"),
    [
        (["2010-01-05", "2016-03-02"], [60, -1]),
        (["05.01.2016", "02.03.2010"], [-1, 60]),
        (["2010", "2016"], [60, -1]),
        (["100105", "160302"], [60, -1]),
        (["2010-Jan", "2016-Mar"], [60, -1]),
        (["ses-M00", "ses-M36"], [60, 63]),
        (["baseline", "followup-3y"], [60, 63]),
        (["d0000", "d0731"], [60, 62]),
        (["2010-01-05", "2011-03-02"], [60, 60]),
        (["V1", "V2"], [60, 60]),
    ],
)
def test_one_age_of_a_person_is_not_that_of_distant_sessions(tmp_path, visits, expected):
    sheet = write(tmp_path / "a.csv", "ID,Age,CDR\np,60,0.5\n")
    joined, _, notes = join(table_of(*(f"p/{visit}" for visit in visits)), sheet)
    assert ages(joined) == pytest.approx(expected)
    unknown = [age != 60 for age in expected]
    assert list(joined["cdr"].isna()) == unknown
    assert any("so cdr is unknown later, of 1 session" in note for note in notes) == any(unknown)


def test_ratings_of_distant_visits_are_kept(tmp_path):
    rows = "p,2010-01-05,0\np,2016-03-02,1\n"
    sheet = write(tmp_path / "a.csv", f"Subject,Acq Date,CDR\n{rows}")
    assert list(join(table_of("p/20100105", "p/20160302"), sheet)[0]["cdr"]) == [0, 1]


@pytest.mark.parametrize(
    ("column", "events"),
    [
        ("redcap_event_name", ["baseline_arm_1", "followup_arm_1"]),
        ("Event Name", ["Baseline (Arm 1: All)", "Follow-up (Arm 1: All)"]),
    ],
)
def test_events_are_visits(tmp_path, column, events):
    rows = f"p,{events[0]},60,0\np,{events[1]},,1\n"
    sheet = write(tmp_path / "a.csv", f"record_id,{column},age,cdr\n{rows}")
    joined = join(table_of("p/baseline", "p/followup"), sheet)[0]
    assert (ages(joined), list(joined["cdr"])) == ([60, -1], [0, 1])


def test_rows_without_an_id_may_go_on_with_the_one_above(tmp_path):
    sheet = write(tmp_path / "a.csv", "ID,Age,Sex,CDR\na,60,F,\n,63,,1\n,,,\nb,70,M,0\n")
    joined, _, notes = join(table_of("a", "b"), sheet)
    assert (ages(joined), list(joined["sex"])) == ([-1, 70], ["F", "M"])
    assert list(joined["cdr"].fillna(-1)) == [-1, 0]
    assert "rows contradict one another, so age is unknown of 1 session: a" in notes[1]


def test_columns_that_are_not_read_are_named(tmp_path):
    sheet = write(tmp_path / "a.csv", "ID,age_v1,age_v2,Rater sex\na,60,65,F\n")
    joined, _, notes = join(table_of("a/V1", "a/V3"), sheet)
    assert ages(joined) == [60, -1]
    assert notes[1:] == [
        "a.csv: columns of single visits (age_v1, age_v2) do not name that of 1 session: a_V3",
        "a.csv: not read, as of other persons: Rater sex",
    ]


def test_formulas_without_saved_values_are_named(tmp_path):
    sheet = pandas.DataFrame({"ID": ["a"], "Age": ["=2010-1940"], "Sex": ["F"]})
    sheet.to_excel(tmp_path / "a.xlsx", index=False)
    joined, _, notes = join(table_of("a"), tmp_path / "a.xlsx")
    assert (ages(joined), list(joined["sex"])) == ([-1], ["F"])
    assert notes[1].endswith(
        "=2010-1940. Open the sheet in a spreadsheet program and save it, so "
        "that formulas have values"
    )


@pytest.mark.parametrize("first", ["Age", "Age at entry", "age_baseline"])
@pytest.mark.parametrize(
    "second", ["Age at scan", "Age at visit", "MRI_Age", "Age at time of scan"]
)
def test_the_age_at_the_scan_goes_first(tmp_path, first, second):
    sheet = write(tmp_path / "a.csv", f"ID,{first},{second}\na,60,70\n")
    assert ages(join(table_of("a"), sheet)[0]) == [70]
