"""The archives of OASIS made into slices: the whole way, with and without a server."""

import json
import signal
import socket
import threading
from functools import partial

import numpy as np
import pytest

from dataset import OASIS
from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.data import acquire, registration
from oasisvq.data.prepare import Store, prepare
from oasisvq.data.sources.archives import Archives
from oasisvq.data.sources.base import Shard
from oasisvq.data.volumes import Volume
from support.archive_builder import oasis1_session, oasis2_session, phantom, unpack, write_archive
from support.processes import HANG
from support.sources import (
    SHEET,
    choose_discs,
    contents,
    serve,
    sessions,
    start_dataset,
    write_disc,
)


@pytest.mark.parametrize(
    ("plane", "shape"), [("axial", (26, 22)), ("coronal", (22, 22)), ("sagittal", (22, 26))]
)
def test_the_phantom_comes_out_upright(data_dir, plane, shape):
    config = choose_discs(plane=plane, slice_range=(0.3, 0.3), slices_per_volume=1)
    dataset = OASIS(config, data_dir)
    assert dataset.image_shape == shape
    assert list(dataset.table["subject"]) == [f"OAS1_{n:04d}" for n in range(1, 7)]
    picture = dataset.slices[0]
    height, width = shape
    row, column = height // 3, width // 3  # in the four quarters, above and below, left and right
    quarters = picture[[row, row, -row, -row], [column, -column, column, -column]].astype(float)
    # 1 + 1 right + 2 front + 4 top: of the low octants of the plane's own axis.
    expected = {"axial": (3, 4, 1, 2), "coronal": (5, 6, 1, 2), "sagittal": (5, 7, 1, 3)}[plane]
    np.testing.assert_allclose(quarters / quarters.max() * max(expected), expected, atol=0.1)


def test_the_sheet_is_joined_and_the_collection_named(data_dir):
    dataset = OASIS(choose_discs(), data_dir)
    assert list(dataset.table["age"][::2]) == [51, 52, 53, 54, 55, 56]
    assert set(dataset.table["source"]) == {"oasis1"}
    assert dataset.table["cdr"].isna().all()
    assert dataset.description["sessions_without_a_row"] == []
    parts = dataset.description["parts"]
    assert parts["oasis_cross-sectional_disc1.tar.gz"]["size"] > 0
    assert len(parts["oasis_cross-sectional_disc2.tar.gz"]["sha256"]) == 64


def test_include_and_exclude_choose_sessions(data_dir):
    some = OASIS(choose_discs(include=("OAS1_000[1-4]*",), exclude=("*_0002_*",)), data_dir)
    assert some.subjects("all") == ["OAS1_0001", "OAS1_0003", "OAS1_0004"]


def test_discs_limit_the_job_and_unpacked_ones_serve_as_well(data_dir):
    packed = prepare(choose_discs(), data_dir)
    assert len(np.load(prepare(choose_discs(discs="2"), data_dir) / "slices.npy")) == 6
    (data_dir / "oasis_cross-sectional_disc2.tar.gz").unlink()
    unpack(data_dir / "by hand/disc2", sessions([4, 5, 6]))
    unpacked = prepare(choose_discs(), data_dir)
    assert unpacked != packed
    assert (unpacked / "slices.npy").read_bytes() == (packed / "slices.npy").read_bytes()
    assert (unpacked / "slices.csv").read_bytes() == (packed / "slices.csv").read_bytes()


def test_sessions_unpacked_without_their_discs_are_the_whole_job(tmp_path, capsys):
    unpack(tmp_path / "data/mine", sessions([1, 2]))
    dataset = OASIS(choose_discs(discs=""), tmp_path / "data")
    assert len(dataset.table) == 4
    assert "2 sessions" not in capsys.readouterr().out  # there is no sheet to miss a row in
    assert dataset.description["sheets"] == {}


def test_a_disc_that_is_nowhere_is_named_with_the_remedy(data_dir, monkeypatch):
    monkeypatch.setattr(acquire, "download", partial(acquire.download, retries=0))
    with pytest.raises(DownloadError, match=r"disc3\.tar\.gz.*by hand.*--discs"):
        prepare(choose_discs(discs="1-3"), data_dir)
    with pytest.raises(DatasetError, match="--discs"):
        prepare(choose_discs(discs="13"), data_dir)


def test_oasis2_is_averaged_and_brought_to_the_atlas(tmp_path, monkeypatch):
    head = phantom((24, 30, 26))
    files = oasis2_session([head, head, head])
    archive = tmp_path / "data/OAS2_RAW_PART1.tar.gz"
    write_archive(archive, "OAS2_RAW_PART1", {"OAS2_0001_MR1": files, "OAS2_0001_MR2": files})
    (tmp_path / "data/oasis_longitudinal.csv").write_text("MRI ID,Age\nOAS2_0001_MR2,88\n")
    calls = []

    def to_atlas(volume, name, scaling):
        calls.append((name, scaling))
        return Volume(np.full((176, 208, 176), 7, np.float32), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    monkeypatch.setattr(registration, "to_atlas", to_atlas)
    monkeypatch.setattr(
        registration, "average_repeats", lambda volumes, names: (volumes[0], names[1:])
    )
    for kind, masked in (("t88_masked_gfc", True), ("t88_gfc", False), ("raw", False)):
        config = choose_discs(dataset="oasis2", discs="1", oasis1_image=kind)
        dataset = OASIS(config, tmp_path / "data")
        assert dataset.image_shape == (208, 176)
        assert (dataset.slices[0] == 0).any() == masked
        assert list(dataset.table["age"].fillna(0)) == [0, 0, 88, 88]
        assert len(dataset.description["notes"]["OAS2_0001_MR1"]) == 2
        assert dataset.description["sessions_without_a_row"] == ["OAS2_0001_MR1"]
    scalings = [{scaling for _, scaling in calls[n : n + 2]} for n in (0, 2, 4)]
    assert scalings == [{True}, {True}, {False}]  # the two sessions are worked on at once


def test_discs_are_downloaded_while_earlier_ones_are_sliced(tmp_path, monkeypatch, capsys):
    for number in (2, 3):
        write_disc(tmp_path / "server", number, sessions([number]))
    serve(tmp_path / "server", monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/oasis_cross-sectional.csv").write_text(SHEET)
    write_disc(tmp_path / "data", 1, sessions([1]))
    acquire.say_terms.cache_clear()
    fetched, scan, fetch = threading.Event(), Archives._scan, acquire.download

    def waiting_scan(self, *arguments):
        assert fetched.wait(HANG)  # the first disc is sliced only once the others are there
        return scan(self, *arguments)

    def telling_fetch(url, *arguments, **options):
        fetch(url, *arguments, **options)
        if "disc3" in url:
            fetched.set()

    monkeypatch.setattr(Archives, "_scan", waiting_scan)
    monkeypatch.setattr(acquire, "download", telling_fetch)
    folder = prepare(choose_discs(discs="1-3"), tmp_path / "data")
    assert len(np.load(folder / "slices.npy")) == 6
    printed = capsys.readouterr().out
    for part in ("To fetch: http://127.0.0.1", "GB free", "identify", "D. Marcus", "disc2"):
        assert part in printed
    assert "disc1.tar.gz (" not in printed  # it was there
    lock = json.loads((tmp_path / "data/oasis_cross-sectional_disc2.tar.gz.lock").read_text())
    assert lock["size"] == (tmp_path / "server/oasis_cross-sectional_disc2.tar.gz").stat().st_size
    again = prepare(choose_discs(discs="1-3"), tmp_path / "data")
    assert again == folder  # where an archive came from makes no difference
    assert "To fetch" not in capsys.readouterr().out


def test_an_interrupt_does_not_wait_for_a_server_that_hangs(data_dir):
    server = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    process = start_dataset("oasis1", data_dir, "--discs", "1-3", mirror=address)
    connections = [server.accept() for _ in range(2)]  # how large it is; the file
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANG)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "dataset.py: error: interrupted")
    assert len(connections) == 2


class Usage:
    free = 1e9


def test_a_full_disk_is_said_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(acquire.shutil, "disk_usage", lambda place: Usage())
    with pytest.raises(DatasetError, match=r"GB to fetch, but only 1\.0 GB are free.*--discs"):
        prepare(choose_discs(), tmp_path / "data")


def test_two_images_where_one_is_expected_are_a_bad_scan(data_dir):
    both = oasis1_session("OAS1_0007_MR1", phantom(), count=3) | oasis1_session(
        "OAS1_0007_MR1", phantom(), count=4
    )
    write_disc(data_dir, 2, {"OAS1_0007_MR1": both})
    dataset = OASIS(choose_discs(max_bad_scans=0.3), data_dir)
    (problem,) = dataset.description["bad_scans"].values()
    assert "n3" in problem
    assert "n4" in problem


def write_discs(data_dir):
    """Writes three discs of OASIS-1, of two sessions each, as put there by hand."""
    for number in (1, 2, 3):
        write_disc(data_dir, number, sessions([2 * number - 1, 2 * number]))
    (data_dir / "oasis_cross-sectional.csv").write_text("ID,Age\nOAS1_0003_MR1,30\n")


def test_of_oasis_a_share_is_of_archives_and_reads_no_other(tmp_path, monkeypatch):
    three = choose_discs(discs="1-3")
    write_discs(tmp_path / "whole")
    whole = contents(prepare(three, tmp_path / "whole"))
    write_discs(tmp_path / "data")
    made, add = [], Store.add
    monkeypatch.setattr(Store, "add", lambda s, *a: made.append(a[0]["key"]) or add(s, *a))
    assert prepare(three, tmp_path / "data", Shard(2, 3)) is None
    two = "oasis_cross-sectional_disc2.tar.gz"
    assert made == ["OAS1_0003_MR1", "OAS1_0004_MR1", two]
    assert prepare(three, tmp_path / "data", Shard(3, 3)) is None
    assert contents(prepare(three, tmp_path / "data", Shard(1, 3))) == whole
    assert len(made) == len(set(made)) == 9
