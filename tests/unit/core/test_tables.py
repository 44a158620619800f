"""CSV files that a spreadsheet may open."""

import csv

import numpy as np
import pandas
import pytest

from oasisvq.core.tables import read_table, write_table

FORMULAS = ["=1+1", "+cmd", "-a", "@SUM(A1)", "\t=1", "'=1", "''=1", "=", "-1+2", "-1\n"]
HARMLESS = ["a=b", "'quoted'", "", "-1", "+1.5", "-2e-3", "1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_like_a_formula(tmp_path, text):
    write_table(tmp_path / "a.csv", pandas.DataFrame({text: [text]}))
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells == [f"'{text}"] * 2


def test_tables_are_read_as_they_were_written(tmp_path):
    texts = FORMULAS + HARMLESS
    table = pandas.DataFrame({"=x": texts, "n": np.linspace(-1, 1, len(texts)), "i": -3})
    write_table(tmp_path / "a.csv", table)
    read = read_table(tmp_path / "a.csv", dtype={"'=x": str}, keep_default_na=False)
    pandas.testing.assert_frame_equal(read, table, check_dtype=False)


def test_harmless_texts_and_numbers_are_written_as_they_are(tmp_path):
    table = pandas.DataFrame({"a": HARMLESS, "b": np.arange(len(HARMLESS)) - 3.5})
    write_table(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes() == table.to_csv(index=False).encode()
