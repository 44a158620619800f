"""The split by subject: from a hash of the name, and one person in one split."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oasisvq.core.errors import DatasetError, WriteError
from oasisvq.data import splits
from oasisvq.data.splits import (
    RECORD,
    SPLITS,
    Split,
    assign_splits,
    find_seed,
    join_people,
    read_record,
    split_heads,
    subject_split,
)
from support.sources import choose, open_folder, write_png

NAMES = [f"subject{n}" for n in range(2000)]
subjects = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
fractions = st.floats(0, 0.45)
above_0 = st.floats(0, 0.45, exclude_min=True)


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


def test_subjects_who_leave_their_folder_for_near_duplicates_are_counted(tmp_path):
    table = in_folders(train=["a", "b"], validation=["c", "d"], test=["e", "f"])
    split = fill(table, tmp_path, pairs=[("b", "e"), ("d", "f")])
    assert split.of_slices() == ["train"] * 2 + ["validation"] * 2 + ["train", "validation"]
    (note,) = split.notes
    assert note.startswith(
        "In one split's folder, with near-duplicates in another's: 2 subjects, as e"
    )


def test_heads_in_several_folders_are_trained_on_and_their_pictures_counted():
    table = pandas.DataFrame(
        [("a", "test"), ("b", "test"), ("b", "validation"), ("b", "train"), ("c", "validation")],
        columns=["subject", "split"],
    )
    found, lines = split_heads(table)
    assert found == ["test", "train", "train", "train", "validation"]
    assert lines == ["Moved to train: 2 pictures of 1 head in folders for several splits"]
    assert split_heads(table.assign(split="")) == ([""] * 5, [])


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


# Splits that nobody's hash falls into


def in_folders(*names, **folders):
    """Returns the table of subjects without folders, and of those in each folder."""
    rows = [(name, "") for name in names]
    rows += [(name, split) for split, inside in folders.items() for name in inside]
    return pandas.DataFrame(rows, columns=["subject", "split"])


def fill(table, data_dir, pairs=(), **options):
    """Returns the split of a table of subjects, with the empty splits filled."""
    split = Split(table, choose("demo", **options), join_people(pairs))
    split.fill("source", Path(data_dir))
    return split


def rest(names, seed=0, validation=0.1, test=0.1):
    """Returns the options of a split, and the names whose hash puts them into training."""
    options = {"split_seed": seed, "validation_fraction": validation, "test_fraction": test}
    config = choose("demo", **options)
    return options, [name for name in names if subject_split(name, config) == "train"]


@given(st.lists(subjects, min_size=3, unique=True), st.integers(0, 99), above_0, above_0)
def test_of_three_persons_each_split_has_one_and_no_more_are_moved_than_needed(
    names, seed, validation, test
):
    options = {"split_seed": seed, "validation_fraction": validation, "test_fraction": test}
    with tempfile.TemporaryDirectory() as folder:
        split = fill(in_folders(*names), folder, **options)
        recorded = (Path(folder) / RECORD).exists()
    found = dict(zip(names, split.of_slices(), strict=True))
    assert set(found.values()) == set(SPLITS)
    alone = {name: subject_split(name, choose("demo", **options)) for name in names}
    moved = [name for name in names if found[name] != alone[name]]
    assert len(moved) == 3 - len(set(alone.values()))
    assert recorded == bool(moved) == bool(split.notes)


@given(
    st.lists(subjects, min_size=4, max_size=20, unique=True), st.integers(0, 99), above_0, above_0
)
def test_persons_who_are_added_move_nobody(names, seed, validation, test):
    options = {"split_seed": seed, "validation_fraction": validation, "test_fraction": test}
    with tempfile.TemporaryDirectory() as folder:
        before = {}
        for count in range(3, len(names) + 1):
            split = fill(in_folders(*names[:count]), folder, **options)
            assert before.items() <= split.splits.items()
            before = split.splits


def test_without_need_nobody_is_moved_and_nothing_is_written(tmp_path):
    names = [f"OAS1_{n:04d}" for n in range(1, 307)]
    table = in_folders(*names)
    split = fill(table, tmp_path / "data")
    people = join_people([])
    assert split.of_slices() == assign_splits(table, choose("demo"), people)
    assert split.of_slices() == [subject_split(name, choose("demo")) for name in names]
    assert split.notes == []
    assert not (tmp_path / "data").exists()


def test_the_persons_nearest_to_the_empty_splits_are_moved_and_named(tmp_path):
    options, names = rest(NAMES[:40])
    place = {n: hashlib.sha256(f"0:{n}".encode()).hexdigest() for n in names}
    first, second, *_ = sorted(names, key=place.get)
    split = fill(in_folders(*names), tmp_path / "data", **options)
    moved = {first: "test", second: "validation"}
    assert {n: s for n, s in split.splits.items() if s != "train"} == moved
    record = tmp_path / "data" / RECORD
    (kept,) = json.loads(record.read_text()).values()
    assert kept == moved
    one, other = sorted(moved)
    assert split.notes == [
        f"{one} was moved to {moved[one]} and {other} to {moved[other]}, so that no split is "
        f"empty; {record} keeps it"
    ]
    again = fill(in_folders(*NAMES), tmp_path / "data", **options)  # others fill these splits now
    assert moved.items() <= again.splits.items()
    assert again.notes == split.notes


def test_who_would_be_moved_is_told_without_recording_it(tmp_path):
    options, names = rest(NAMES[:40])
    told, moved, again = (
        Split(in_folders(*names), choose("demo", **options), {}) for _ in range(3)
    )
    told.fill("source", tmp_path / "data", write=False)
    assert not (tmp_path / "data").exists()
    moved.fill("source", tmp_path / "data")
    assert told.splits == moved.splits
    assert told.notes == [moved.notes[0].replace("keeps it", "will keep it")]
    again.fill("source", tmp_path / "data", write=False)
    assert again.notes == moved.notes


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ({"a": 0.1, "b": 0.25, "c": 0.35}, {"c": "train"}),  # the nearest is above validation
        ({"a": 0.9, "b": 0.55, "c": 0.45}, {"c": "test", "b": "validation"}),
        ({"a": 0.05, "b": 0.19, "c": 0.7, "d": 0.95}, {"b": "validation"}),  # from below
        ({"a": 0.05, "b": 0.1, "c": 0.5, "d": 0.95}, {"c": "validation"}),  # from above
    ],
)
def test_an_empty_split_gets_whose_place_is_nearest_to_it(places, moved, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "_place", lambda person, config, seed=None: places[person])
    shares = {"test_fraction": 0.2, "validation_fraction": 0.2}
    split = fill(in_folders(*places), tmp_path, **shares)
    changed = {name: to for name, to in split.splits.items() if to != split.by_rule[name]}
    assert changed == moved


def test_somebody_recorded_stays_where_another_can_be_moved(tmp_path, monkeypatch):
    places = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8}
    monkeypatch.setattr(splits, "_place", lambda person, config, seed=None: places[person])
    shares = {"test_fraction": 0.2, "validation_fraction": 0.2}
    fill(in_folders("a", "c", "d"), tmp_path, **shares)  # a: test, c: validation
    del places["a"]
    split = fill(in_folders("b", "c", "d"), tmp_path, **shares)
    assert split.splits == {"b": "test", "c": "validation", "d": "train"}


def test_places_on_a_border_belong_to_the_upper_split():
    config = choose("demo", test_fraction=0.25, validation_fraction=0.25)
    found = [splits.split_at(place, config) for place in (0, 0.24, 0.25, 0.49, 0.5, 0.99)]
    assert found == ["test", "test", "validation", "validation", "train", "train"]


def test_another_seed_or_other_fractions_are_recorded_beside_the_first(tmp_path):
    for seed, test in ((0, 1e-6), (1, 1e-6), (0, 2e-6)):
        split = fill(in_folders("a", "b", "c"), tmp_path, split_seed=seed, test_fraction=test)
        assert set(split.of_slices()) == set(SPLITS)
    assert len(read_record(tmp_path / RECORD)) == 3


def test_somebody_recorded_keeps_the_split_when_others_leave_and_come_back(tmp_path):
    options, (a, b, c, d, *_) = rest(NAMES[:40])
    first = fill(in_folders(a, b, c, d), tmp_path, **options)
    tested = next(name for name, split in first.splits.items() if split == "test")
    left = [name for name in (a, b, c, d) if name != tested]
    second = fill(in_folders(*left), tmp_path, **options)
    assert set(second.of_slices()) == set(SPLITS)
    stayed = {n: s for n, s in first.splits.items() if s == "validation"}
    assert stayed.items() <= second.splits.items()
    third = fill(in_folders(a, b, c, d), tmp_path, **options)
    assert third.splits == {**second.splits, tested: "test"}


def test_the_record_of_another_process_is_honoured_and_kept(tmp_path, monkeypatch):
    options, (a, b, c, *_) = rest(NAMES[:40])
    other = {"another source": {"x": "test"}}
    real = splits.one_at_a_time

    def while_another_process_writes(path, activity):
        key = f"source --split-seed 0 --validation-fraction {0.1:g} --test-fraction {0.1:g}"
        record = {**other, key: {c: "test"}}
        (tmp_path / RECORD).write_text(json.dumps(record))
        return real(path, activity)

    monkeypatch.setattr(splits, "one_at_a_time", while_another_process_writes)
    split = fill(in_folders(a, b, c), tmp_path, **options)
    assert split.splits[c] == "test"
    assert set(split.of_slices()) == set(SPLITS)
    record = read_record(tmp_path / RECORD)
    assert other.items() <= record.items()
    (mine,) = (moved for key, moved in record.items() if key.startswith("source"))
    assert mine == {name: split.splits[name] for name in mine}
    assert set(mine.values()) == {"test", "validation"}


@pytest.mark.parametrize(
    "text", ["{", "[]", '"all"', '{"a": []}', '{"a": {"b": "tset"}}', '{"a": {"b": 1}}', "\xff"]
)
def test_a_damaged_record_is_refused_with_the_remedy(text, tmp_path):
    (tmp_path / RECORD).write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"splits.json: not the record .*delete it") as refused:
        fill(in_folders("a", "b", "c"), tmp_path)
    assert "\n" not in str(refused.value)


def test_a_record_that_cannot_be_written_is_said_with_a_seed_that_needs_none(tmp_path):
    (tmp_path / "file").write_text("")
    options, names = rest(NAMES[:40])
    split = fill(in_folders(*names), tmp_path / "file/data", **options)
    assert set(split.of_slices()) == set(SPLITS)
    (note,) = split.notes
    assert "splits.json cannot be written, so others may be moved" in note
    seed = int(note.split("--split-seed ")[1].split()[0])
    other = fill(in_folders(*names), tmp_path / "file/data", split_seed=seed)
    assert set(other.of_slices()) == set(SPLITS)
    assert other.notes == []


def test_a_disk_without_room_for_the_record_is_no_error(tmp_path, monkeypatch):
    def no_room(path, content):
        raise WriteError(f"{path}: cannot be written")

    monkeypatch.setattr(splits, "write_text", no_room)
    options, names = rest(NAMES[:40])
    split = fill(in_folders(*names), tmp_path, **options)
    assert set(split.of_slices()) == set(SPLITS)
    assert "cannot be written" in split.notes[0]


def test_near_duplicates_are_moved_as_one_person(tmp_path):
    options, names = rest(NAMES[:40])
    pairs = [names[:2]]
    few = fill(in_folders(*names[:3]), tmp_path, pairs, **options)
    assert set(few.of_slices()) == {"train"}  # two persons
    assert (
        f"and 2 found: {min(names[:2])}, {names[2]} (near-duplicates count as one). Add"
        in few.remedy("test", SPLITS)
    )
    some = fill(in_folders(*names[:4]), tmp_path, pairs, **options)
    assert set(some.of_slices()) == set(SPLITS)
    assert len(set(some.of_slices()[:2])) == 1
    for moved in read_record(tmp_path / RECORD).values():
        assert len({*names[:2]} & moved.keys()) in (0, 2)


def test_a_new_near_duplicate_with_an_earlier_name_comes_to_who_was_recorded(tmp_path):
    options, names = rest(NAMES[:40])
    before = fill(in_folders(*names[:3]), tmp_path, **options)
    tested = next(name for name, split in before.splits.items() if split == "test")
    pairs = [("a newcomer", tested)]
    after = fill(in_folders(*names[:3], "a newcomer"), tmp_path, pairs, **options)
    assert after.splits["a newcomer"] == "test"
    assert {n: s for n, s in before.splits.items() if n != tested}.items() <= after.splits.items()


# Advice where a split stays empty


def test_fewer_than_three_persons_are_counted_and_named(tmp_path):
    split = fill(in_folders("a", "b"), tmp_path)
    remedy = split.remedy("test", SPLITS)
    assert remedy.startswith("At least 3 persons are needed, for train, validation and test, and ")
    assert "and 2 found: a, b. Add subjects" in remedy
    assert "--subject-pattern" in remedy
    assert not (tmp_path / RECORD).exists()


def test_a_seed_that_fills_the_wanted_splits_is_found(tmp_path):
    options, names = rest(NAMES[:40])
    split = fill(in_folders(*names[:2]), tmp_path, **options)
    remedy = split.remedy("validation", ("train", "validation"))
    seed = int(remedy.split("--split-seed ")[1].split()[0])
    other = fill(in_folders(*names[:2]), tmp_path, split_seed=seed)
    assert set(other.of_slices()) == {"train", "validation"}
    for earlier in range(seed):
        found = set(fill(in_folders(*names[:2]), tmp_path, split_seed=earlier).of_slices())
        assert found != {"train", "validation"}


def test_no_seed_is_found_for_shares_that_nobody_hits():
    assert find_seed(["a", "b", "c"], choose("demo", test_fraction=1e-12), SPLITS) is None
    assert find_seed([], choose("demo"), SPLITS) is None


def test_a_share_of_0_is_to_be_raised(tmp_path):
    split = fill(in_folders("a", "b", "c"), tmp_path, test_fraction=0.0)
    assert set(split.of_slices()) == {"train", "validation"}
    assert split.remedy("test", SPLITS) == "Raise --test-fraction"


# Folders for some of the splits


def test_validation_comes_from_the_train_folder_if_only_its_folder_is_missing(tmp_path):
    table = in_folders(train=NAMES[:200], test=NAMES[200:220])
    split = fill(table, tmp_path)
    config = choose("demo")
    for name in NAMES[:200]:
        alone = subject_split(name, config)
        assert split.splits[name] == ("validation" if alone == "validation" else "train")
    assert {split.splits[name] for name in NAMES[200:220]} == {"test"}
    assert split.notes == [
        "There is no folder for validation: its subjects are taken from those for train"
    ]
    assert not (tmp_path / RECORD).exists()


def test_test_comes_from_the_train_folder_if_only_its_folder_is_missing(tmp_path):
    split = fill(in_folders(train=NAMES[:200], validation=NAMES[200:220]), tmp_path)
    tested = [name for name, found in split.splits.items() if found == "test"]
    assert tested
    assert tested == [n for n in sorted(NAMES[:200]) if subject_split(n, choose("demo")) == "test"]


def test_one_of_the_train_folder_is_moved_if_no_hash_falls_into_validation(tmp_path):
    options, names = rest(NAMES[:40])
    before = fill(in_folders(train=names[:2], test=names[2:5]), tmp_path, **options)
    assert sorted(before.splits[name] for name in names[:2]) == ["train", "validation"]
    assert "was moved to validation, so that no split is empty" in before.notes[1]
    after = fill(in_folders(train=[*names[:2], *NAMES[40:90]], test=names[2:5]), tmp_path)
    assert before.splits.items() <= after.splits.items()


def test_what_only_a_test_folder_holds_is_never_moved(tmp_path):
    options, names = rest(NAMES[:40])
    (tmp_path / RECORD).write_text(
        json.dumps(
            {
                "source --split-seed 0 --validation-fraction 0.1 --test-fraction 0.1": {
                    names[0]: "validation",
                    names[1]: "test",
                }
            }
        )
    )
    split = fill(in_folders(train=names[1:3], test=names[:1]), tmp_path, **options)
    assert split.splits[names[0]] == "test"
    assert "test" not in {split.splits[name] for name in names[1:3]}


def test_a_train_folder_of_one_person_has_none_for_validation(tmp_path):
    split = fill(in_folders(train=["a"], test=["b", "c"]), tmp_path)
    assert split.splits == {"a": "train", "b": "test", "c": "test"}
    remedy = split.remedy("validation", SPLITS)
    assert "At least 2 persons are needed in the train folders, for train and validation" in remedy
    assert "and 1 found: a. Add" in remedy


def test_folders_without_one_for_training_are_to_be_completed(tmp_path):
    split = fill(in_folders(validation=["a"], test=["b", "c"]), tmp_path)
    assert split.splits == {"a": "validation", "b": "test", "c": "test"}
    assert "put other subjects into one for train" in split.remedy("train", SPLITS)


@pytest.mark.parametrize("only", SPLITS)
def test_folders_for_one_split_alone_decide_nothing(only, tmp_path):
    split = fill(in_folders(**{only: NAMES[:200]}), tmp_path)
    assert split.of_slices() == [subject_split(name, choose("demo")) for name in NAMES[:200]]
    (note,) = split.notes
    assert note.startswith(f"All slices lie in folders for {only}, so the split comes from")


def test_the_slices_of_one_split_keep_it(tmp_path):
    split = Split(in_folders(test=["a", "b", "c"]), choose("demo"), {}, whole=False)
    split.fill("source", tmp_path)
    assert set(split.of_slices()) == {"test"}
    assert split.notes == []
    assert "give the whole dataset as --dataset" in split.remedy("train", SPLITS)
