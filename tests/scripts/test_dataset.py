"""The `OASIS` dataset, and `dataset.py` as a script."""

import os
import types

import numpy as np
import pytest
from PIL import Image

import dataset as dataset_script
from dataset import OASIS, describe, open_test_slices
from oasisvq.core.errors import DatasetError, RunFolderError
from oasisvq.data.prepare import fit_picture
from oasisvq.data.splits import subject_split
from oasisvq.training.stages import save_split
from support.processes import HANG, TESTS, start_python
from support.scripts import run_main
from support.sources import choose, open_folder, write_png


def test_an_empty_split_is_refused(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="--test-fraction"):
        open_folder(tmp_path / "in", tmp_path, test_fraction=0.0).require("test")


def test_persons_who_were_moved_are_named_and_stay_when_others_come(tmp_path, capfd):
    for n in range(4):
        write_png(tmp_path / f"in/case_{n}_slice_0.png", np.full((16, 16), 9 + n))
    assert {subject_split(f"case_{n}", choose("demo")) for n in range(4)} == {"train", "validation"}
    _, printed, _ = run_dataset(capfd, tmp_path / "in", tmp_path)
    counts, note = printed.splitlines()[-3:-1]
    name = note.split()[0]
    record = tmp_path / "data/splits.json"
    assert note == f"{name} was moved to test, so that no split is empty; {record} keeps it"
    before = open_folder(tmp_path / "in", tmp_path)
    before.require("train", "validation", "test")
    for n in range(4, 40):
        write_png(tmp_path / f"in/case_{n}_slice_0.png", np.full((16, 16), 9 + n))
    after = open_folder(tmp_path / "in", tmp_path)
    for split in ("train", "validation", "test"):
        assert set(before.subjects(split)) <= set(after.subjects(split))
    prepared = OASIS(choose(after.folder), tmp_path / "data")  # the folder itself as a source
    assert prepared.subjects("test") == after.subjects("test")
    assert prepared.split.notes == [note]


def test_two_persons_are_refused_with_what_to_do(tmp_path):
    for n in range(2):
        write_png(tmp_path / f"in/case_{n}_slice_0.png", np.full((16, 16), 9 + n))
    dataset = open_folder(tmp_path / "in", tmp_path)
    expected = r"subjects by split: \{.*At least 3 persons .*and 2 found: case_0, case_1\. Add"
    with pytest.raises(DatasetError, match=expected) as refused:
        dataset.require("train", "validation", "test")
    assert "\n" not in str(refused.value)
    assert "--subject-pattern" in str(refused.value)


def test_train_and_test_folders_alone_suffice(tmp_path):
    for n in range(12):
        folder = "test" if n < 3 else "train"
        write_png(tmp_path / f"in/x_{folder}/case_{n}_slice_0.png", np.full((16, 16), 9 + n))
    dataset = open_folder(tmp_path / "in", tmp_path)
    dataset.require("train", "validation", "test")
    assert dataset.subjects("test") == ["case_0", "case_1", "case_2"]
    assert "There is no folder for validation" in describe(dataset)


def test_batches_are_in_0_to_1_and_whole(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path)
    rows = dataset.rows("train")
    images = np.concatenate([b.numpy() for b in dataset.batches("train", 4)])
    np.testing.assert_array_equal(images[..., 0], dataset.slices[rows].astype("float32") / 255)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_variance_is_that_of_the_training_pixels(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path)
    pixels = dataset.slices[dataset.rows("train")] / 255
    assert dataset.variance == pytest.approx(pixels.var(), rel=1e-6)


def test_mean_slices_are_of_training_subjects_by_position(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path, test_fraction=0.4)
    rows = dataset.rows("train")
    rows = rows[dataset.table["index"].iloc[rows] == 95]
    means = dataset.mean_slices()
    np.testing.assert_allclose(means[" 95"], dataset.slices[rows].mean(0) / 255, atol=1e-6)
    assert set(means) == {"all", " 90", " 95", " 100"}


def test_fitted_slices_are_on_disk_and_those_of_each_picture(coronal, tmp_path):
    plain = open_folder(coronal, tmp_path)
    fitted = OASIS(choose(coronal), tmp_path / "data", image_shape=(30, 18))
    assert fitted.image_shape == (30, 18)
    assert isinstance(fitted.slices, np.memmap)
    for one, picture in zip(fitted.slices, plain.slices, strict=True):
        np.testing.assert_array_equal(one, fit_picture(picture, (30, 18)))


def test_a_saved_split_is_its_slices_whole(coronal, tmp_path, monkeypatch):
    monkeypatch.setattr("dataset.BLOCK", 7)
    dataset = open_folder(coronal, tmp_path)
    save_split(dataset, "train", tmp_path / "saved")
    saved, rows = np.load(tmp_path / "saved/slices.npy"), dataset.rows("train")
    assert len(rows) % 7
    np.testing.assert_array_equal(saved, dataset.slices[rows])


def write_brain(path, brain):
    write_png(path, np.round(255 * brain))


def test_near_duplicates_are_dealt_out_under_the_first_name(brains, tmp_path):
    for n, name in enumerate(["d", "b", "e", "c"]):  # d like e, e like c: one person, c
        brain = brains[0 if n != 1 else 1]
        write_brain(tmp_path / f"in/sub-{name}/slice_1.png", brain)
    for seed in range(20):
        dataset = open_folder(tmp_path / "in", tmp_path, split_seed=seed, test_fraction=0.4)
        splits = dict(zip(dataset.table["subject"], dataset.table["split"], strict=True))
        assert len(splits) == 4
        first = subject_split("sub-c", choose("demo", split_seed=seed, test_fraction=0.4))
        assert {splits[f"sub-{name}"] for name in "cde"} == {first}
    assert describe(dataset).splitlines()[1].endswith("one split: sub-c and sub-d and sub-e")


def test_ready_made_folders_give_up_what_was_trained_on(brains, tmp_path):
    where = {"train": (0, 1), "validate": (0, 2), "test": (1, 2, 3)}
    for split, heads in where.items():
        for head in heads:
            name = f"case_{head}{len(split)}_slice_0.png"
            write_brain(tmp_path / f"in/{split}/{name}", brains[head])
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.subjects("train") == ["case_05", "case_08", "case_14", "case_15"]
    assert dataset.subjects("validation") == ["case_24", "case_28"]
    assert dataset.subjects("test") == ["case_34"]
    save_split(dataset, "test", tmp_path / "kept")
    kept = OASIS(choose(tmp_path / "kept"))
    assert kept.subjects("test") == ["case_34"]
    assert "Near" not in describe(kept)  # what it tells of lies elsewhere


# The script


def run_dataset(capfd, source, tmp_path, *flags):
    """Returns the exit status of `dataset.py`, and what it prints to both streams."""
    place = ("--dataset", source, "--data-dir", tmp_path / "data")
    return run_main(dataset_script, *place, *flags), *capfd.readouterr()


def test_a_shard_says_whether_others_are_missing(coronal, tmp_path, capfd):
    status, _, errors = run_dataset(capfd, coronal, tmp_path, "--shard", "5/4")
    assert (status, errors.count("\n")) == (2, 1)
    assert not os.path.lexists(tmp_path / "data")
    assert "still missing" in run_dataset(capfd, coronal, tmp_path, "--shard", "2/2")[1]
    assert "12 subjects, 36 slices" in run_dataset(capfd, coronal, tmp_path, "--shard", "1/2")[1]
    assert "12 subjects, 36 slices" in run_dataset(capfd, coronal, tmp_path, "--shard", "2/2")[1]


def test_a_preview_is_drawn_of_each_collection_at_one_position(coronal, tmp_path, capfd):
    _, printed, _ = run_dataset(capfd, coronal, tmp_path, "--preview", tmp_path / "out/some.png")
    assert printed.splitlines()[-2] == f"{tmp_path / 'out/some.png'}:  95"
    with Image.open(tmp_path / "out/some.png") as picture:
        assert min(picture.size) > 0
    status, _, errors = run_dataset(capfd, coronal, tmp_path, "--preview", "some.jpg")
    assert status == 2
    assert "--preview must name a .png" in errors


@pytest.mark.parametrize("flags", [("--preview", "x.png"), ("--list", "--output", "x.csv")])
def test_no_folder_is_made_in_the_root_for_a_mistyped_path(flags, coronal, tmp_path, capfd):
    *flags, name = flags
    path = f"/no-such-folder/below/{name}"
    status, _, errors = run_dataset(capfd, coronal, tmp_path, *flags, path)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{flags[-1]} {path}: the folder /no-such-folder/below does not exist" in errors
    assert not os.path.lexists("/no-such-folder")
    assert not os.path.lexists(tmp_path / "data")


def test_a_listing_of_nothing_that_can_be_read_is_an_error(capfd, tmp_path):
    (tmp_path / "sub-01_T1w.nii.gz").write_bytes(b"no volume")
    status, printed, errors = run_dataset(capfd, tmp_path, tmp_path, "--list")
    assert status == 2
    assert "1 cannot be read, as sub-01_T1w.nii.gz" in printed
    assert "sub-01_T1w.nii.gz: " in errors


def test_a_listing_is_written_only_where_one_is_asked_for(capfd, coronal, tmp_path):
    for flags, said in (
        (["--output", "some.csv"], "give --list too"),
        (["--list", "--output", "some.txt"], "--output must name a .csv"),
    ):
        status, _, errors = run_dataset(capfd, coronal, tmp_path, *flags)
        assert status == 2
        assert said in errors
    _, printed, _ = run_dataset(capfd, coronal, tmp_path, "--list", "--output", tmp_path / "a.csv")
    assert "persons" in printed
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 36


def test_help_answers_before_anything_heavy_is_imported():
    process = start_python("-X", "importtime", TESTS.parent / "dataset.py", "--help")
    out, errors = process.communicate(timeout=HANG)
    assert "--shard" in out
    imported = {line.split("|")[-1].strip() for line in errors.splitlines()}
    assert not imported & {"tensorflow", "keras", "pandas", "scipy", "nibabel", "matplotlib"}


# The slices that a run keeps


def test_the_test_slices_of_a_run_are_its_test_subjects(coronal, tmp_path):
    config = choose(coronal, test_fraction=0.4)
    whole = OASIS(config, tmp_path / "data")
    save_split(whole, "test", tmp_path / "run/test_slices")
    hyperparameters = types.SimpleNamespace(data=config)
    run = types.SimpleNamespace(
        folder=tmp_path / "run", hyperparameters=hyperparameters, image_shape=(24, 20)
    )
    kept = open_test_slices(run)
    with pytest.raises(DatasetError, match="give the whole dataset"):
        kept.require("train")
    assert kept.subjects("all") == kept.subjects("test") == whole.subjects("test")
    np.testing.assert_array_equal(kept.slices, whole.slices[whole.rows("test")])
    for name in ("slices.csv", "slices.npy"):
        (tmp_path / "run/test_slices" / name).unlink()
        with pytest.raises(
            RunFolderError,
            match=r"not the test slices of a run .*(holds no images|not a prepared).*Copy",
        ):
            open_test_slices(run)


def test_a_star_import_brings_what_the_weights_need_and_nothing_else():
    names = {}
    exec("from dataset import *", names)  # noqa: S102
    brought = {"CONDITIONS", "Hyperparameters", "OASIS", "SEXES", "SPLITS", "open_test_slices"}
    assert names.keys() - {"__builtins__"} == brought


# Real slices


@pytest.mark.slow
@pytest.mark.real_data
def test_real_slices_are_read_and_split_by_subject(tmp_path, real_data):
    dataset = OASIS(choose(real_data / "oasis1_coronal"), tmp_path)
    assert dataset.slices.shape == (3060, 176, 176)
    assert dataset.table["subject"].nunique() == 306
    assert dataset.table["age"].between(18, 96).all()
    assert set(dataset.table["index"]) == set(range(90, 100))
    assert 0.08 < dataset.variance < 0.16
    dataset.require("train", "validation", "test")
