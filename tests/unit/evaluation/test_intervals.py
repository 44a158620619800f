"""Means and their intervals over subjects."""

import numpy as np
import pytest

from oasisvq.evaluation.intervals import format_interval, interval_by_subject


def test_interval_draws_subjects_not_slices():
    # Two subjects of 500 slices: the means 0, 0.5 and 1 are all a bootstrap can find.
    values, subjects = np.repeat([0.0, 1.0], 500), np.repeat(["a", "b"], 500)
    assert interval_by_subject(values, subjects) == {"mean": 0.5, "low": 0.0, "high": 1.0}


def test_interval_covers_the_mean_about_95_times_in_100(random):
    covered = 0
    for trial in range(200):
        effects = random.normal(size=30)
        values = np.repeat(effects, 4) + random.normal(0, 0.1, size=120)
        interval = interval_by_subject(values, np.repeat(np.arange(30), 4), seed=trial)
        covered += interval["low"] <= 0 <= interval["high"]
    assert 180 <= covered <= 197


def test_mean_is_over_slices_not_over_subjects():
    interval = interval_by_subject([0, 0, 0, 1], ["a", "a", "a", "b"])
    assert interval["mean"] == 0.25


def test_one_subject_has_no_interval():
    assert interval_by_subject([0.2, 0.4], ["a", "a"]) == {
        "mean": pytest.approx(0.3),
        "low": None,
        "high": None,
    }


def test_interval_leaves_out_unknown_values():
    known = interval_by_subject([0.2, 0.4, np.nan], ["a", "b", "c"])
    assert known["mean"] == pytest.approx(0.3)
    nothing = interval_by_subject([np.nan], ["a"])
    assert nothing == {"mean": None, "low": None, "high": None}


def test_intervals_are_formatted_as_far_as_they_are_known():
    assert format_interval({"mean": 0.5, "low": 0.25, "high": 1.0}, ".2f") == "0.50 [0.25, 1.00]"
    assert format_interval(interval_by_subject([0.5, 0.5], ["a", "a"]), ".3g") == "0.5"
    assert format_interval(interval_by_subject([np.nan], ["a"]), ".3g") == "-"
