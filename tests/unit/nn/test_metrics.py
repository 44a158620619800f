"""Metrics of an epoch, against what NumPy makes of all slices at once."""

import numpy as np
import pytest
import tensorflow as tf

from oasisvq.nn.metrics import CodebookUse, SliceMean


def test_a_mean_is_taken_over_all_slices_of_an_epoch():
    mean = SliceMean("loss")
    mean.update_state(tf.constant([1.0, 2.0, 3.0]))
    mean.update_state(tf.constant([10.0, np.nan]), tf.constant([1.0, 0.0]))
    assert float(mean.result()) == pytest.approx(4.0)
    mean.reset_state()
    assert float(mean.result()) == 0
    mean.update_state(tf.constant([1.0, np.nan]))
    assert np.isnan(mean.result())


def test_perplexity_is_that_of_the_whole_epoch(random):
    codes, use = random.integers(0, 512, (64, 8, 8)), CodebookUse(512)
    for batch in codes:
        use.update_state(batch[None])
    counts = np.bincount(codes.ravel(), minlength=512)
    p = counts[counts > 0] / counts.sum()
    result = {name: float(value) for name, value in use.result().items()}
    assert result["perplexity"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
    assert result["codebook_usage"] == pytest.approx((counts > 0).mean())
    assert result["perplexity"] > 400  # averaged over batches it would be below 64


@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)])
def test_codes_count_by_their_weights(shape, random):
    codes, weights = random.integers(0, 7, (4, 3, 2)), random.integers(0, 2, shape)
    use = CodebookUse(7)
    use.update_state(codes, weights)
    every = np.broadcast_to(weights.reshape(*shape, *[1] * (3 - len(shape))), codes.shape)
    np.testing.assert_array_equal(use.counts, np.bincount(codes.ravel(), every.ravel(), 7))


def test_one_code_has_perplexity_1():
    use = CodebookUse(8)
    use.update_state(np.full((2, 3, 3), 5))
    assert float(use.result()["perplexity"]) == pytest.approx(1)
    assert float(use.result()["codebook_usage"]) == pytest.approx(1 / 8)
