"""Compares generated brains with real ones as a population."""

import dataclasses

import numpy as np
import tensorflow_probability as tfp
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

from oasisvq.evaluation.copies import find_copies
from oasisvq.evaluation.image_scores import (
    BACKGROUND,
    SMALLEST_FOR_MULTISCALE,
    WINDOW_SIZE,
    check_intensities,
    slice_scores,
)

LEVELS = 256  # of intensity, those of 8-bit slices
NEIGHBOURS = 5  # k of density and coverage
HALVINGS = 20
PAIRS = 200  # that diversity is measured on
DRAWS = 10  # of one slice a subject, in each halving
COLUMNS = ("floor", "reconstructed", "generated", "glued")  # what stands beside real slices


class TooFewSlicesError(ValueError):
    """A measure is not defined for so few slices or subjects."""


def compare(real, reconstructed, generated, subjects, keys, train, feature_function, seed=0):
    """Returns every measure of generated slices, each beside its floor.

    The floor is what a measure gives for real subjects against other real subjects. The test
    subjects are halved at random, 20 times. In each halving one half is compared with the other,
    and so are the slices generated for the conditions of that half. The reconstructed slices of
    the half show what the codes alone cost.

    Real slices of one subject are alike, but each generated slice is of another subject. A measure
    that would profit from this takes one slice per subject, in ten draws.

    Args:
        real: Float array `(n, H, W, 1)` in [0, 1], slices of subjects that were not trained on.
        reconstructed: Float array of the same shape in [0, 1], the real slices reconstructed.
        generated: Float array of the same shape in [0, 1]; row i was drawn with the conditions of
            `real[i]`.
        subjects: Sequence `(n,)`, the subject of each real slice.
        keys: Sequence `(n,)`, the position of each slice, see `OASIS.position_keys`.
        train: The training slices, reconstructed: uint8 array `(m, H, W)`.
        feature_function: From float `(n, H, W, 1)` to features `(n, d)`.
        seed: Integer, draws the halvings, the slices and the pairs.

    Returns:
        The report, a dictionary for JSON: `subjects`, `slices`, `halvings`, `diversity_score`, for
        each measure the result of `compare_with_floor`, and `memorisation`, see `find_copies`; and
        a dictionary for the figures: `distances`, `rows` and `copies` of `find_copies`,
        `real_histograms` and `generated_histograms` `(n, 256)`, and `glued`, from `glue_heads`.

    Raises:
        ValueError: If a pixel lies outside [0, 1], or lengths or sizes differ.
    """
    images = check_intensities(real=real, reconstructed=reconstructed, generated=generated)
    shapes = [pixels.shape for pixels in images.values()]
    if len(set(shapes)) > 1 or {len(subjects), len(keys)} != {len(real)}:
        raise ValueError(
            "expected a reconstructed and a generated slice, a subject and a key for each real "
            f"slice. Received: {shapes}, {len(subjects)} subjects, {len(keys)} keys"
        )
    subjects = np.asarray(subjects, dtype=str)
    images["glued"] = glue_heads(images["real"], subjects, keys, seed)
    pairs = draw_pairs(subjects, keys, PAIRS, seed)
    populations = {}
    for name, pixels in images.items():
        features, levels = feature_function(pixels), intensity_histograms(pixels)
        populations[name] = Population(
            features, subjects, levels, pairs, score_pairs(pixels, pairs)
        )
    bandwidth = median_distance(populations["real"].features)
    halves = halve_subjects(subjects, HALVINGS, seed)
    every_slice = [[halving] for halving in halves]
    one_each = draw_one_slice_each(halves, subjects, DRAWS, seed)

    # The measures compare slices x, real or not, with other real slices y.
    def discrepancy(x, y):
        return mmd(x.features, y.features, bandwidth, x.subjects, y.subjects)

    def frechet(x, y):
        return frechet_distance(x.features, y.features)

    def nearness(x, y):
        return density_and_coverage(y.features, x.features, y.subjects)

    # MMD and diversity leave out pairs within a subject, so they can take every slice.
    measures = {
        "mmd": (every_slice, discrepancy),
        "frechet_distance": (one_each, frechet),
        "frechet_distance_all": (every_slice, frechet),
        "density": (one_each, lambda x, y: nearness(x, y)[0]),
        "coverage": (one_each, lambda x, y: nearness(x, y)[1]),
        "intensity_distance": (one_each, lambda x, y: intensity_distance(x.levels, y.levels)),
        "diversity": (every_slice, lambda x, y: diversity(x.pair_scores)),
    }
    report = {"subjects": len(np.unique(subjects)), "slices": len(real), "halvings": HALVINGS}
    report["diversity_score"] = pair_score_name(shapes[0])
    for name, (slices, measure) in measures.items():
        report[name] = compare_with_floor(measure, populations, slices)
    report["mmd"]["ratio"] = None  # its floor is 0 on average
    # All are reconstructed: any two slices are closer without the details that codes lose.
    _, reconstructed, generated, glued = images.values()
    report["memorisation"], found = find_copies(generated, reconstructed, train, subjects)
    histograms = {f"{name}_histograms": populations[name].levels for name in ("real", "generated")}
    return report, {**found, **histograms, "glued": glued}


@dataclasses.dataclass(frozen=True)
class Population:
    """The data of n slices that the measures need, see `compare`."""

    features: np.ndarray  # (n, d)
    subjects: np.ndarray  # (n,)
    levels: np.ndarray  # (n, 256), see `intensity_histograms`
    pairs: np.ndarray  # (q, 2), rows of two slices
    pair_scores: np.ndarray  # (q,)

    def part(self, rows):
        """Returns the population of these rows, with the pairs of which both slices are in it."""
        whole = np.isin(self.pairs, rows).all(axis=1)
        arrays = self.features[rows], self.subjects[rows], self.levels[rows]
        return Population(*arrays, self.pairs[whole], self.pair_scores[whole])


def halve_subjects(subjects, count, seed=0):
    """Returns the row numbers of both halves of `count` random halvings by subject.

    Both halves have the same number of subjects; if the number is odd, one subject is left out.
    With fewer than 4 subjects the list is empty.
    """
    names, random = np.unique(subjects), np.random.default_rng(seed)
    half = len(names) // 2
    if half < 2:
        return []
    orders = [random.permutation(names) for _ in range(count)]
    return [
        [np.flatnonzero(np.isin(subjects, part)) for part in (order[:half], order[half : 2 * half])]
        for order in orders
    ]


def draw_one_slice_each(halves, subjects, draws, seed=0):
    """Returns `draws` pairs of row numbers for each halving, with one slice per subject."""
    random = np.random.default_rng(seed)

    def draw(rows):
        owners = subjects[rows]
        return np.array([random.choice(rows[owners == name]) for name in np.unique(owners)])

    return [[(draw(a), draw(b)) for _ in range(draws)] for a, b in halves]


def compare_with_floor(measure, populations, halves):
    """Returns a measure of generated slices, and its floor.

    Args:
        measure: Function of two populations: slices, and the real slices to compare them with.
        populations: The `Population`s `"real"`, `"reconstructed"`, `"generated"` and `"glued"`,
            in this order; row i of each belongs to the same real slice.
        halves: For each halving, a list of pairs of row numbers, over which the measure is
            averaged.

    Returns:
        `floor`, `reconstructed`, `generated` and `glued`, each with `mean` and `sd` over the
        halvings (no standard error, because halvings overlap); `ratio` of generated to floor,
        `None` if the floor is not above 0; `above_floor`, the share of halvings in which the
        generated value is greater; `slices_a_side`, the mean number of slices; `reason`, why all
        of these are `None`, or `None`.
    """
    entry = {name: {"mean": None, "sd": None} for name in COLUMNS}
    entry |= dict.fromkeys(("ratio", "above_floor", "slices_a_side"))
    if not halves:
        return {**entry, "reason": "needs 4 subjects or more"}

    def mean_of(population, pairs):
        real = populations["real"]
        return np.mean([measure(population.part(a), real.part(b)) for a, b in pairs])

    try:
        values = [[mean_of(x, pairs) for x in populations.values()] for pairs in halves]
    except TooFewSlicesError as error:
        return {**entry, "reason": str(error)}
    values = np.array(values)  # (halvings, 4)
    means, spreads = values.mean(axis=0).tolist(), values.std(axis=0, ddof=1).tolist()
    columns = zip(COLUMNS, means, spreads, strict=True)
    return {
        **{name: {"mean": mean, "sd": spread} for name, mean, spread in columns},
        "ratio": means[2] / means[0] if means[0] > 0 else None,
        "above_floor": float((values[:, 2] > values[:, 0]).mean()),
        "slices_a_side": float(np.mean([len(a) for pairs in halves for a, _ in pairs])),
        "reason": None,
    }


def mmd(features, others, bandwidth, subjects=None, other_subjects=None):
    """Returns the unbiased squared maximum mean discrepancy with a Gaussian kernel.

    It is about 0 for two samples of one population, and can be below 0. Slices of one subject are
    not independent, so pairs within a subject are left out like pairs of a slice with itself.

    Args:
        features, others: Float arrays `(n, d)` and `(m, d)`.
        bandwidth: Float, sigma of the kernel, see `median_distance`.
        subjects, other_subjects: Sequences `(n,)` and `(m,)`. Default: each row is a subject.

    Raises:
        TooFewSlicesError: If either has a single subject.

    Reference:

    - [Gretton et al., 2012](https://jmlr.org/papers/v13/gretton12a.html), equation 3
    """
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    kernel = tfp.math.psd_kernels.ExponentiatedQuadratic(length_scale=np.float64(bandwidth)).matrix

    def mean_within(sample, owners):
        different = _of_different_subjects(len(sample), owners)
        if not different.any():
            raise TooFewSlicesError("needs slices of 2 subjects or more on either side")
        return kernel(sample, sample).numpy()[different].mean()

    within = mean_within(features, subjects) + mean_within(others, other_subjects)
    return float(within - 2 * kernel(features, others).numpy().mean())


def median_distance(features):
    """Returns the median distance of rows `(n, d)`, a usual bandwidth; 1 if all are equal."""
    few = features[:: max(len(features) // 2000, 1)]  # 4,000 rows have 8 million distances
    return float(np.median(pdist(few))) if len(few) > 1 and np.ptp(few, axis=0).any() else 1.0


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


def density_and_coverage(real, generated, subjects=None, k=NEIGHBOURS):
    """Returns the density of generated slices among real ones, and how many of these they cover.

    Each real slice is the centre of a ball that reaches to its k-th neighbour. Slices of the same
    subject do not count as neighbours, because they would make the balls small.

    Args:
        real, generated: Float arrays `(n, d)` and `(m, d)`, features.
        subjects: Sequence `(n,)`. Default: each row is a subject.
        k: Integer.

    Returns:
        Density: the mean number of balls that a generated slice lies in, divided by k.
        Coverage: the share of balls that hold a generated slice.

    Raises:
        TooFewSlicesError: If a real slice has fewer than k neighbours.

    Reference:

    - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797), equations 2 and 3
    """
    different = _of_different_subjects(len(real), subjects)
    if different.sum(axis=1).min() < k:
        raise TooFewSlicesError(f"needs {k} real slices of other subjects or more")
    distances = np.where(different, cdist(real, real), np.inf)
    radii = np.partition(distances, k - 1, axis=1)[:, k - 1]
    inside = cdist(real, generated) < radii[:, None]  # (n, m)
    return float(inside.sum(axis=0).mean() / k), float(inside.any(axis=1).mean())


def _of_different_subjects(count, owners):
    """Returns which pairs of rows are of two subjects, `(n, n)`; by default all pairs are."""
    owners = np.arange(count) if owners is None else np.asarray(owners)
    return owners[:, None] != owners


def intensity_histograms(images):
    """Returns the number of brain pixels of `(n, H, W, 1)` in [0, 1] at each level: `(n, 256)`."""
    levels = np.round(images * (LEVELS - 1)).astype(np.uint8)
    brains = zip(levels, images > BACKGROUND, strict=True)
    return np.array([np.bincount(one[brain], minlength=LEVELS) for one, brain in brains])


def intensity_distance(histograms, others):
    """Returns the 1-Wasserstein distance of the brain's intensities, exact for 8-bit slices.

    Args:
        histograms, others: `(n, 256)` and `(m, 256)`, see `intensity_histograms`.

    Returns:
        Float in units of intensity.

    Raises:
        TooFewSlicesError: If either shows no brain.
    """
    counts = [sample.sum(axis=0) for sample in (histograms, others)]
    if not all(count.any() for count in counts):
        raise TooFewSlicesError(f"no pixel is above {BACKGROUND}")
    levels = np.linspace(0, 1, LEVELS)
    return float(wasserstein_distance(levels, levels, *counts))


def diversity(pair_scores):
    """Returns the mean score of pairs, which is 1 if all slices are equal and lower if they differ.

    Raises:
        TooFewSlicesError: If there is no pair.
    """
    if not len(pair_scores):
        raise TooFewSlicesError("needs slices of different subjects at one position")
    return float(np.mean(pair_scores))


def score_pairs(images, pairs):
    """Returns the score of each pair, see `pair_score_name`; an empty array if there is no score.

    Args:
        images: Float array `(n, H, W, 1)` in [0, 1].
        pairs: Integer array `(q, 2)` of rows.
    """
    name = pair_score_name(images.shape)
    known = name is not None and len(pairs)
    return slice_scores(*(images[rows] for rows in pairs.T))[name] if known else np.zeros(0)


def pair_score_name(shape):
    """Returns the score for which images `(n, H, W, 1)` are large enough, or `None`."""
    side = min(shape[1:3])
    if side < WINDOW_SIZE:
        return None
    return "ms_ssim" if side >= SMALLEST_FOR_MULTISCALE else "ssim"


def glue_heads(images, subjects, keys, seed=0):
    """Returns slices whose right half is another subject's: right texture, but wrong anatomy.

    The half comes from the same position if there is such a slice, else from any position.

    Args:
        images: Array `(n, H, W, 1)`.
        subjects, keys: Sequences `(n,)`.
    """
    subjects, keys = np.asarray(subjects, dtype=str), np.asarray(keys, dtype=str)
    random, glued, middle = np.random.default_rng([seed, 3]), images.copy(), images.shape[2] // 2
    for row in range(len(images)):
        others = subjects != subjects[row]
        partners = np.flatnonzero(others & (keys == keys[row]))
        if not len(partners):
            partners = np.flatnonzero(others) if others.any() else [row]
        glued[row, :, middle:] = images[random.choice(partners), :, middle:]
    return glued


def draw_pairs(subjects, keys, count, seed=0):
    """Returns random pairs of slices of different subjects at the same position.

    Args:
        subjects, keys: Sequences `(n,)`.
        count: Integer, the largest number of pairs; no pair is drawn twice.

    Returns:
        Integer array `(q, 2)` of row numbers.
    """
    subjects, keys = np.asarray(subjects, dtype=str), np.asarray(keys, dtype=str)
    random, pairs = np.random.default_rng(seed), set()
    for _ in range(20 * count):  # enough where partners are many; a few pairs less otherwise
        row = random.integers(len(subjects))
        partners = np.flatnonzero((keys == keys[row]) & (subjects != subjects[row]))
        if len(partners):
            pairs.add(tuple(sorted((int(row), int(random.choice(partners))))))
        if len(pairs) == count:
            break
    return np.array(sorted(pairs), dtype=int).reshape(-1, 2)
