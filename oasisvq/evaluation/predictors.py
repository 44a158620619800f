"""Asks brains for their age, sex and CDR: classifiers and a regression on real and new slices."""

import zlib

import numpy as np
import pandas
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

SIDE = 44  # pixels of the longer side that predictions are made from, about
# Of the penalties, which were chosen on coronal slices of OASIS-1. Pixels are not standardised:
# one that hardly varies in brains that are all alike would outweigh all others.
RIDGE, LOGISTIC = 10.0, 0.1
BANDS = (0, 30, 50, 65, 75, 121)  # years
AGE_FOLDS = 5
FAINT = 1e-9  # no variance is smaller
FEWEST = 5  # brains of a band, or of a sex or a rating


def small_pictures(images):
    """Returns slices `(n, H, W)` as rows of about 44x44 means of pixels: `(n, pixels)`."""
    count, height, width = images.shape
    cell = max(round(max(height, width) / SIDE), 1)
    images = images[:, : height // cell * cell, : width // cell * cell]
    cells = images.reshape(count, height // cell, cell, width // cell, cell)
    return cells.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)


def compare_predictions(brains, real, test):
    """Returns how well age, sex and CDR are told from new brains, beside real ones.

    A predictor that learned from other real slices is asked about new brains, whose age, sex and
    CDR are those that were asked for, and about real slices of the test persons. Another one learns
    from as many new brains, and is asked about the test persons.

    Args:
        brains, real, test: Pairs of `small_pictures` and a data frame with `age` in years, `sex`,
            `"F"` or `"M"`, and `cdr`. `real` are other persons than `test`.

    Returns:
        Dictionary of `age`, `sex` and `cdr`: `on_new`, `on_real` and `trained_on_new`. For the age
        each has `error`, the mean absolute error in years, and `slope` of the prediction against
        the age; for sex and CDR (0 against more) it is an area under the ROC curve. `None` where
        too few are known.
    """
    return {
        "age": _compare(brains, real, test, _known_age, _regression, _age_scores),
        "sex": _compare(brains, real, test, _is_female, _classifier, _area),
        "cdr": _compare(brains, real, test, _is_rated_above_0, _classifier, _area),
    }


def _compare(brains, real, test, target, make, score):
    groups = [_with_target(group, target) for group in (brains, real, test)]
    (new, new_values), (others, other_values), (held, held_values) = groups
    # As many of either to learn from, evenly spaced.
    count = min(len(new), len(others))
    few, few_others = (np.linspace(0, len(x) - 1, count).astype(int) for x in (new, others))
    if min(map(_fewest, (new_values[few], other_values[few_others], held_values))) < FEWEST:
        return None
    learned = make().fit(others[few_others], other_values[few_others])
    of_new = make().fit(new[few], new_values[few])
    return {
        "on_new": score(learned, new, new_values),
        "on_real": score(learned, held, held_values),
        "trained_on_new": score(of_new, held, held_values),
    }


def _with_target(group, target):
    """Returns the rows of a group whose target is known, and the target."""
    pictures, table = group
    values = target(table).to_numpy(float)
    known = ~np.isnan(values)
    return pictures[known], values[known]


def _fewest(values):
    """Returns how many rows the rarer of two classes has, or how many there are in all."""
    counts = np.unique(values, return_counts=True)[1]
    return counts.min() if len(counts) == 2 else len(values) * (len(counts) > 1)


def _known_age(table):
    return table["age"].astype(float)


def _is_female(table):
    return table["sex"].map({"F": 1.0, "M": 0.0})


def _is_rated_above_0(table):
    rating = table["cdr"].astype(float)
    return (rating > 0).where(rating.notna()).astype(float)


def _regression():
    return Ridge(RIDGE)


def _classifier():
    return LogisticRegression(C=LOGISTIC, max_iter=500)


def _age_scores(model, pictures, ages):
    predicted = model.predict(pictures)
    return {
        "error": float(np.abs(predicted - ages).mean()),
        "slope": float(np.polyfit(ages, predicted, 1)[0]),
    }


def _area(model, pictures, labels):
    return float(roc_auc_score(labels, model.decision_function(pictures)))


class AgePredictor:
    """Tells the age of brains, by models that each have not seen a fifth of the real persons.

    Args:
        pictures: `small_pictures` of real slices.
        table: Data frame with the `subject` and the `age` of each, in years; NaN is unknown.
    """

    def __init__(self, pictures, table):
        ages, folds = table["age"].to_numpy(float), self._folds(table["subject"])
        known = ~np.isnan(ages)
        parts = [known & (folds != fold) for fold in range(AGE_FOLDS)]
        enough = all(part.any() for part in parts)
        self.models = [_regression().fit(pictures[p], ages[p]) for p in parts] if enough else []

    def ages(self, pictures, persons):
        """Returns the ages of brains in years, `(n,)`; NaN if none could be learned.

        Args:
            pictures: `small_pictures` of n brains.
            persons: Sequence `(n,)` of texts, the real person of each, who is not learned from, or
                any other name.
        """
        ages, folds = np.full(len(pictures), np.nan), self._folds(persons)
        for fold, model in enumerate(self.models):
            here = folds == fold
            ages[here] = model.predict(pictures[here]) if here.any() else []
        return ages

    @staticmethod
    def _folds(persons):
        return np.array([zlib.crc32(str(person).encode()) % AGE_FOLDS for person in persons])


def compare_tissue(brains, real):
    """Returns how the share of grey and white matter falls with age, in new and in real brains.

    The mean at each position, over all real slices, is taken off.

    Args:
        brains, real: Data frames with `tissue_fraction`, `age` and `key`, the position.

    Returns:
        `bands`: for each band of ages its `ages`, the number of `new` and `real` slices, and
        Cohen's `d`, `None` if either is fewer than 5; `slope_ratio` and `spread_ratio`, of new to
        real: the slope of the line through the fractions, `None` if either all have one age, and
        their deviation from it. `None` if fewer than 5 ages are known of either.
    """
    new, old = (group.dropna(subset=["age"]).astype({"age": float}) for group in (brains, real))
    if min(len(new), len(old)) < FEWEST:
        return None
    means = old.groupby("key")["tissue_fraction"].mean()
    overall = old["tissue_fraction"].mean()
    for group in (new, old):
        group["tissue_fraction"] -= group["key"].map(means).fillna(overall)
        group["band"] = pandas.cut(group["age"], BANDS, right=False)
    (slope, spread), (real_slope, real_spread) = _line(new), _line(old)
    return {
        "bands": [_compare_band(band, new, old) for band in new["band"].cat.categories],
        "slope_ratio": slope / real_slope if slope and real_slope else None,
        "spread_ratio": spread / max(real_spread, FAINT),
    }


def _line(group):
    """Returns the slope of tissue with age, 0 if all have one age, and the deviation from it."""
    ages = group["age"] - group["age"].mean()
    fractions = group["tissue_fraction"] - group["tissue_fraction"].mean()
    slope = (ages * fractions).sum() / max((ages**2).sum(), FAINT)
    return float(slope), float((fractions - slope * ages).std())


def _compare_band(band, new, old):
    x, y = (group["tissue_fraction"][group["band"] == band] for group in (new, old))
    apart = (x.mean() - y.mean()) / max(np.sqrt((x.var() + y.var()) / 2), FAINT)
    return {
        "ages": f"{band.left} to {band.right - 1}",
        "new": len(x),
        "real": len(y),
        "d": float(apart) if min(len(x), len(y)) >= FEWEST else None,
    }
