"""The judge's floors and p, with measures that are known, and its verdict on real slices."""

import dataclasses
import json
import warnings

import numpy as np
import pytest

from oasisvq.evaluation import judge as judge_module
from oasisvq.evaluation.anatomy import QUANTITIES
from oasisvq.evaluation.judge import FEWEST, Draws, Real, check_numbers, judge
from oasisvq.evaluation.measures import BANDS, MEASURES, Population, TooFewSlicesError
from support.heads import real_populations


def invent(persons, slices=1, seed=0, shift=0.0):
    """Returns a population of random numbers, the slices of a person nearly alike."""
    random = np.random.default_rng([seed, persons])

    def numbers(*shape):
        of_persons = np.repeat(random.normal(size=(persons, *shape)), slices, axis=0)
        return of_persons + shift + 0.1 * random.normal(size=of_persons.shape)

    details = numbers(20)
    return Population(
        persons=np.repeat([f"{seed} person {n:03d}" for n in range(persons)], slices),
        keys=np.tile(np.arange(slices).astype(str), persons),
        features=numbers(2, 3),
        anatomy=numbers(len(QUANTITIES)),
        sides=numbers(4),
        spectra=numbers(BANDS),
        details=details / np.linalg.norm(details, axis=1, keepdims=True),
        ages=60 + numbers(),
        predicted_ages=60 + numbers(),
    )


def real_of(test, others, slices=3):
    """Returns real slices of so many test persons and others."""
    rows = np.arange((test + others) * slices)
    return Real(invent(test + others, slices), rows[: test * slices], rows[test * slices :])


def mean_apart(brains, real):
    return abs(brains.anatomy[:, 0].mean() - real.anatomy[:, 0].mean())


@pytest.fixture
def use(monkeypatch):
    """Returns a function that puts other measures, and numbers of draws, in place."""

    def replace(measures=None, **numbers):
        if measures is not None:
            monkeypatch.setattr(judge_module, "MEASURES", measures)
        for name, number in numbers.items():
            monkeypatch.setattr(judge_module, name, number)

    return replace


def test_a_draw_compares_one_slice_each_with_all_slices_of_as_many_persons_as_in_the_test():
    seen = []

    def measure(brains, real):
        seen.append((brains.persons, real.persons))
        return 0.0

    real = real_of(6, 14)
    Draws(real, 10, seed=0).floor(measure, 30)
    for one_each, whole in seen:
        names, counts = np.unique(whole, return_counts=True)
        assert len(names) == 6
        assert set(counts) == {3}
        assert len(set(one_each)) == len(one_each) == 10
        assert not set(one_each) & set(whole)
    for side in zip(*seen, strict=True):  # everybody comes on either side
        assert set(np.concatenate(side)) == set(real.population.persons)


def test_slices_are_drawn_too():
    keys = []
    draws = Draws(real_of(5, 20), 20, seed=0)
    draws.floor(lambda brains, real: keys.append(brains.keys) or 0.0, 10)
    assert all(len(set(some)) == 3 for some in keys)
    assert len({tuple(some) for some in keys}) == 10


def test_brains_are_compared_with_the_test_in_parts_of_as_many_as_there_are_others(use):
    seen = []

    def measure(brains, real):
        seen.append((brains, real))
        return brains.anatomy[:, 0].mean()

    brains, real = invent(50, seed=1), real_of(6, 14)
    value = Draws(real, 50, seed=0).value(brains, measure)
    assert len(seen) == judge_module.PARTS
    assert value == pytest.approx(np.median([part.anatomy[:, 0].mean() for part, _ in seen]))
    for part, test in seen:
        assert len(part.persons) == 14
        np.testing.assert_array_equal(test.persons, real.population.persons[real.test])
    assert len({tuple(sorted(part.persons)) for part, _ in seen}) == judge_module.PARTS
    use(LARGEST=7)
    Draws(real, 50, seed=0).value(brains, measure)
    assert len(seen[-1][0].persons) == 7


def test_of_a_brain_of_many_slices_one_is_compared():
    brains, draws = invent(8, slices=10, seed=1), Draws(real_of(6, 14), 8, seed=0)
    parts = []
    draws.value(brains, lambda some, _: parts.append(some) or 0.0)
    for part in parts:
        assert len(set(part.persons)) == len(part.persons) == 8


def test_p_counts_the_draws_that_are_as_far_apart_as_the_middle_part(use):
    values = iter([*[0.0] * 9, *[7.0] * 2, *[1000.0] * 9, *map(float, range(10))])
    use({"counted": lambda brains, real: next(values)})  # 20 parts of the brains, then 10 draws
    entry = judge(invent(20, seed=1), real_of(5, 9), {}, draws=10)["counted"]
    assert entry == {
        "value": 7.0,
        "spread": None,
        "floor": 4.5,
        "floor_sd": pytest.approx(np.std(range(10), ddof=1)),
        "ratio": pytest.approx(7 / 4.5),
        "p": pytest.approx((1 + 3) / (1 + 10)),
        "planted": {},
        "unchanged": None,
        "caught": [],
        "missed": [],
    }


def test_brains_that_are_all_compared_at_once_are_one_part(use):
    parts = []
    use({"counted": lambda brains, real: parts.append(brains) or 0.0})
    judge(invent(9, seed=1), real_of(5, 9), {}, draws=10)
    assert len(parts) == 1 + 10
    judge(invent(9, slices=2, seed=1), real_of(5, 9), {}, draws=10, parts=3)
    assert len(parts) == 11 + 3 + 10


def test_a_single_wild_brain_hides_no_difference(use):
    use({name: MEASURES[name] for name in ("islands", "holes")})
    real, brains = real_of(10, 30), invent(60, seed=1)
    wild = brains.anatomy.copy()
    wild[:, QUANTITIES.index("islands")] += 3.0
    reports = []
    for outlier in (0, 1e6):
        wild[7, QUANTITIES.index("islands")] += outlier
        reports.append(judge(dataclasses.replace(brains, anatomy=wild), real, {}, draws=20))
    for report in reports:
        assert report["islands"]["p"] == 1 / 21
        assert 0.7 < report["islands"]["value"] < 1e6  # deviations of real slices
    assert reports[0]["islands"]["value"] <= reports[1]["islands"]["value"]
    assert reports[0]["holes"] == reports[1]["holes"]


def test_a_measure_that_a_failure_leaves_undefined_neither_catches_nor_misses_it(use):
    def apart(brains, real):
        return np.nan if str(brains.persons[0]).startswith("9") else mean_apart(brains, real)

    use({"apart": apart})
    planted = {"far": invent(20, seed=2, shift=3), "unknown": invent(20, seed=9)}
    planted["nothing changed"] = invent(20, seed=9)
    entry = judge(invent(20, seed=1), real_of(10, 30), planted, draws=50)["apart"]
    assert entry["caught"] == list(entry["planted"]) == ["far"]
    assert entry["missed"] == []
    assert entry["unchanged"] is None


def test_the_networks_are_averaged_and_their_spread_is_told(use):
    use({"pair": lambda brains, real: np.array([1.0, 3.0])})
    entry = judge(invent(9, seed=1), real_of(5, 9), {}, draws=5)["pair"]
    assert (entry["value"], entry["floor"], entry["p"]) == (2, 2, 1)
    assert entry["spread"] == pytest.approx(np.sqrt(2))


def test_there_is_no_ratio_to_a_floor_of_0(use):
    use({"nothing": lambda brains, real: 0.0})
    assert judge(invent(9, seed=1), real_of(5, 9), {}, draws=5)["nothing"]["ratio"] is None


def test_failures_are_caught_or_missed(use):
    use({"apart": mean_apart})
    planted = {"far": invent(20, seed=2, shift=3), "near": invent(20, seed=3)}
    entry = judge(invent(20, seed=1), real_of(10, 30), planted, draws=50)["apart"]
    assert entry["caught"] == ["far"]
    assert entry["missed"] == ["near"]
    assert entry["planted"]["near"]["p"] > 0.05
    assert entry["planted"]["far"]["p"] == 1 / 51


def test_failures_are_not_caught_because_others_differ_from_the_test_by_chance(use):
    use({"apart": mean_apart})
    planted = {name: invent(20, seed=2, shift=3) for name in ("nothing changed", "the same")}
    planted["worse"] = invent(20, seed=3, shift=6)
    entry = judge(invent(20, seed=1), real_of(10, 30), planted, draws=50)["apart"]
    assert entry["planted"]["the same"]["p"] == entry["unchanged"]["p"] == 1 / 51
    assert entry["caught"] == ["worse"]
    assert entry["missed"] == ["the same"]


def test_brains_and_others_stand_beside_the_raw_slices(use):
    use({"apart": mean_apart})
    real, brains = real_of(6, 14), invent(14, seed=1)
    raw = dataclasses.replace(real.population.part(real.test))
    raw = dataclasses.replace(raw, anatomy=raw.anatomy + 5)
    entry = judge(brains, real, {}, raw, draws=5)["apart"]
    deviation = real.population.anatomy[:, 0].std()
    assert entry["raw"]["new"] == pytest.approx(mean_apart(brains, raw) / deviation)
    others = Draws(real, 14, seed=0).others
    assert len(set(others.persons)) == len(others.persons) == 14
    assert entry["raw"]["codes"] == pytest.approx(mean_apart(others, raw) / deviation)
    assert entry["value"] < 1.5
    assert "raw" not in judge(brains, real, {}, draws=5)["apart"]


def test_p_of_a_perfect_generator_is_as_often_below_a_tenth_as_it_should(use):
    use({"apart": mean_apart})
    ps = []
    for seed in range(60):
        everybody = invent(60, 3, seed=seed + 5)
        rows = np.arange(180)
        real, new = Real(everybody, rows[:60], rows[60:120]), everybody.part(rows[120::3])
        ps.append(judge(new, real, {}, seed=seed, draws=39, parts=3)["apart"]["p"])
    assert np.mean(np.array(ps) <= 0.1) < 0.25
    assert 0.3 < np.mean(ps) < 0.7


def test_the_seed_decides(use):
    use({name: MEASURES[name] for name in ("feature_distance", "twins", "islands")})
    judged = [
        judge(invent(20, seed=1), real_of(6, 14), {}, seed=seed, draws=10) for seed in (0, 0, 1)
    ]
    assert judged[0] == judged[1]
    for name, entry in judged[2].items():
        assert entry["floor"] != judged[0][name]["floor"] or name == "twins"
        assert entry["value"] != judged[0][name]["value"] or name == "twins"


@pytest.mark.parametrize("few", range(3))
def test_too_few_are_refused_in_a_sentence(few):
    counts = [FEWEST] * 3
    check_numbers(*counts)
    counts[few] -= 1
    received = f"Received: {counts[0]}, {counts[1]} and {counts[2]}"
    with pytest.raises(TooFewSlicesError, match=f"at least 2 of them, 2 real .* {received}"):
        judge(invent(counts[0], seed=1), real_of(*counts[1:]), {})


@pytest.mark.parametrize("black", [False, True])
@pytest.mark.parametrize(("brains", "test", "others"), [(5, 5, 5), (40, 5, 6), (5, 12, 5)])
def test_the_fewest_give_a_whole_report(brains, test, others, black):
    new = invent(brains, seed=1)
    if black:
        numbers = ("features", "anatomy", "sides", "spectra", "details")
        new = dataclasses.replace(new, **{name: 0 * getattr(new, name) for name in numbers})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = judge(new, real_of(test, others, slices=1), {"same": new}, draws=4, parts=2)
    assert set(report) == set(MEASURES)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.real_data
def test_real_failures_are_caught_and_other_persons_are_not(real_data):
    real, populations = real_populations(real_data)
    perfect = populations["perfect"]
    chosen = "nothing changed", "blurred by half a pixel", "two heads glued", "one in three doubled"
    report = judge(perfect, real, {name: populations[name] for name in chosen}, draws=60)
    caught = {name: entry["caught"] for name, entry in report.items()}
    assert sum(entry["p"] <= 0.05 for entry in report.values()) <= 2  # of 17
    for name in ("spectrum", "islands", "ribbon", "fine_detail", "form_of_white_matter"):
        assert "blurred by half a pixel" in caught[name]
    for name in ("ventricle_asymmetry", "mirror_correlation", "left_against_right"):
        assert "two heads glued" in caught[name]
    assert "one in three doubled" in caught["twins"]
    assert not caught["brain_area"]
    assert report["left_against_right"]["planted"]["two heads glued"]["value"] > 0.85
