"""similarity.py: its report, recomputed slice by slice, and what it refuses."""

import contextlib
import json
import shutil

import numpy as np
import pandas
import pytest
import tensorflow as tf
from PIL import Image
from skimage.metrics import structural_similarity

import predict
import similarity
import train
from dataset import OASIS, open_test_slices
from hyperparameters import Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.evaluation import run_scores
from oasisvq.evaluation.code_scores import (
    bits_by_position,
    count_codes,
    frequencies_by_position,
)
from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.runs.folder import open_run
from oasisvq.sampling import incremental
from support.scripts import refusal, run_main, train_flags


@pytest.fixture(scope="module")
def scored(place, tmp_path_factory):
    """Returns a copy of the run, scored from elsewhere without a flag, and what was printed."""
    folder = tmp_path_factory.mktemp("scored")
    run, printed = shutil.copytree(place / "run", folder / "run"), folder / "printed.txt"
    with contextlib.chdir(folder), printed.open("w") as file, contextlib.redirect_stdout(file):
        assert run_main(similarity, "--run-dir", run) == 0
    return run, printed.read_text()


def test_similarity_panel(scored, copy):
    run, printed = scored
    report = json.loads((run / "similarity.json").read_text())
    panel = report["panel"]
    assert panel["subjects"] == report["subjects"]
    assert panel["slices"] == report["slices"]
    assert (
        panel["training_slices"]
        == 2 * (pandas.read_csv(run / "split.csv")["split"] == "train").sum()
    )
    assert panel["diversity_score"] == "ssim"
    assert panel["memorisation"]["copies"] == 0
    shown = min(32, panel["slices"])
    assert len(panel["mixed_real"]) == shown // 2
    for name in ("closest", "intensities", "mixed"):
        assert (run / f"figures/similarity_{name}.png").is_file()
    assert "memorisation" in printed
    for earlier in ({}, {"panel": {"an": "earlier one"}}):
        (copy / "similarity.json").write_text(json.dumps(earlier))
        assert run_main(similarity, "--run-dir", copy, "--panel-slices", 0) == 0
        written = json.loads((copy / "similarity.json").read_text())
        assert {name: written[name] for name in written if name == "panel"} == earlier


def test_a_prior_that_repeats_training_slices_is_found_out(copy, monkeypatch):
    codes = open_run(copy, Hyperparameters).training_codes()
    monkeypatch.setattr(
        incremental,
        "sample_code_grids",
        lambda prior, uniforms, *_: np.resize(codes, uniforms.shape),
    )
    assert run_main(similarity, "--run-dir", copy) == 0
    found = json.loads((copy / "similarity.json").read_text())["panel"]["memorisation"]
    assert found["copies"] == json.loads((copy / "similarity.json").read_text())["slices"]
    assert found["closer_p"] < 0.2


def test_a_position_of_another_unit_is_unknown_to_the_prior(copy):
    opened = open_run(copy, Hyperparameters)
    slices, kept, rows = open_test_slices(opened), open_test_slices(opened), np.arange(2)
    known = similarity.known_conditions(slices, rows, kept)
    np.testing.assert_array_equal(known, slices.conditions(rows))
    slices.table["position_mm"] = 5.0
    known = similarity.known_conditions(slices, rows, kept)
    assert np.isnan(known[:, 0]).all()
    np.testing.assert_array_equal(known[:, 1], slices.conditions(rows)[:, 1])


def test_similarity_report(scored):
    run, printed = scored
    report = json.loads((run / "similarity.json").read_text())
    table = pandas.read_csv(run / "similarity.csv")
    split = pandas.read_csv(run / "split.csv")
    tested = set(split["subject"][split["split"] == "test"])
    assert set(table["subject"]) == tested
    assert report["subjects"] == len(tested)
    assert report["slices"] == len(table) == 2 * len(tested)
    for scores in (report["reconstruction"], *report["baselines"].values()):
        for name in ("ssim", "ssim_brain", "psnr"):
            assert scores[name]["low"] <= scores[name]["mean"] <= scores[name]["high"]
    assert report["reconstruction"]["ssim"]["mean"] == pytest.approx(table["ssim"].mean())
    assert report["codebook"]["size"] == 16
    assert 0 < report["codebook"]["usage"] <= 1
    assert report["prior"]["bits_per_code_uniform"] == 4
    bits = report["prior"]["bits_per_code"]
    assert bits > 0
    pixels = (bits * 24 * 20 + run_scores.SIDE_INFORMATION_BITS) / (96 * 80)
    assert report["prior"]["bits_per_pixel"] == pytest.approx(pixels)
    assert 1 <= report["codebook"]["perplexity_brain"] <= 16
    assert f"{len(tested)} subjects" in printed
    assert "It means little here" in printed


def test_similarity_scores_what_the_codes_give_back(scored):
    # Recomputed here from the saved weights, through encode and decode, with scikit-image.
    run, _ = scored
    table = pandas.read_csv(run / "similarity.csv")
    opened = open_run(run, Hyperparameters)
    slices, vqvae = open_test_slices(opened), load_vqvae(opened)
    images = slices.images(np.arange(len(slices.table)))
    back = vqvae.decode(vqvae.encode(images)).numpy()
    for n in range(len(images)):
        expected = structural_similarity(
            images[n, ..., 0],
            back[n, ..., 0],
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert table["ssim"][n] == pytest.approx(expected, abs=1e-4)


def test_baselines_and_prior_are_recomputed_slice_by_slice(copy, place, monkeypatch):
    monkeypatch.setattr(run_scores, "BATCH_SIZE", 3)
    assert run_main(similarity, "--run-dir", copy) == 0
    table = pandas.read_csv(copy / "similarity.csv")
    opened = open_run(copy, Hyperparameters)
    whole = OASIS(opened.hyperparameters.data, place / "data")
    images = whole.images(whole.rows("test"))
    train, numbers = whole.rows("train"), whole.table["index"].to_numpy()
    for n, number in enumerate(table["index"]):
        mean = whole.slices[train[numbers[train] == number]].mean(axis=0) / 255
        expected = slice_scores(images[[n]], mean[None, ..., None].astype("float32"))
        assert table["mean_slice_ssim"][n] == pytest.approx(expected["ssim"][0], abs=1e-5)
        black = slice_scores(images[[n]], np.zeros_like(images[[n]]))
        assert table["black_psnr"][n] == pytest.approx(black["psnr"][0], abs=1e-4)
    vqvae = load_vqvae(opened)
    codes = vqvae.encode(images).numpy()
    logits = load_prior(opened)((codes, whole.conditions(whole.rows("test"))))
    bits = tf.nn.sparse_softmax_cross_entropy_with_logits(codes, logits) / np.log(2)
    bits = bits.numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(table["prior_bits_per_code"], bits, rtol=1e-4)
    seen = np.stack([vqvae.encode(whole.images([row])).numpy()[0] for row in train])
    kept, conditions = opened.training_codes(), opened.training_conditions()
    np.testing.assert_array_equal(kept, seen)
    np.testing.assert_array_equal(conditions, whole.conditions(train))
    smoothing = np.load(copy / "training_codes.npz")["smoothing"]
    expected = bits_by_position(frequencies_by_position(count_codes(seen, 16), smoothing), codes)
    np.testing.assert_allclose(table["prior_bits_per_code_by_position"], expected, rtol=1e-6)


def test_new_brains_are_drawn_for_the_conditions_of_the_slices_beside_them(copy, monkeypatch):
    drawn, shown = [], []
    sample, compare = incremental.sample_code_grids, run_scores.compare

    def watch_sample(prior, uniforms, config, conditions):
        drawn.append(conditions)
        return sample(prior, uniforms, config, conditions)

    def watch_compare(real, *others):
        shown.append((real, *others))
        return compare(real, *others)

    monkeypatch.setattr(incremental, "sample_code_grids", watch_sample)
    monkeypatch.setattr(run_scores, "compare", watch_compare)
    assert run_main(similarity, "--run-dir", copy, "--panel-slices", 2, "--seed", 3) == 0
    opened = open_run(copy, Hyperparameters)
    slices = open_test_slices(opened)
    owners = slices.table["subject"].to_numpy()
    rows = np.flatnonzero(run_scores.choose_whole_subjects(owners, 2, 3))
    assert 0 < len(rows) < len(slices.table)
    ((real, reconstructed, generated, subjects, keys, *_),) = shown
    np.testing.assert_array_equal(drawn[0], slices.conditions(rows))
    np.testing.assert_array_equal(real, slices.images(rows))
    assert list(subjects) == list(slices.table["subject"].iloc[rows])
    assert list(keys) == list(slices.position_keys(rows))
    vqvae = load_vqvae(opened)
    np.testing.assert_allclose(reconstructed, vqvae.decode(vqvae.encode(real)).numpy(), atol=1e-5)
    assert (generated != reconstructed).any()


def test_similarity_on_a_source_of_another_size(copy, tmp_path, random, capfd):
    for n in range(2):
        pixels = random.integers(0, 255, (60, 130)).astype(np.uint8)
        (tmp_path / "other").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"other/stranger{n}_slice_0.png")
    flags = ["--run-dir", copy, "--dataset", tmp_path / "other", "--split", "all"]
    flags += ["--data-dir", tmp_path / "data", "--output", tmp_path / "out/strangers.json"]
    assert run_main(similarity, *flags) == 0
    assert json.loads((tmp_path / "out/strangers.json").read_text())["subjects"] == 2
    assert "warning" not in capfd.readouterr().err
    assert not (copy / "similarity.json").exists()


def test_scoring_training_subjects_is_warned_of(copy, place, capfd):
    flags = ["--run-dir", copy, "--split", "all", "--data-dir", place / "data"]
    assert run_main(similarity, *flags) == 0
    split = pandas.read_csv(copy / "split.csv")
    known = (split["split"] != "test").sum()
    assert f"warning: {known} of these subjects" in capfd.readouterr().err
    assert (copy / "similarity_slices_all.json").is_file()  # beside the run's own report
    assert not (copy / "similarity.json").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--plane", "sagittal"], "--dataset"), (["--slices-per-volume", -1], "at least 0")],
)
def test_similarity_ignores_no_flag(copy, capfd, flags, said):
    assert said in refusal(capfd, similarity, "--run-dir", copy, *flags)


def test_similarity_refuses_an_output_that_is_no_report(copy, tmp_path, capfd):
    assert "--output" in refusal(capfd, similarity, "--run-dir", copy, "--output", tmp_path)


@pytest.mark.slow
def test_all_scripts_run_on_the_smallest_data(brains, tmp_path, capfd):
    """Three persons with a slice each: no interval is known, and one subject is in each split."""
    for number in range(3):
        pixels = (brains[number] * 255).astype(np.uint8)
        (tmp_path / "slices").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"slices/P0{number}_90.png")
    run = tmp_path / "run"
    assert run_main(train, *train_flags(tmp_path), "--run-dir", run, "--batch-size", 1) == 0
    for script in (predict, similarity):
        assert run_main(script, "--run-dir", run) == 0, capfd.readouterr().err
    report = json.loads((run / "similarity.json").read_text())
    assert report["subjects"] == report["slices"] == 1
    assert report["reconstruction"]["ssim"]["low"] is None
    assert "| ssim | " in (run / "model_card.md").read_text()
