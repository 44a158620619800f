"""Words of names that only a comparison of all names explains."""

import pytest

from oasisvq.data.name_fields import (
    find_slice_fields,
    part_joined_visits,
    scan_tails,
    visits_in_front,
)


def fields(form, persons=4, slices=(72, 76, 80, 84, 88)):
    """Returns the fields of names such as `P01_72_AD`, each of which would be a person."""
    names = [
        form.format(f"P{person:02d}", number, person * 100 + number, "AD" if person % 2 else "CN")
        for person in range(1, persons + 1)
        for number in slices
    ]
    return find_slice_fields(names, ["in"] * len(names), names)


@pytest.mark.parametrize(
    "form", ["{0}_{1}_{3}", "{0}_{1}_512", "{0}_{1}_3fa21b{2}", "00{2}_{0}_{1}", "{0}_{1}mm"]
)
def test_the_slices_number_is_found_amid_the_words(form):
    found = fields(form)
    assert len(found) == 20
    assert {field.digits for field in found.values()} == {"72", "76", "80", "84", "88"}
    assert {field.person for field in found.values()} == {"P01", "P02", "P03", "P04"}


def test_names_of_one_picture_each_have_no_slices_number():
    assert fields("{0}_{2}", slices=(72,)) == {}


def test_visits_joined_to_names_are_parted_where_persons_recur():
    names = {"P01V1", "P01V2", "P02V1", "P03bl"}
    assert part_joined_visits(names) == {
        "P01V1": "P01_V1",
        "P01V2": "P01_V2",
        "P02V1": "P02_V1",
        "P03bl": "P03_bl",
    }
    assert part_joined_visits({"P01V1", "P02V2"}) == {"P01V1": "P01V1", "P02V2": "P02V2"}


def test_visits_in_front_need_persons_behind_several():
    assert visits_in_front(["V1_P01", "V2_P01", "V1_P02"]) == {
        "V1_P01": ("V1", "P01"),
        "V2_P01": ("V2", "P01"),
        "V1_P02": ("V1", "P02"),
    }
    assert visits_in_front(["V1_P01", "V1_P02"]) == {}


def test_dates_and_ages_behind_persons_are_scans():
    dates = {"P01": {"170110", "190110"}, "P02": {"170211"}}
    assert set(scan_tails(dates, set())) == {"170110", "190110", "170211"}
    words = {"P01": {"left"}, "P02": {"right"}}
    assert not set(scan_tails(words, set()))
