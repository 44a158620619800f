"""A draw follows the probabilities, and the plain loop draws each code given those before it."""

from types import SimpleNamespace

import numpy as np
import pytest
from tensorflow_probability import distributions

from hyperparameters import DrawConfig
from oasisvq.sampling.draw import draw_codes
from support.plain_sampling import sample_by_forward_passes


def test_draws_follow_the_probabilities():
    p = np.array([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(p), (100_000, 1))
    drawn = draw_codes(logits, np.random.default_rng(0).random(100_000), DrawConfig())
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 1e5, p, atol=0.006)


def test_temperature_top_k_and_top_p_keep_the_likeliest_codes():
    logits = np.log(np.tile([0.5, 0.3, 0.15, 0.05], (20_000, 1)))
    uniforms = np.random.default_rng(0).random(20_000)

    def frequencies(**options):
        drawn = draw_codes(logits, uniforms, DrawConfig(**options))
        return np.bincount(drawn, minlength=4) / 20_000

    np.testing.assert_allclose(frequencies(top_k=2), [0.625, 0.375, 0, 0], atol=0.015)
    np.testing.assert_allclose(frequencies(top_p=0.79), [0.625, 0.375, 0, 0], atol=0.015)
    np.testing.assert_allclose(frequencies(top_p=0.81), [0.526, 0.316, 0.158, 0], atol=0.015)
    squared = np.array([0.25, 0.09, 0.0225, 0.0025])
    np.testing.assert_allclose(frequencies(temperature=0.5), squared / squared.sum(), atol=0.015)
    roots = np.sqrt([0.5, 0.3, 0.15, 0.05])
    np.testing.assert_allclose(frequencies(temperature=2), roots / roots.sum(), atol=0.015)
    assert frequencies(temperature=0.01)[0] == 1


@pytest.mark.parametrize("kept", [1, 2, 5, 19])
def test_top_k_keeps_exactly_so_many_codes(kept):
    logits = np.random.default_rng(0).permutation(np.linspace(0, 2, 20))
    uniforms = np.linspace(0, 1, 4000, endpoint=False)
    drawn = draw_codes(np.tile(logits, (4000, 1)), uniforms, DrawConfig(top_k=kept))
    assert set(drawn) == set(np.argsort(-logits)[:kept])


def test_the_largest_uniform_draws_a_code_that_exists():
    almost_one = np.array([np.nextafter(1.0, 0)])
    assert draw_codes(np.zeros((1, 512)), almost_one, DrawConfig())[0] == 511
    assert draw_codes(np.zeros((1, 512)), almost_one, DrawConfig(top_k=1))[0] < 512


# The plain loop, with a prior of three codes of which each depends on the code before it.

FOLLOWERS = np.array([[0.2, 0.7, 0.1], [0.0, 0.6, 0.4], [0.6, 0.3, 0.1]])  # of each code
FIRST = np.array([0.3, 0.3, 0.4])


def chain(codes, conditions):
    """Returns the distribution of such a prior; conditions `(B, 1)` of 1 swap the codes 0 and 2."""
    flat = codes.reshape(len(codes), -1)
    probabilities = np.concatenate([np.tile(FIRST, (len(codes), 1, 1)), FOLLOWERS[flat[:, :-1]]], 1)
    probabilities = np.where(conditions[..., None] == 1, probabilities[..., ::-1], probabilities)
    grids = distributions.Categorical(probs=probabilities.reshape(*codes.shape, 3))
    return distributions.Independent(grids, 2)


def chain_codes(uniforms, swapped, given):
    """Returns the codes of one grid that such a prior draws, one after the other."""
    codes = []
    for uniform, known in zip(uniforms.ravel(), given.ravel(), strict=True):
        probabilities = FOLLOWERS[codes[-1]] if codes else FIRST
        probabilities = probabilities[::-1] if swapped else probabilities
        drawn = np.flatnonzero(probabilities.cumsum() > uniform)[0]
        codes.append(drawn if known < 0 else known)
    return np.reshape(codes, uniforms.shape)


def test_plain_loop_draws_each_code_given_those_before_it():
    random = np.random.default_rng(1)
    uniforms, conditions = random.random((6, 3, 4)), np.array([[0], [1]] * 3)
    given = np.where(random.random(uniforms.shape) < 0.7, -1, 2)
    prior = SimpleNamespace(distribution=chain)
    for known in (np.full(uniforms.shape, -1), given):
        codes = sample_by_forward_passes(prior, uniforms, conditions, DrawConfig(), known)
        assert codes.dtype == np.int32
        for n in range(6):
            expected = chain_codes(uniforms[n], conditions[n, 0], known[n])
            np.testing.assert_array_equal(codes[n], expected)
    whole = uniforms, conditions, DrawConfig()
    np.testing.assert_array_equal(
        sample_by_forward_passes(prior, *whole),
        sample_by_forward_passes(prior, *whole, given=np.full(uniforms.shape, -1)),
    )


def test_plain_loop_passes_on_how_codes_are_drawn():
    uniforms, conditions = np.random.default_rng(1).random((2, 3, 4)), np.zeros((2, 1))
    prior = SimpleNamespace(distribution=chain)
    likeliest = [2, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    for options in ({"temperature": 0.01}, {"top_k": 1}, {"top_p": 1e-6}):
        codes = sample_by_forward_passes(prior, uniforms, conditions, DrawConfig(**options))
        np.testing.assert_array_equal(codes.reshape(2, -1), [likeliest] * 2)
