"""Subject sheets in both formats and all spellings."""

import pandas
import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.data.demographics import join_sheet, read_sheet, read_sheets

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


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize("columns", [OASIS1, OASIS2])
def test_both_sheets_are_read_from_both_formats(tmp_path, suffix, columns):
    path = tmp_path / f"sheet{suffix}"
    table = pandas.DataFrame(columns)
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_excel(path, index=False)
    sheet = read_sheet(path)
    who = "MRI ID" if "MRI ID" in columns else "ID"
    assert list(sheet["ID"]) == columns[who]
    assert list(sheet["sex"]) == [sex.upper() for sex in columns["M/F"]]
    assert list(sheet["age"]) == columns["Age"]
    assert list(sheet["cdr"].isna()) == [value is None for value in columns["CDR"]]
    assert "mr delay" not in sheet
    assert ("delay" in sheet) == ("MR Delay" in columns)


@pytest.mark.parametrize("who", ["ID", "id", " Id ", "MRI ID", "MRI_ID", "mri.id"])
@pytest.mark.parametrize("sex", ["M/F", "m/f", "Sex", "Gender"])
def test_spellings_vary(tmp_path, who, sex):
    path = tmp_path / "sheet.csv"
    path.write_text(f"{who},{sex},AGE,Cdr\n OAS1_0001_MR1 ,Female,61,\n")
    row = read_sheet(path).iloc[0]
    assert (row["ID"], row["sex"], row["age"]) == ("OAS1_0001_MR1", "F", 61)
    assert pandas.isna(row["cdr"])


def test_what_is_no_number_is_unknown(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("ID,Age,CDR,Hand\nOAS1_0001_MR1,n/a,0.5,R\nOAS1_0002_MR1,?,#,L\n")
    sheet = read_sheet(path)
    assert sheet["age"].isna().all()
    assert list(sheet["cdr"].isna()) == [False, True]
    assert list(sheet["hand"]) == ["R", "L"]


def test_sessions_without_a_row_are_kept_and_named():
    table = pandas.DataFrame(
        {"subject": ["OAS1_0001", "OAS1_0001", "OAS1_0002"], "session": ["MR1", "MR2", "MR1"]}
    )
    sheet = pandas.DataFrame({"ID": ["OAS1_0001_MR1", "OAS1_0002_MR1"], "age": [74, 55]})
    joined, missing = join_sheet(table, sheet)
    assert list(joined["age"].fillna(-1)) == [74, -1, 55]
    assert missing == ["OAS1_0001_MR2"]
    assert joined["cdr"].isna().all()
    joined, missing = join_sheet(table, None)
    assert len(missing) == len(joined) == 3


def test_a_sheet_of_subjects_is_joined_too():
    table = pandas.DataFrame({"subject": ["a", "a", "b"], "session": ["1", "2", "1"]})
    joined, missing = join_sheet(table, pandas.DataFrame({"ID": ["a"], "age": [60]}))
    assert list(joined["age"].fillna(-1)) == [60, 60, -1]
    assert missing == ["b_1"]


def test_a_sheet_without_rows_or_without_a_sex_is_a_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("ID,M/F,Age\n")
    assert len(read_sheet(tmp_path / "a.csv")) == 0
    table = pandas.DataFrame({"subject": ["a"], "session": [""]})
    assert join_sheet(table, read_sheet(tmp_path / "a.csv"))[1] == ["a"]
    (tmp_path / "b.csv").write_text("ID,M/F,Age\na,,60\nb,F\n")
    sheet = read_sheet(tmp_path / "b.csv")
    assert list(sheet["sex"].isna()) == [True, False]
    assert list(sheet["age"].isna()) == [False, True]


@pytest.mark.parametrize("name", ["sheet.xlsx", "sheet.csv"])
def test_a_broken_sheet_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\x00PK\x03\x04" * 30)
    with pytest.raises(DatasetError, match=name):
        read_sheet(tmp_path / name)


def test_a_table_of_other_things_is_no_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("file,size\nx,1\n")
    (tmp_path / "b.csv").write_text("ID,Age\nx,1\n")
    assert read_sheet(tmp_path / "a.csv") is None
    with pytest.raises(DatasetError, match=r"a\.csv: no column names the subjects"):
        read_sheets([tmp_path / "b.csv", tmp_path / "a.csv"])
    (tmp_path / "c.csv").write_text("MRI ID,Age\ny,2\n")
    assert list(read_sheets([tmp_path / "b.csv", tmp_path / "c.csv"])["age"]) == [1, 2]
    assert read_sheets([]) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_copies_saved_by_other_programs_are_read(tmp_path, encoding, separator):
    rows = [
        ["OASIS-Übersicht"],
        [],
        ["ID", "Age", "Hand"],
        ["OAS1_0001_MR1", "74", "R"],
        ["", "", ""],
    ]
    text = "\n".join(separator.join(row) for row in rows)
    (tmp_path / "sheet.csv").write_bytes(text.encode(encoding))
    sheet = read_sheet(tmp_path / "sheet.csv")
    assert list(sheet["ID"]) == ["OAS1_0001_MR1"]
    assert list(sheet["age"]) == [74]


def test_a_title_above_the_columns_of_an_xlsx_is_passed_over(tmp_path):
    rows = [["OASIS", None], ["MRI ID", "CDR"], ["OAS2_0001_MR1", 0.5]]
    pandas.DataFrame(rows).to_excel(tmp_path / "a.xlsx", header=False, index=False)
    assert list(read_sheet(tmp_path / "a.xlsx")["cdr"]) == [0.5]
