"""The files of a report, and the pictures and the table of new brains."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from oasisvq.evaluation.judgement import Brains
from oasisvq.report import files
from oasisvq.report.files import ReportFiles, mix, mixed_names, save_brains


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
    table = groups[0].table.assign(likeness=random.random(20), copy=False)
    return groups, {"brains": table, "rows": random.permutation(20)}


def test_the_closest_new_brains_come_first_above_the_real_ones_that_they_resemble(
    judged, tmp_path, monkeypatch
):
    (new, test, known), shown = judged
    pairs = []
    monkeypatch.setattr(files, "save_pairs", lambda *arguments: pairs.append(arguments))
    report, paths = {}, ReportFiles(tmp_path / "similarity.json", tmp_path)
    pictures = save_brains(report, shown, new, test, known, paths, ("", ""), seed=1)
    ((above, _, below, titles, path, _),) = pairs
    order = np.argsort(-shown["brains"]["likeness"].to_numpy())[:8]
    np.testing.assert_array_equal(above, new.images[order] / 255)
    np.testing.assert_array_equal(below, known.images[shown["rows"][order]] / 255)
    assert titles[0] == f"likeness {shown['brains']['likeness'].max():.3f}"
    assert path == tmp_path / "similarity_closest.png"
    assert len(report["mixed_real"]) == 16
    assert set(pictures.values()) >= {path, paths.figure("samples"), paths.figure("mixed")}
    assert len(pandas.read_csv(paths.brains)) == 20
    assert paths.figure("samples").is_file()
    assert paths.figure("mixed").is_file()


def test_brains_that_were_not_judged_are_shown_alone(judged, tmp_path):
    (new, test, known), _ = judged
    paths = ReportFiles(tmp_path / "similarity.json", tmp_path)
    pictures = save_brains({}, None, new, test, known, paths, ("", ""), seed=1)
    assert list(pictures.values()) == [paths.figure("samples")]
    assert not paths.brains.exists()
