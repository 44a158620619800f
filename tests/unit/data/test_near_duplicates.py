"""Near-duplicates found among subjects, and kept in one split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image
from scipy import ndimage

import dataset as dataset_module
from dataset import OASIS, describe, subject_split
from oasisvq.data.near_duplicates import details, near_duplicates
from oasisvq.core.errors import DatasetError
from hyperparameters import Hyperparameters

REAL = Path(__file__).parents[2] / "shared/data/oasis1_coronal"


def rows(subjects, index=(0,), session=""):
    """A table with a row for each of the subjects' slices."""
    return pandas.DataFrame(
        [(s, session, "coronal", i, None) for s in subjects for i in index],
        columns=("subject", "session", "plane", "index", "position_mm"),
    )


def slices_of(brains):
    return np.round(brains * 255).clip(0, 255).astype(np.uint8)


def found(brains, **options):
    names = [f"s{n}" for n in range(len(brains))]
    return near_duplicates(slices_of(brains), rows(names, **options))


def noisy(brain):
    return brain + np.random.default_rng(1).normal(0, 0.02, brain.shape) * (brain > 0)


COPIES = {
    "the same": lambda brain: brain,
    "dimmer": lambda brain: 0.7 * brain,
    "of less contrast": lambda brain: brain**0.8,
    "of more contrast": lambda brain: brain**1.2,
    "noisy": noisy,
    "moved": lambda brain: np.roll(brain, (2, -1), (0, 1)),
    "moved by half a pixel": lambda brain: ndimage.shift(brain, (0.5, 1.5), order=1),
    "blurred": lambda brain: ndimage.gaussian_filter(brain, 1),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("others", [0, 1, 7])
def test_a_copy_is_found_among_many_and_among_none(brains, change, others):
    (pair,) = found(np.concatenate([brains[: others + 1], change(brains[0])[None]]))
    assert pair["subjects"] == ["s0", f"s{others + 1}"]
    assert 0.85 <= pair["similarity"] <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_different_heads_are_not_found(brains, count):
    assert found(brains[:count]) == []


def test_two_sessions_of_a_subject_are_no_duplicates(brains):
    table = rows(["a", "a"]).assign(session=["MR1", "MR2"])
    assert near_duplicates(slices_of(brains[[0, 0]]), table) == []


def test_one_session_of_several_is_enough(brains):
    table = rows(["a", "a", "b"]).assign(session=["MR1", "MR2", "MR1"])
    (pair,) = near_duplicates(slices_of(brains[[0, 1, 1]]), table)
    assert pair == {"subjects": ["a", "b"], "similarity": 1.0}


def test_the_similarity_is_the_mean_over_shared_positions(brains):
    table = pandas.concat([rows(["a"], index=(1, 2, 3)), rows(["b"], index=(3, 2, 4))])
    slices = slices_of(brains[[0, 1, 2, 2, 1, 5]])  # a: 1, 2, 3; b: 3, 2, 4
    (pair,) = near_duplicates(slices, table)
    assert pair["similarity"] == 1.0
    slices[4] = slices_of(noisy(ndimage.gaussian_filter(brains[1], 1)))
    (pair,) = near_duplicates(slices, table)
    one, other = details(slices[[1, 4]])
    assert pair["similarity"] == pytest.approx((1 + one @ other) / 2, abs=1e-3)


def test_slices_at_other_positions_are_not_compared(brains):
    slices = slices_of(brains[[0, 0]])
    for column, values in {"index": [1, 2], "position_mm": [0.4, 0.6], "plane": ["x", "y"]}.items():
        assert near_duplicates(slices, rows(["a", "b"]).assign(**{column: values})) == []


def test_without_positions_the_order_in_the_scan_counts(brains):
    table = rows(["a", "b"], index=(None, None))
    assert len(near_duplicates(slices_of(brains[[0, 1, 0, 1]]), table)) == 1
    assert near_duplicates(slices_of(brains[[0, 1, 1, 0]]), table) == []
    assert near_duplicates(slices_of(brains[[0, 1, 0, 2]]), table) == []


def test_even_slices_show_no_head():
    table = rows(["a", "b", "c", "d"])
    slices = np.zeros((4, 205, 169), np.uint8)
    slices[2:] = 77  # whose sums round
    assert near_duplicates(slices, table) == []


def test_blocks_make_no_difference(brains, monkeypatch):
    copies = np.concatenate([brains, brains[:4] ** 0.9])
    whole = found(copies)
    assert len(whole) == 4
    monkeypatch.setattr("duplicates.BLOCK", 3)
    assert found(copies) == whole


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (33, 32), (205, 169), (40, 300)])
def test_slices_of_any_size_have_details(random, shape):
    slices = random.integers(0, 256, (2, *shape)).astype(np.uint8)
    lengths = np.linalg.norm(details(slices), axis=1)
    np.testing.assert_allclose(lengths, 0 if shape == (1, 1) else 1, atol=1e-4)


# The split


def write_brain(path, brain):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(slices_of(brain)).save(path)


def opened(tmp_path, **options):
    chosen = Hyperparameters(dataset=str(tmp_path / "in"), **options)
    return OASIS(chosen, tmp_path / "data")


def test_near_duplicates_are_dealt_out_under_the_first_name(brains, tmp_path):
    for n, name in enumerate(["d", "b", "e", "c"]):  # d like e, e like c: one person, c
        brain = brains[0 if n != 1 else 1]
        write_brain(tmp_path / f"in/sub-{name}/slice_1.png", brain)
    for seed in range(20):
        dataset = opened(tmp_path, split_seed=seed, test_fraction=0.4)
        splits = dict(zip(dataset.table["subject"], dataset.table["split"], strict=True))
        assert len(splits) == 4
        first = subject_split("sub-c", Hyperparameters(split_seed=seed, test_fraction=0.4))
        assert {splits[f"sub-{name}"] for name in "cde"} == {first}
    assert describe(dataset).splitlines()[1].endswith("one split: sub-c and sub-d and sub-e")


def test_ready_made_folders_give_up_what_was_trained_on(brains, tmp_path):
    where = {"train": (0, 1), "validate": (0, 2), "test": (1, 2, 3)}
    for split, heads in where.items():
        for head in heads:
            name = f"case_{head}{len(split)}_slice_0.png"
            write_brain(tmp_path / f"in/{split}/{name}", brains[head])
    dataset = opened(tmp_path)
    assert dataset.subjects("train") == ["case_05", "case_08", "case_14", "case_15"]
    assert dataset.subjects("validation") == ["case_24", "case_28"]
    assert dataset.subjects("test") == ["case_34"]
    dataset.save_split("test", tmp_path / "kept")
    kept = OASIS(Hyperparameters(dataset=str(tmp_path / "kept")))
    assert kept.subjects("test") == ["case_34"]
    assert "Near" not in describe(kept)  # what it tells of lies elsewhere


def test_a_folder_of_an_earlier_version_is_searched_once(brains, tmp_path, monkeypatch):
    for name, n in {"a": 0, "b": 1, "c": 0}.items():
        write_brain(tmp_path / f"in/sub-{name}/slice_1.png", brains[n])
    path = opened(tmp_path).folder / "dataset.json"
    description = json.loads(path.read_text())
    expected = description.pop("near_duplicates")
    assert [pair["subjects"] for pair in expected] == [["sub-a", "sub-c"]]
    path.write_text(json.dumps(description))
    assert opened(tmp_path).description["near_duplicates"] == expected
    with monkeypatch.context() as patched:
        patched.setattr("preparation.near_duplicates", None)
        assert opened(tmp_path).people["sub-c"] == "sub-a"
    path.write_text(json.dumps(description))
    for damage in (b"\x00garbage", b"subject,session\n", b""):
        path.with_name("slices.csv").write_bytes(damage)
        with pytest.raises(DatasetError, match="Delete the folder"):
            opened(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real slices are not at {REAL}")
def test_real_near_duplicates_end_on_one_side(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "SAME_PERSON", {})
    names = ["OAS1_0079", "OAS1_0193", "OAS1_0070", "OAS1_0077", "OAS1_0246", "OAS1_0258"]
    for name in names:
        shutil.copytree(REAL / f"{name}_MR1", tmp_path / f"in/{name}_MR1")
    pair = names[:2]
    apart = [
        seed
        for seed in range(40)
        if len({subject_split(name, Hyperparameters(split_seed=seed)) for name in pair}) == 2
    ]
    assert apart
    for seed in apart:
        dataset = opened(tmp_path, split_seed=seed)
        ((found, _),) = [tuple(pair.values()) for pair in dataset.description["near_duplicates"]]
        assert found == pair  # not the two most alike after them
        assert dataset.table.set_index("subject").loc[pair, "split"].nunique() == 1


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_invented_subjects_are_different_people(tmp_path, plane):
    chosen = Hyperparameters(dataset="demo", demo_subjects=24, slices_per_volume=2, plane=plane)
    assert OASIS(chosen, tmp_path).description["near_duplicates"] == []
