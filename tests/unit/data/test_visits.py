"""Names of visits, and dates."""

import pytest

from oasisvq.data.visits import days_since_entry, is_first, read_dates, years_between


@pytest.mark.parametrize(
    ("visit", "days"),
    [
        ("d0129", 129),
        ("MR_d2430", 2430),
        ("ses-M06", 182.625),
        ("m012", 365.25),
        ("month 12", 365.25),
        ("year_5", 1826.25),
        ("2YearFollowUpYArm1", 730.5),
        ("12mo", 365.25),
        ("week3", 21),
        ("bl", 0),
        ("ses-baselineYear1Arm1", 0),
        *((name, None) for name in ("1", "V2", "MR1", "20190503", "followup1", "tp2", "post", "")),
    ],
)
def test_names_of_visits_tell_the_days_since_entry(visit, days):
    assert days_since_entry(visit) == days


def test_the_first_visit_of_a_person_is_told_from_later_ones():
    assert is_first("2", ["10", "2"]) is False
    assert is_first("1", ["10", "1"])
    assert is_first("", [""])
    assert is_first("2019-05-03", ["20200103", "2019-05-03"])
    assert not is_first("20200103", ["20190503", "20200103"])
    assert not is_first("followup", ["followup"])
    assert is_first("02-03-2010", ["05-01-2016", "02-03-2010"])
    assert is_first("pre", ["post", "pre"])
    assert is_first("baseline", ["M24", "baseline"])


def test_years_between_visits_need_dates_or_days():
    assert years_between(["M00", "x", "M24"]) == pytest.approx(2)
    assert years_between(["20190503", "2021-05-03"]) == pytest.approx(2, abs=0.01)
    assert years_between(["1", "2"]) == 0


@pytest.mark.parametrize(
    "visits",
    [
        ["2010", "2012"],
        ["ses-2010-05", "ses-2012-05"],
        ["2010-May-02", "2012-May-02"],
        ["100502", "120502"],
        ["02.05.10", "02.05.12"],
        ["baseline", "followup24months"],
        ["bl", "fu-2y"],
    ],
)
def test_dates_and_times_in_names_have_many_forms(visits):
    assert years_between(visits) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("texts", "readings"),
    [
        (["2019-05-03", "", "n/a"], [["20190503", "", ""]]),
        (["20190503", "2019-05-03T08:20:30"], [["20190503", "20190503"]]),
        (["03.05.2019"], [["20190503"]]),
        (["3-May-2019", "12 Jun 2020"], [["20190503", "20200612"]]),
        (["5/3/2019", "5/13/2019"], [["20190503", "20190513"]]),
        (["3/5/2019", "13/5/19"], [["20190503", "20190513"]]),
        (["5/3/2019"], [["20190305"], ["20190503"]]),
        (["5/13/2019", "13/5/2019"], []),
        (["20190503", "7"], []),
        (["20191303", "1.5"], []),
        (["", "none"], []),
    ],
)
def test_the_order_of_day_and_month_is_told_from_the_whole_column(texts, readings):
    assert read_dates(texts) == readings


def test_dates_months_and_years_are_counted_alike():
    assert years_between(["20190503", "2019_05"]) < 0.01
    assert years_between(["2017", "2019-01-01"]) == pytest.approx(2, abs=0.01)
