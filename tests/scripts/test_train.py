"""train.py, end to end in a temporary folder, and what it says of bad input."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

import predict
import similarity
import train
from hyperparameters import Hyperparameters
from modules import load_vqvae
from oasisvq.runs.folder import open_run
from support.scripts import refusal, run_main, train_flags

ROOT = Path(train.__file__).parent


def test_train_leaves_a_whole_run(place):
    names = {path.name for path in (place / "run").iterdir()}
    assert names >= {
        "config.json",
        "split.csv",
        "vqvae.weights.h5",
        "pixelcnn.weights.h5",
        "pixelcnn.json",
        "vqvae_history.csv",
        "pixelcnn_history.csv",
        "figures",
        "tensorboard",
        "test_slices",
        "training_codes.npz",
        "mean_slices.npz",
        "training.json",
        "model_card.md",
    }
    assert not [name for name in names if "checkpoint" in name or "partial" in name]
    history = pandas.read_csv(place / "run/vqvae_history.csv")
    for name in ("reconstruction_loss", "commitment_loss", "ssim", "perplexity", "codebook_usage"):
        assert {name, "val_" + name} <= set(history)
    split = pandas.read_csv(place / "run/split.csv")
    assert len(split) == split["subject"].nunique() == 12


def test_a_loss_that_is_no_number_ends_training(place, tmp_path, capfd):
    flags = [*train_flags(place), "--run-dir", tmp_path / "run", "--learning-rate", 10]
    flags += ["--epochs", 30, "--warm-up-steps", 60, "--residual-blocks", 12]
    capfd.readouterr()
    assert run_main(train, *flags) == 2
    assert "finite" in (said := capfd.readouterr().err) or "the loss is nan" in said


def test_the_whole_line_with_a_codebook_learned_by_gradient(place, tmp_path):
    flags = [*train_flags(place), "--run-dir", tmp_path / "run", "--codebook-update", "gradient"]
    assert run_main(train, *flags) == 0
    assert run_main(predict, "--run-dir", tmp_path / "run", "--num-samples", 1) == 0
    assert run_main(similarity, "--run-dir", tmp_path / "run", "--panel-slices", 0) == 0


def test_one_line_is_all_that_stands_on_standard_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/case_1_slice_0.png").write_bytes(b"\x89PNG broken")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--dataset", tmp_path / "in"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "case_1_slice_0.png" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "nowhere"], "nowhere: no such folder"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--downsample", "5"], "--downsample"),
        (["--test-fraction", "0"], "no test subject"),
        (["--learning-rate", "fast"], "--learning-rate"),
    ],
)
def test_train_refuses_in_one_line(place, tmp_path, capfd, flags, said):
    base = [*train_flags(place), "--run-dir", tmp_path / "run"]
    assert said in refusal(capfd, train, *base, *flags)
    assert not (tmp_path / "run").exists()


def test_train_never_overwrites_a_run(place, copy, tmp_path, capfd):
    before = (copy / "vqvae.weights.h5").read_bytes()
    flags = [*train_flags(place), "--run-dir", copy]
    said = refusal(capfd, train, *flags, "--epochs", 2, "--prior-dilations", 1, 3)
    assert "--epochs 1 there, 2 here; --prior-dilations [1, 2, 4, 8] there, [1, 3] here" in said
    assert "--fresh" in said
    assert "--split-seed 0 there, 3 here; other data (" in refusal(
        capfd, train, *flags, "--split-seed", 3
    )
    assert (copy / "vqvae.weights.h5").read_bytes() == before
    shutil.copytree(copy, tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"model_type": "bert"}')
    assert "config.json" in refusal(
        capfd, train, *train_flags(place), "--run-dir", tmp_path / "model", "--fresh"
    )
    assert (tmp_path / "model/vqvae.weights.h5").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("kept")
    flags = [*train_flags(place), "--run-dir", tmp_path / "mine", "--fresh"]
    assert "other files" in refusal(capfd, train, *flags)
    assert (tmp_path / "mine/thesis.txt").read_text() == "kept"


def test_what_cannot_be_trained_is_refused_before_a_run_is_touched(place, copy, tmp_path, capfd):
    before = (copy / "vqvae.weights.h5").read_bytes()
    flags = [*train_flags(place), "--run-dir", copy, "--fresh"]
    assert "latents only" in refusal(capfd, train, *flags, "--num-embeddings", 60000)
    for name, pixels in (("small", np.full((8, 8), 9)), ("grey", np.full((16, 16), 9))):
        (tmp_path / name).mkdir()
        for n in range(40):
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(tmp_path / name / f"case_{n:03d}_slice_0.png")
        flags[1] = tmp_path / name
        assert str(tmp_path / "data") in refusal(
            capfd, train, *flags, "--data-dir", tmp_path / "data"
        )
    assert (copy / "vqvae.weights.h5").read_bytes() == before


def test_the_readme_recipe_loads_the_weights(place, monkeypatch):
    monkeypatch.chdir(place)
    readme = (ROOT / "README.md").read_text()
    (recipe,) = re.findall(r"```python\n(from dataset import \*.*?)```", readme, flags=re.S)
    recipe = recipe.replace("runs/demo", "run")
    names = {}
    exec(recipe, names)  # noqa: S102
    assert names["vqvae_trainer"].quantizer.codebook.shape == (16, 8)
    trained = names["vqvae_trainer"].get_weights()
    for one, other in zip(
        trained, load_vqvae(open_run("run", Hyperparameters)).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("script", ["train", "predict", "similarity"])
def test_help_answers_before_anything_heavy_is_imported(script):
    command = [sys.executable, "-X", "importtime", ROOT / f"{script}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--run-dir" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"numpy", "pandas", "keras", "tensorflow", "matplotlib", "nibabel"}
