"""The fast sampler draws what the plain loop draws."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions

from hyperparameters import DrawConfig, PriorConfig
from modules import PixelCNN
from oasisvq.sampling import incremental
from oasisvq.sampling.draw import draw_codes
from oasisvq.sampling.incremental import sample_code_grids
from support.plain_sampling import sample_by_forward_passes


def lively_prior(code_shape=(7, 6), num_embeddings=9, **arguments):
    """A prior whose weights all matter to what is drawn, and none alone decides."""
    config = dataclasses.replace(PriorConfig(), **arguments)
    prior = PixelCNN(code_shape, num_embeddings, config, seed=0)
    random = np.random.default_rng(2)
    prior.set_weights([random.normal(0, 0.3, size=w.shape) for w in prior.get_weights()])
    prior.condition.mean.assign([93, 50, 0.5, 0.2])
    prior.condition.deviation.assign([3, 25, 0.5, 0.4])
    return prior


def compiled(prior):
    """Returns a stand-in for a prior whose forward pass is compiled: the plain loop is slow."""

    @tf.function
    def logits(codes, conditions):
        return prior.distribution(codes, conditions).distribution.logits_parameter()

    def distribution(codes, conditions):
        return distributions.Independent(distributions.Categorical(logits(codes, conditions)), 2)

    return SimpleNamespace(distribution=distribution)


@pytest.fixture(scope="module")
def prior():
    return lively_prior(filters=12, residual_blocks=3, dilations=(1, 2))


@pytest.fixture(scope="module")
def plain_prior(prior):
    return compiled(prior)


ALL_CODES = DrawConfig()
CONDITIONS = np.array(
    [[95, 70, 0, 0.5], [90, np.nan, 1, np.nan], [99, 20, np.nan, 0], [np.nan] * 4], np.float32
)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.9}]
)
def test_sampler_draws_the_codes_of_the_plain_loop(prior, plain_prior, options):
    uniforms = np.random.default_rng(3).random((4, 7, 6))
    codes = sample_code_grids(prior, uniforms, DrawConfig(**options), CONDITIONS)
    expected = sample_by_forward_passes(plain_prior, uniforms, CONDITIONS, DrawConfig(**options))
    np.testing.assert_array_equal(codes, expected)
    assert len(np.unique(codes)) > 2


@pytest.mark.parametrize(
    ("code_shape", "arguments"),
    [
        ((3, 5), {"filters": 7, "residual_blocks": 1}),  # no multiple of the heads
        ((5, 3), {"filters": 2, "residual_blocks": 2, "dilations": (4,)}),
        ((1, 6), {"filters": 8, "residual_blocks": 2}),
    ],
)
def test_sampler_draws_the_codes_of_the_plain_loop_of_any_prior(code_shape, arguments, monkeypatch):
    monkeypatch.setattr(incremental, "GRIDS_AT_ONCE", 3)
    prior = lively_prior(code_shape, 5, **arguments)
    uniforms = np.random.default_rng(3).random((4, *code_shape))
    codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS)
    expected = sample_by_forward_passes(compiled(prior), uniforms, CONDITIONS, ALL_CODES)
    np.testing.assert_array_equal(codes, expected)


def test_uniforms_and_conditions_both_matter(prior):
    uniforms = np.random.default_rng(3).random((4, 7, 6))
    codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS)
    others = sample_code_grids(prior, uniforms[::-1], ALL_CODES, CONDITIONS)
    assert ((codes != others).mean(axis=(1, 2)) > 0.1).all()
    unknown = sample_code_grids(prior, uniforms, ALL_CODES)
    assert (unknown[:3] != codes[:3]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(unknown[3], codes[3])


def test_same_uniforms_same_codes(prior):
    uniforms = np.random.default_rng(4).random((2, 7, 6))
    first = sample_code_grids(prior, uniforms, ALL_CODES)
    np.testing.assert_array_equal(first, sample_code_grids(prior, uniforms, ALL_CODES))
    other = sample_code_grids(prior, np.random.default_rng(5).random((2, 7, 6)), ALL_CODES)
    assert (first != other).any()


def test_a_wrong_grid_is_refused(prior):
    with pytest.raises(ValueError, match="expected uniforms"):
        sample_code_grids(prior, np.zeros((1, 6, 7)), ALL_CODES)
    with pytest.raises(ValueError, match="expected conditions"):
        sample_code_grids(prior, np.zeros((2, 7, 6)), ALL_CODES, CONDITIONS)


@pytest.mark.parametrize("seed", range(20))
def test_no_code_differs_over_seeds_with_and_without_given_codes(prior, plain_prior, seed):
    random = np.random.default_rng(seed)
    uniforms, given = random.random((4, 7, 6)), random.integers(0, 9, (4, 7, 6))
    given[random.random(given.shape) < 0.6] = -1
    given[0], given[1, :3] = -1, 0  # nothing given, and whole rows
    for known in (None, given):
        codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS, given=known)
        expected = sample_by_forward_passes(
            plain_prior, uniforms, CONDITIONS, ALL_CODES, given=known
        )
        np.testing.assert_array_equal(codes, expected)
    assert (codes[given >= 0] == given[given >= 0]).all()


def test_given_codes_change_what_comes_after_them_only(prior):
    uniforms = np.random.default_rng(3).random((4, 7, 6))
    codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS)
    given = np.full(codes.shape, -1)
    given[:, 3, 2] = (codes[:, 3, 2] + 1) % 9
    others = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS, given=given)
    flat, other_flat = codes.reshape(4, -1), others.reshape(4, -1)
    np.testing.assert_array_equal(flat[:, :20], other_flat[:, :20])
    np.testing.assert_array_equal(others[:, 3, 2], given[:, 3, 2])
    assert (flat[:, 21:] != other_flat[:, 21:]).any()
    np.testing.assert_array_equal(
        sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS, given=codes), codes
    )


@pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 2), slice(1, 6)])
def test_codes_after_rows_given_in_every_grid_are_those_of_the_plain_loop(prior, plain_prior, rows):
    random = np.random.default_rng(8)
    uniforms, given = random.random((4, 7, 6)), np.full((4, 7, 6), -1)
    given[:, rows] = random.integers(0, 9, given[:, rows].shape)
    codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS, given=given)
    expected = sample_by_forward_passes(plain_prior, uniforms, CONDITIONS, ALL_CODES, given=given)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("wrong", [np.full((4, 7, 5), -1), np.full((4, 7, 6), 9), [[[-2]]]])
def test_given_codes_that_cannot_be_are_refused(prior, wrong):
    wrong = np.asarray(wrong)
    wrong = np.resize(wrong, (4, 7, 6)) if wrong.size == 1 else wrong
    with pytest.raises(ValueError, match="expected given codes"):
        sample_code_grids(prior, np.zeros((4, 7, 6)), ALL_CODES, CONDITIONS, given=wrong)


def test_at_full_size_the_grid_is_the_fixed_point_of_one_forward_pass():
    # Redrawn from the logits of the whole grid, every code is itself: so the plain loop, which
    # draws the first from the same logits, then the second, ..., ends with this very grid.
    prior = PixelCNN((44, 44), 512, PriorConfig(), seed=0)
    random = np.random.default_rng(5)
    prior.set_weights(
        [w + random.normal(0, 0.05, size=w.shape).astype(w.dtype) for w in prior.get_weights()]
    )
    uniforms = random.random((2, 44, 44))
    codes = sample_code_grids(prior, uniforms, ALL_CODES, CONDITIONS[:2])
    logits = prior((codes, CONDITIONS[:2])).numpy().reshape(-1, 512).astype(np.float64)
    redrawn = draw_codes(logits, uniforms.reshape(-1), ALL_CODES).reshape(codes.shape)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    ends = probabilities.cumsum(axis=1) / probabilities.sum(axis=1, keepdims=True)
    to_border = np.abs(ends - uniforms.reshape(-1, 1)).min(axis=1).reshape(codes.shape)
    ties = {tuple(place): to_border[tuple(place)] for place in np.argwhere(redrawn != codes)}
    assert all(distance < 1e-5 for distance in ties.values()), ties
    assert len(ties) < 0.01 * codes.size
    assert len(np.unique(codes)) > 100
