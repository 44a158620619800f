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
from support.scripts import refusal, run_main, train_flags

pytestmark = pytest.mark.usefixtures("short_judgements")
COUNTS = {"brains": 1, "persons": 1, "slices": 2, "other_persons": 1}


@pytest.fixture(scope="module")
def scored(place, tmp_path_factory):
    """Returns a copy of the run, scored from elsewhere without a flag, and what was printed."""
    folder = tmp_path_factory.mktemp("scored")
    run, printed = shutil.copytree(place / "run", folder / "run"), folder / "printed.txt"
    with contextlib.chdir(folder), printed.open("w") as file, contextlib.redirect_stdout(file):
        assert run_main(similarity, "--run-dir", run, "--panel-slices", 30, "--quick") == 0
    return run, printed.read_text()


def test_new_brains_of_a_run_are_judged(scored, copy):
    run, printed = scored
    judgement = json.loads((run / "similarity.json").read_text())["judgement"]
    split = pandas.read_csv(run / "split.csv")["split"]
    assert judgement["brains"] == 30
    assert judgement["persons"] == (split == "test").sum()
    assert judgement["other_persons"] == (split == "train").sum()
    assert judgement["slices"] == 2 * judgement["persons"]
    assert 0 <= judgement["membership"] <= 1
    assert len(judgement["mixed_real"]) == judgement["slices"]
    for name in ("closest", "samples", "mixed"):
        assert (run / f"figures/similarity_{name}.png").is_file()
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 7
    brains = pandas.read_csv(run / "similarity_brains.csv")
    assert len(brains) == 30
    assert "30 new brains beside" in printed
    assert "membership" in (run / "model_card.md").read_text()
    known = {"judgement": {"reason": "an earlier one", **COUNTS}}
    for text, earlier in (("{}", {}), ('{"judgement": null}', {}), (json.dumps(known), known)):
        (copy / "similarity.json").write_text(text)
        assert run_main(similarity, "--run-dir", copy, "--panel-slices", 0) == 0
        written = json.loads((copy / "similarity.json").read_text())
        assert {name: written[name] for name in written if name == "judgement"} == earlier


def test_brains_of_any_program_are_judged_without_a_run(place, copy, tmp_path, capfd):
    """Those that predict.py drew, beside its other pictures, and plain pictures with a sheet."""
    assert run_main(predict, "--run-dir", copy, "--num-samples", 12) == 0
    flags = ["--dataset", place / "slices", "--data-dir", place / "data", "--quick"]
    with contextlib.chdir(tmp_path):
        assert run_main(similarity, "--generated", copy / "samples", *flags) == 0
    report = json.loads((tmp_path / "runs/judged_samples/similarity.json").read_text())
    assert report["judgement"]["brains"] == 12
    assert report["judgement"]["persons"] == report["judgement"]["other_persons"]  # halves
    assert report["judgement"]["tissue"] is None  # the brains have no sheet of ages
    assert (tmp_path / "runs/judged_samples/report.html").is_file()
    shutil.copytree(place / "slices", tmp_path / "others")
    names = sorted(path.stem for path in (tmp_path / "others").glob("*.png"))
    rows = [f"{name},{20 + number}" for number, name in enumerate(names)]
    (tmp_path / "others/sheet.csv").write_text("\n".join(["ID,Age", *rows]))
    output = tmp_path / "judged/others.json"
    more = ["--generated", tmp_path / "others", "--output", output, "--split", "train"]
    assert run_main(similarity, *more, *flags) == 0
    judgement = json.loads(output.read_text())["judgement"]
    assert judgement["brains"] == 24
    assert judgement["copies"]["share"] == 1
    assert judgement["tissue"] is not None
    brains = pandas.read_csv(output.with_name("others_brains.csv"), dtype={"subject": str})
    assert sorted(brains["subject"]) == names
    assert brains["age"].tolist() == [20 + names.index(name) for name in brains["subject"]]
    for number, name in enumerate(names):  # two folders with the same names
        folder = tmp_path / "nested" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / f"others/{name}.png", folder / f"{number // 2:03d}.png")
    more = ["--generated", tmp_path / "nested", "--output", output]
    assert run_main(similarity, *more, *flags) == 0
    assert json.loads(output.read_text())["judgement"]["brains"] == 24
    assert "Page to read" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--generated", "."], "--dataset"),
        (["--generated", "nowhere", "--dataset", "demo"], "nowhere"),
        (["--generated", ".", "--dataset", "demo", "--run-dir", "runs/demo"], "--run-dir"),
    ],
)
def test_flags_that_do_not_go_with_brains_of_another_program_are_refused(capfd, flags, said):
    assert said in refusal(capfd, similarity, *flags)


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
    assert run_main(similarity, "--run-dir", copy, "--panel-slices", 0) == 0
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


def test_similarity_on_a_source_of_another_size(copy, tmp_path, random, capfd):
    for n in range(2):
        pixels = random.integers(0, 255, (60, 130)).astype(np.uint8)
        (tmp_path / "other").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"other/stranger{n}_slice_0.png")
    flags = ["--run-dir", copy, "--dataset", tmp_path / "other", "--split", "all"]
    flags += ["--panel-slices", 20, "--quick"]
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
    said = capfd.readouterr()
    assert f"warning: {known} of these subjects" in said.err
    assert "not judged beside persons that the run was trained on" in said.out
    assert "judgement" not in json.loads((copy / "similarity_slices_all.json").read_text())
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
