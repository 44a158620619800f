"""The split by subject: from a hash of the name, and one person in one split."""

import hashlib
import shutil

import numpy as np
import pandas
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oasisvq.core.errors import DatasetError
from oasisvq.data import splits
from oasisvq.data.splits import SPLITS, assign_splits, join_people, subject_split
from support.sources import choose, open_folder, write_png

NAMES = [f"subject{n}" for n in range(2000)]
subjects = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
fractions = st.floats(0, 0.45)


def test_split_is_by_subject_and_disjoint(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path, validation_fraction=0.3, test_fraction=0.3)
    parts = [set(dataset.subjects(split)) for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert (dataset.table.groupby("subject")["split"].nunique() == 1).all()


def test_split_depends_on_the_name_alone():
    config = choose("demo")
    found = {name: subject_split(name, config) for name in NAMES}
    assert found == {name: subject_split(name, config) for name in reversed(NAMES)}
    for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        assert sum(s == split for s in found.values()) / 2000 == pytest.approx(share, abs=0.03)


def test_split_is_the_same_on_every_machine():
    config = choose("demo")
    names = ["OAS1_0001", "OAS1_0006", "OAS1_0018", "OAS1_0023", "case_441", "sub-07"]
    place = {name: hashlib.sha256(f"0:{name}".encode()).hexdigest()[:3] for name in names}
    expected = {
        name: "test" if share < "19a" else "validation" if share < "333" else "train"
        for name, share in place.items()  # 0.1 is 0x19a of 0x1000, 0.2 is 0x333
    }
    assert {name: subject_split(name, config) for name in names} == expected


def test_sessions_of_a_subject_stay_together(tmp_path):
    for n in range(40):
        for session in ("MR1", "MR2"):
            write_png(tmp_path / f"in/OAS1_{n:04d}_{session}.95.png", np.full((16, 16), 9))
    dataset = open_folder(tmp_path / "in", tmp_path, test_fraction=0.3)
    assert len(dataset.table) == 80
    assert (dataset.table.groupby("subject")["split"].nunique() == 1).all()
    assert dataset.table["split"].nunique() == 3


def test_a_larger_test_share_keeps_the_test_subjects():
    few = choose("demo", test_fraction=0.1)
    many = choose("demo", test_fraction=0.2)
    kept = [n for n in NAMES if subject_split(n, few) == "test"]
    assert all(subject_split(n, many) == "test" for n in kept)


def test_another_split_seed_deals_anew():
    configs = (choose("demo", split_seed=seed) for seed in (0, 1))
    first, second = ([subject_split(name, config) for name in NAMES] for config in configs)
    assert first != second


@given(st.lists(subjects, min_size=1, unique=True), st.integers(0, 99), fractions, fractions)
def test_a_subjects_split_depends_on_no_other_subject(names, seed, validation, test):
    config = choose("demo", split_seed=seed, validation_fraction=validation, test_fraction=test)
    table = pandas.DataFrame({"subject": [*names, *names], "split": ""})
    found = list(assign_splits(table, config, join_people([])))
    assert found[: len(names)] == found[len(names) :]  # all slices of a subject stay together
    assert found[: len(names)] == [subject_split(name, config) for name in names]
    assert set(found) <= {
        split for split, share in zip(SPLITS, (1, validation, test), strict=True) if share
    }


# Subjects who are one person


def test_known_near_duplicates_stay_together():
    for seed in range(50):
        config = choose("demo", split_seed=seed)
        assert subject_split("OAS1_0079", config) == subject_split("OAS1_0193", config)


def test_names_joined_in_pairs_all_go_by_the_first():
    pairs = [("d", "c"), ("f", "e"), ("c", "b"), ("e", "d"), ("x", "OAS1_0193")]
    people = join_people(pairs)
    assert {people[name] for name in "bcdef"} == {"b"}
    assert {people[name] for name in ("x", "OAS1_0193", "OAS1_0079")} == {"OAS1_0079"}


@given(st.lists(st.tuples(subjects, subjects), max_size=8), st.integers(0, 99))
def test_near_duplicates_come_into_one_split(pairs, seed):
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    assume(pairs)
    config = choose("demo", split_seed=seed, validation_fraction=0.3)
    people = join_people(pairs)
    names = sorted({name for pair in pairs for name in pair})
    table = pandas.DataFrame({"subject": names, "split": ""})
    found = dict(zip(names, assign_splits(table, config, people), strict=True))
    for one, other in pairs:
        assert people[one] == people[other]
        assert found[one] == found[other]


def test_known_near_duplicates_in_two_ready_made_splits_are_trained_on(tmp_path):
    for split, name in {"train": "OAS1_0193", "test": "OAS1_0079", "validate": "OAS1_0001"}.items():
        write_png(tmp_path / f"in/{split}/{name}_MR1.95.png", np.full((16, 16), 9))
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.subjects("train") == ["OAS1_0079", "OAS1_0193"]
    assert dataset.subjects("validation") == ["OAS1_0001"]
    assert dataset.subjects("test") == []


@pytest.mark.slow
@pytest.mark.real_data
def test_real_near_duplicates_end_on_one_side(tmp_path, monkeypatch, real_data):
    monkeypatch.setattr(splits, "SAME_PERSON", {})
    names = ["OAS1_0079", "OAS1_0193", "OAS1_0070", "OAS1_0077", "OAS1_0246", "OAS1_0258"]
    for name in names:
        shutil.copytree(real_data / f"oasis1_coronal/{name}_MR1", tmp_path / f"in/{name}_MR1")
    pair = names[:2]
    separating = [
        seed
        for seed in range(40)
        if len({subject_split(name, choose("demo", split_seed=seed)) for name in pair}) == 2
    ]
    assert separating
    for seed in separating:
        dataset = open_folder(tmp_path / "in", tmp_path, split_seed=seed)
        ((found, _),) = [tuple(pair.values()) for pair in dataset.description["near_duplicates"]]
        assert found == pair  # not the two most alike after them
        assert dataset.table.set_index("subject").loc[pair, "split"].nunique() == 1


# Splits that the source makes


def test_a_subject_in_two_ready_made_splits_is_refused(tmp_path):
    for split in ("train", "test"):
        write_png(tmp_path / f"in/{split}/case_001_slice_{len(split)}.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="case_001"):
        open_folder(tmp_path / "in", tmp_path)


def test_a_source_with_some_ready_made_splits_is_refused(tmp_path):
    write_png(tmp_path / "in/train/case_001_slice_0.png", np.full((16, 16), 9))
    write_png(tmp_path / "in/more/case_002_slice_0.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="case_002"):
        open_folder(tmp_path / "in", tmp_path)


def test_a_subject_whose_slices_lie_in_a_split_in_part_is_refused(tmp_path):
    write_png(tmp_path / "in/test/case_1_slice_0.png", np.full((16, 16), 9))
    write_png(tmp_path / "in/case_1_slice_1.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="slices of subject case_1 are in none"):
        open_folder(tmp_path / "in", tmp_path)
