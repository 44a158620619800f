"""What the printed tables say of a report, unknown numbers included."""

import pytest

from oasisvq.evaluation.summary import print_judgement, print_report


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


@pytest.fixture
def judgement():
    failures = {"replayed": 0.01, "glued": 0.2}
    entry = {
        "value": 1.25,
        "floor": 1.0,
        "floor_sd": 0.125,
        "ratio": 1.25,
        "p": 0.04,
        "spread": None,
        "planted": {name: {"p": p} for name, p in failures.items()},
        "caught": ["replayed"],
        "missed": ["glued"],
    }
    blind = {**entry, "caught": [], "missed": list(failures)}
    told = {"error": 6.5, "slope": 0.75}
    bands = [{"ages": "0 to 29", "d": -0.125}, {"ages": "30 to 49", "d": None}]
    return {
        "brains": 500,
        "persons": 28,
        "slices": 280,
        "other_persons": 1,
        "searched": 2490,
        "measures": {"brain_area": entry, "fine_detail": blind},
        "tissue": {
            "bands": bands,
            "slope_ratio": 0.95,
            "spread_ratio": 1.5,
            "real": {"bands": bands[1:], "slope_ratio": None, "spread_ratio": 0.75},
        },
        "predictions": {
            "age": dict.fromkeys(("on_new", "on_real", "trained_on_new"), told),
            "sex": None,
            "cdr": {"on_new": 0.625, "on_real": 0.75, "trained_on_new": 0.5},
        },
        "copies": {
            "copies": 1,
            "half_copies": 3,
            "found": {"mirrored": 0.995},
            "false_alarms": 0.0125,
        },
        "classifier": {"new": {"area": 0.875, "p": 0.001}, "real": {"area": 0.5}},
        "membership": 0.9375,
    }


def test_each_measure_stands_with_its_floor_its_p_and_what_it_misses(judgement, capsys):
    print_judgement(judgement)
    lines = capsys.readouterr().out.splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith("brain area")]
    assert lines[number].split() == ["brain", "area", "1.25", "1", "(0.12)", "1.25", "0.04"]
    assert lines[number + 1].strip() == "misses: glued"
    assert not any(line.startswith("fine detail ") for line in lines)
    assert "left out, they catch no planted failure: fine detail" in lines
    assert "planted failures that no measure catches: glued" in lines
    assert lines[1] == "500 new brains beside 28 real persons (280 slices)"
    assert max(map(len, lines)) <= 100
    text = " ".join(line.strip() for line in lines)
    assert "0 to 29: -0.12, 30 to 49: too few; slope 0.95 and spread 1.50 times" in text
    assert "Cohen's d at 30 to 49: too few; slope unknown and spread 0.75 times theirs" in text
    assert "age told from new brains: 6.5 years, slope 0.75" in text
    assert "cdr told from new brains: 0.625; from real ones: 0.750" in text
    assert "sex told" not in text
    assert "1 new brain of a whole head, 3 of half a head" in text
    assert "1.2% of real slices" in text
    assert "area under the curve 0.875" in text
    assert "curve of 0.938" in text


def test_a_measure_that_catches_nothing_is_named_if_new_brains_are_far_off(judgement, capsys):
    line = "yet by these the new brains are further than real persons are: fine detail"
    print_judgement(judgement)
    assert line in capsys.readouterr().out
    judgement["measures"]["fine_detail"]["p"] = 0.06
    print_judgement(judgement)
    assert "yet" not in capsys.readouterr().out


def test_a_quick_judgement_without_ages_or_a_run_has_less_to_say(judgement, capsys):
    del judgement["classifier"], judgement["membership"]
    judgement["tissue"], judgement["predictions"] = None, dict.fromkeys(("age", "sex", "cdr"))
    print_judgement(judgement)
    printed = capsys.readouterr().out
    for word in ("network", "membership", "told from", "tissue"):
        assert word not in printed


def test_too_few_brains_are_said_to_be_too_few(capsys):
    print_judgement({"brains": 1, "persons": 1, "slices": 2, "reason": "1 new brain is too few"})
    printed = capsys.readouterr().out
    assert "1 new brain beside 1 real person (2 slices)" in printed
    assert "Not judged: 1 new brain is too few" in printed
