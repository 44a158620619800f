"""Judges a generator: how far its brains are from real ones, and which failures would be seen."""

import dataclasses

import numpy as np

from oasisvq.evaluation.measures import MEASURES, TooFewSlicesError
from oasisvq.evaluation.planted import UNCHANGED

FEWEST = 2  # new brains, persons to compare them with, and other persons
DRAWS = 200  # of real persons against real persons, for the floor and for p
PARTS = 20  # of the generated brains, whose mean is the value
LARGEST = 250  # brains compared at a time
CAUGHT = 0.05  # p of a failure that counts as caught


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


def judge(brains, real, planted, raw=None, seed=0, draws=None):
    """Compares generated brains with real ones by every measure.

    The floor is what a measure gives for real persons against other real persons: as many persons
    as there are in `test` are drawn from all, and compared with one slice each of the others. In
    the same way the generated brains, which are a person each, are compared with the persons in
    `test`. p is the share of draws of real persons that are as far apart as the generated brains.

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
        draws: Integer, draws of real persons for each floor. Default: 200.

    Returns:
        Dictionary by measure, without those that lack ages: `value`, `floor` and `floor_sd`,
        `ratio`, `p`, `spread` (standard deviation over the networks, `None` without), `planted`
        (the value and p of each failure), `unchanged`, the same without a failure, `caught` and
        `missed`, the names of failures. With `raw` also `raw`: how far the new brains, and other
        real persons through the codes, are from it.

    Raises:
        TooFewSlicesError: See `check_numbers`.
    """
    draw = Draws(real, len(np.unique(brains.persons)), seed)
    report = {}
    for name, measure in MEASURES.items():
        value = draw.value(brains, measure)
        if not np.isfinite(value).all():  # no ages
            continue
        floor = draw.floor(measure, draws or DRAWS)
        if not np.isfinite(floor).all():  # too few ages
            continue
        entry = _against(value, floor)
        entry["planted"] = {
            failure: _against(draw.value(population, measure), floor)
            for failure, population in planted.items()
        }
        entry["unchanged"] = unchanged = entry["planted"].pop(UNCHANGED, None)
        usual = float(np.median(floor.mean(axis=1)))  # of a skewed measure, the mean is rare itself
        excess = max(unchanged["value"] - usual, 0.0) if unchanged else 0.0
        values = {failure: one["value"] - excess for failure, one in entry["planted"].items()}
        entry["caught"] = [one for one, value in values.items() if _p(value, floor) <= CAUGHT]
        entry["missed"] = [one for one in values if one not in entry["caught"]]
        if raw is not None:
            entry["raw"] = {
                "new": float(draw.value(brains, measure, raw).mean()),
                "codes": float(draw.value(draw.others, measure, raw).mean()),
            }
        report[name] = entry
    return report


class Draws:
    """Draws of real persons, and of parts of generated brains, for all measures alike.

    Args:
        real: `Real`.
        brains: Integer, number of generated brains. One slice of each is compared.
        seed: Integer.
    """

    def __init__(self, real, brains, seed):
        self.real, self.seed = real, seed
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
        """Returns a measure of brains beside `test`, or others, the mean over parts of them."""
        values = []
        for number in range(PARTS):
            random = np.random.default_rng([self.seed, 6, number])
            rows = _one_each(np.arange(len(brains.persons)), brains.persons, random)[: self.part]
            values.append(
                np.atleast_1d(measure(brains.part(rows), self.test if real is None else real))
            )
        return np.mean(values, axis=0)  # (networks,)


def _one_each(rows, owners, random):
    """Returns one of the rows of each owner, in random order."""
    rows = random.permutation(rows)
    return random.permutation(rows[np.unique(owners[rows], return_index=True)[1]])


def _against(values, floor):
    """Returns a value beside its floor, both the means over the networks."""
    value, mean = float(values.mean()), float(floor.mean())
    return {
        "value": value,
        "spread": float(values.std(ddof=1)) if len(values) > 1 else None,
        "floor": mean,
        "floor_sd": float(floor.mean(axis=1).std(ddof=1)),
        "ratio": value / mean if mean > 0 else None,
        "p": _p(value, floor),
    }


def _p(value, floor):
    """Returns the share of draws, and of the value itself, that are at least as large as it."""
    draws = floor.mean(axis=1)
    return float((1 + (draws >= value).sum()) / (1 + len(draws)))
