"""Computes means with their 95% intervals over subjects."""

import numpy as np
import pandas

BOOTSTRAPS = 2000


def interval_by_subject(values, subjects, seed=0):
    """Returns the mean over slices with its 95% interval, bootstrapped over subjects.

    Slices of one subject are alike, so subjects are drawn with replacement, not slices.

    Args:
        values: Float array `(n,)`; NaN is left out.
        subjects: Sequence `(n,)` of names.
        seed: Integer, draws the bootstrap samples.

    Returns:
        Dictionary of `mean`, `low` and `high`. All three are `None` without a value, `low` and
        `high` with a single subject.
    """
    known = pandas.Series(np.asarray(values, np.float64), np.asarray(subjects, str)).dropna()
    if known.empty:
        return {"mean": None, "low": None, "high": None}
    by_subject, mean = known.groupby(level=0), float(known.mean())
    sums, counts = by_subject.sum().to_numpy(), by_subject.size().to_numpy()
    if len(sums) == 1:  # one subject says nothing about others
        return {"mean": mean, "low": None, "high": None}
    drawn = np.random.default_rng(seed).integers(len(sums), size=(BOOTSTRAPS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": mean, "low": float(low), "high": float(high)}


def format_interval(interval, precision):
    """Returns a mean and its interval as text, or what is known of them.

    Args:
        interval: Dictionary, see `interval_by_subject`.
        precision: The format of the numbers, such as `".4f"`.
    """
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    if mean is None:
        return "-"
    text = f"{mean:{precision}}"
    return text if low is None else f"{text} [{low:{precision}}, {high:{precision}}]"


def format_score(interval):
    """Returns what `format_interval` does, in fewer digits for decibels than for parts of 1."""
    return format_interval(interval, ".2f" if (interval["mean"] or 0) > 1 else ".4f")
