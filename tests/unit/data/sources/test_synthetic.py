"""Invented subjects: the same at every call, and each another person."""

import numpy as np
import pytest

from dataset import OASIS
from oasisvq.core.errors import DatasetError
from support.sources import choose


def test_demo_makes_the_same_subjects_every_time(tmp_path):
    few = choose("demo", demo_subjects=3, slices_per_volume=2)
    first, second = (OASIS(few, tmp_path / name) for name in ("one", "two"))
    np.testing.assert_array_equal(first.slices, second.slices)
    different = np.abs(first.slices[0].astype(int) - first.slices[2]).mean()
    assert different > 5  # another subject, another brain
    assert 0.2 < (first.slices > 0).mean() < 0.7


def test_include_and_exclude_choose_invented_subjects(tmp_path):
    every = choose("demo", demo_subjects=3, slices_per_volume=1)
    some = choose("demo", demo_subjects=3, slices_per_volume=1, exclude=("*_0001",))
    kept = OASIS(some, tmp_path)
    assert kept.subjects("all") == ["invented_0000", "invented_0002"]
    np.testing.assert_array_equal(kept.slices, OASIS(every, tmp_path).slices[[0, 2]])


def test_demo_outside_the_template_is_refused(tmp_path):
    nowhere = choose("demo", slice_unit="mm", slice_range=(500.0, 600.0))
    with pytest.raises(DatasetError, match="--slice-range"):
        OASIS(nowhere, tmp_path)


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_invented_subjects_are_different_people(tmp_path, plane):
    config = choose("demo", demo_subjects=24, slices_per_volume=2, plane=plane)
    assert OASIS(config, tmp_path).description["near_duplicates"] == []
