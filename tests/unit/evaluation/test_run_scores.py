"""Which slices a report shows, and what it says of new brains."""

import numpy as np
import pandas
import pytest
import tensorflow as tf

from oasisvq.evaluation import run_scores
from oasisvq.evaluation.features import TASKS
from oasisvq.evaluation.run_scores import (
    choose_extremes,
    choose_whole_subjects,
    decode_into,
    score_new_brains,
)
from support.models import random_weights, small_vqvae


def test_whole_subjects_are_taken_until_there_are_enough():
    subjects = np.repeat(list("abcdef"), 2)
    few = choose_whole_subjects(subjects, 3, seed=0)
    assert few.sum() == 4
    assert np.unique(subjects[few], return_counts=True)[1].tolist() == [2, 2]
    assert choose_whole_subjects(subjects, 100, seed=0).all()
    drawn = {tuple(choose_whole_subjects(subjects, 3, seed)) for seed in range(9)}
    assert len(drawn) > 3


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
    slices = np.zeros((7, 16, 12), np.uint8)
    decode_into(slices, vqvae, codes)
    expected = vqvae.decode(codes).numpy()[..., 0] * 255
    assert np.abs(slices - expected).max() <= 0.501
    assert len(np.unique(slices)) > 10


class Network:
    """A stand-in for the feature network: everything is the mean intensity."""

    def __call__(self, images):
        means = tf.reduce_mean(tf.constant(images), axis=(1, 2))  # (B, 1)
        return {"features": means, "predictions": tf.tile(means, [1, len(TASKS)])}


@pytest.fixture
def new_brains(brains):
    """Returns the report and what its figures show, of eight slices and darker new ones."""
    real = brains[..., None].astype("float32")
    generated = 0.9 * real[::-1]
    train = np.round(generated[:5, ..., 0] * 255).astype(np.uint8)[::-1]
    table = pandas.DataFrame({"subject": list("aabbccdd"), "position": range(8), "age": 50})
    keys, table = ["here", "there"] * 4, table.assign(sex="")
    found = score_new_brains(Network(), real, real, generated, train, table, keys, seed=1)
    return real, generated, train, *found


def test_mixed_slices_are_half_real_and_their_names_say_which(new_brains):
    real, generated, _, report, shown = new_brains
    assert shown["mixed_names"] == [f"A{n}" for n in range(1, 9)]
    assert len(report["mixed_real"]) == 4
    for name, picture in zip(shown["mixed_names"], shown["mixed"], strict=True):
        source = real if name in report["mixed_real"] else generated
        assert (picture == source[..., 0]).all(axis=(1, 2)).any()


def test_the_closest_new_brains_come_first_each_beside_its_training_slice(new_brains):
    _, generated, train, report, shown = new_brains
    assert report["training_slices"] == 5
    pictures, references, distances = shown["closest"]
    assert (np.diff(distances) >= 0).all()
    np.testing.assert_allclose(pictures[:5], references[:5], atol=0.003)
    errors = np.sqrt(((pictures - references) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(errors, distances, rtol=1e-4)
    assert (generated[..., 0] == pictures[0]).all(axis=(1, 2)).any()


def test_the_skill_of_the_network_is_that_on_these_slices(new_brains):
    *_, report, _ = new_brains
    assert set(report["network_skill"]) == {"position", "age", "sex", "mixed"}
    assert report["network_skill"]["age"] is report["network_skill"]["sex"] is None
    assert -1 <= report["network_skill"]["position"] <= 1
