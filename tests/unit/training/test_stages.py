"""What each stage of a training learns from."""

from unittest import mock

import numpy as np
import pandas

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


def test_the_panels_network_learns_training_slices_under_their_own_labels(place, tmp_path):
    opened = open_run(place / "run", Hyperparameters)
    dataset = OASIS(opened.hyperparameters.data, place / "data")
    with mock.patch.object(stages, "train_feature_network") as learn:
        learn.return_value.save_weights = lambda file: file.write(b"weights")
        run = mock.Mock(hyperparameters=opened.hyperparameters, folder=tmp_path)
        stages.train_features(dataset, run)
    slices, rows, labels, *_ = learn.call_args.args
    assert slices is dataset.slices
    assert set(dataset.table["split"].iloc[rows]) == {"train"}
    assert len(rows) == (dataset.table["split"] == "train").sum()
    pandas.testing.assert_frame_equal(labels, dataset.labels(rows))
