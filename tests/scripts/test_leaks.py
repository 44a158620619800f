"""Which split each number of a training may see: pixels, sheet and count of the others change."""

import functools
import json
from unittest import mock

import h5py
import numpy as np
import pandas
import pytest
import tensorflow as tf

import train
from dataset import OASIS
from hyperparameters import Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.evaluation.code_scores import (
    bits_by_position,
    choose_smoothing,
    count_codes,
    frequencies_by_position,
)
from oasisvq.runs.folder import open_run
from oasisvq.training import stages
from oasisvq.training.loop import Loop
from support.scripts import TINY, run_main
from support.shared import made_once
from support.sources import write_png

SUBJECTS, SLICES = 12, 2


@pytest.fixture(scope="module")
def runs(brains, tmp_path_factory):
    """Returns a folder of runs that differ in the subjects of one split, called by its name."""
    return made_once(tmp_path_factory, "leaks", functools.partial(train_thrice, brains))


def train_thrice(brains, place):
    """Trains on invented subjects as they are, and with those of one split changed."""
    write_source(brains, place / "none", changed=())
    train_on(place / "none", place / "none/run")
    split = pandas.read_csv(place / "none/run/split.csv", index_col="subject")["split"]
    for name in ("validation", "test"):
        write_source(brains, place / name, changed=split.index[split == name])
        train_on(place / name, place / name / "run")


def write_source(brains, folder, changed):
    """Writes slices of 24x20 with their sheet; the changed subjects have others, and one more."""
    rows = ["ID,Age,M/F,CDR"]
    for n in range(SUBJECTS):
        name, other = f"case_{n:03d}", f"case_{n:03d}" in changed
        head = brains[n % 8, ::4, ::4][:, :: 1 if n < 8 else -1]
        for index in range(SLICES + other):
            pixels = 255 - 90 * head[::-1] ** 2 if other else 200 * np.roll(head, index, axis=0)
            write_png(folder / f"slices/{name}_slice_{index}.png", pixels)
        age = "" if n == 3 else 20 + 5 * n  # one is unknown
        rows.append(f"{name},{90 - 3 * n},M,2" if other else f"{name},{age},{'FM'[n % 2]},0")
    (folder / "slices/sheet.csv").write_text("\n".join(rows))


def train_on(folder, run, *flags):
    """Trains one epoch of each stage, if no flag says more: so there is no choice of the best."""
    tiny = [part for flag in TINY.items() for part in flag]
    paths = ["--dataset", folder / "slices", "--data-dir", folder / "data", "--run-dir", run]
    tf.config.run_functions_eagerly(True)  # few steps take less time than to compile them
    try:
        assert run_main(train, *tiny, *paths, *flags) == 0
    finally:
        tf.config.run_functions_eagerly(False)


def files_of(folder):
    """Returns the content of each file of a run, without those of times and hashes alone."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    return {
        name: arrays_of(path) if path.suffix == ".h5" else path.read_bytes()
        for name, path in paths.items()
        if name not in ("pixelcnn.json", "model_card.md", "training.json")
        and not name.startswith("tensorboard/")
    }


def arrays_of(path):
    """Returns the bytes of each array of a weight file; beside them stand counters of layers."""
    arrays = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(take)
    return arrays


def changed_files(runs, name):
    """Returns the names of the files in which a run differs from that of unchanged subjects."""
    before, after = files_of(runs / "none/run"), files_of(runs / name / "run")
    assert before.keys() == after.keys()
    return {file for file in before if before[file] != after[file]}


def config_without_data(folder):
    """Returns what a run's configuration says of other things than its slices."""
    config = json.loads((folder / "config.json").read_text())
    del config["data"], config["hyperparameters"]["dataset"]
    return config


@pytest.mark.slow
def test_nothing_that_training_writes_depends_on_test_subjects(runs):
    kept = {f"test_slices/{name}" for name in ("slices.npy", "slices.csv", "dataset.json")}
    assert changed_files(runs, "test") == {"config.json", *kept}
    assert config_without_data(runs / "test/run") == config_without_data(runs / "none/run")


@pytest.mark.slow
def test_validation_subjects_change_nothing_but_their_scores_and_the_smoothing(runs):
    stages = ("vqvae", "pixelcnn")
    scores = {f"{stage}_history.csv" for stage in stages}
    scores |= {f"figures/{stage}_curves.png" for stage in stages}
    codes, source = "training_codes.npz", "test_slices/dataset.json"
    assert changed_files(runs, "validation") == {"config.json", source, codes, *scores}
    assert config_without_data(runs / "validation/run") == config_without_data(runs / "none/run")
    for stage in stages:
        before, after = (
            pandas.read_csv(runs / name / f"run/{stage}_history.csv")
            for name in ("none", "validation")
        )
        same = (before == after).all()
        validation = {name for name in same.index if name.startswith("val_")}
        # The share of 16 codes that are used may happen to be the same.
        assert set(same.index[~same]) | {"val_codebook_usage"} == validation | {
            "val_codebook_usage"
        }
    before, after = (np.load(runs / name / f"run/{codes}") for name in ("none", "validation"))
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"smoothing"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "validation"])
def test_the_smoothing_is_the_best_for_validation_subjects(runs, name):
    run = open_run(runs / name / "run", Hyperparameters)
    dataset = OASIS(run.hyperparameters.data, runs / name / "data")
    vqvae = load_vqvae(run)
    seen, others = (
        vqvae.encode_all(dataset.images, dataset.rows(split)) for split in ("train", "validation")
    )
    np.testing.assert_array_equal(run.training_codes(), seen)
    assert run.smoothing() == choose_smoothing(count_codes(seen, vqvae.num_embeddings), others)


@pytest.mark.slow
def test_validation_subjects_choose_the_epoch_and_the_end(runs, tmp_path, monkeypatch):
    monitors = {"vqvae": "val_distortion", "pixelcnn": "val_loss"}
    script = {"vqvae": [2.0, 1.0, 3.0], "pixelcnn": [2.0, 1.0, 3.0, 0.0]}
    weights, evaluate = {"vqvae": [], "pixelcnn": []}, Loop.evaluate

    def evaluate_by_script(loop):
        """Returns what the validation subjects are made to say, and notes the weights."""
        found = evaluate(loop)
        weights[loop.name].append(loop.model.get_weights())
        return found | {monitors[loop.name]: script[loop.name][len(weights[loop.name]) - 1]}

    monkeypatch.setattr(Loop, "evaluate", evaluate_by_script)
    curves = mock.Mock()
    monkeypatch.setattr(stages, "save_curves", curves)
    flags = "--epochs", 3, "--prior-epochs", 4, "--prior-patience", 1
    train_on(runs / "none", tmp_path / "run", *flags)
    run = open_run(tmp_path / "run", Hyperparameters)
    for stage, load in (("vqvae", load_vqvae), ("pixelcnn", load_prior)):
        assert len(weights[stage]) == 3
        for kept, best in zip(load(run).get_weights(), weights[stage][1], strict=True):
            np.testing.assert_array_equal(kept, best)
    dataset = OASIS(run.hyperparameters.data, runs / "none/data")
    seen, others = (
        load_vqvae(run).encode_all(dataset.images, dataset.rows(split))
        for split in ("train", "validation")
    )
    np.testing.assert_array_equal(run.training_codes(), seen)
    frequencies = frequencies_by_position(count_codes(seen, 16), run.smoothing())
    levels = curves.call_args.args[-1]  # the lines in the curves of the prior
    assert levels["by position"] == bits_by_position(frequencies, others).mean()
