"""Arrays and numbers from files of unknown origin: what is taken, and what is refused."""

import math

import numpy as np
import pytest

from oasisvq.core.checks import check_array, check_number, finite, unpack
from oasisvq.core.errors import RunFolderError


def test_an_array_as_expected_is_taken():
    check_array("codes", np.zeros((3, 2, 2), np.uint16), (None, 2, 2), "u", 0, 0)
    check_array("one", np.array(0.5), (), "f", 0.5, 0.5)
    check_array("ages", np.array([60.0, math.nan]), (2,), "f", unknown=True)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3)), r"expected \(None, 2\) of kind f. Received: \(2, 3\) float64"),
        (np.zeros((0, 2)), "expected"),
        (np.zeros((1, 1, 2)), "expected"),
        (np.zeros((1, 2), int), "of kind f"),
        (np.array([[0, math.nan]]), "a: expected finite numbers from -1 to 1"),
        (np.array([[0, math.inf]]), "finite"),
        (np.array([[0, 1.1]]), "finite"),
        (np.array([[-1.1, 0]]), "finite"),
    ],
)
def test_another_array_is_refused(array, said):
    with pytest.raises(ValueError, match=said):
        check_array("a", array, (None, 2), "f", -1, 1)


def test_infinity_is_never_unknown():
    with pytest.raises(ValueError, match="finite"):
        check_array("ages", np.array([math.inf, math.nan]), (2,), "f", unknown=True)


def test_a_number_of_another_type_or_out_of_range_is_refused():
    check_number("epoch", 3, (int,), 0, 3)
    check_number("minutes", 0.5)
    check_number("minutes", 2)
    for number in (True, "3", None, 3.0, -1, 4, [3]):
        with pytest.raises(ValueError, match="epoch: expected a number from 0 to 3"):
            check_number("epoch", number, (int,), 0, 3)
    for number in (math.nan, math.inf, 10**400):
        with pytest.raises(ValueError, match="minutes: expected a number"):
            check_number("minutes", number)


def test_arrays_that_unpack_to_more_than_allowed_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10_000))
    assert unpack(tmp_path / "a.npz", 90_000)["zeros"].shape == (10_000,)
    with pytest.raises(ValueError, match="bytes of arrays. Expected 70000 at most"):
        unpack(tmp_path / "a.npz", 70_000)


def test_what_weights_lead_to_must_be_finite():
    assert finite(np.ones(2), "pixels").tolist() == [1, 1]
    with pytest.raises(RunFolderError, match="lead to pixels beyond all bounds"):
        finite(np.array([1, math.nan]), "pixels")
