"""The order of batches, and which slices count."""

import numpy as np
import pytest
import tensorflow as tf

from oasisvq.core.errors import HyperparameterError
from oasisvq.training.batches import Batches, deliver, ordered_rows, shuffled_rows
from support.models import pairs_of


def test_an_epochs_order_is_a_function_of_seed_and_epoch():
    rows = np.arange(100, 143)
    first = shuffled_rows(rows, 8, 0, 0)
    assert first.shape == (5, 8)
    assert len(np.unique(first)) == 40
    assert set(first.ravel()) <= set(rows)
    np.testing.assert_array_equal(first, shuffled_rows(rows, 8, 0, 0))
    for other in ((0, 1), (1, 0), (0, 0, 1)):
        assert (shuffled_rows(rows, 8, *other) != first).any()
    assert shuffled_rows(rows[:5], 8, 0, 0).shape == (1, 5)


def test_rows_in_order_are_filled_up_with_weights_of_0():
    rows, weights = ordered_rows(np.array([3, 5, 9]), 2)
    np.testing.assert_array_equal(rows, [[3, 5], [9, 3]])
    np.testing.assert_array_equal(weights, [[1, 1], [1, 0]])


def test_batches_hold_what_is_read_of_their_rows():
    values = np.arange(10.0, 20.0, dtype="float32")
    batches = Batches(pairs_of(values, -values), np.arange(2, 9), 3, seed=4)
    assert (batches.step_size, batches.steps) == (3, 2)
    epoch = list(batches.shuffled(1))
    rows = shuffled_rows(np.arange(2, 9), 3, 4, 1)
    for (inputs, targets, weights), expected in zip(epoch, rows, strict=True):
        np.testing.assert_array_equal(inputs, values[expected])
        np.testing.assert_array_equal(targets, -values[expected])
        np.testing.assert_array_equal(weights, 1)
    (rest,) = batches.shuffled(1, first=1)
    np.testing.assert_array_equal(rest[0], epoch[1][0])
    (start,) = batches.shuffled(1, last=1)
    np.testing.assert_array_equal(start[0], epoch[0][0])
    other = next(iter(batches.shuffled(1, stream=(1,))))
    assert (other[0].numpy() != epoch[0][0].numpy()).any()
    *_, last = batches.in_order()
    np.testing.assert_array_equal(last[2], [1, 0, 0])
    assert list(deliver(pairs_of(values), np.zeros((0, 3), int))) == []


def test_few_slices_are_one_step():
    batches = Batches(pairs_of(np.zeros(5)), np.arange(5), 8)
    assert (batches.step_size, batches.steps) == (5, 1)


def test_a_batch_must_come_out_even(monkeypatch):
    class Three:
        """A strategy of three devices."""

        num_replicas_in_sync = 3

    monkeypatch.setattr(tf.distribute, "get_strategy", Three)
    with pytest.raises(HyperparameterError, match="multiples of 3.*Received: 4"):
        next(Batches(pairs_of(np.zeros(8)), np.arange(8), 4).shuffled(0))
