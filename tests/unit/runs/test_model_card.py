"""The model card of a run, with scores and without."""

import json

import pytest

from hyperparameters import Hyperparameters
from oasisvq.data.oasis import COLLECTIONS
from oasisvq.runs.folder import Run
from oasisvq.runs.model_card import write_model_card

INTERVAL = {"mean": 0.91239, "low": 0.9, "high": 0.92}
ALONE = {"mean": 0.91239, "low": None, "high": None}  # of a single test subject
UNKNOWN = {"mean": None, "low": None, "high": None}


@pytest.fixture
def run(tmp_path):
    """Returns a run whose stages are done, with a bar in one of its flags."""
    hyperparameters = Hyperparameters().replace(subject_pattern="(?P<subject>a|b)", seed=7)
    run = Run(tmp_path, hyperparameters, (96, 80), 0.1, {"source": "slices", "train subjects": 9})
    run.save()
    run.record_stage("vqvae", 1.5, 2e9, epochs=24)
    return run


def write_report(run, interval):
    report = {
        "subjects": 1,
        "slices": 2,
        "reconstruction": dict.fromkeys(("ssim", "ssim_brain", "psnr"), interval),
        "baselines": {"mean_slice": {"ssim": interval}},
        "prior": {"bits_per_code_interval": interval, "bits_per_pixel": 0.18912},
    }
    (run.folder / "similarity.json").write_text(json.dumps(report))


def read_card(run):
    """Returns the lines of the card that is written."""
    write_model_card(run)
    return (run.folder / "model_card.md").read_text().splitlines()


def test_it_says_what_the_run_is_and_what_it_took(run):
    lines = read_card(run)
    assert lines[0] == "# slices: VQ-VAE and prior by OASISVQ"
    assert "96x80 pixels" in lines[2]
    assert "| train subjects | 9 |" in lines
    assert "| vqvae | epochs 24, minutes 1.5, peak memory gb 2 |" in lines
    assert "| --seed | 7 |" in lines
    assert "| --slice-range | 0.4 0.6 |" in lines
    assert any(line.startswith("| tensorflow | 2.") for line in lines)
    assert "None yet: similarity.py adds them." in lines


def test_a_bar_in_a_value_does_not_break_the_table(run):
    assert "| --subject-pattern | (?P<subject>a\\|b) |" in read_card(run)


def test_an_empty_value_is_named(run):
    assert "| --discs | (none) |" in read_card(run)


def test_scores_stand_with_their_intervals(run):
    write_report(run, INTERVAL)
    lines = read_card(run)
    assert "| of | 1 test subject, 2 slices |" in lines
    for name in ("ssim", "psnr", "no model: the mean training slice, ssim", "prior, bits per code"):
        assert f"| {name} | 0.9124 [0.9, 0.92] |" in lines
    assert "| prior, bits per pixel | 0.1891 |" in lines


@pytest.mark.parametrize(("interval", "text"), [(ALONE, "0.9124"), (UNKNOWN, "-")])
def test_scores_of_one_test_subject_stand_without_intervals(run, interval, text):
    write_report(run, interval)
    lines = read_card(run)
    for name in ("ssim", "ssim_brain", "prior, bits per code"):
        assert f"| {name} | {text} |" in lines


def test_it_thanks_every_source_of_the_data(run):
    card = "\n".join(read_card(run))
    for part in COLLECTIONS["oasis"]:
        assert part.acknowledgement in card
