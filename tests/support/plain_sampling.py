"""Sampling by its definition, slow and plain: the oracle of the fast sampler."""

import numpy as np


def sample_by_forward_passes(prior, uniforms, conditions, config, given=None):
    """Draws code grids in reading order, by a whole forward pass of the prior for each code.

    Args:
        prior: Anything with the method `distribution` of `PixelCNN`.
        uniforms, conditions, config, given: See `sample_code_grids`.

    Returns:
        int32 array `(B, h, w)`.
    """
    codes = np.zeros(uniforms.shape, np.int32)
    for row, column in np.ndindex(codes.shape[1:]):
        distribution = prior.distribution(codes, conditions).distribution
        probabilities = np.asarray(distribution.probs_parameter())[:, row, column]  # (B, K)
        for grid, p in enumerate(probabilities):
            known = -1 if given is None else given[grid, row, column]
            drawn = draw_code(p, uniforms[grid, row, column], config)
            codes[grid, row, column] = drawn if known < 0 else known
    return codes


def draw_code(probabilities, uniform, config):
    """Returns the code at which the cumulative distribution of `(K,)` passes a uniform."""
    p = probabilities.astype(np.float64) ** (1 / config.temperature)
    likeliest_first = np.argsort(-p, kind="stable")
    if config.top_k:
        p[p < p[likeliest_first[: config.top_k]].min()] = 0
    if config.top_p < 1:
        sums = p[likeliest_first].cumsum()
        enough = np.argmax(sums >= config.top_p * sums[-1])
        p[likeliest_first[enough + 1 :]] = 0
    return np.argmax(p.cumsum() > uniform * p.sum())
