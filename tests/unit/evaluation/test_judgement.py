"""What the judge says of brains: of real ones in the generator's place, and of wrong ones."""

import numpy as np
import pandas
import pytest

from oasisvq.evaluation.judgement import (
    Brains,
    as_levels,
    brains_of,
    halved,
    judge_brains,
    membership,
    new_brains,
    position_keys,
    training_table,
)


def invented(brains, random, persons, name):
    """Returns two slices of each of so many persons, bent in a way of their own."""
    images, rows = [], []
    for number in range(persons):
        age = random.uniform(20, 90)
        head = random.choice(len(brains)), np.roll
        for position in (0, 4):
            image = brains[head[0]] * random.uniform(0.9, 1.1)
            image = np.roll(image, (random.integers(-3, 4), position), axis=(0, 1))
            images.append(image + (image > 0) * random.normal(0, 0.02, image.shape))
            rows.append((f"{name} {number}", position, age, "FM"[number % 2], number % 3 / 2))
    table = pandas.DataFrame(rows, columns=["subject", "position", "age", "sex", "cdr"])
    table = table.assign(key=position_keys(table["position"]), plane="")
    return Brains(as_levels(np.array(images)), table)


pytestmark = pytest.mark.usefixtures("short_judgements")


@pytest.fixture(scope="module")
def groups(brains):
    random = np.random.default_rng(3)
    sizes = {"new": 20, "test": 6, "other": 14}
    made = {name: invented(brains, random, size, name) for name, size in sizes.items()}
    return {**made, "new": new_brains(made["new"].images, made["new"].table)}


@pytest.fixture(scope="module")
def judged(groups):
    raw = groups["test"].images
    arguments = groups["new"], groups["test"], groups["other"]
    return judge_brains(*arguments, raw=raw, steps=2, seed=1, quick=True)


def test_a_judgement_has_all_parts_and_counts_persons(judged, groups):
    report, shown = judged
    assert report["brains"] == 40
    assert (report["persons"], report["slices"], report["other_persons"]) == (6, 12, 14)
    for entry in report["measures"].values():
        assert 0 < entry["p"] <= 1
        assert set(entry["caught"]) | set(entry["missed"]) == set(entry["planted"])
        assert set(entry["raw"]) == {"new", "codes"}
    assert {"ages of others", "two heads glued", "mirrored"} <= set(entry["planted"])
    assert set(report["predictions"]) == {"age", "sex", "cdr"}
    assert "classifier" not in report
    numbers = [part["bands"][-1] for part in (report["tissue"], report["tissue"]["real"])]
    assert numbers[0]["real"] == numbers[1]["new"] + numbers[1]["real"] > 0
    table = shown["brains"]
    assert list(table["subject"]) == list(groups["new"].table["subject"])
    assert table["tissue_fraction"].between(0, 1).all()
    assert (table["copy"] != "").sum() == sum(
        report["copies"][n] for n in ("copies", "half_copies")
    )
    assert shown["rows"].max() < len(groups["other"].table)


def test_the_same_seed_gives_the_same_judgement(judged, groups):
    raw = groups["test"].images
    arguments = groups["new"], groups["test"], groups["other"]
    report, _ = judge_brains(*arguments, raw=raw, steps=2, seed=1, quick=True)
    assert report["copies"] == judged[0]["copies"]
    for name, entry in report["measures"].items():
        assert entry["p"] == judged[0]["measures"][name]["p"], name


def test_unknown_ages_leave_out_what_needs_them(groups):
    unknown = {}
    for name, group in groups.items():
        table = group.table.assign(age=np.nan, sex=np.nan, cdr=np.nan)
        unknown[name] = Brains(group.images, table)
    report, _ = judge_brains(unknown["new"], unknown["test"], unknown["other"], steps=2, quick=True)
    assert not {"tissue_by_age", "age_error"} & set(report["measures"])
    assert report["tissue"] is None
    assert set(report["predictions"].values()) == {None}
    assert "raw" not in report["measures"]["brain_area"]


@pytest.mark.parametrize("few", ["new", "test", "other"])
def test_too_few_of_any_group_are_not_judged(groups, few):
    some = {**groups, few: groups[few].part([0])}
    report, shown = judge_brains(some["new"], some["test"], some["other"], quick=True)
    assert shown is None
    assert "takes at least 2 of them" in report["reason"]
    assert "measures" not in report


def test_replayed_training_brains_are_copies(groups):
    known = groups["other"]
    new = new_brains(known.images[:10], known.table.iloc[:10])
    report, shown = judge_brains(new, groups["test"], known, steps=2, quick=True)
    assert report["copies"]["copies"] == 10
    np.testing.assert_array_equal(known.images[shown["rows"]], new.images)


def test_a_brain_of_many_slices_is_one_brain(groups):
    new, known = groups["new"], groups["other"]
    names = np.repeat([f"volume {number}" for number in range(10)], 4)
    images = new.images.copy()
    images[[4, 5, 9]] = known.images[[0, 2, 4]]  # two slices of a volume, one of another
    volumes = Brains(images, new.table.assign(subject=names))
    report, shown = judge_brains(volumes, groups["test"], known, steps=2, quick=True)
    assert (report["brains"], report["new_slices"]) == (10, 40)
    assert len(shown["brains"]) == 40
    assert report["copies"]["share"] == 0.2


def test_of_many_slices_each_person_keeps_one_first(groups):
    few = groups["other"].at_most(15, np.random.default_rng(0))
    assert len(few.table) == 15
    assert few.persons() == 14
    assert groups["other"].at_most(100, np.random.default_rng(0)) is groups["other"]


def test_halved_slices_are_means_of_four_pixels(random):
    large = random.integers(0, 255, (2, 131, 60)).astype(np.uint8)
    small = halved(large)
    assert small.shape == (2, 65, 30)
    assert small[1, 3, 4] == round(large[1, 6:8, 8:10].mean())
    assert halved(small) is small


def test_positions_are_keys_to_the_whole_mm():
    assert position_keys([90, 12.5, -0.4, np.nan]) == ["90", "13", "0", "all"]


def test_training_brains_have_their_conditions_and_no_names():
    conditions = np.array([[90, 60, 1, 0.5], [91, np.nan, np.nan, np.nan]], np.float32)
    table = training_table(conditions, [3, 7])
    assert list(table["subject"]) == ["training person 3", "training person 7"]
    assert table["sex"][0] == "M"
    assert table[["age", "sex", "cdr"]].iloc[1].isna().all()
    assert list(table["key"]) == ["90", "91"]


def test_membership_compares_persons_not_slices():
    training, test = [1.0, 9.0, 2.0, 2.0], [6.0, 3.0]  # means of 5 and 2, and of 6 and 3
    assert membership(training, ["a", "a", "b", "b"], test, ["c", "d"]) == 0.75
    assert membership([1, 1], ["a", "b"], [2, 2], ["c", "d"]) == 1


def test_brains_of_a_dataset_are_those_of_its_persons(place):
    from dataset import OASIS
    from hyperparameters import DataConfig

    slices = OASIS(DataConfig(dataset=str(place / "slices")), place / "data")
    slices.people = {"001": "shared", "002": "shared"}
    rows = np.array([0, 3, 5])
    some = brains_of(slices, rows)
    np.testing.assert_array_equal(some.images, slices.slices[rows])
    names = slices.table["subject"].iloc[rows]
    assert list(some.table["subject"]) == [slices.people.get(name, name) for name in names]
    assert list(brains_of(slices, rows, ["x", "y", "z"]).table["subject"]) == ["x", "y", "z"]
    np.testing.assert_array_equal(some.table["position"], slices.table["index"].iloc[rows])
