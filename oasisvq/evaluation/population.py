"""How like real brains generated ones are, as a population."""

import dataclasses

import numpy as np
from scipy.spatial.distance import cdist, pdist

from oasisvq.evaluation.copies import memorisation
from oasisvq.evaluation.image_scores import (
    BACKGROUND,
    SMALLEST_FOR_MULTISCALE,
    WINDOW_SIZE,
    slice_scores,
)

LEVELS = 256  # of intensity, those of 8-bit slices
NEIGHBOURS = 5  # k of density and coverage
HALVINGS = 20
PAIRS = 200  # that diversity is measured on
DRAWS = 10  # of one slice a subject, in each halving
COMPARED = ("reconstructed", "generated", "glued")  # with real slices, beside the floor


class TooFewSlicesError(ValueError):
    """A measure is not defined for so few slices or subjects."""


def compare(real, reconstructed, generated, subjects, keys, train, feature_function, seed=0):
    """Every measure of generated slices, each beside its floor.

    The floor is what a measure gives for real against other real subjects.
    The test subjects are halved at random, 20 times. Of each halving the one
    half is compared with the other, and so are the slices generated for the
    conditions of that half. The half's own slices, as the codes give them
    back, tell what of it the codes alone cost.

    Real slices of one subject are alike, generated ones are each of a subject
    of their own. A measure that this would flatter takes one slice a subject,
    ten times anew: as many independent slices on either side, so that what
    their number adds to a measure is in all three figures.

    Args:
        real: Float array `(n, H, W, 1)` in [0, 1], slices of subjects that
            nothing was trained on.
        reconstructed: Float array of the same shape in [0, 1], the real slices
            through the codes.
        generated: Float array of the same shape in [0, 1]; row i was drawn
            with the conditions of `real[i]`.
        subjects: Sequence `(n,)`, whose slice each real one is.
        keys: Sequence `(n,)`, where each slice lies, see `OASIS.position_keys`.
        train: The training slices, through the codes: uint8 array `(m, H, W)`.
        feature_function: From float `(n, H, W, 1)` to features `(n, d)`.
        seed: Integer, draws the halvings, the slices and the pairs.

    Returns:
        The report, fit for JSON, and what the figures need. In the report:
        `subjects`, `slices`, `halvings`, `diversity_score`; of each measure
        what `beside_floor` returns; `memorisation`, see there. For the figures:
        `distances`, `rows` and `copies` `(n,)`, see `memorisation`,
        `real_histograms` and `generated_histograms` `(n, 256)`, and `glued`,
        the slices of `glued_heads`.

    Raises:
        ValueError: If a pixel lies outside [0, 1], or lengths or sizes differ.
    """
    given = {"real": real, "reconstructed": reconstructed, "generated": generated}
    given = {name: _checked(name, images) for name, images in given.items()}
    shapes = [images.shape for images in given.values()]
    if len(set(shapes)) > 1 or {len(subjects), len(keys)} != {len(real)}:
        raise ValueError(
            "expected a reconstructed and a generated slice, a subject and a key for each real "
            f"slice. Received: {shapes}, {len(subjects)} subjects, {len(keys)} keys"
        )
    subjects = np.asarray(subjects, dtype=str)
    pairs = draw_pairs(subjects, keys, PAIRS, seed)
    given["glued"] = glued_heads(given["real"], subjects, keys, seed)
    populations = {
        name: Population(
            feature_function(images),
            subjects,
            intensity_histograms(images),
            pairs,
            likeness(images, pairs),
        )
        for name, images in given.items()
    }
    bandwidth = median_distance(populations["real"].features)
    halves = halvings(subjects, HALVINGS, seed)
    everything = [[halving] for halving in halves]
    singly = one_slice_a_subject(halves, subjects, DRAWS, seed)

    # Of slices x, real ones or those that stand in for them, beside other real slices y.
    def frechet(x, y):
        return frechet_distance(x.features, y.features)

    def near(x, y):
        return density_and_coverage(y.features, x.features, y.subjects)

    measures = {  # over which slices: MMD and diversity leave pairs within a subject out
        "mmd": (
            everything,
            lambda x, y: mmd(x.features, y.features, bandwidth, x.subjects, y.subjects),
        ),
        "frechet_distance": (singly, frechet),
        "frechet_distance_all": (everything, frechet),
        "density": (singly, lambda x, y: near(x, y)[0]),
        "coverage": (singly, lambda x, y: near(x, y)[1]),
        "intensity_distance": (
            singly,
            lambda x, y: intensity_distance(x.histograms, y.histograms),
        ),
        "diversity": (everything, lambda x, y: diversity(x.likeness)),
    }
    report = {"subjects": len(np.unique(subjects)), "slices": len(real), "halvings": HALVINGS}
    report["diversity_score"] = likeness_score(shapes[0])
    for name, (slices, measure) in measures.items():
        report[name] = beside_floor(measure, populations, slices)
    report["mmd"]["ratio"] = None  # its floor is 0 but for chance
    # All through the codes: what these take away brings any two slices closer.
    report["memorisation"], closest = memorisation(
        given["generated"], given["reconstructed"], train, subjects
    )
    histograms = {
        f"{name}_histograms": populations[name].histograms for name in ("real", "generated")
    }
    return report, {**closest, **histograms, "glued": given["glued"]}


@dataclasses.dataclass(frozen=True)
class Population:
    """What the measures need to know of n slices: see `compare`."""

    features: np.ndarray  # (n, d)
    subjects: np.ndarray  # (n,)
    histograms: np.ndarray  # (n, 256)
    pairs: np.ndarray  # (q, 2), rows of two slices
    likeness: np.ndarray  # (q,), of each pair

    def part(self, rows):
        """The population of these rows; of the pairs, those that lie in it whole."""
        whole = np.isin(self.pairs, rows).all(axis=1)
        return Population(
            self.features[rows],
            self.subjects[rows],
            self.histograms[rows],
            self.pairs[whole],
            self.likeness[whole],
        )


def halvings(subjects, count, seed=0):
    """Random halvings by subject: slices of one subject are alike and stay together.

    Returns:
        List of `count` pairs of row numbers. Both halves have as many
        subjects, so that of an odd number one is left out. Empty for fewer
        than 4 subjects.
    """
    names = np.unique(subjects)
    half, random = len(names) // 2, np.random.default_rng(seed)
    if half < 2:
        return []
    orders = [random.permutation(names) for _ in range(count)]
    return [
        tuple(
            np.flatnonzero(np.isin(subjects, part)) for part in (order[:half], order[half:][:half])
        )
        for order in orders
    ]


def one_slice_a_subject(halves, subjects, draws, seed=0):
    """For each halving `draws` pairs of row numbers: of either half one slice a subject."""
    random = np.random.default_rng(seed)

    def drawn(rows):
        owners = subjects[rows]
        return np.array([random.choice(rows[owners == name]) for name in np.unique(owners)])

    return [[(drawn(a), drawn(b)) for _ in range(draws)] for a, b in halves]


def beside_floor(measure, populations, halves):
    """A measure of generated slices, and its floor.

    Args:
        measure: Function of two populations: slices, and real ones beside them.
        populations: The `Population`s `"real"`, `"reconstructed"`,
            `"generated"` and `"glued"`, whose rows belong together.
        halves: For each halving, the row numbers of both halves: a list of
            pairs over which the measure is averaged.

    Returns:
        `floor`, `reconstructed`, `generated` and `glued`, each with `mean` and
        `sd` over the halvings, which is no standard error, for halvings
        overlap; `ratio` of generated to floor, `None` where the floor is not
        above 0; `above_floor`, the share of halvings in which the generated
        figure is the greater; `slices_a_side`, their mean number;
        `reason`, `None` or why all of these are `None`.
    """
    names = ("floor", *COMPARED)
    unknown = {"mean": None, "sd": None}
    nothing = {**dict.fromkeys(names, unknown), "ratio": None, "above_floor": None}
    nothing["slices_a_side"] = None
    if not halves:
        return {**nothing, "reason": "needs 4 subjects or more"}
    real = populations["real"]
    try:
        values = np.array(
            [
                [
                    np.mean([measure(some.part(a), real.part(b)) for a, b in pairs])
                    for some in populations.values()
                ]
                for pairs in halves
            ]
        )  # (halvings, 4)
    except TooFewSlicesError as error:
        return {**nothing, "reason": str(error)}
    means, spreads = values.mean(axis=0).tolist(), values.std(axis=0, ddof=1).tolist()
    return {
        **{
            name: {"mean": mean, "sd": spread}
            for name, mean, spread in zip(names, means, spreads, strict=True)
        },
        "ratio": means[2] / means[0] if means[0] > 0 else None,
        "above_floor": float((values[:, 2] > values[:, 0]).mean()),
        "slices_a_side": float(np.mean([len(a) for pairs in halves for a, _ in pairs])),
        "reason": None,
    }


def mmd(features, others, bandwidth, subjects=None, other_subjects=None):
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel.

    About 0 for two samples of one population, also just below it. It
    is unbiased for independent samples, which slices of one subject are not:
    pairs within a subject are left out, as those of a slice with itself are.

    Args:
        features, others: Float arrays `(n, d)` and `(m, d)`.
        bandwidth: Float, sigma of the kernel, see `median_distance`.
        subjects, other_subjects: Sequences `(n,)` and `(m,)`. Default: each
            row is a subject, which is the equation as published.

    Raises:
        TooFewSlicesError: If either has a single subject.

    Reference:

    - [Gretton et al., 2012](https://jmlr.org/papers/v13/gretton12a.html), equation 3
    """

    def kernel(x, y):
        return np.exp(-cdist(x, y, "sqeuclidean") / (2 * bandwidth**2))

    def within(x, owners):
        apart = _apart(len(x), owners)
        if not apart.any():
            raise TooFewSlicesError("needs slices of 2 subjects or more on either side")
        return (kernel(x, x) * apart).sum() / apart.sum()

    alike = within(features, subjects) + within(others, other_subjects)
    return float(alike - 2 * kernel(features, others).mean())


def median_distance(features):
    """The median distance of two rows of `(n, d)`, a kernel's usual bandwidth; 1 if it is 0."""
    few = features[:: max(len(features) // 2000, 1)]  # 4,000 rows have 8 million distances
    return float(np.median(pdist(few))) if len(few) > 1 and np.ptp(few, axis=0).any() else 1.0


def frechet_distance(features, others):
    """Fréchet distance of the Gaussians with the means and covariances of two samples.

    Biased upwards by about the inverse of the number of rows: compare only
    figures from as many. Features may outnumber the rows.

    Args:
        features, others: Float arrays `(n, d)` and `(m, d)`.

    Raises:
        TooFewSlicesError: If either has a single row.

    Reference:

    - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500), equation 6
    """
    if min(len(features), len(others)) < 2:
        raise TooFewSlicesError("needs 2 slices or more on either side")
    roots = []  # R with R'R the covariance
    for sample in (features, others):
        sample = np.asarray(sample, np.float64)
        centred = (sample - sample.mean(axis=0)) / np.sqrt(len(sample) - 1)
        roots.append(np.linalg.qr(centred, mode="r"))
    first, second = roots
    # The eigenvalues of the product of covariances are the squared singular values of
    # the product of their roots: never negative nor complex, whatever the ranks.
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    means = np.mean(features, axis=0, dtype=np.float64) - np.mean(others, axis=0, dtype=np.float64)
    return float(max((means**2).sum() + (first**2).sum() + (second**2).sum() - 2 * shared, 0.0))


def density_and_coverage(real, generated, subjects=None, k=NEIGHBOURS):
    """Do generated slices lie where real ones do, and have all real ones some nearby?

    Around each real slice lies a ball that reaches its k-th neighbour. Slices
    of one subject are no neighbours: balls between these would be small.

    Args:
        real, generated: Float arrays `(n, d)` and `(m, d)`, features.
        subjects: Sequence `(n,)`. Default: each row is a subject, which are
            the equations as published.
        k: Integer.

    Returns:
        Density: in how many balls a generated slice lies, divided by k, above
        1 where they crowd. Coverage: the share of balls that hold one.

    Raises:
        TooFewSlicesError: If a real slice has fewer than k neighbours.

    Reference:

    - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797), equations 2 and 3
    """
    apart = _apart(len(real), subjects)
    if apart.sum(axis=1).min() < k:
        raise TooFewSlicesError(f"needs {k} real slices of other subjects or more")
    to_real = np.where(apart, cdist(real, real), np.inf)
    radii = np.partition(to_real, k - 1, axis=1)[:, k - 1]
    inside = cdist(real, generated) < radii[:, None]  # (n, m)
    return float(inside.sum(axis=0).mean() / k), float(inside.any(axis=1).mean())


def _apart(count, owners):
    """Which pairs of rows are of two subjects, `(n, n)`; without subjects, all but the diagonal."""
    owners = np.arange(count) if owners is None else np.asarray(owners)
    return owners[:, None] != owners


def intensity_histograms(images):
    """Pixels of the brain at each of 256 levels: `(n, H, W, 1)` in [0, 1] to int `(n, 256)`."""
    levels = np.round(np.asarray(images) * (LEVELS - 1)).astype(np.uint8)
    brains = np.asarray(images) > BACKGROUND
    return np.array(
        [
            np.bincount(one[brain], minlength=LEVELS)
            for one, brain in zip(levels, brains, strict=True)
        ]
    )


def intensity_distance(histograms, others):
    """1-Wasserstein distance of the brain's intensities, in units of intensity.

    Exact for 8-bit slices: the area between the two cumulative distributions.

    Args:
        histograms, others: `(n, 256)` and `(m, 256)`, see `intensity_histograms`.

    Raises:
        TooFewSlicesError: If either shows no brain.
    """
    counts = [sample.sum(axis=0) for sample in (histograms, others)]
    if min(count.sum() for count in counts) == 0:
        raise TooFewSlicesError(f"no pixel is above {BACKGROUND}")
    first, second = (np.cumsum(count) / count.sum() for count in counts)
    return float(np.abs(first - second).sum() / (LEVELS - 1))


def diversity(likeness):
    """Mean likeness of pairs: 1 if all are one; below the floor, they differ too much.

    Raises:
        TooFewSlicesError: If there is no pair.
    """
    if not len(likeness):
        raise TooFewSlicesError("needs slices of different subjects at one position")
    return float(np.mean(likeness))


def likeness(images, pairs):
    """MS-SSIM of each pair, or SSIM for sides under 176 pixels: `(q,)`.

    Args:
        images: Float array `(n, H, W, 1)` in [0, 1].
        pairs: Integer array `(q, 2)` of rows. Empty under 11 pixels: no score is defined.
    """
    score = likeness_score(images.shape)
    blocks = np.array_split(pairs, max(len(pairs) // 32, 1)) if len(pairs) and score else []
    values = [slice_scores(*(images[block[:, side]] for side in (0, 1)))[score] for block in blocks]
    return np.concatenate([np.zeros(0), *values])


def likeness_score(shape):
    """The name of the score that images `(n, H, W, 1)` are large enough for, or `None`."""
    side = min(shape[1:3])
    if side < WINDOW_SIZE:
        return None
    return "ms_ssim" if side >= SMALLEST_FOR_MULTISCALE else "ssim"


def glued_heads(images, subjects, keys, seed=0):
    """Wrong anatomy of right texture: the right half of each slice another subject's, at the same
    position if there is one, else anywhere.

    Args:
        images: Array `(n, H, W, 1)`.
        subjects, keys: Sequences `(n,)`.
    """
    subjects, keys = np.asarray(subjects, dtype=str), np.asarray(keys, dtype=str)
    random, glued = np.random.default_rng([seed, 3]), np.array(images)
    for row, (subject, key) in enumerate(zip(subjects, keys, strict=True)):
        others = subjects != subject
        partners = np.flatnonzero(others & (keys == key))
        if not len(partners):
            partners = np.flatnonzero(others) if others.any() else [row]
        middle = images.shape[2] // 2
        glued[row, :, middle:] = images[random.choice(partners), :, middle:]
    return glued


def draw_pairs(subjects, keys, count, seed=0):
    """Random pairs of slices of different subjects at the same position.

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


def _checked(name, images):
    images = np.asarray(images, np.float32)
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails too
        raise ValueError(f"{name} must lie in [0, 1]. Received: {images.min()} to {images.max()}")
    return images
