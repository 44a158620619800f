"""Which brains of a run are judged: new ones, known ones, and real ones through the codes."""

import numpy as np
import pytest

from dataset import open_test_slices
from hyperparameters import DrawConfig, Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.evaluation import run_brains
from oasisvq.evaluation.run_brains import draw_brains, tell_members, through_codes
from oasisvq.runs.folder import open_run


@pytest.fixture
def opened(place):
    run = open_run(place / "run", Hyperparameters)
    return run, load_vqvae(run), load_prior(run)


def test_new_brains_are_drawn_under_the_conditions_that_their_table_names(opened, monkeypatch):
    run, vqvae, prior = opened
    asked, codes = [], run.training_codes()

    def draw(prior, uniforms, config, conditions):
        asked.append(conditions)
        assert uniforms.shape == (7, *vqvae.code_shape)
        return codes[:7]

    monkeypatch.setattr(run_brains, "sample_code_grids", draw)
    new, known = draw_brains(run, vqvae, prior, DrawConfig(num_samples=7, seed=3))
    np.testing.assert_array_equal(new.images, known.images[:7])
    assert new.persons() == len(new.table) == 7
    for name, column in (("position", 0), ("age", 1), ("cdr", 3)):
        np.testing.assert_array_equal(new.table[name], asked[0][:, column])
    assert list(new.table["sex"]) == ["FM"[int(sex)] for sex in asked[0][:, 2]]
    assert len(known.table) == len(codes)
    assert known.persons() == len(np.unique(run.training_persons()))
    decoded = vqvae.decode(codes).numpy()[..., 0] * 255
    assert np.abs(known.images - decoded).max() <= 0.501


def test_a_quick_judgement_draws_fewer_brains_and_decodes_fewer_slices(opened, monkeypatch):
    monkeypatch.setattr(run_brains, "QUICK_BRAINS", 3)
    monkeypatch.setattr(run_brains, "QUICK_SLICES", 5)
    new, known = draw_brains(*opened, DrawConfig(num_samples=7), quick=True)
    assert len(new.table) == 3
    assert len(known.table) == known.persons() == 5


def test_another_seed_draws_other_brains(opened):
    first, again, other = (
        draw_brains(*opened, DrawConfig(num_samples=3, seed=seed))[0].images for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_real_slices_stand_beside_themselves_through_the_codes(opened):
    run, vqvae, _ = opened
    slices = open_test_slices(run)
    raw, test = through_codes(vqvae, slices, np.array([1, 0]))
    np.testing.assert_array_equal(raw.images, slices.slices[[1, 0]])
    assert test.table is raw.table
    decoded = vqvae.decode(vqvae.encode(slices.images([1, 0]))).numpy()[..., 0] * 255
    assert np.abs(test.images - decoded).max() <= 0.501


def test_bits_that_are_lower_for_training_persons_tell_them(opened):
    run, _, prior = opened
    persons = ["a", "a", "b", "b", "c"]
    assert tell_members(run, prior, np.full(5, 99.0), persons, seed=0) == 1
    assert tell_members(run, prior, np.zeros(5), persons, seed=0) == 0
