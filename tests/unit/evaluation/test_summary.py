"""What the printed tables say of a report, unknown numbers included."""

import pytest

from oasisvq.evaluation.summary import print_panel, print_report


def interval(mean, low=None, high=None):
    return {"mean": mean, "low": low, "high": high}


@pytest.fixture
def report():
    scores = {"ssim": interval(0.91, 0.9, 0.92), "psnr": interval(31.25, 30.5, 32.0)}
    mean_slice = {"ssim": interval(0.55), "psnr": interval(None)}
    return {
        "source": "slices",
        "split": "test",
        "subjects": 3,
        "slices": 1234,
        "reconstruction": scores,
        "baselines": {"mean_slice": mean_slice},
        "codebook": {"size": 16, "usage": 0.5, "perplexity": 7.25, "perplexity_brain": 9.5},
        "prior": {
            "bits_per_code": 2.5,
            "bits_per_pixel": 0.1875,
            "bits_per_code_by_position": 3.25,
            "bits_per_code_uniform": 4.0,
        },
        "refitted": 0,
        "mean_slice_positions_known": 0.75,
    }


def test_scores_stand_with_their_intervals_and_unknown_ones_without(report, capsys):
    print_report(report)
    printed = capsys.readouterr().out
    assert "slices, split test: 3 subjects, 1,234 slices" in printed
    assert "0.9100 [0.9000, 0.9200]" in printed
    assert "31.25 [30.50, 32.00]" in printed
    lines = printed.splitlines()
    assert max(map(len, lines[:4])) <= 100
    (line,) = [line for line in lines if line.startswith("psnr")]
    assert line.split() == ["psnr", "31.25", "[30.50,", "32.00]", "-"]
    assert "of another size" not in printed
    assert 'training slice, which shows no subject at all, has 0.550: "fair"' in printed
    print_report({**report, "refitted": 7})
    assert "7 slices of another size" in capsys.readouterr().out


@pytest.mark.parametrize(("mean", "verdict"), [(0.7, "good"), (0.5, "fair"), (0.49, "poor")])
def test_the_mean_slice_is_read_as_usual(report, capsys, mean, verdict):
    report["baselines"]["mean_slice"]["ssim"]["mean"] = mean
    print_report(report)
    assert f'"{verdict}"' in capsys.readouterr().out


def panel(**changes):
    columns = ("floor", "reconstructed", "generated", "glued")
    measure = {name: {"mean": n + 0.5, "sd": 0.25} for n, name in enumerate(columns)}
    return {
        "slices": 40,
        "subjects": 4,
        "halvings": 20,
        "diversity_score": "ssim",
        "training_slices": 100,
        "coverage": {
            **measure,
            "ratio": None,
            "above_floor": 0.35,
            "slices_a_side": 20.0,
            "reason": None,
        },
        "density": {"floor": {"mean": None}, "reason": "needs 5 real slices"},
        "network_skill": {"age": 0.5, "sex": None},
        "memorisation": {
            "generated_median": 0.12,
            "test_median": 0.125,
            "closer_p": 0.5,
            "copies": 2,
            "copy_distance": 0.0625,
        },
        **changes,
    }


def test_measures_stand_beside_their_floor_or_their_reason(capsys):
    print_panel(panel())
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("coverage")]
    assert line.split()[:4] == ["coverage", "(20)", "0.500", "(0.250)"]
    assert line.endswith("above 35%")
    assert max(map(len, printed.splitlines()[:6])) <= 100
    assert "needs 5 real slices" in printed
    assert "age (0.50), sex (unknown)" in printed
    assert "2 copies, closer than 0.0625" in printed


def test_copies_that_cannot_be_told_are_not_counted(capsys):
    found = {**panel()["memorisation"], "copies": None, "copy_distance": None}
    print_panel(panel(memorisation=found))
    assert "copies cannot be recognised" in capsys.readouterr().out
