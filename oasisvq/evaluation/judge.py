"""Judges a generator: how far its brains are from real ones, and which failures would be seen."""

import dataclasses

import numpy as np

from oasisvq.core.threads import one_blas_thread
from oasisvq.evaluation.measures import MEASURES, TooFewSlicesError
from oasisvq.evaluation.planted import UNCHANGED

FEWEST = 2  # new brains, persons to compare them with, and other persons
DRAWS = 200  # of real persons against real persons, for the floor and for p
PARTS = 20  # of the generated brains, the middle one of which is the value
LARGEST = 250  # brains compared at a time
CAUGHT = 0.05  # p of a failure that counts as caught
FAINT = 1e-9  # a smaller deviation is that of rounding


def check_numbers(brains, persons, others):
    """Checks that there are enough new brains, real persons to compare with, and other persons.

    Raises:
        TooFewSlicesError: If there are not; the message is a sentence for the user.
    """
    if min(brains, persons, others) < FEWEST:
        raise TooFewSlicesError(
            f"to judge new brains takes at least {FEWEST} of them, {FEWEST} real persons to "
            f"compare them with and {FEWEST} other real persons. Received: {brains}, {persons} and "
            f"{others}"
        )


@dataclasses.dataclass(frozen=True)
class Real:
    """Real slices with their persons.

    Attributes:
        population: `measures.Population` of all slices.
        test: Rows of the persons that generated brains are compared with.
        others: Rows of other real persons.
    """

    population: object
    test: np.ndarray
    others: np.ndarray


def judge(brains, real, planted, raw=None, seed=0, draws=DRAWS, parts=PARTS):
    """Compares generated brains with real ones by every measure.

    The floor is what a measure gives for real persons against other real persons: as many persons
    as there are in `test` are drawn from all, and compared with one slice each of the others. In
    the same way the generated brains, which are a person each, are compared with the persons in
    `test`, in parts; the value is the middle of the parts. p is the share of draws of real persons
    that are as far apart. It is careful: the middle of parts varies less than a draw does.

    Failures are planted in slices of the others, who differ from `test` by chance. How far they are
    above the floor while nothing is changed is taken off before a failure counts as caught.

    Args:
        brains: `measures.Population` of the generated brains.
        real: `Real`.
        planted: Dictionary of the populations with planted failures, by their names, and of
            `UNCHANGED`.
        raw: `measures.Population` of the slices of `test` as they are, if `real` has them through
            the codes of a run.
        seed: Integer, draws persons and slices.
        draws: Integer, draws of real persons for each floor.
        parts: Integer, parts of the generated brains.

    Returns:
        Dictionary by measure, without those that lack ages: `value`, `floor` and `floor_sd`,
        `ratio`, `p`, `spread` (standard deviation over the networks, `None` without), `planted`
        (the value and p of each failure for which the measure is defined), `unchanged`, the same
        without a failure, `caught` and `missed`, the names of failures. Distances of quantities of
        the anatomy are in standard deviations of all real slices. With `raw` also `raw`: how far
        the new brains, and other real persons through the codes, are from it.

    Raises:
        TooFewSlicesError: See `check_numbers`.
    """
    deviations = real.population.anatomy.std(axis=0)
    deviations[deviations < FAINT] = 1  # of what never varies
    brains, raw = brains.in_units(deviations), raw and raw.in_units(deviations)
    real = dataclasses.replace(real, population=real.population.in_units(deviations))
    planted = {name: population.in_units(deviations) for name, population in planted.items()}
    draw = Draws(real, len(np.unique(brains.persons)), seed, parts)
    with one_blas_thread():  # several would mostly wait for one another in such small products
        entries = {
            name: _judge_by(measure, draw, draws, brains, planted, raw)
            for name, measure in MEASURES.items()
        }
    return {name: entry for name, entry in entries.items() if entry is not None}


def _judge_by(measure, draw, draws, brains, planted, raw):
    """Returns what `judge` says of one measure, `None` if it is not defined here."""
    value = draw.value(brains, measure)
    if not np.isfinite(value).all():  # no ages
        return None
    floor = draw.floor(measure, draws)
    if not np.isfinite(floor).all():  # too few ages
        return None
    wrong = {name: draw.value(population, measure) for name, population in planted.items()}
    wrong = {name: one for name, one in wrong.items() if np.isfinite(one).all()}
    unchanged = wrong.pop(UNCHANGED, None)
    # Of a skewed measure the mean of the floor is rare itself.
    usual = float(np.median(floor.mean(axis=1)))
    excess = 0.0 if unchanged is None else max(unchanged.mean() - usual, 0.0)
    caught = [name for name, one in wrong.items() if _p(one - excess, floor) <= CAUGHT]
    entry = _against(value, floor) | {
        "planted": {failure: _against(one, floor) for failure, one in wrong.items()},
        "unchanged": None if unchanged is None else _against(unchanged, floor),
        "caught": caught,
        "missed": [failure for failure in wrong if failure not in caught],
    }
    if raw is not None:
        entry["raw"] = {
            "new": float(draw.value(brains, measure, raw).mean()),
            "codes": float(draw.value(draw.others, measure, raw).mean()),
        }
    return entry


class Draws:
    """Draws of real persons, and of parts of generated brains, for all measures alike.

    Args:
        real: `Real`.
        brains: Integer, number of generated brains. One slice of each is compared.
        seed: Integer.
        parts: Integer, parts of the generated brains.
    """

    def __init__(self, real, brains, seed, parts=PARTS):
        self.real, self.seed, self.parts = real, seed, parts
        owners = real.population.persons
        self.pool = np.concatenate([real.test, real.others])
        self.persons = np.unique(owners[self.pool])
        self.size = len(np.unique(owners[real.test]))  # persons to compare with
        check_numbers(brains, self.size, len(self.persons) - self.size)
        self.part = min(brains, len(self.persons) - self.size, LARGEST)
        self.test = real.population.part(real.test)
        random = np.random.default_rng([seed, 9])
        self.others = real.population.part(_one_each(real.others, owners, random))

    def floor(self, measure, count):
        """Returns a measure of `count` draws of real persons: `(count, networks)`."""
        values, owners = [], self.real.population.persons
        for number in range(count):
            random = np.random.default_rng([self.seed, 0, number])
            order = random.permutation(self.persons)
            some = self.pool[np.isin(owners[self.pool], order[: self.size])]
            rest = self.pool[np.isin(owners[self.pool], order[self.size :][: self.part])]
            rest = _one_each(rest, owners, random)
            part = self.real.population.part
            values.append(np.atleast_1d(measure(part(rest), part(some))))
        return np.array(values)

    def value(self, brains, measure, real=None):
        """Returns a measure of brains beside `test`, or others, the middle of parts: `(networks,)`.

        Not their mean: of a skewed measure, that is larger than most draws are.
        """
        values, count = [], len(brains.persons)
        alone = count == len(np.unique(brains.persons)) <= self.part  # all parts are the same
        for number in range(1 if alone else self.parts):
            random = np.random.default_rng([self.seed, 6, number])
            rows = _one_each(np.arange(count), brains.persons, random)[: self.part]
            values.append(
                np.atleast_1d(measure(brains.part(rows), self.test if real is None else real))
            )
        return np.median(values, axis=0)


def _one_each(rows, owners, random):
    """Returns one of the rows of each owner, in random order."""
    rows = random.permutation(rows)
    return random.permutation(rows[np.unique(owners[rows], return_index=True)[1]])


def _against(value, floor):
    """Returns a value `(networks,)`, the mean over networks, beside a floor `(draws, networks)`."""
    mean, of_all = float(floor.mean()), float(value.mean())
    return {
        "value": of_all,
        "spread": float(value.std(ddof=1)) if len(value) > 1 else None,
        "floor": mean,
        "floor_sd": float(floor.mean(axis=1).std(ddof=1)),
        "ratio": of_all / mean if mean > 0 and of_all >= 0 else None,
        "p": _p(value, floor),
    }


def _p(value, floor):
    """Returns the share of draws that are at least as large as a value, which counts as one too."""
    draws = floor.mean(axis=1)
    return float((1 + (draws >= value.mean()).sum()) / (1 + len(draws)))
