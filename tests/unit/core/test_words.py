"""Counts with their nouns."""

from oasisvq.core.words import counted


def test_one_is_singular_and_all_else_plural():
    assert [counted(number, "slice") for number in (0, 1, 2, 1234)] == [
        *("0 slices", "1 slice"),
        *("2 slices", "1,234 slices"),
    ]
