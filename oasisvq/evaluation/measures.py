"""Measures how far generated brains are from real ones as a population.

Each measure is a function of two `Population`s, brains and real slices, and grows with the distance
between them. Slices of one person are alike, so of the brains there is one slice a person.
"""

import dataclasses
import functools

import numpy as np
from scipy.stats import wasserstein_distance
from sklearn.linear_model import ridge_regression
from sklearn.metrics import roc_auc_score

from oasisvq.evaluation.anatomy import FORM, QUANTITIES

FOLDS, PENALTY = 5, 300.0  # of the linear classifier
BANDS = 12  # of spatial frequency
LOWEST = 0.02  # cycles a pixel: below it is the brightness of the whole
USUAL_TWIN = 0.99  # quantile of real slices above which two slices are one head's


class TooFewSlicesError(ValueError):
    """A measure is not defined for so few slices or subjects."""


@dataclasses.dataclass(frozen=True)
class Population:
    """What the measures need of n slices.

    Attributes:
        persons: Array `(n,)`, whom each slice shows; each generated brain is a person.
        keys: Array `(n,)`, the position of each slice, as text or a number for each text.
        features: Float array `(n, networks, 64)`, see `features.network_outputs`.
        anatomy: Float array `(n, quantities)`, see `anatomy.QUANTITIES`, in any unit.
        sides: Float array `(n, cells)`, the differences of left and right.
        spectra: Float array `(n, bands)`, see `power_spectra`.
        details: Float array `(n, cells)`, see `near_duplicates.details`.
        ages: Float array `(n,)` in years, those that generated brains were asked for.
        predicted_ages: Float array `(n,)` in years, see `AgePredictor`.
    """

    persons: np.ndarray
    keys: np.ndarray
    features: np.ndarray
    anatomy: np.ndarray
    sides: np.ndarray
    spectra: np.ndarray
    details: np.ndarray
    ages: np.ndarray
    predicted_ages: np.ndarray

    def part(self, rows):
        """Returns the population of these rows."""
        return Population(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def in_units(self, units):
        """Returns the population with each quantity of its anatomy in a unit `(quantities,)`."""
        return dataclasses.replace(self, anatomy=self.anatomy / units)


def power_spectra(images):
    """Returns the logarithm of the power of slices `(n, H, W)` in rings of frequency: `(n, 12)`."""
    height, width = images.shape[1:]
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    rings = np.digitize(frequencies, np.linspace(LOWEST, 0.5, BANDS)).ravel()
    sizes = np.bincount(rings, minlength=BANDS + 1)[1:]
    powers = (np.abs(np.fft.rfft2(image)).ravel() ** 2 for image in images)
    sums = np.array([np.bincount(rings, power, BANDS + 1)[1:] for power in powers])
    return np.log(sums / np.maximum(sizes, 1) + 1e-9)


def feature_distance(brains, real):
    """Returns the Fréchet distance of the features of each network: `(networks,)`."""
    pairs = zip(np.moveaxis(brains.features, 1, 0), np.moveaxis(real.features, 1, 0), strict=True)
    return np.array([frechet_distance(*pair) for pair in pairs])


def frechet_distance(features, others):
    """Returns the Fréchet distance of the Gaussians with two samples' means and covariances.

    It is biased upwards by about the inverse of the number of rows: compare only values that come
    from the same number.

    Args:
        features, others: Float arrays `(n, d)` and `(m, d)`.

    Raises:
        TooFewSlicesError: If either has a single row.

    Reference:

    - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500), equation 6
    """
    if min(len(features), len(others)) < 2:
        raise TooFewSlicesError("needs 2 slices or more on either side")
    means, roots = [], []  # R with R'R the covariance
    for sample in (np.asarray(features, np.float64), np.asarray(others, np.float64)):
        means.append(sample.mean(axis=0))
        roots.append(np.linalg.qr((sample - means[-1]) / np.sqrt(len(sample) - 1), mode="r"))
    # The eigenvalues of the product of covariances are the squared singular values of the product
    # of their roots: never negative nor complex, whatever the ranks.
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = ((means[0] - means[1]) ** 2).sum() + sum((root**2).sum() for root in roots)
    return float(max(distance - 2 * shared, 0.0))


def spectrum_distance(brains, real):
    """Returns the largest distance of a band's mean from that of real slices, in deviations."""
    apart = np.abs(brains.spectra.mean(axis=0) - real.spectra.mean(axis=0))
    return (apart / np.maximum(real.spectra.std(axis=0), 1e-9)).max()


def twins(brains, real):
    """Returns the share of brains that are as like another brain as few real persons are."""
    return (_likeness(brains) > np.quantile(_likeness(real), USUAL_TWIN)).mean()


def _likeness(population):
    """Returns the highest correlation of each slice with one of somebody else, at its position."""
    highest = np.empty(len(population.persons), np.float32)
    for key in np.unique(population.keys):
        rows = np.flatnonzero(population.keys == key)
        details, persons = population.details[rows], population.persons[rows]
        alike = details @ details.T
        alike[persons[:, None] == persons] = -1
        highest[rows] = alike.max(axis=1)
    return highest


def quantity_distance(number, brains, real):
    """Returns the 1-Wasserstein distance of a quantity of the anatomy, in its unit."""
    return wasserstein_distance(brains.anatomy[:, number], real.anatomy[:, number])


def tissue_by_age(brains, real):
    """Returns how far apart the lines of the tissue fraction over the age are, in deviations."""
    (line, _), (real_line, deviation) = (_line_of_tissue(group) for group in (brains, real))
    if np.isnan(deviation):
        return np.nan
    ages = real.ages[np.isfinite(real.ages)]
    apart = np.abs(np.polyval(line, ages) - np.polyval(real_line, ages))
    return apart.mean() / max(deviation, 1e-9)


def _line_of_tissue(population):
    """Returns the line of the tissue fraction over the age, and the deviation from it."""
    known = np.isfinite(population.ages)
    ages = population.ages[known]
    fractions = population.anatomy[known, QUANTITIES.index("tissue_fraction")]
    if len(np.unique(ages)) < 3:
        return [np.nan, np.nan], np.nan
    line = np.polyfit(ages, fractions, 1)
    return line, np.std(fractions - np.polyval(line, ages))


def age_error(brains, real):
    """Returns how much further brains' ages are from those that a model sees, in years."""
    own, others = (np.abs(group.predicted_ages - group.ages) for group in (brains, real))
    return np.nanmean(own) - np.nanmean(others) if _any(own) and _any(others) else np.nan


def _any(values):
    return np.isfinite(values).any()


def left_against_right(brains, real):
    """Returns how well brains are told from real slices by their left and right: an area."""
    return area_under_curve(brains.sides, real.sides, brains.persons, real.persons)


def form_of_white_matter(brains, real):
    """Returns how well brains are told by islands, holes and the cortical ribbon: an area."""
    columns = [QUANTITIES.index(name) for name in FORM]
    own, others = brains.anatomy[:, columns], real.anatomy[:, columns]
    return area_under_curve(own, others, brains.persons, real.persons)


def area_under_curve(own, others, persons, other_persons):
    """Returns how well a linear classifier tells two groups, cross-validated by person.

    Args:
        own, others: Float arrays `(n, d)` and `(m, d)`.
        persons, other_persons: Arrays `(n,)` and `(m,)`.

    Returns:
        The area under the ROC curve; 0.5 is a guess.
    """
    values, labels = np.concatenate([own, others]), np.repeat([1, -1], [len(own), len(others)])
    folds = np.concatenate([deal_persons(names, FOLDS) for names in (persons, other_persons)])
    scores = np.zeros(len(labels))
    for fold in range(FOLDS):
        held = folds == fold
        learned, signs = values[~held], labels[~held]
        weights = len(signs) / 2 / np.where(signs > 0, (signs > 0).sum(), (signs < 0).sum())
        mean = np.average(learned, axis=0, weights=weights)
        deviation = np.maximum(learned.std(axis=0), 1e-9)
        slopes = ridge_regression(
            (learned - mean) / deviation, signs, PENALTY, sample_weight=weights
        )
        scores[held] = (values[held] - mean) / deviation @ slopes
    return roc_auc_score(labels, scores)


def deal_persons(persons, folds, seed=0):
    """Deals the persons of one group out to folds: no fold is empty if there are enough of them.

    Args:
        persons: Array `(n,)`, whom each row shows.
        folds: Integer.
        seed: Integer.

    Returns:
        The fold of each row, `(n,)`.
    """
    names, numbers = np.unique(persons, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[numbers] % folds


MEASURES = {
    "feature_distance": feature_distance,
    "spectrum": spectrum_distance,
    "twins": twins,
    **{
        name: functools.partial(quantity_distance, number) for number, name in enumerate(QUANTITIES)
    },
    "tissue_by_age": tissue_by_age,
    "age_error": age_error,
    "left_against_right": left_against_right,
    "form_of_white_matter": form_of_white_matter,
}
