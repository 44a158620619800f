"""What must hold for every name, split and configuration, not for the examples of other tests."""

import dataclasses
import json

import pandas
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dataset import SPLITS, _split, join_people, subject_split
from oasisvq.core.errors import HyperparameterError
from hyperparameters import Hyperparameters
from oasisvq.data.filenames import names_in_path

subjects = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
fractions = st.floats(0, 0.45)


@st.composite
def configurations(draw):
    """Any values within the fields' ranges."""
    values = {}
    for field in dataclasses.fields(Hyperparameters):
        limits, kind = field.metadata, type(field.default)
        low, high = limits["low"], limits["high"]
        if field.name in ("slice_range", "validation_fraction", "test_fraction", "discs"):
            continue
        if limits["choices"]:
            values[field.name] = draw(st.sampled_from(limits["choices"]))
        elif kind is bool:
            values[field.name] = draw(st.booleans())
        elif kind is int:
            values[field.name] = draw(st.integers(low, high if high is not None else 10**9))
        elif kind is float:
            values[field.name] = draw(st.floats(low, high))
        elif kind is tuple:
            values[field.name] = tuple(draw(st.lists(st.integers(low, high), min_size=1)))
        else:
            values[field.name] = draw(st.text())
    values["validation_fraction"], values["test_fraction"] = draw(fractions), draw(fractions)
    values["slice_range"] = tuple(sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))))
    values["discs"] = ",".join(map(str, draw(st.lists(st.integers(1, 12)))))
    return values


@given(configurations())
def test_every_configuration_comes_back_from_json(values):
    chosen = Hyperparameters(**values)
    text = json.dumps(chosen.to_dictionary())
    assert Hyperparameters.from_dictionary(json.loads(text)) == chosen


@given(
    configurations(),
    st.sampled_from([field.name for field in dataclasses.fields(Hyperparameters)]),
    st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.none(), max_size=2)),
)
def test_any_other_value_is_refused_in_one_line_or_taken_as_it_is(values, name, value):
    stored = {**Hyperparameters(**values).to_dictionary(), name: value}
    try:
        chosen = Hyperparameters.from_dictionary(stored)
    except HyperparameterError as error:
        assert name.replace("_", "-") in str(error) or "fraction" in str(error)
        return
    kept = getattr(chosen, name)
    assert kept == (tuple(value) if isinstance(value, list) else value)


@given(st.lists(subjects, min_size=1, unique=True), st.integers(0, 99), fractions, fractions)
def test_a_subjects_split_depends_on_no_other_subject(names, seed, validation, test):
    chosen = Hyperparameters(split_seed=seed, validation_fraction=validation, test_fraction=test)
    table = pandas.DataFrame({"subject": [*names, *names], "split": ""})
    found = list(_split(table, chosen, join_people([])))
    assert found[: len(names)] == found[len(names) :]  # all slices of a subject stay together
    assert found[: len(names)] == [subject_split(name, chosen) for name in names]
    assert set(found) <= {
        split for split, share in zip(SPLITS, (1, validation, test), strict=True) if share
    }


@given(st.lists(st.tuples(subjects, subjects), max_size=8), st.integers(0, 99))
def test_near_duplicates_come_into_one_split(pairs, seed):
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    assume(pairs)
    chosen, people = Hyperparameters(split_seed=seed, validation_fraction=0.3), join_people(pairs)
    names = sorted({name for pair in pairs for name in pair})
    table = pandas.DataFrame({"subject": names, "split": ""})
    splits = dict(zip(names, _split(table, chosen, people), strict=True))
    for one, other in pairs:
        assert people[one] == people[other]
        assert splits[one] == splits[other]


@pytest.mark.parametrize("volume", [False, True])
@given(path=st.lists(st.from_regex(r"[A-Za-z0-9 ._()-]{1,12}", fullmatch=True), min_size=1))
def test_every_path_has_a_subject(volume, path):
    assume(not any(part.strip(".") == "" for part in path))
    subject, session, index, split = names_in_path("/".join(path), volume=volume)
    assert subject
    assert isinstance(session, str)
    assert index is None or 0 <= index < 10**9
    assert split in ("", *SPLITS)


@given(st.integers(1, 9999), st.integers(1, 9), st.integers(0, 255))
def test_names_of_oasis_are_read_for_what_they_are(subject, session, index):
    name = f"OAS1_{subject:04d}_MR{session}.{index}.png"
    assert names_in_path(name) == (f"OAS1_{subject:04d}", f"MR{session}", index, "")


@given(st.from_regex(r"[a-z]{3,9}_?[0-9]{0,3}[a-z]", fullmatch=True), st.integers(0, 999))
def test_slices_of_one_name_are_one_subject(name, index):
    one, other = (names_in_path(f"{name}-{n}.png")[0] for n in (index, index + 1))
    assert one == other
