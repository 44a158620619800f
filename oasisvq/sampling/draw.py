"""Draws codes from the prior, and defines by a plain loop how whole grids are sampled."""

import math

import numpy as np


def draw_codes(logits, uniforms, temperature=1.0, top_k=0, top_p=1.0):
    """Draws a code from each row of logits by inverting its cumulative distribution.

    Args:
        logits: Float array `(B, K)`.
        uniforms: Float array `(B,)` in [0, 1).
        temperature: Float above 0 that divides the logits; below 1 likely codes become likelier.
        top_k: Integer, keeps the k likeliest codes, and those as likely as the last of them; 0
            keeps all.
        top_p: Float in (0, 1], keeps the likeliest codes whose probabilities sum up to this.

    Returns:
        int64 array `(B,)`.

    Reference:

    - [Holtzman et al., 2020](https://arxiv.org/abs/1904.09751), for `top_p`
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    if temperature != 1:
        logits /= temperature
    weights = np.exp(logits, out=logits)  # probabilities that are not yet divided by their sum
    if 0 < top_k < weights.shape[1]:
        kth = np.partition(weights, -top_k, axis=1)[:, [-top_k]]
        weights = np.where(weights >= kth, weights, 0)
    if top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        descending = np.take_along_axis(weights, order, axis=1)
        before = descending.cumsum(axis=1) - descending
        descending[before >= top_p * descending.sum(axis=1, keepdims=True)] = 0
        np.put_along_axis(weights, order, descending, axis=1)
    return _invert_cumulative(weights, uniforms)


def sample_by_forward_passes(
    prior, uniforms, conditions, temperature=1.0, top_k=0, top_p=1.0, given=None
):
    """Draws code grids in reading order, by a whole forward pass of the prior for each code.

    This is the definition of sampling. `sample_code_grids` draws the same codes in a small part of
    the time; its arguments are explained there.

    Returns:
        int32 array `(B, h, w)`.
    """
    codes = np.zeros(uniforms.shape, np.int32)
    for row, column in np.ndindex(codes.shape[1:]):
        distribution = prior.distribution(codes, conditions).distribution
        logits = np.asarray(distribution.logits_parameter())[:, row, column]  # (B, K)
        drawn = draw_codes(logits, uniforms[:, row, column], temperature, top_k, top_p)
        known = np.full(len(drawn), -1) if given is None else given[:, row, column]
        codes[:, row, column] = np.where(known < 0, drawn, known)
    return codes


def _invert_cumulative(weights, uniforms):
    """Returns the code at which the running sum of each row `(B, K)` passes a share of the whole.

    The code is found in two steps, first its group and then itself within the group: a running sum
    over all codes would take longer than computing their logits.
    """
    batch, count = weights.shape
    size = max(n for n in range(1, math.isqrt(count) + 1) if count % n == 0)  # of a group
    groups = weights.reshape(-1, size)  # (B K / size, size)
    sums = groups.dot(np.ones(size, groups.dtype)).reshape(batch, -1)
    ends = sums.cumsum(axis=1)
    targets = uniforms * ends[:, -1]  # below the end, for uniforms are below 1
    group = (ends > targets[:, None]).argmax(axis=1)
    group += np.arange(0, sums.size, sums.shape[1])  # numbered over all rows
    within = groups.take(group, axis=0).cumsum(axis=1)  # (B, size)
    rest = targets - (ends - sums).take(group)
    # Rounding must lead neither before nor past the group's codes that have any probability.
    rest = np.clip(rest, 0, within[:, -1] * (1 - 1e-6))
    return (group * size + (within > rest[:, None]).argmax(axis=1)) % count
