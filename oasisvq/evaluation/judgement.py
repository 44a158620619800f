"""Judges brains of any generator: gathers all that can be said of them beside real brains."""

import dataclasses

import numpy as np
import pandas
from sklearn.metrics import roc_auc_score

from oasisvq.core.intensities import as_floats, as_levels
from oasisvq.core.progress import Progress
from oasisvq.core.threads import one_blas_thread
from oasisvq.data.conditions import CONDITIONS, LETTERS
from oasisvq.evaluation.anatomy import QUANTITIES, measure_anatomy
from oasisvq.evaluation.classifier import tell_apart
from oasisvq.evaluation.copies import PLANTED, describe, find_copies
from oasisvq.evaluation.features import network_outputs, train_feature_network
from oasisvq.evaluation.judge import DRAWS, PARTS, Real, check_numbers, judge
from oasisvq.evaluation.measures import Population, TooFewSlicesError, power_spectra
from oasisvq.evaluation.planted import WRONG_AGES, draw_slices, plant_failures
from oasisvq.evaluation.predictors import (
    AgePredictor,
    compare_predictions,
    compare_tissue,
    small_pictures,
)

NETWORKS = 5  # feature networks, each from a seed of its own
LARGEST_SIDE = 128  # pixels; the networks see larger slices at half their size
MOST = 3000  # real slices of either group that are measured
QUICK_BRAINS, QUICK_SLICES, QUICK_STEPS = 100, 300, 60
QUICK_DRAWS, QUICK_PARTS, QUICK_COPIES = 60, 6, 50


@dataclasses.dataclass(frozen=True)
class Brains:
    """Slices of real or generated brains.

    Attributes:
        images: uint8 array `(n, H, W)`, which may lie on disk; 255 stands for 1.0.
        table: Data frame of n rows with `subject` (each generated brain is one), `key` (the
            position as text), `position`, `age` in years, `sex` (`"F"` or `"M"`), `cdr` and
            `plane`.
    """

    images: np.ndarray
    table: pandas.DataFrame

    def part(self, rows):
        """Returns the brains of these rows."""
        return Brains(self.images[rows], self.table.iloc[rows].reset_index(drop=True))

    def at_most(self, count, random):
        """Returns so many slices or fewer: one of each subject, then another one, and so on."""
        if len(self.table) <= count:
            return self
        return self.part(np.sort(draw_slices(self.table["subject"].to_numpy(), count, random)))

    def persons(self):
        """Returns how many persons are shown."""
        return int(self.table["subject"].nunique())


def judge_brains(
    new, test, others, known=None, raw=None, pixel_size=1.0, steps=300, seed=0, quick=False
):
    """Judges generated brains beside real ones.

    Args:
        new: `Brains` of the generator.
        test: `Brains` of real persons, with whom the new brains are compared.
        others: `Brains` of other real persons. The floor is measured on them, and the networks and
            the predictors learn from them.
        known: `Brains` that the new ones may be copies of. Default: `others`.
        raw: uint8 array, the slices of `test` as they are, if those are through a run's codes.
        pixel_size: Float, mm.
        steps: Integer, training steps of each feature network.
        seed: Integer.
        quick: Whether one network is trained in place of five, and no classifier, and fewer real
            slices are measured, fewer persons drawn and fewer copies planted.

    Returns:
        The report, a dictionary for JSON: `brains`, `persons`, `slices`, `other_persons`,
        `new_slices` (those of the new brains), `searched` (slices that copies are searched among),
        `quick`, `seed`, `measures` (see
        `judge`), `tissue`, `predictions`, `copies` and `classifier`; with too few persons or brains
        only the numbers and the `reason`. `tissue` has the part `real`, the same of `test` beside
        `others`. And what the figures show: `rows`, for each slice of a new brain the row of
        `known` that it is most like, and `brains`, a table with a row a slice: its quantities, how
        like that row it is, and `copy`: `"whole"`, `"half"` or nothing.
    """
    most = QUICK_SLICES if quick else MOST
    known = others if known is None else known
    if raw is not None:  # the same slices as those of `test`
        raw = Brains(raw, test.table).at_most(most, np.random.default_rng([seed, 11]))
    test = test.at_most(most, np.random.default_rng([seed, 11]))
    others = others.at_most(most, np.random.default_rng([seed, 10]))
    report = {
        "brains": new.persons(),
        "persons": test.persons(),
        "slices": len(test.table),
        "new_slices": len(new.table),
        "other_persons": others.persons(),
        "searched": len(known.table),
        "quick": quick,
        "seed": seed,
    }
    try:
        check_numbers(new.persons(), test.persons(), others.persons())
    except TooFewSlicesError as error:
        return report | {"reason": str(error)}, None
    length = (1, min(steps, QUICK_STEPS)) if quick else (NETWORKS, steps)
    networks = train_networks(others, seed, *length)
    everybody = joined(test, others)
    with one_blas_thread():
        predictor = AgePredictor(*_pictured(everybody))
    tools = networks, pixel_size, predictor
    real, brains = describe_brains(everybody, *tools), describe_brains(new, *tools)
    parts = np.arange(len(test.table)), np.arange(len(test.table), len(everybody.table))
    raw = None if raw is None else describe_brains(raw, *tools)
    planted = {
        name: describe_brains(brains, *tools, owners)
        for name, brains, owners in planted_brains(others, new.persons(), seed)
        if name != WRONG_AGES or new.table["age"].notna().any()
    }
    report["measures"] = judge(
        brains,
        Real(real, *parts),
        planted,
        raw,
        seed,
        draws=QUICK_DRAWS if quick else DRAWS,
        parts=QUICK_PARTS if quick else PARTS,
    )
    with one_blas_thread():
        report["predictions"] = compare_predictions(*map(_pictured, (new, others, test)))
    fractions = _with_tissue(everybody, real)
    report["tissue"] = compare_tissue(_with_tissue(new, brains), fractions)
    if report["tissue"] is not None:  # how far apart real persons are
        report["tissue"]["real"] = compare_tissue(*(fractions.iloc[part] for part in parts))
    report["copies"], shown = find_copies(
        as_floats(new.images),
        as_floats(test.images),
        known.images,
        seed,
        *(group.table["subject"].to_numpy() for group in (test, known, new)),
        planted=QUICK_COPIES if quick else PLANTED,
    )
    if not quick:
        report["classifier"] = classify(new, test, others, seed)
    table = new.table[["subject", "position", "age", "sex", "cdr"]].assign(
        **dict(zip(QUANTITIES, brains.anatomy.T, strict=True)),
        predicted_age=brains.predicted_ages,
        likeness=shown["alike"],
        copy=np.select([shown["halves"], shown["copies"]], ["half", "whole"], ""),
    )
    return report, {"brains": table, "rows": shown["rows"]}


def planted_brains(others, count, seed):
    """Yields the name of each planted failure, brains with it, and the persons they are made of."""
    images, owners = as_floats(others.images), others.table["subject"].to_numpy()
    for name, pictures, rows, labels in plant_failures(images, others.table, count, seed):
        table = others.table.iloc[labels].reset_index(drop=True)
        names = [f"{name} {number}" for number in range(len(rows))]
        yield name, Brains(as_levels(pictures), table.assign(subject=names)), owners[rows]


def train_networks(others, seed, count, steps):
    """Returns feature networks of `count` seeds, trained on real slices."""
    images, rows = halved(others.images), np.arange(len(others.table))
    return [
        train_feature_network(images, rows, others.table, seed + number, steps)
        for number in Progress(range(count), desc="Feature networks", unit="network")
    ]


def describe_brains(brains, networks, pixel_size, predictor, owners=None):
    """Returns the `Population` of brains.

    Args:
        brains: `Brains`.
        networks: Trained feature networks.
        pixel_size: Float, mm.
        predictor: `AgePredictor`.
        owners: Array `(n,)`, the real person of each slice; the model that tells its age has not
            learned from this person. Default: the subjects.
    """
    images, small = as_floats(brains.images), halved(brains.images)[..., None]
    subjects = brains.table["subject"].to_numpy(str)
    anatomy, sides = measure_anatomy(images, pixel_size)
    return Population(
        persons=np.unique(subjects, return_inverse=True)[1],  # numbers are compared faster
        keys=np.unique(brains.table["key"].to_numpy(str), return_inverse=True)[1],
        features=np.stack([network_outputs(network, small) for network in networks], axis=1),
        anatomy=anatomy.to_numpy(),
        sides=sides,
        spectra=power_spectra(images),
        details=describe(images).reshape(len(images), -1),
        ages=brains.table["age"].to_numpy(float),
        predicted_ages=predictor.ages(
            small_pictures(images), subjects if owners is None else owners
        ),
    )


def classify(new, test, others, seed):
    """Returns how well a small network tells new brains, and other real persons, from `test`."""
    random = np.random.default_rng([seed, 8])
    results = {}
    for name, some in (("new", new), ("real", others.at_most(len(new.table), random))):
        pair = [as_floats(halved(one.images)) for one in (some, test)]
        people = [one.table["subject"].to_numpy() for one in (some, test)]
        area, p = tell_apart(*pair, *people, seed)
        results[name] = {"area": area, "p": p}
    return results


def joined(some, others):
    """Returns the brains of two groups, one after the other."""
    table = pandas.concat([some.table, others.table], ignore_index=True)
    return Brains(np.concatenate([some.images, others.images]), table)


def halved(images):
    """Returns uint8 images at half their size if they are large, the mean of four pixels each."""
    height, width = images.shape[1:]
    if max(height, width) <= LARGEST_SIDE:
        return images
    cells = images[:, : height // 2 * 2, : width // 2 * 2]
    cells = cells.reshape(len(images), height // 2, 2, width // 2, 2)
    return cells.mean(axis=(2, 4), dtype=np.float32).round().astype(np.uint8)


def _pictured(brains):
    """Returns the small pictures of brains, and their table."""
    return small_pictures(as_floats(brains.images)), brains.table


def _with_tissue(brains, population):
    """Returns the table of brains with their tissue fractions."""
    fractions = population.anatomy[:, QUANTITIES.index("tissue_fraction")]
    return brains.table.assign(tissue_fraction=fractions)


def brains_of(slices, rows, persons=None):
    """Returns slices of an `OASIS` as `Brains`.

    Args:
        slices: `OASIS`.
        rows: Integer array `(n,)`.
        persons: Array `(n,)`, whom each slice shows. Default: `OASIS.persons`.
    """
    table = slices.labels(rows).reset_index(drop=True)
    persons = slices.persons(rows) if persons is None else persons
    table = table.assign(subject=persons, key=position_keys(table["position"]))
    return Brains(slices.slices[rows], table)


def training_table(conditions, persons, plane=""):
    """Returns the table of `Brains` of a run's training slices, whose names it does not keep.

    Args:
        conditions: Float array `(n, 4)`, see `OASIS.conditions`.
        persons: Array `(n,)`, see `Run.training_persons`.
        plane: Text, `""` if it is unknown.
    """
    table = pandas.DataFrame(conditions, columns=list(CONDITIONS))
    return table.assign(
        subject=[f"training person {number}" for number in persons],
        sex=table["sex"].map(LETTERS),
        key=position_keys(table["position"]),
        plane=plane,
    )


def new_brains(images, table):
    """Returns generated slices as `Brains`, each a person of its own.

    Args:
        images: uint8 array `(n, H, W)`.
        table: Table of `Brains`, the rows of which each slice has age, sex, CDR and position.
    """
    names = [f"new brain {number:04d}" for number in range(len(images))]
    return Brains(images, table.reset_index(drop=True).assign(subject=names))


def position_keys(positions):
    """Returns positions in mm, or slice numbers, as texts of whole numbers; `"all"` is unknown."""
    return [
        "all" if np.isnan(position) else str(int(np.floor(position + 0.5)))
        for position in np.asarray(positions, float)
    ]


def membership(training_bits, training_persons, test_bits, test_persons):
    """Returns how well bits per code tell training from test persons: an area under the curve.

    Args:
        training_bits, test_bits: Arrays of bits per code, one for each slice.
        training_persons, test_persons: Whom each slice shows.
    """
    means = [
        pandas.Series(np.asarray(bits, float)).groupby(np.asarray(persons)).mean()
        for bits, persons in ((training_bits, training_persons), (test_bits, test_persons))
    ]
    labels = np.repeat([1, 0], [len(one) for one in means])
    return float(roc_auc_score(labels, -np.concatenate(means)))
