"""Cells of sheets in the formats and encodings of other programs."""

import codecs

import openpyxl
import pandas
import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.data import sheets
from oasisvq.data.sheets import find_sheets, read_sheets

ROWS = [["ID", "Größe", "Note"], ["NA", "74,5", 'a, b; c | "d"'], ["nan", "", ""], ["", "", ""]]


def is_key(name):
    return name == "ID"


def read(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_sheets(path, is_key)[0]


def quoted(separator, end="\n"):
    cells = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in ROWS]
    return end.join(separator.join(row) for row in cells) + end


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("title", ["", "A title; of it, all | in one\n\n", "Subjects\n", "ID\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_header_tells_the_separator(tmp_path, separator, title, end):
    sheet = read(tmp_path / "a.csv", title.replace("\n", end) + quoted(separator, end))
    cells = sheet.cells
    assert list(cells) == ROWS[0]
    assert list(cells["ID"])[:2] == ["NA", "nan"]
    assert list(cells["Größe"])[:2] == ["74.5", ""]
    assert cells["Note"][0] == 'a, b; c | "d"'


@pytest.mark.parametrize(
    "encode",
    [
        *(lambda text, name=name: text.encode(name) for name in ("utf-8-sig", "utf-16", "latin-1")),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
    ],
)
def test_encodings_are_recognised(tmp_path, encode):
    sheet = read(tmp_path / "a.tsv", encode(quoted("\t")))
    assert list(sheet.cells) == ROWS[0]


def test_excel_states_the_separator_in_the_first_line(tmp_path):
    cells = read(tmp_path / "a.csv", "sep=:\nID:Age, or so\nx:74,5\n").cells
    assert cells.to_numpy().tolist() == [["x", "74.5"]]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (",ID,Age\n0,a,7\n1,b,8\n", ["ID", "Age"]),
        ("ID,Age\n1,a,7\n2,b,8\n", ["ID", "Age"]),  # as R writes it
        ("ID,SEX (1=m, 2=f),Age\na,1,7\nb,2,8\n", ["ID", "SEX (1=m,2=f)", "Age"]),
        ("ID, Age, Age\na, 7, 1\nb, 8, 1\n", ["ID", "Age"]),
        ("ID,Age,\na,7,\nb,8,,,\n", ["ID", "Age"]),
    ],
)
def test_columns_stay_in_their_places(tmp_path, text, columns):
    cells = read(tmp_path / "a.csv", text).cells
    assert list(cells) == columns
    assert list(cells["ID"]) == ["a", "b"]
    assert list(cells["Age"]) == ["7", "8"]


def test_rows_with_too_many_cells_are_left_out(tmp_path):
    sheet = read(tmp_path / "a.csv", "ID,Age,CDR\n1,74,5,0\n2,75,0\n")
    assert sheet.cells.to_numpy().tolist() == [["2", "75", "0"]]
    assert sheet.long_rows == 1


@pytest.mark.parametrize(("text", "expected"), [('"74,5"', "74.5"), ('"1,344"', "1,344")])
def test_a_comma_that_may_part_thousands_is_left_alone(tmp_path, text, expected):
    assert read(tmp_path / "a.csv", f"ID,Age\na,{text}\n").cells["Age"][0] == expected


def test_worksheets_that_name_subjects_are_read(tmp_path):
    path = tmp_path / "a.xlsx"
    with pandas.ExcelWriter(path) as writer:
        tables = {
            "About": [["A title"]],
            "One": [["OASIS", None], ["ID", "Age"], ["NA", 74], [7, "74,5"]],
            "Two": [["ID", "Seen"], ["nan", pandas.Timestamp(2017, 1, 31)]],
        }
        for name, rows in tables.items():
            pandas.DataFrame(rows).to_excel(writer, sheet_name=name, header=False, index=False)
    one, two = read_sheets(path, is_key)
    assert (one.name, two.name) == ("a.xlsx (One)", "a.xlsx (Two)")
    assert one.cells.to_numpy().tolist() == [["NA", "74"], ["7", "74.5"]]
    assert two.cells.to_numpy().tolist() == [["nan", "2017-01-31"]]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.xlsx", b"\xff\x00PK\x03\x04" * 30, "cannot be read"),
        ("a.csv", b"\xff\x00PK\x03\x04" * 30, "cannot be read"),
        ("a.xls", b"\xd0\xcf\x11\xe0", "save it as .xlsx or .csv"),
        ("a.json", b'[{"ID": 1}]', "save it as .xlsx or .csv"),
        ("a.csv", b'[{"ID": 1}]', "no column names the subjects"),
        ("a.csv", b"", "no column names the subjects"),
        ("a.csv", b"ssim,psnr\n0.9,30\n", "no column names the subjects"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, name, data, reason):
    with pytest.raises(DatasetError, match=rf"{name}: .*{reason}") as error:
        read(tmp_path / name, data)
    assert "\n" not in str(error.value)


def test_sheets_and_code_books_are_found_in_a_folder(tmp_path):
    names = ["a.CSV", "a.json", "b.tsv", "c.xls", "T1w.json", "._a.csv", "~$b.xlsx", "d.txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "e.csv").mkdir()
    found = [path.name for path in find_sheets(tmp_path)]
    assert found == ["T1w.json", "a.CSV", "a.json", "b.tsv", "c.xls"]
    (tmp_path / "dataset_description.json").write_bytes(b"{}")
    assert [path.name for path in find_sheets(tmp_path)] == ["a.CSV", "a.json", "b.tsv", "c.xls"]


def workbook(path, *rows):
    """Writes a worksheet of cells, each `(row, column, value)`, and returns its path."""
    book = openpyxl.Workbook()
    book.active["A1"] = "ID"
    for row, column, value in rows:
        book.active.cell(row, column, value)
    book.save(path)
    return path


def test_a_far_cell_of_a_small_workbook_is_refused(tmp_path):
    path = workbook(tmp_path / "a.xlsx", (60_000, 16_384, 1))
    with pytest.raises(DatasetError, match=r"a\.xlsx: cannot be read .*more than 4,096 columns"):
        read_sheets(path, is_key)


@pytest.mark.parametrize("bound", ["MOST_TAGS", "MOST_OTHER_TAGS"])
def test_a_workbook_of_very_many_tags_is_refused_before_it_is_parsed(bound, tmp_path, monkeypatch):
    path = workbook(tmp_path / "a.xlsx", (2, 1, "a"))
    read_sheets(path, is_key)
    monkeypatch.setattr(sheets, bound, 5)
    monkeypatch.setattr(sheets.openpyxl, "load_workbook", None)
    with pytest.raises(DatasetError, match=r"a\.xlsx: .*its parts have more than .* tags"):
        read_sheets(path, is_key)


def test_a_workbook_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    path = workbook(tmp_path / "a.xlsx", (2, 1, "a" * 20_000))
    read_sheets(path, is_key)
    monkeypatch.setattr(sheets, "LARGEST_UNPACKED", 20_000)
    with pytest.raises(DatasetError, match="unpacks to more than 20,000 bytes"):
        read_sheets(path, is_key)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ID" + "," * 20_000 + "x\n", "more than 4,096 columns"),
        ("ID\n" + "a" * 40_000, "32,768 characters"),
        ("ID" + ",x" * 2047 + "\n" + "a\n" * 1024, "more than 2,097,152 cells"),
    ],
)
def test_a_table_too_large_is_refused_before_it_is_filled_up(tmp_path, text, reason):
    with pytest.raises(DatasetError, match=rf"a\.csv: cannot be read .*{reason}"):
        read(tmp_path / "a.csv", text)


def test_what_never_ends_is_no_sheet(tmp_path):
    (tmp_path / "a.csv").symlink_to("/dev/zero")
    with pytest.raises(DatasetError, match=r"a\.csv: .*not a regular file"):
        read_sheets(tmp_path / "a.csv", is_key)
