"""Draws codes from the logits of the prior."""

import math

import numpy as np


def draw_codes(logits, uniforms, config):
    """Draws a code from each row of logits by inverting its cumulative distribution.

    Args:
        logits: Float array `(B, K)`.
        uniforms: Float array `(B,)` in [0, 1).
        config: `DrawConfig`. `temperature` divides the logits: below 1, likely codes become
            likelier. `top_k` keeps the k likeliest codes, and those as likely as the last of them;
            0 keeps all. `top_p` keeps the likeliest codes whose probabilities add up to it.

    Returns:
        int64 array `(B,)`.

    Reference:

    - [Holtzman et al., 2020](https://arxiv.org/abs/1904.09751), for `top_p`
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    if config.temperature != 1:
        logits /= config.temperature
    weights = np.exp(logits, out=logits)  # probabilities that are not yet divided by their sum
    if 0 < config.top_k < weights.shape[1]:
        kth = np.partition(weights, -config.top_k, axis=1)[:, [-config.top_k]]
        weights = np.where(weights >= kth, weights, 0)
    if config.top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        descending = np.take_along_axis(weights, order, axis=1)
        before = descending.cumsum(axis=1) - descending
        descending[before >= config.top_p * descending.sum(axis=1, keepdims=True)] = 0
        np.put_along_axis(weights, order, descending, axis=1)
    return _invert_cumulative(weights, uniforms)


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
