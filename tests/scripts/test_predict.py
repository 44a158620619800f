"""predict.py, from a run folder alone, and what it refuses."""

import json
from itertools import chain

import numpy as np
import pandas
import pytest
from PIL import Image

import predict
from hyperparameters import DrawConfig, Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.runs.folder import Run
from oasisvq.sampling.incremental import sample_code_grids
from support.scripts import refusal, run_main


def test_predict_from_the_run_folder_alone(copy, place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_main(predict, "--run-dir", copy, "--num-samples", 3, "--num-reconstructions", 2) == 0
    brains = [np.load(copy / f"samples/brain_{n:04d}.npy") for n in range(3)]
    for n, brain in enumerate(brains):
        assert brain.shape == (96, 80)
        assert brain.min() >= 0
        assert brain.max() <= 1
        picture = np.asarray(Image.open(copy / f"samples/brain_{n:04d}.png").convert("L"))
        assert np.abs(picture / 255 - brain).max() <= 0.5 / 255 + 1e-6
    codes = np.load(copy / "samples/codes_0001.npy")
    assert codes.shape == (24, 20)
    assert Image.open(copy / "samples/codes_0001.png").size == (20, 24)
    for name in ("encoded", "reconstructed", "generated", "conditions"):
        assert (copy / f"figures/{name}.png").is_file()


def test_the_same_seed_draws_the_same_brains_and_earlier_ones_are_kept(copy):
    def draw(*flags):
        assert run_main(predict, "--run-dir", copy, *flags) == 0

    def brain(folder, number=1):
        return np.load(copy / folder / f"brain_{number:04d}.npy")

    draw("--num-samples", 3)
    first = brain("samples")
    (copy / "samples/brain_0001.npy").unlink()
    draw("--num-samples", 3)  # the same again, in the same place
    np.testing.assert_array_equal(brain("samples"), first)
    assert not (copy / "samples_2").exists()
    draw("--num-samples", 2)
    # A batch of 2 is summed otherwise.
    np.testing.assert_allclose(brain("samples_2"), first, atol=1e-6)
    assert (copy / "samples_2/figures/generated.png").is_file()
    assert not (copy / "samples_2/brain_0002.npy").exists()
    draw("--num-samples", 2, "--seed", 1)
    assert (brain("samples_3") != first).any()
    np.testing.assert_array_equal(brain("samples"), first)
    # Where the folder is named, what lies there is replaced.
    draw("--num-samples", 2, "--seed", 1, "--output", copy / "samples")
    np.testing.assert_array_equal(brain("samples"), brain("samples_3"))
    assert not (copy / "samples/brain_0002.npy").exists()


def test_predict_draws_under_the_chosen_conditions(copy):
    flags = ["--run-dir", copy, "--num-samples", 2, "--output", copy / "samples"]
    assert run_main(predict, *flags) == 0
    drawn = json.loads((copy / "samples/brains.json").read_text())["conditions"]
    tested = pandas.read_csv(copy / "test_slices/slices.csv")
    assert all(known["age"] in set(tested["age"]) for known in drawn)
    assert {"position", "age", "sex"} <= set(drawn[0])
    brains = [np.load(copy / f"samples/brain_{n:04d}.npy") for n in range(2)]
    chosen = ["--slice-position", 1, "--age", 41.5, "--sex", "F"]
    assert run_main(predict, *flags, *chosen) == 0
    drawn = json.loads((copy / "samples/brains.json").read_text())["conditions"]
    assert drawn == [{"position": 1, "age": 41.5, "sex": "F"}] * 2
    assert any((np.load(copy / f"samples/brain_{n:04d}.npy") != brains[n]).any() for n in range(2))


def test_predict_notes_how_the_brains_were_drawn(copy):
    flags = {"num_samples": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 4}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    assert run_main(predict, "--run-dir", copy, *given, "--num-reconstructions", 1) == 0
    noted = json.loads((copy / "samples/brains.json").read_text())
    assert len(noted.pop("conditions")) == 1
    assert noted.pop("sides") == "unknown"  # the slices are pictures
    assert noted == flags


def test_predict_draws_from_the_prior_as_its_flags_say(copy):
    flags = {"--temperature": 0.8, "--top-k": 9, "--top-p": 0.95, "--seed": 3}
    assert run_main(predict, "--run-dir", copy, "--num-samples", 2, *chain(*flags.items())) == 0
    run = Run.read(copy, Hyperparameters)
    vqvae, prior = load_vqvae(run), load_prior(run)
    noted = json.loads((copy / "samples/brains.json").read_text())["conditions"]
    letters = {"F": 0, "M": 1}
    rows = [
        [known.get(name, np.nan) for name in ("position", "age", "sex", "cdr")] for known in noted
    ]
    conditions = np.array([[letters.get(value, value) for value in row] for row in rows])
    uniforms = np.random.default_rng(3).random((2, 24, 20))
    config = DrawConfig(temperature=0.8, top_k=9, top_p=0.95)
    codes = sample_code_grids(prior, uniforms, config, conditions)
    expected = vqvae.decode(codes).numpy()[..., 0].clip(0, 1)
    for n in range(2):
        drawn = np.load(copy / f"samples/brain_{n:04d}.npy")
        np.testing.assert_allclose(drawn, expected[n], atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--age", 200], "--age must be from"),
        (["--slice-position", -1], "--slice-position must be from 0 to 1"),
        (["--cdr", 2], "--cdr must be one of 0.5"),
        (["--sex", "X"], "--sex"),
        (["--age", "nan"], "--age"),
    ],
)
def test_predict_refuses_conditions_that_the_run_never_saw(copy, capfd, flags, said):
    assert said in refusal(capfd, predict, "--run-dir", copy, *flags)


def test_predict_refuses_conditions_that_nobody_knows(copy, capfd):
    arrays = dict(np.load(copy / "training_codes.npz"))
    arrays["conditions"][:, 1:3] = np.nan
    np.savez(copy / "training_codes.npz", **arrays)
    Run.read(copy, Hyperparameters).record_prior()
    assert "unknown age" in refusal(capfd, predict, "--run-dir", copy, "--age", 40)
    assert "unknown sex" in refusal(capfd, predict, "--run-dir", copy, "--sex", "F")


@pytest.mark.parametrize(
    "flags",
    [
        ["--temperature", 0],
        ["--top-p", 1.5],
        ["--num-samples", 0],
        ["--seed", -1],
        ["--top-p", "nan"],
    ],
)
def test_predict_refuses_flags_out_of_range(copy, capfd, flags):
    assert flags[0] in refusal(capfd, predict, "--run-dir", copy, *flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output", "/"], "--output /: is the root of a disk"),
        (["--output", "config.json"], "--output config.json: is a file. Give a folder"),
        (["--run-dir", "config.json"], "--run-dir config.json: is a file. Give a folder"),
        (["--run-dir", "nowhere"], "nowhere: not a run folder"),
    ],
)
def test_predict_refuses_paths_before_it_loads_anything(copy, capfd, monkeypatch, flags, said):
    monkeypatch.chdir(copy)
    monkeypatch.setattr(predict, "import_tensorflow_quietly", pytest.fail)
    assert said in refusal(capfd, predict, *flags)
