"""How like real brains generated ones are, as a population."""

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

    The floor is what a measure gives for real against other real subjects. The test subjects are
    halved at random, 20 times. Of each halving the one half is compared with the other, and so
    are the slices generated for the conditions of that half. The half's own slices, as the codes
    give them back, show what the codes alone cost.

    Real slices of one subject are alike, generated ones are each of a subject of their own. A
    measure that this would flatter takes one slice a subject, ten times anew.

    Args:
        real: Float array `(n, H, W, 1)` in [0, 1], slices of subjects that nothing was trained on.
        reconstructed: Float array of the same shape in [0, 1], the real slices through the codes.
        generated: Float array of the same shape in [0, 1]; row i was drawn with the conditions of
            `real[i]`.
        subjects: Sequence `(n,)`, whose slice each real one is.
        keys: Sequence `(n,)`, where each slice lies, see `OASIS.position_keys`.
        train: The training slices, through the codes: uint8 array `(m, H, W)`.
        feature_function: From float `(n, H, W, 1)` to features `(n, d)`.
        seed: Integer, draws the halvings, the slices and the pairs.

    Returns:
        The report, fit for JSON: `subjects`, `slices`, `halvings`, `diversity_score`, of each
        measure what `compare_with_floor` returns, and `memorisation`, see `find_copies`. And what
        the figures need: `distances`, `rows` and `copies` of `find_copies`, `real_histograms` and
        `generated_histograms` `(n, 256)`, and `glued`, the slices of `glue_heads`.

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

    # Measures of slices x, real ones or others in their place, beside other real slices y.
    def discrepancy(x, y):
        return mmd(x.features, y.features, bandwidth, x.subjects, y.subjects)

    def frechet(x, y):
        return frechet_distance(x.features, y.features)

    def nearness(x, y):
        return density_and_coverage(y.features, x.features, y.subjects)

    # MMD and diversity leave pairs within a subject out, and so may take every slice.
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
    # All through the codes: the details that codes take away bring any two slices closer.
    _, reconstructed, generated, glued = images.values()
    report["memorisation"], found = find_copies(generated, reconstructed, train, subjects)
    histograms = {f"{name}_histograms": populations[name].levels for name in ("real", "generated")}
    return report, {**found, **histograms, "glued": glued}


@dataclasses.dataclass(frozen=True)
class Population:
    """What the measures need to know of n slices, see `compare`."""

    features: np.ndarray  # (n, d)
    subjects: np.ndarray  # (n,)
    levels: np.ndarray  # (n, 256), see `intensity_histograms`
    pairs: np.ndarray  # (q, 2), rows of two slices
    pair_scores: np.ndarray  # (q,)

    def part(self, rows):
        """Returns the population of these rows, with the pairs that lie in it whole."""
        whole = np.isin(self.pairs, rows).all(axis=1)
        arrays = self.features[rows], self.subjects[rows], self.levels[rows]
        return Population(*arrays, self.pairs[whole], self.pair_scores[whole])


def halve_subjects(subjects, count, seed=0):
    """Returns the row numbers of both halves of `count` random halvings by subject.

    Both halves have as many subjects: of an odd number one is left out. Without 4, there are none.
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
    """Returns `draws` pairs of row numbers for each halving: in each half one slice a subject."""
    random = np.random.default_rng(seed)

    def draw(rows):
        owners = subjects[rows]
        return np.array([random.choice(rows[owners == name]) for name in np.unique(owners)])

    return [[(draw(a), draw(b)) for _ in range(draws)] for a, b in halves]


def compare_with_floor(measure, populations, halves):
    """Returns a measure of generated slices, and its floor.

    Args:
        measure: Function of two populations: slices, and real ones beside them.
        populations: The `Population`s `"real"`, `"reconstructed"`, `"generated"` and `"glued"`,
            in this order, whose rows belong together.
        halves: For each halving, the row numbers of both halves: a list of pairs over which the
            measure is averaged.

    Returns:
        `floor`, `reconstructed`, `generated` and `glued`, each with `mean` and `sd` over the
        halvings, which is no standard error, for halvings overlap; `ratio` of generated to floor,
        `None` where the floor is not above 0; `above_floor`, the share of halvings in which the
        generated figure is the greater; `slices_a_side`, their mean number; `reason`, `None` or
        why all of these are `None`.
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

    About 0 for two samples of one population, also just below it. Slices of one subject are no
    independent samples: pairs within a subject are left out, as those of a slice with itself are.

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
    """Returns the median distance of two rows of `(n, d)`, a kernel's usual bandwidth; 1 for 0."""
    few = features[:: max(len(features) // 2000, 1)]  # 4,000 rows have 8 million distances
    return float(np.median(pdist(few))) if len(few) > 1 and np.ptp(few, axis=0).any() else 1.0


def frechet_distance(features, others):
    """Returns the Fréchet distance of the Gaussians with two samples' means and covariances.

    Biased upwards by about the inverse of the number of rows: compare only figures from as many.

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
    """Returns how densely generated slices lie among real ones, and how many of these they cover.

    Around each real slice lies a ball that reaches its k-th neighbour. Slices of one subject are
    no neighbours: balls between these would be small.

    Args:
        real, generated: Float arrays `(n, d)` and `(m, d)`, features.
        subjects: Sequence `(n,)`. Default: each row is a subject.
        k: Integer.

    Returns:
        Density: in how many balls a generated slice lies, divided by k, above 1 where they crowd.
        Coverage: the share of balls that hold one.

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
    """Returns which pairs of rows are of two subjects, `(n, n)`; by default each row is one."""
    owners = np.arange(count) if owners is None else np.asarray(owners)
    return owners[:, None] != owners


def intensity_histograms(images):
    """Returns how many brain pixels of `(n, H, W, 1)` in [0, 1] have each level: `(n, 256)`."""
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
    """Returns the mean score of pairs: 1 if all slices are one; below the floor, they differ more.

    Raises:
        TooFewSlicesError: If there is no pair.
    """
    if not len(pair_scores):
        raise TooFewSlicesError("needs slices of different subjects at one position")
    return float(np.mean(pair_scores))


def score_pairs(images, pairs):
    """Returns the score that `pair_score_name` names of each pair; none without a name.

    Args:
        images: Float array `(n, H, W, 1)` in [0, 1].
        pairs: Integer array `(q, 2)` of rows.
    """
    name = pair_score_name(images.shape)
    known = name is not None and len(pairs)
    return slice_scores(*(images[rows] for rows in pairs.T))[name] if known else np.zeros(0)


def pair_score_name(shape):
    """Returns the score that images of shape `(n, H, W, 1)` are large enough for, or `None`."""
    side = min(shape[1:3])
    if side < WINDOW_SIZE:
        return None
    return "ms_ssim" if side >= SMALLEST_FOR_MULTISCALE else "ssim"


def glue_heads(images, subjects, keys, seed=0):
    """Returns slices of wrong anatomy and right texture: their right half is another subject's.

    It comes from the same position if there is such a slice, else from anywhere.

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
        count: Integer, how many to draw at most; every pair is drawn once.

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
