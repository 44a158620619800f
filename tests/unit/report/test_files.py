"""The files of a report, and the pictures and the table of new brains."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from oasisvq.core.intensities import as_floats
from oasisvq.evaluation.judgement import Brains
from oasisvq.report import files
from oasisvq.report.files import (
    ReportFiles,
    mix,
    mixed_names,
    pictures_of_brains,
    report_on,
    save_brains,
)


def test_all_files_bear_the_name_of_the_report():
    own = ReportFiles(Path("run/similarity.json"), Path("run/figures"))
    assert own.figure("closest") == Path("run/figures/similarity_closest.png")
    assert own.slices == Path("run/similarity.csv")
    assert own.brains == Path("run/similarity_brains.csv")
    assert own.page == Path("run/report.html")
    assert ReportFiles(Path("out/others.json"), Path("out")).page == Path("out/others.html")


def test_half_of_the_mixed_slices_are_real_and_their_names_say_which(random):
    new, real = np.full((9, 2, 3), 51, np.uint8), np.full((7, 2, 3), 204, np.uint8)
    new += np.arange(9, dtype=np.uint8)[:, None, None]
    real += np.arange(7, dtype=np.uint8)[:, None, None]
    mixed, names = mix(new, real, 10, random)
    assert mixed.shape == (10, 2, 3)
    is_real = mixed[:, 0, 0] > 0.5
    assert is_real.sum() == 5
    assert names == [name for name, one in zip(mixed_names(10), is_real, strict=True) if one]
    assert len(np.unique(mixed[:, 0, 0])) == 10  # none is shown twice
    assert mixed_names(10)[:9] == [*(f"A{n}" for n in range(1, 9)), "B1"]


@pytest.fixture
def judged(random):
    """Returns new, real and known brains of 20 slices each, and what the judge says of them."""
    groups = []
    for name in ("new", "real", "known"):
        images = random.integers(0, 255, (20, 24, 16)).astype(np.uint8)
        groups.append(
            Brains(images, pandas.DataFrame({"subject": [f"{name} {n}" for n in range(20)]}))
        )
    table = groups[0].table.assign(likeness=random.random(20), copy="")
    return groups, {"brains": table, "rows": random.permutation(20)}


def test_the_closest_new_brains_come_first_above_the_real_ones_that_they_resemble(
    judged, tmp_path, monkeypatch
):
    (new, test, known), shown = judged
    pairs = []
    monkeypatch.setattr(files, "save_pairs", lambda *arguments: pairs.append(arguments))
    report, paths = {}, ReportFiles(tmp_path / "similarity.json", tmp_path)
    save_brains(report, shown, new, test, known, paths, ("", ""), seed=1)
    ((above, _, below, titles, path, _),) = pairs
    order = np.argsort(-shown["brains"]["likeness"].to_numpy())[:8]
    np.testing.assert_array_equal(above, as_floats(new.images[order]))
    np.testing.assert_array_equal(below, as_floats(known.images[shown["rows"][order]]))
    assert titles[0] == f"likeness {shown['brains']['likeness'].max():.3f}"
    assert path == tmp_path / "similarity_closest.png"
    assert len(report["mixed_real"]) == 16
    pictures = pictures_of_brains(report, paths)
    assert list(pictures.values()) == [paths.figure("samples"), paths.figure("mixed")]
    path.touch()  # a picture that is there is shown
    assert path in pictures_of_brains(report, paths).values()
    assert len(pandas.read_csv(paths.brains)) == 20
    assert paths.figure("samples").is_file()
    assert paths.figure("mixed").is_file()


def test_brains_that_were_not_judged_are_shown_alone(judged, tmp_path):
    (new, test, known), _ = judged
    paths = ReportFiles(tmp_path / "similarity.json", tmp_path)
    save_brains({}, None, new, test, known, paths, ("", ""), seed=1)
    assert list(pictures_of_brains({}, paths).values()) == [paths.figure("samples")]
    assert not paths.brains.exists()


def test_copies_are_shown_before_all_others(judged, tmp_path, monkeypatch):
    (new, test, known), shown = judged
    shown["brains"].loc[[3, 7], "copy"] = ["half", "whole"]
    shown["brains"].loc[[3, 7], "likeness"] = [-0.5, -0.25]  # less than all others
    pairs = []
    monkeypatch.setattr(files, "save_pairs", lambda *arguments: pairs.append(arguments))
    paths = ReportFiles(tmp_path / "similarity.json", tmp_path)
    save_brains({}, shown, new, test, known, paths, ("", ""), seed=1)
    ((above, _, _, titles, *_),) = pairs
    np.testing.assert_array_equal(above[:2], as_floats(new.images[[7, 3]]))
    assert titles[:2] == ["copy -0.250", "half a copy -0.500"]
    assert titles[2].startswith("likeness")


def test_a_report_does_not_take_the_place_of_one_on_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = Path("first/brains"), Path("second/brains")
    assert report_on(first) == Path("runs/judged_brains/similarity.json")
    for folder, name in ((first, "judged_brains"), (second, "judged_brains_2")):
        path = report_on(folder)
        assert path == Path("runs") / name / "similarity.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"generated": str(folder)}))
    assert report_on(first) == report_on(tmp_path / "first/brains")
    assert report_on(first).parent.name == "judged_brains"
    assert report_on(Path("third/brains")).parent.name == "judged_brains_3"
    report_on(first).write_text("no report")  # nothing is lost
    assert report_on(first).parent.name == "judged_brains_3"


def test_of_a_brain_of_many_slices_only_the_closest_is_shown(judged, tmp_path, monkeypatch):
    (new, test, known), shown = judged
    shown["brains"]["subject"] = np.repeat(["a", "b", "c", "d"], 5)
    pairs = []
    monkeypatch.setattr(files, "save_pairs", lambda *arguments: pairs.append(arguments))
    paths = ReportFiles(tmp_path / "similarity.json", tmp_path)
    save_brains({}, shown, new, test, known, paths, ("", ""), seed=1)
    ((above, *_),) = pairs
    best = shown["brains"].groupby("subject")["likeness"].max().sort_values(ascending=False)
    order = [shown["brains"]["likeness"].eq(value).idxmax() for value in best]
    np.testing.assert_array_equal(above, as_floats(new.images[order]))
