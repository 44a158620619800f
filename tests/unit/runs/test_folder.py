"""A run folder whose files do not belong together, or are damaged, is refused in one line."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pandas
import pytest

import predict
import similarity
import train
from dataset import open_test_slices
from hyperparameters import Hyperparameters
from modules import build_prior, build_vqvae
from oasisvq.core.errors import RunFolderError, WriteError
from oasisvq.core.files import save_weights
from oasisvq.runs import folder
from oasisvq.runs.folder import Run, locked_run
from stress import hostile
from support.disks import read_only
from support.scripts import refusal


@pytest.mark.parametrize("module", [predict, similarity])
def test_a_folder_that_is_no_run_is_refused(module, tmp_path, capfd):
    assert "not a run folder" in refusal(capfd, module, "--run-dir", tmp_path)


@pytest.mark.parametrize("module", [predict, similarity])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "vqvae.weights.h5",
        "pixelcnn.weights.h5",
        "pixelcnn.json",
        "test_slices",
        "training_codes.npz",
    ],
)
def test_missing_and_damaged_files_of_a_run_are_named(module, name, copy, capfd):
    path = copy / name
    if path.is_dir():
        path = path / "slices.npy"
    path.write_bytes(path.read_bytes()[:64])
    assert name in refusal(capfd, module, "--run-dir", copy)
    path.unlink()
    assert str(copy) in refusal(capfd, module, "--run-dir", copy)


@pytest.mark.parametrize("name", ["split.csv", "mean_slices.npz"])
def test_similarity_names_what_else_it_misses(name, copy, capfd):
    (copy / name).write_bytes(b"\x00garbage")
    assert name in refusal(capfd, similarity, "--run-dir", copy)
    if name.endswith(".npz"):
        np.savez(copy / name, something=np.zeros(3))
    else:
        (copy / name).write_text("a,b\n1,2\n")
    assert name in refusal(capfd, similarity, "--run-dir", copy)
    (copy / name).unlink()
    assert name in refusal(capfd, similarity, "--run-dir", copy)


@pytest.mark.slow
def test_files_from_a_stranger_are_refused_or_loaded_and_nothing_else(copy):
    names = ["config.json", "vqvae.weights.h5", "training_codes.npz", "test_slices/slices.npy"]
    problems, counts = hostile.attack(copy, names, mutations=12, seed=1)
    assert not problems
    for name in names:
        assert counts[name]["refused"] >= 12  # by their hashes alone
        assert sum(counts[name].values()) == 24


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 9, 9)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2",
        "__import__('os').abort()",
    ],
)
def test_an_array_of_objects_or_of_an_absurd_shape_is_refused(copy, header, capfd):
    header = header.ljust(117).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    (copy / "test_slices/slices.npy").write_bytes(content)
    Run.read(copy, Hyperparameters).record_prior()
    assert "test_slices" in refusal(capfd, similarity, "--run-dir", copy)


def test_a_prior_of_another_vqvae_is_refused(copy, place, capfd):
    run = Run.read(copy, Hyperparameters)
    run = dataclasses.replace(run, hyperparameters=run.hyperparameters.replace(seed=1))
    for build in (build_vqvae, build_prior):
        model = build(run)  # of the same shapes, but with weights of its own
        name = f"{model.name}.weights.h5"
        save_weights(model, copy / name)
        for module in (predict, similarity):
            assert name in refusal(capfd, module, "--run-dir", copy)
        shutil.copy(place / "run" / name, copy)


def change_arrays(run, name, **changed):
    """Changes arrays of a file of a run, and puts its hash right."""
    with np.load(run.folder / name) as arrays:
        np.savez(run.folder / name, **{**arrays, **changed})
    run.record_prior()


def test_every_array_that_the_prior_learned_from_is_checked(copy):
    run = Run.read(copy, Hyperparameters)
    codes, conditions = run.training_codes(), run.training_conditions()
    assert 0.3 <= run.smoothing() <= 1000
    bad_sex = np.full_like(conditions, np.nan)
    bad_sex[0, 2] = 0.5
    for changed in (
        {"codes": codes + np.uint16(16)},
        {"codes": codes.astype(np.float32)},
        {"codes": codes.astype(np.int16) - 1},
        {"codes": codes[:, 1:]},
        {"codes": codes[:0], "conditions": conditions[:0]},
        {"conditions": conditions[1:]},
        {"conditions": conditions[:, 1:]},
        {"conditions": np.full_like(conditions, np.inf)},
        {"conditions": conditions.astype("S4")},
        {"conditions": bad_sex},
        {"smoothing": np.ones(2)},
        {"smoothing": np.array(np.nan)},
        {"smoothing": np.array(0.0)},
    ):
        again = Run.read(copy, Hyperparameters)
        change_arrays(again, "training_codes.npz", codes=codes, conditions=conditions)
        change_arrays(again, "training_codes.npz", smoothing=np.array(1.0))
        change_arrays(again, "training_codes.npz", **changed)
        with pytest.raises(RunFolderError, match=r"training_codes.npz: cannot be read"):
            again.training_codes()


def test_every_mean_slice_is_checked(copy):
    run = Run.read(copy, Hyperparameters)
    whole = run.mean_slices()["all"]
    for changed in (whole[1:], whole + 1, whole - 1, whole * np.nan, whole.astype("c8")):
        change_arrays(run, "mean_slices.npz", other=changed)
        with pytest.raises(RunFolderError, match=r"mean_slices.npz: cannot be read"):
            run.mean_slices()


def test_arrays_too_large_for_a_run_are_refused(copy, monkeypatch):
    run = Run.read(copy, Hyperparameters)
    monkeypatch.setattr(folder, "LARGEST_ARRAYS", 1000)
    with pytest.raises(RunFolderError, match="bytes of arrays"):
        run.mean_slices()


def test_weights_that_are_not_finite_are_refused(copy):
    run = Run.read(copy, Hyperparameters)
    prior = build_prior(run)
    prior.set_weights([weights * np.nan for weights in prior.get_weights()])
    save_weights(prior, copy / "pixelcnn.weights.h5")
    with pytest.raises(RunFolderError, match=r"pixelcnn.weights.h5: .*expected finite numbers"):
        run.load_weights(build_prior(run))


@pytest.mark.parametrize(
    "changed",
    [
        {"variance": "0.1"},
        {"variance": None},
        {"variance": 1e-4},
        {"variance": 0.26},
        {"variance": float("nan")},
        {"image_shape": [96, 80.5]},
        {"image_shape": [96, True]},
        {"image_shape": [96, 8193]},
        {"image_shape": [96]},
        {"image_shape": 96},
        {"versions": []},
        {"data": 7},
    ],
)
def test_every_number_of_a_configuration_is_checked(copy, changed):
    config = json.loads((copy / "config.json").read_text()) | changed
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=r"config.json: not the configuration of a run"):
        Run.read(copy, Hyperparameters)


@pytest.mark.parametrize("facts", [{"vqvae": 7}, {"vqvae": {"minutes": "long"}}, {"vqvae": [1]}])
def test_what_a_stage_took_is_checked(copy, facts):
    (copy / "training.json").write_text(json.dumps(facts))
    with pytest.raises(RunFolderError, match=r"training.json: cannot be read"):
        Run.read(copy, Hyperparameters).training_facts()


def test_a_damaged_report_is_to_be_deleted_and_no_reason_to_train_again(copy):
    run = Run.read(copy, Hyperparameters)
    assert run.report() == {}
    (copy / "similarity.json").write_text('{"judgement": {"bra')
    with pytest.raises(RunFolderError, match="similarity.json: cannot be read .*Delete it"):
        run.report()


def test_a_split_of_another_name_is_refused(copy):
    (copy / "split.csv").write_text("subject,split\na,holdout\n")
    with pytest.raises(RunFolderError, match=r"split.csv: cannot be read"):
        Run.read(copy, Hyperparameters).split()


@pytest.mark.parametrize(
    ("column", "value", "said"), [("index", "1e999", "not finite"), ("age", "1e999", "not finite")]
)
def test_numbers_of_test_slices_are_finite_or_unknown(copy, column, value, said):
    path = copy / "test_slices/slices.csv"
    table = pandas.read_csv(path, dtype=str)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(RunFolderError, match=said):
        open_test_slices(Run.read(copy, Hyperparameters))


def test_test_slices_of_another_size_are_refused(copy):
    run = dataclasses.replace(Run.read(copy, Hyperparameters), image_shape=(80, 96))
    with pytest.raises(RunFolderError, match=r"4 slices of \(96, 80\) pixels"):
        open_test_slices(run)


def test_checkpoints_left_in_a_finished_run_are_swept(copy):
    run = Run.read(copy, Hyperparameters)
    for stage in ("vqvae", "pixelcnn"):
        run.checkpoint_path(stage).write_bytes(b"left")
    assert run.start(fresh=False)
    assert not list(copy.glob("*checkpoint*"))
    run.checkpoint_path("pixelcnn").write_bytes(b"left")
    with run.alone():
        assert not list(copy.glob("*checkpoint*"))
    (copy / "pixelcnn.json").unlink()
    run.checkpoint_path("pixelcnn").write_bytes(b"needed")
    assert not run.start(fresh=False)
    assert run.checkpoint_path("pixelcnn").read_bytes() == b"needed"


def test_a_read_only_run_is_refused_with_what_to_do(copy):
    run = Run.read(copy, Hyperparameters)
    with (
        read_only(copy),
        pytest.raises(WriteError, match="copy: cannot be written to.* give that as --run-dir"),
        run.alone(),
    ):
        pytest.fail("it is used")


@pytest.mark.parametrize("module", [train, predict, similarity])
@pytest.mark.parametrize("root", ["/", "/../.."])
def test_the_root_of_a_disk_is_no_run_folder(module, root, capfd):
    assert f"--run-dir {root}: is the root of a disk" in refusal(capfd, module, "--run-dir", root)


def test_a_run_that_was_changed_while_a_script_waited_is_refused(copy, monkeypatch):
    @contextlib.contextmanager
    def alone(run):
        weights = copy / "vqvae.weights.h5"  # what `train.py --fresh` would write meanwhile
        weights.write_bytes(weights.read_bytes() + b"another")
        yield

    with locked_run(copy, Hyperparameters) as run:
        assert run.folder == copy
    monkeypatch.setattr(Run, "alone", alone)
    with (
        pytest.raises(RunFolderError, match=r"vqvae.weights.h5: not the file that"),
        locked_run(copy, Hyperparameters),
    ):
        pass
