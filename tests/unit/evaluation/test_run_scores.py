"""Which slices a report shows, and what codes cost and give back."""

import numpy as np
import pandas

from oasisvq.evaluation import run_scores
from oasisvq.evaluation.run_scores import choose_extremes
from support.models import random_weights, small_prior, small_vqvae


def test_extremes_are_the_best_median_and_worst_slices():
    ssim = np.random.default_rng(0).permutation(20) / 20
    table = pandas.DataFrame({"ssim": ssim, "subject": [f"s{n}" for n in range(20)]})
    rows, titles = choose_extremes(table)
    assert (20 * ssim[rows]).round().tolist() == [19, 18, 17, 10, 11, 12, 0, 1, 2]
    assert titles[0] == f"best: SSIM 0.950\ns{rows[0]}"
    assert titles[8] == f"worst: SSIM 0.100\ns{rows[8]}"


def test_of_two_slices_nine_extremes_are_shown_all_the_same():
    table = pandas.DataFrame({"ssim": [0.5, 0.75], "subject": ["a", "b"]})
    rows, titles = choose_extremes(table)
    assert len(rows) == len(titles) == 9
    assert titles[0] == "best: SSIM 0.750\nb"


def test_codes_are_decoded_into_bytes_batch_by_batch(random, monkeypatch):
    monkeypatch.setattr(run_scores, "BATCH_SIZE", 3)
    vqvae = random_weights(small_vqvae((16, 12)), seed=1, scale=0.3)
    codes = random.integers(0, 16, (7, *vqvae.code_shape)).astype(np.uint16)
    slices = run_scores.decode(vqvae, codes, "Slices")
    assert slices.dtype == np.uint8
    expected = vqvae.decode(codes).numpy()[..., 0] * 255
    assert np.abs(slices - expected).max() <= 0.501
    assert len(np.unique(slices)) > 10


def test_bits_are_those_of_each_grid_under_its_own_conditions(random, monkeypatch):
    monkeypatch.setattr(run_scores, "BATCH_SIZE", 3)
    prior = random_weights(small_prior((4, 3), 16), seed=1, scale=0.3)
    codes = random.integers(0, 16, (7, 4, 3)).astype(np.uint16)
    conditions = random.random((7, 4)).astype(np.float32)
    bits = run_scores.bits_of(prior, codes, conditions)
    for n in range(7):
        alone = prior.bits_per_code(codes[[n]], conditions[[n]]).numpy()
        np.testing.assert_allclose(bits[n], alone[0], rtol=1e-5)
    assert len(np.unique(bits)) == 7
