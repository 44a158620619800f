"""Which conditions new brains may have, and how they are described."""

from pathlib import Path

import numpy as np
import pytest

from oasisvq.core.errors import HyperparameterError
from oasisvq.data.conditions import choose_conditions, describe_conditions, spread_conditions

NOTHING = dict.fromkeys(("position", "age", "sex", "cdr"))
OF_SLICES = np.array([[90, 70, 0, 0.5], [95, np.nan, 1, np.nan]], np.float32)
TRAINED = np.array(
    [[90, 18.25, 1, np.nan], [99.5, 33.3333, 1, 0.5], [93, np.nan, np.nan, 0]], np.float32
)
FOLDER = Path("runs/demo")


def choose(**chosen):
    return choose_conditions(OF_SLICES, NOTHING | chosen, TRAINED, FOLDER)


def test_without_a_choice_the_conditions_are_those_of_the_slices():
    np.testing.assert_array_equal(choose(), OF_SLICES)


def test_a_chosen_position_leaves_the_person_as_it_is():
    np.testing.assert_array_equal(choose(position=91.5)[:, 0], [91.5, 91.5])
    np.testing.assert_array_equal(choose(position=91.5)[:, 1:], OF_SLICES[:, 1:])


@pytest.mark.parametrize(
    ("chosen", "row"),
    [
        ({"age": 20.0}, [20, np.nan, np.nan]),
        ({"sex": "M"}, [np.nan, 1, np.nan]),
        ({"cdr": 0.0}, [np.nan, np.nan, 0]),
        ({"age": 20.0, "cdr": 0.5}, [20, np.nan, 0.5]),
    ],
)
def test_whoever_is_chosen_in_part_is_unknown_otherwise(chosen, row):
    conditions = choose(**chosen)
    np.testing.assert_array_equal(conditions[:, 0], OF_SLICES[:, 0])
    np.testing.assert_array_equal(conditions[:, 1:], [row, row])
    assert conditions.dtype == np.float32
    assert np.isnan(OF_SLICES[1, 1])  # the slices' own are not changed
    assert OF_SLICES[0, 1] == 70


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"position": 89.0}, "--slice-position must be from 90 to 99.5, as"),
        ({"position": 100.0}, "--slice-position must be from 90 to 99.5, as"),
        ({"age": 33.4}, "--age must be from 18.25 to 33.3333, as"),
        ({"age": float("nan")}, "--age must be from 18.25 to 33.3333, as"),
        ({"sex": "F"}, "--sex must be one of M, as"),
        ({"cdr": 1.0}, "--cdr must be one of 0, 0.5, as"),
        ({"cdr": 0.25}, "--cdr must be one of 0, 0.5, as"),
        ({"cdr": float("nan")}, "--cdr must be one of 0, 0.5, as"),
    ],
)
def test_what_no_training_slice_has_is_refused(chosen, message):
    with pytest.raises(HyperparameterError) as refused:
        choose(**chosen)
    (value,) = chosen.values()
    assert str(refused.value) == (
        f"{message} in the slices that {FOLDER} was trained on. Received: {value}"
    )


def test_bounds_are_accepted_as_they_are_printed():
    assert float(f"{TRAINED[1, 1]:g}") != float(TRAINED[1, 1])
    assert choose(age=33.3333)[0, 1] == np.float32(33.3333)
    assert choose(age=18.25)[0, 1] == 18.25


@pytest.mark.parametrize(
    ("chosen", "name"),
    [({"sex": "F"}, "sex"), ({"cdr": 0.0}, "cdr"), ({"position": 1}, "position")],
)
def test_what_is_unknown_of_all_training_slices_is_refused(chosen, name):
    unknown = np.full_like(TRAINED, np.nan)
    with pytest.raises(HyperparameterError, match=f"trained on slices of unknown {name}"):
        choose_conditions(OF_SLICES, NOTHING | chosen, unknown, FOLDER)


def test_spread_has_a_row_an_age_and_a_column_a_position():
    trained = np.full((101, 4), np.nan, np.float32)
    trained[:, 0], trained[:, 1] = 2 * np.arange(101), 20 + np.arange(101)
    conditions = spread_conditions(trained, ages=3, positions=5)
    assert conditions.shape == (3, 5, 4)
    assert conditions.dtype == np.float32
    np.testing.assert_array_equal(conditions[0, :, 0], [10, 55, 100, 145, 190])
    np.testing.assert_array_equal(conditions[:, 0, 1], [25, 70, 115])
    assert (conditions[..., 0] == conditions[:1, :, 0]).all()
    assert (conditions[..., 1] == conditions[:, :1, 1]).all()
    assert np.isnan(conditions[..., 2:]).all()


def test_spread_takes_no_number_twice_and_keeps_the_unknown_unknown():
    trained = np.full((4, 4), np.nan, np.float32)
    trained[:, 0] = [3, 3, 4, np.nan]
    conditions = spread_conditions(trained, ages=4, positions=5)
    assert conditions.shape == (1, 2, 4)
    np.testing.assert_array_equal(conditions[0, :, 0], [3, 4])
    assert np.isnan(conditions[..., 1]).all()


def test_unknown_conditions_are_not_described():
    assert describe_conditions(OF_SLICES) == [
        {"position": 90, "age": 70, "sex": "F", "cdr": 0.5},
        {"position": 95, "sex": "M"},
    ]
    assert describe_conditions(np.full((1, 4), np.nan)) == [{}]
