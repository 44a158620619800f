"""The slices of a source made by several processes, each a share of the scans."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dataset
from archive_builder import oasis1_session, phantom, write_archive
from dataset import OASIS, read_shard
from oasisvq.core.errors import DatasetError, HyperparameterError
from oasisvq.core.script import run_script
from hyperparameters import Hyperparameters
from oasisvq.core.locks import one_at_a_time
from oasisvq.data.prepare import Store, prepare
from oasisvq.data.sources.base import WHOLE, Shard

ROOT = Path(__file__).parents[1]
FILES = ("slices.npy", "slices.csv", "dataset.json")


@pytest.fixture
def slices(tmp_path, random):
    """Seven scans of two slices, of mixed sizes, and their sheet."""
    (tmp_path / "slices").mkdir()
    for n in range(7):
        for index in range(2):
            pixels = random.integers(0, 200, (50 + n, 48), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"slices/case_{n:03d}_slice_{index}.png")
    rows = [f"case_{n:03d},{20 + n},F" for n in range(6)]
    (tmp_path / "slices/sheet.csv").write_text("\n".join(["ID,Age,M/F", *rows]))
    return tmp_path / "slices"


@pytest.fixture
def volumes(tmp_path, random):
    """Five volumes, one of them black."""
    import nibabel

    (tmp_path / "volumes").mkdir()
    for n in range(5):
        voxels = random.random((20, 24, 18), np.float32) * (n != 3)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"volumes/head_{n}.nii.gz")
    return tmp_path / "volumes"


def discs(data_dir):
    """Three discs of OASIS-1, of two sessions each, put there by hand."""
    for number in (1, 2, 3):
        of = {}
        for n in (2 * number - 1, 2 * number):
            name = f"OAS1_{n:04d}_MR1"
            of[name] = oasis1_session(name, phantom(number=1), phantom(number=n))
        archive = data_dir / f"oasis_cross-sectional_disc{number}.tar.gz"
        write_archive(archive, f"disc{number}", of)
    (data_dir / "oasis_cross-sectional.csv").write_text("ID,Age\nOAS1_0003_MR1,30\n")


def chosen(source, **options):
    return Hyperparameters(dataset=str(source), **{"max_bad_scans": 0.3} | options)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_shares_are_disjoint_and_all():
    for count in (1, 3, 16):
        shares = [Shard(n + 1, count).of(list(range(10))) for n in range(count)]
        assert sorted(itertools.chain(*shares)) == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("kind", ["slices", "volumes"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_shards_in_any_order_end_with_the_same_bytes(kind, order, tmp_path, request):
    source = request.getfixturevalue(kind)
    whole = contents(prepare(chosen(source), tmp_path / "whole"))
    folders = [prepare(chosen(source), tmp_path / "data", Shard(n, 3)) for n in order]
    assert folders[:2] == [None, None]
    assert contents(folders[2]) == whole
    hidden = [path.name for path in (tmp_path / "data").iterdir() if path != folders[2]]
    assert hidden == [f".{folders[2].name}.mutex"]
    assert prepare(chosen(source), tmp_path / "data", Shard(1, 3)) == folders[2]


def test_the_demo_too(tmp_path):
    few = chosen("demo", demo_subjects=3, slices_per_volume=1)
    whole = contents(prepare(few, tmp_path / "whole"))
    assert prepare(few, tmp_path / "data", Shard(2, 2)) is None
    assert contents(prepare(few, tmp_path / "data", Shard(1, 2))) == whole


def test_of_oasis_a_share_is_of_archives_and_reads_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("OASIS_MIRROR", "http://127.0.0.1:9/data")
    three = chosen("oasis1", discs="1-3", slices_per_volume=2)
    discs(tmp_path / "whole")
    whole = contents(prepare(three, tmp_path / "whole"))
    discs(tmp_path / "data")
    made, add = [], Store.add
    monkeypatch.setattr(Store, "add", lambda s, *a: made.append(a[0]["key"]) or add(s, *a))
    assert prepare(three, tmp_path / "data", Shard(2, 3)) is None
    two = "oasis_cross-sectional_disc2.tar.gz"
    assert made == ["OAS1_0003_MR1", "OAS1_0004_MR1", two]
    assert prepare(three, tmp_path / "data", Shard(3, 3)) is None
    assert contents(prepare(three, tmp_path / "data", Shard(1, 3))) == whole
    assert len(made) == len(set(made)) == 9


def test_what_a_missing_shard_left_is_made_by_a_run_without_one(slices, tmp_path, monkeypatch):
    whole = contents(prepare(chosen(slices), tmp_path / "whole"))
    for n in (1, 3):
        assert prepare(chosen(slices), tmp_path / "data", Shard(n, 3)) is None
    made, add = [], Store.add
    monkeypatch.setattr(Store, "add", lambda s, *a: made.append(a[0]["key"]) or add(s, *a))
    assert contents(OASIS(chosen(slices), tmp_path / "data").folder) == whole
    assert made == ["00000001", "00000004"]


def test_another_number_of_shards_goes_on_from_what_is_made(slices, tmp_path):
    whole = contents(prepare(chosen(slices), tmp_path / "whole"))
    shards = [Shard(1, 3), Shard(2, 3), Shard(1, 2), Shard(6, 7)]  # 0 3 6, 1 4, 2, 5
    *first, last = [prepare(chosen(slices), tmp_path / "data", shard) for shard in shards]
    assert first == [None, None, None]
    assert contents(last) == whole


def test_more_shards_than_scans(slices, tmp_path):
    folders = [prepare(chosen(slices), tmp_path / "data", Shard(n, 9)) for n in range(9, 0, -1)]
    assert folders[:-1] == [None] * 8
    assert contents(folders[-1]) == contents(prepare(chosen(slices), tmp_path / "whole"))


def start(source, data_dir, *flags):
    return subprocess.Popen(
        [sys.executable, ROOT / "dataset.py", "--dataset", source, "--data-dir", data_dir, *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_shards_and_a_whole_run_at_once(slices, tmp_path):
    whole = contents(prepare(chosen(slices, max_bad_scans=0.05), tmp_path / "whole"))
    flags = (["--shard", "1/2"], ["--shard", "2/2"], ["--shard", "2/2"], [])
    at_once = [start(slices, tmp_path / "data", *some) for some in flags]
    ended = [(process.communicate(timeout=120), process.returncode) for process in at_once]
    assert [status for _, status in ended] == [0] * 4, ended
    (folder,) = (tmp_path / "data").glob("slices-*")
    assert contents(folder) == whole
    assert not list((tmp_path / "data").glob("**/*.new"))
    assert not list((tmp_path / "data").glob("*.partial"))


def test_a_killed_shard_goes_on(slices, tmp_path):
    whole = contents(prepare(chosen(slices), tmp_path / "whole"))
    process = start(slices, tmp_path / "data", "--shard", "1/2")
    while process.poll() is None and not list((tmp_path / "data").glob(".*.partial/*.npz")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    folders = [prepare(chosen(slices), tmp_path / "data", Shard(n, 2)) for n in (1, 2)]
    assert folders[0] is None
    assert contents(folders[1]) == whole


def test_a_whole_run_waits_for_shards_at_work(slices, tmp_path):
    assert prepare(chosen(slices), tmp_path / "data", Shard(1, 2)) is None
    (mutex,) = (tmp_path / "data").glob(".slices-*.1-of-2.mutex")
    with one_at_a_time(mutex, "is this test"):  # as if that shard were at work
        process = start(slices, tmp_path / "data")
        said = process.stderr.readline()
        assert "Waiting for another process that prepares a shard" in said
        assert not list((tmp_path / "data").glob("slices-*"))
    assert process.wait(60) == 0
    assert list((tmp_path / "data").glob("slices-*"))
    process.communicate()


def test_bad_scans_of_all_shards_are_counted_together(volumes, tmp_path):
    few = chosen(volumes, max_bad_scans=0.1)
    assert prepare(few, tmp_path / "data", Shard(2, 2)) is None  # one of its two is black
    with pytest.raises(DatasetError, match=r"black.* 1 of 5 scans"):
        prepare(few, tmp_path / "data", Shard(1, 2))


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1", "1/", "/4", "-1/4", "1/0", "1.0/2", ""])
def test_bad_values_are_refused(text):
    with pytest.raises(HyperparameterError, match=f"--shard.* {re.escape(text)}$"):
        read_shard(text)


def test_the_flag(slices, tmp_path, monkeypatch, capfd):
    def run(*flags):
        place = ["--dataset", str(slices), "--data-dir", str(tmp_path / "data")]
        monkeypatch.setattr(sys, "argv", ["dataset.py", *place, *flags])
        try:
            run_script(dataset.main)
        except SystemExit as end:
            return end.code, *capfd.readouterr()
        return 0, *capfd.readouterr()

    status, _, errors = run("--shard", "5/4")
    assert (status, errors.count("\n")) == (2, 1)
    assert not os.path.lexists(tmp_path / "data")
    assert "missing still" in run("--shard", "2/2")[1]
    assert "7 subjects, 14 slices" in run("--shard", "1/2")[1]
    assert "7 subjects, 14 slices" in run("--shard", "2/2")[1]
    assert (read_shard("3/16"), read_shard(None)) == (Shard(3, 16), WHOLE)
