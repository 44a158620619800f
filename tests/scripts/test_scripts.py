"""The three scripts, end to end in a temporary folder, and what they say of bad input."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pandas
import pytest
from PIL import Image

import predict
import similarity
import train
from oasisvq.core.script import run_script
from oasisvq.runs.folder import open_run, read_config

ROOT = Path(train.__file__).parent
sys.path.insert(0, str(ROOT / "tests/stress"))
import hostile  # noqa: E402

REAL = ROOT.parent / "shared" / "data" / "oasis1_coronal"
TINY = [
    "--epochs", 1, "--prior-epochs", 1, "--num-embeddings", 16, "--width", 8,
    "--residual-blocks", 1, "--prior-filters", 8, "--prior-residual-blocks", 1,
    "--batch-size", 4, "--warm-up-steps", 2, "--feature-steps", 2,
]  # fmt: skip


def run(module, *flags):
    """The exit status of a script, in this process."""
    sys.argv = [f"{module.__name__}.py", *map(str, flags)]
    try:
        run_script(module.main)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, brains):
    """A folder with slices of twelve invented subjects and a run trained on them."""
    place = tmp_path_factory.mktemp("place")
    (place / "slices").mkdir()
    for n in range(24):
        # Twelve heads of eight: a mirrored one is another.
        head = brains[n // 2 % 8][:, :: 1 if n < 16 else -1]
        pixels = np.roll(head, n % 2, axis=0) * 200
        name = f"case_{n // 2:03d}_slice_{n % 2}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(place / "slices" / name)
    rows = [f"case_{n:03d},{20 + 5 * n},{'FM'[n % 2]},{'' if n < 6 else 0.5}" for n in range(12)]
    (place / "slices/sheet.csv").write_text("\n".join(["ID,Age,M/F,CDR", *rows]))
    assert run(train, *train_flags(place), "--run-dir", place / "run") == 0
    return place


def train_flags(place):
    shares = ["--test-fraction", 0.25, "--validation-fraction", 0.25]
    return ["--dataset", place / "slices", "--data-dir", place / "data", *shares, *TINY]


@pytest.fixture
def copy(place, tmp_path):
    """A copy of the run, to break."""
    shutil.copytree(place / "run", tmp_path / "copy")
    return tmp_path / "copy"


def refused(capfd, module, *flags):
    """The one line that a script says before it exits with status 2."""
    capfd.readouterr()
    assert run(module, *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{module.__name__}.py: error: ")
    return line


# The whole line


def test_train_leaves_a_whole_run(place):
    names = {path.name for path in (place / "run").iterdir()}
    assert names >= {
        "config.json", "split.csv", "vqvae.weights.h5", "pixelcnn.weights.h5", "pixelcnn.json",
        "vqvae_history.csv", "pixelcnn_history.csv", "figures", "tensorboard", "test_slices",
        "features.weights.h5", "training_codes.npz", "mean_slices.npz", "training.json",
        "model_card.md",
    }  # fmt: skip
    assert not [name for name in names if "checkpoint" in name or "partial" in name]
    history = pandas.read_csv(place / "run/vqvae_history.csv")
    for name in ("reconstruction_loss", "commitment_loss", "ssim", "perplexity", "codebook_usage"):
        assert {name, "val_" + name} <= set(history)
    split = pandas.read_csv(place / "run/split.csv")
    assert len(split) == split["subject"].nunique() == 12


def test_predict_from_the_run_folder_alone(copy, place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(predict, "--run-dir", copy, "--num-samples", 3, "--num-reconstructions", 2) == 0
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
    # The same seed draws the same brains, another seed others; none of the old ones stay.
    assert run(predict, "--run-dir", copy, "--num-samples", 3) == 0
    np.testing.assert_array_equal(np.load(copy / "samples/brain_0001.npy"), brains[1])
    assert run(predict, "--run-dir", copy, "--num-samples", 2) == 0
    again = np.load(copy / "samples/brain_0001.npy")
    np.testing.assert_allclose(again, brains[1], atol=1e-6)  # a batch of 2 is summed otherwise
    assert not (copy / "samples/brain_0002.npy").exists()
    assert run(predict, "--run-dir", copy, "--num-samples", 2, "--seed", 1) == 0
    assert (np.load(copy / "samples/brain_0001.npy") != brains[1]).any()


def test_predict_draws_under_the_conditions_asked_for(copy):
    flags = ["--run-dir", copy, "--num-samples", 2]
    assert run(predict, *flags) == 0
    drawn = json.loads((copy / "samples/brains.json").read_text())["conditions"]
    tested = pandas.read_csv(copy / "test_slices/slices.csv")
    assert all(known["age"] in set(tested["age"]) for known in drawn)
    assert {"position", "age", "sex"} <= set(drawn[0])
    brains = [np.load(copy / f"samples/brain_{n:04d}.npy") for n in range(2)]
    asked = ["--slice-position", 1, "--age", 41.5, "--sex", "F"]
    assert run(predict, *flags, *asked) == 0
    drawn = json.loads((copy / "samples/brains.json").read_text())["conditions"]
    assert drawn == [{"position": 1, "age": 41.5, "sex": "F"}] * 2
    assert any((np.load(copy / f"samples/brain_{n:04d}.npy") != brains[n]).any() for n in range(2))


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
    assert said in refused(capfd, predict, "--run-dir", copy, *flags)


def test_predict_refuses_conditions_that_nobody_knows(copy, capfd):
    arrays = dict(np.load(copy / "training_codes.npz"))
    arrays["conditions"][:, 1:3] = np.nan
    np.savez(copy / "training_codes.npz", **arrays)
    read_config(copy).record_prior()
    assert "unknown age" in refused(capfd, predict, "--run-dir", copy, "--age", 40)
    assert "unknown sex" in refused(capfd, predict, "--run-dir", copy, "--sex", "F")


def test_similarity_panel(copy, capsys):
    assert run(similarity, "--run-dir", copy) == 0
    report = json.loads((copy / "similarity.json").read_text())
    panel = report["panel"]
    assert panel["subjects"] == report["subjects"]
    assert panel["slices"] == report["slices"]
    assert (
        panel["training_slices"]
        == 2 * (pandas.read_csv(copy / "split.csv")["split"] == "train").sum()
    )
    assert panel["diversity_score"] == "ssim"
    assert panel["memorisation"]["copies"] == 0
    shown = min(32, panel["slices"])
    assert len(panel["mixed_real"]) == shown // 2
    for name in ("closest", "intensities", "mixed"):
        assert (copy / f"figures/similarity_{name}.png").is_file()
    assert "memorisation" in capsys.readouterr().out
    assert run(similarity, "--run-dir", copy, "--panel-slices", 0) == 0
    assert "panel" not in json.loads((copy / "similarity.json").read_text())


def test_a_prior_that_repeats_training_slices_is_found_out(copy, monkeypatch):
    from oasisvq.sampling import incremental as sampling

    codes = open_run(copy).training_codes()
    monkeypatch.setattr(
        sampling, "sample_code_grids", lambda prior, uniforms, *_: np.resize(codes, uniforms.shape)
    )
    assert run(similarity, "--run-dir", copy) == 0
    found = json.loads((copy / "similarity.json").read_text())["panel"]["memorisation"]
    assert found["copies"] == json.loads((copy / "similarity.json").read_text())["slices"]
    assert found["closer_p"] < 0.2


def test_the_panel_takes_whole_subjects(place):
    from dataset import OASIS, Hyperparameters

    slices = OASIS(Hyperparameters(dataset=str(place / "run/test_slices")))
    rows = np.arange(len(slices.table))
    few = similarity.whole_subjects(slices, rows, 3, seed=0)
    assert len(few) == 4
    assert slices.table["subject"].iloc[few].value_counts().tolist() == [2, 2]
    assert similarity.whole_subjects(slices, rows, 100, seed=0).tolist() == rows.tolist()


def test_a_position_of_another_unit_is_unknown_to_the_prior(copy, place):
    opened = open_run(copy)
    slices = opened.test_slices()
    rows = np.arange(2)
    np.testing.assert_array_equal(opened.conditions(slices, rows), slices.conditions(rows))
    slices.table["position_mm"] = 5.0
    assert np.isnan(opened.conditions(slices, rows)[:, 0]).all()
    np.testing.assert_array_equal(
        opened.conditions(slices, rows)[:, 1], slices.conditions(rows)[:, 1]
    )


def test_similarity_report(copy, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(similarity, "--run-dir", copy) == 0
    report = json.loads((copy / "similarity.json").read_text())
    table = pandas.read_csv(copy / "similarity.csv")
    split = pandas.read_csv(copy / "split.csv")
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
    pixels = (bits * 24 * 20 + similarity.SIDE_INFORMATION_BITS) / (96 * 80)
    assert report["prior"]["bits_per_pixel"] == pytest.approx(pixels)
    assert 1 <= report["codebook"]["perplexity_brain"] <= 16
    printed = capsys.readouterr().out
    assert f"{len(tested)} subjects" in printed
    assert "It means little here" in printed


def test_similarity_scores_what_the_codes_give_back(copy):
    # Recomputed here from the saved weights, through encode and decode, with scikit-image.
    from skimage.metrics import structural_similarity

    assert run(similarity, "--run-dir", copy) == 0
    table = pandas.read_csv(copy / "similarity.csv")
    opened = open_run(copy)
    slices, vqvae = opened.test_slices(), opened.load_vqvae()
    images = slices.images(np.arange(len(slices.table)))
    back = vqvae.decode(vqvae.encode(images)).numpy()
    for n in range(len(images)):
        expected = structural_similarity(
            images[n, ..., 0], back[n, ..., 0], data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert table["ssim"][n] == pytest.approx(expected, abs=1e-4)


def test_baselines_and_prior_are_recomputed_slice_by_slice(copy, place, monkeypatch):
    from dataset import OASIS
    from modules import code_bits
    from oasisvq.evaluation.code_scores import (
        bits_by_position,
        count_codes,
        frequencies_by_position,
    )
    from oasisvq.evaluation.image_scores import slice_scores

    monkeypatch.setattr(similarity, "BATCH_SIZE", 3)
    assert run(similarity, "--run-dir", copy) == 0
    table = pandas.read_csv(copy / "similarity.csv")
    opened = open_run(copy)
    whole = OASIS(opened.hyperparameters, place / "data")
    images = whole.images(whole.rows("test"))
    train, numbers = whole.rows("train"), whole.table["index"].to_numpy()
    for n, number in enumerate(table["index"]):
        mean = whole.slices[train[numbers[train] == number]].mean(axis=0) / 255
        expected = slice_scores(images[[n]], mean[None, ..., None].astype("float32"))
        assert table["mean_slice_ssim"][n] == pytest.approx(expected["ssim"][0], abs=1e-5)
        black = slice_scores(images[[n]], np.zeros_like(images[[n]]))
        assert table["black_psnr"][n] == pytest.approx(black["psnr"][0], abs=1e-4)
    vqvae = opened.load_vqvae()
    codes = vqvae.encode(images).numpy()
    logits = opened.load_prior()((codes, whole.conditions(whole.rows("test"))))
    bits = code_bits(codes, logits).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(table["prior_bits_per_code"], bits, rtol=1e-4)
    seen = np.stack([vqvae.encode(whole.images([row])).numpy()[0] for row in train])
    kept, conditions = opened.training_codes(), opened.training_conditions()
    np.testing.assert_array_equal(kept, seen)
    np.testing.assert_array_equal(conditions, whole.conditions(train))
    smoothing = np.load(copy / "training_codes.npz")["smoothing"]
    expected = bits_by_position(frequencies_by_position(count_codes(seen, 16), smoothing), codes)
    np.testing.assert_allclose(table["prior_bits_per_code_by_position"], expected, rtol=1e-6)


def test_the_prior_learns_each_slice_under_its_own_conditions(place):
    opened = open_run(place / "run")
    codes, known = opened.training_codes(), opened.training_conditions()
    rows = np.random.default_rng(0).permutation(len(codes))
    grids, conditions = train.code_reader(codes, known)(rows)
    np.testing.assert_array_equal(grids, codes[rows])
    np.testing.assert_array_equal(conditions, known[rows])


def test_the_panels_network_learns_training_slices_under_their_own_labels(place, tmp_path):
    from dataset import OASIS

    opened = open_run(place / "run")
    dataset = OASIS(opened.hyperparameters, place / "data")
    with mock.patch("features.train_feature_network") as learn:
        learn.return_value.save_weights = lambda file: file.write(b"weights")
        run = mock.Mock(hyperparameters=opened.hyperparameters, folder=tmp_path)
        train.train_features(run, dataset)
    slices, rows, labels, *_ = learn.call_args.args
    assert slices is dataset.slices
    assert set(dataset.table["split"].iloc[rows]) == {"train"}
    assert len(rows) == (dataset.table["split"] == "train").sum()
    pandas.testing.assert_frame_equal(labels, dataset.labels(rows))


def test_new_brains_are_drawn_for_the_conditions_of_the_slices_beside_them(copy, monkeypatch):
    from oasisvq.evaluation import population as panel
    from oasisvq.sampling import incremental as sampling

    drawn, shown = [], []
    sample, compare = sampling.sample_code_grids, panel.compare

    def watch_sample(prior, uniforms, conditions):
        drawn.append(conditions)
        return sample(prior, uniforms, conditions)

    def watch_compare(real, *others):
        shown.append((real, *others))
        return compare(real, *others)

    monkeypatch.setattr(sampling, "sample_code_grids", watch_sample)
    monkeypatch.setattr(panel, "compare", watch_compare)
    assert run(similarity, "--run-dir", copy, "--panel-slices", 2, "--seed", 3) == 0
    opened = open_run(copy)
    slices = opened.test_slices()
    rows = similarity.whole_subjects(slices, np.arange(len(slices.table)), 2, 3)
    assert 0 < len(rows) < len(slices.table)
    ((real, reconstructed, generated, subjects, keys, *_),) = shown
    np.testing.assert_array_equal(drawn[0], opened.conditions(slices, rows))
    np.testing.assert_array_equal(real, slices.images(rows))
    assert list(subjects) == list(slices.table["subject"].iloc[rows])
    assert list(keys) == list(slices.position_keys(rows))
    vqvae = opened.load_vqvae()
    np.testing.assert_allclose(reconstructed, vqvae.decode(vqvae.encode(real)).numpy(), atol=1e-5)
    assert (generated != reconstructed).any()


def test_a_loss_that_is_no_number_ends_training(place, tmp_path, capfd):
    flags = [*train_flags(place), "--run-dir", tmp_path / "run", "--learning-rate", 10]
    flags += ["--epochs", 30, "--warm-up-steps", 60, "--residual-blocks", 12]
    capfd.readouterr()
    assert run(train, *flags) == 2
    assert "finite" in (said := capfd.readouterr().err) or "the loss is nan" in said


def test_the_whole_line_with_a_codebook_learned_by_gradient(place, tmp_path):
    flags = [*train_flags(place), "--run-dir", tmp_path / "run", "--codebook-update", "gradient"]
    assert run(train, *flags) == 0
    assert run(predict, "--run-dir", tmp_path / "run", "--num-samples", 1) == 0
    assert run(similarity, "--run-dir", tmp_path / "run") == 0


def test_similarity_on_a_source_of_another_size(copy, tmp_path, random, capfd):
    for n in range(2):
        pixels = random.integers(0, 255, (60, 130)).astype(np.uint8)
        (tmp_path / "other").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"other/stranger{n}_slice_0.png")
    flags = ["--run-dir", copy, "--dataset", tmp_path / "other", "--split", "all"]
    flags += ["--data-dir", tmp_path / "data", "--output", tmp_path / "out/strangers.json"]
    assert run(similarity, *flags) == 0
    assert json.loads((tmp_path / "out/strangers.json").read_text())["subjects"] == 2
    assert "warning" not in capfd.readouterr().err
    assert not (copy / "similarity.json").exists()


def test_scoring_training_subjects_is_warned_of(copy, place, capfd):
    flags = ["--run-dir", copy, "--split", "all", "--data-dir", place / "data"]
    assert run(similarity, *flags) == 0
    split = pandas.read_csv(copy / "split.csv")
    known = (split["split"] != "test").sum()
    assert f"warning: {known} of these subjects" in capfd.readouterr().err
    assert (copy / "similarity_slices_all.json").is_file()  # beside the run's own report
    assert not (copy / "similarity.json").exists()


def test_the_readme_recipe_loads_the_weights(place, monkeypatch):
    monkeypatch.chdir(place)
    readme = (ROOT / "README.md").read_text()
    (recipe,) = re.findall(r"```python\n(from dataset import \*.*?)```", readme, flags=re.S)
    recipe = recipe.replace("runs/demo", "run")
    names = {}
    exec(recipe, names)  # noqa: S102
    assert names["vqvae_trainer"].quantizer.codebook.shape == (16, 8)
    trained = names["vqvae_trainer"].get_weights()
    for one, other in zip(trained, open_run("run").load_vqvae().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Bad input


@pytest.mark.parametrize("script", ["train", "predict", "similarity"])
def test_help_answers_before_anything_heavy_is_imported(script):
    command = [sys.executable, "-X", "importtime", ROOT / f"{script}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--run-dir" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"numpy", "pandas", "keras", "tensorflow", "matplotlib", "nibabel"}


def test_one_line_is_all_that_stands_on_standard_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/case_1_slice_0.png").write_bytes(b"\x89PNG broken")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--dataset", tmp_path / "in"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
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
    assert said in refused(capfd, train, *base, *flags)
    assert not (tmp_path / "run").exists()


def test_train_never_overwrites_a_run(place, copy, tmp_path, capfd):
    before = (copy / "vqvae.weights.h5").read_bytes()
    flags = [*train_flags(place), "--run-dir", copy]
    said = refused(capfd, train, *flags, "--epochs", 2, "--prior-dilations", 1, 3)
    assert "--epochs 1 there, 2 here; --prior-dilations [1, 2, 4, 8] there, [1, 3] here" in said
    assert "--fresh" in said
    assert "--split-seed 0 there, 3 here; other data (" in refused(
        capfd, train, *flags, "--split-seed", 3
    )
    assert (copy / "vqvae.weights.h5").read_bytes() == before
    shutil.copytree(copy, tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"model_type": "bert"}')
    assert "config.json" in refused(
        capfd, train, *train_flags(place), "--run-dir", tmp_path / "model", "--fresh"
    )
    assert (tmp_path / "model/vqvae.weights.h5").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("kept")
    flags = [*train_flags(place), "--run-dir", tmp_path / "mine", "--fresh"]
    assert "other files" in refused(capfd, train, *flags)
    assert (tmp_path / "mine/thesis.txt").read_text() == "kept"


@pytest.mark.parametrize("module", [predict, similarity])
def test_a_folder_that_is_no_run_is_refused(module, tmp_path, capfd):
    assert "not a run folder" in refused(capfd, module, "--run-dir", tmp_path)


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
    assert name in refused(capfd, module, "--run-dir", copy)
    path.unlink()
    assert str(copy) in refused(capfd, module, "--run-dir", copy)


@pytest.mark.parametrize("name", ["split.csv", "mean_slices.npz", "features.weights.h5"])
def test_similarity_names_what_else_it_misses(name, copy, capfd):
    (copy / name).write_bytes(b"\x00garbage")
    assert name in refused(capfd, similarity, "--run-dir", copy)
    if name.endswith(".npz"):
        np.savez(copy / name, something=np.zeros(3))
    else:
        (copy / name).write_text("a,b\n1,2\n")
    assert name in refused(capfd, similarity, "--run-dir", copy)
    (copy / name).unlink()
    assert name in refused(capfd, similarity, "--run-dir", copy)


@pytest.mark.parametrize(
    "name", ["config.json", "vqvae.weights.h5", "training_codes.npz", "test_slices/slices.npy"]
)
def test_files_from_a_stranger_are_refused_or_loaded_and_nothing_else(name, copy):
    problems, counts = hostile.attack(copy, name, mutations=12, seed=1)
    assert not problems
    assert counts["refused"] >= 12  # by their hashes alone
    assert sum(counts.values()) == 24


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
    read_config(copy).record_prior()
    assert "test_slices" in refused(capfd, similarity, "--run-dir", copy)


def test_a_prior_of_another_vqvae_is_refused(copy, place, tmp_path, capfd):
    flags = [*train_flags(place), "--run-dir", tmp_path / "other", "--seed", 1]
    assert run(train, *flags) == 0
    for name in ("vqvae.weights.h5", "pixelcnn.weights.h5"):
        shutil.copy(tmp_path / "other" / name, copy)
        for module in (predict, similarity):
            assert name in refused(capfd, module, "--run-dir", copy)
        shutil.copy(place / "run" / name, copy)


@pytest.mark.parametrize(
    "flags", [["--temperature", 0], ["--top-p", 1.5], ["--num-samples", 0], ["--seed", -1]]
)
def test_predict_refuses_flags_out_of_range(copy, capfd, flags):
    assert flags[0] in refused(capfd, predict, "--run-dir", copy, *flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--plane", "sagittal"], "--dataset"), (["--slices-per-volume", 0], "at least 1")],
)
def test_similarity_ignores_no_flag(copy, capfd, flags, said):
    assert said in refused(capfd, similarity, "--run-dir", copy, *flags)


def test_what_cannot_be_trained_is_refused_before_a_run_is_touched(place, copy, tmp_path, capfd):
    before = (copy / "vqvae.weights.h5").read_bytes()
    flags = [*train_flags(place), "--run-dir", copy, "--fresh"]
    assert "latents only" in refused(capfd, train, *flags, "--num-embeddings", 60000)
    for name, pixels in (("small", np.full((8, 8), 9)), ("grey", np.full((16, 16), 9))):
        (tmp_path / name).mkdir()
        for n in range(40):
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(tmp_path / name / f"case_{n:03d}_slice_0.png")
        flags[1] = tmp_path / name
        assert str(tmp_path / "data") in refused(
            capfd, train, *flags, "--data-dir", tmp_path / "data"
        )
    assert (copy / "vqvae.weights.h5").read_bytes() == before


def test_similarity_refuses_an_output_that_is_no_report(copy, tmp_path, capfd):
    assert "--output" in refused(capfd, similarity, "--run-dir", copy, "--output", tmp_path)


# Real slices


@pytest.mark.skipif(not REAL.is_dir(), reason="the OASIS-1 slices are not beside the project")
def test_real_slices_are_read_and_split_by_subject(tmp_path):
    from dataset import OASIS, Hyperparameters

    dataset = OASIS(Hyperparameters(dataset=str(REAL)), tmp_path)
    assert dataset.slices.shape == (3060, 176, 176)
    assert dataset.table["subject"].nunique() == 306
    assert dataset.table["age"].between(18, 96).all()
    assert set(dataset.table["index"]) == set(range(90, 100))
    assert 0.08 < dataset.variance() < 0.16
    dataset.require("train", "validation", "test")
