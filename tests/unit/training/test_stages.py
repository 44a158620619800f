"""What each stage of a training learns from."""

import numpy as np

from dataset import OASIS
from hyperparameters import Hyperparameters
from oasisvq.runs.folder import open_run
from oasisvq.training import stages


def test_the_prior_learns_each_slice_under_its_own_conditions(place):
    opened = open_run(place / "run", Hyperparameters)
    codes, known = opened.training_codes(), opened.training_conditions()
    rows = np.random.default_rng(0).permutation(len(codes))
    grids, conditions = stages.code_reader(codes, known)(rows)
    np.testing.assert_array_equal(grids, codes[rows])
    np.testing.assert_array_equal(conditions, known[rows])


def test_a_run_keeps_a_number_for_the_person_of_each_training_slice_and_no_name(place):
    opened = open_run(place / "run", Hyperparameters)
    dataset = OASIS(opened.hyperparameters.data, place / "data")
    rows, numbers = dataset.rows("train"), opened.training_persons()
    pairs = set(zip(dataset.table["subject"].iloc[rows], numbers.tolist(), strict=True))
    assert len(pairs) == len(set(numbers)) == len(dataset.subjects("train"))
    assert numbers.dtype.kind == "i"
