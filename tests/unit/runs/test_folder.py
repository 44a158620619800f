"""A run folder whose files do not belong together, or are damaged, is refused in one line."""

import dataclasses
import shutil

import numpy as np
import pytest

import predict
import similarity
from hyperparameters import Hyperparameters
from modules import build_prior, build_vqvae
from oasisvq.core.files import save_weights
from oasisvq.runs.folder import Run
from stress import hostile
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


@pytest.mark.parametrize("name", ["split.csv", "mean_slices.npz", "features.weights.h5"])
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
