"""The archives of OASIS made into slices: the whole way, interrupted, twice at once, damaged."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from oasisvq.data import prepare as preparation
from oasisvq.data.sources import base as sources
from oasisvq.data import acquire as supply
from archive_builder import oasis1_session, oasis2_session, phantom, unpack, write_archive
from dataset import OASIS
from oasisvq.core.errors import ArchiveError, DatasetError, DownloadError
from hyperparameters import Hyperparameters
from oasisvq.data.prepare import Store, prepare
from oasisvq.data.volumes import Volume

ROOT = Path(__file__).parents[1]
FILES = ("slices.npy", "slices.csv", "dataset.json")
SHEET = "ID,M/F,Age,CDR\n" + "".join(f"OAS1_{n:04d}_MR1,F,{50 + n},\n" for n in range(1, 9))


def sessions(numbers, brain=True):
    names = [f"OAS1_{n:04d}_MR1" for n in numbers]
    return {
        name: oasis1_session(name, phantom(number=1), phantom(number=n + 1) * brain)
        for n, name in zip(numbers, names, strict=True)
    }


def disc(data_dir, number, of, name="oasis_cross-sectional_disc{}.tar.gz"):
    return write_archive(data_dir / name.format(number), f"disc{number}", of)


@pytest.fixture
def data_dir(tmp_path):
    """Two discs of three sessions each, put there by hand, and their sheet."""
    disc(tmp_path / "data", 1, sessions([1, 2, 3]))
    disc(tmp_path / "data", 2, sessions([4, 5, 6]))
    (tmp_path / "data/oasis_cross-sectional.csv").write_text(SHEET)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Nothing listens there: what is not at hand cannot be had, and no test leaves loopback."""
    monkeypatch.setenv("OASIS_MIRROR", "http://127.0.0.1:9/data")


def chosen(**options):
    return Hyperparameters(
        **{"dataset": "oasis1", "discs": "1,2", "slices_per_volume": 2} | options
    )


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


# The whole way


@pytest.mark.parametrize(
    ("plane", "shape"), [("axial", (26, 22)), ("coronal", (22, 22)), ("sagittal", (22, 26))]
)
def test_the_phantom_comes_out_upright(data_dir, plane, shape):
    dataset = OASIS(chosen(plane=plane, slice_range=(0.3, 0.3), slices_per_volume=1), data_dir)
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
    dataset = OASIS(chosen(), data_dir)
    assert list(dataset.table["age"][::2]) == [51, 52, 53, 54, 55, 56]
    assert set(dataset.table["source"]) == {"oasis1"}
    assert dataset.table["cdr"].isna().all()
    assert dataset.description["sessions_without_a_row"] == []
    parts = dataset.description["parts"]
    assert parts["oasis_cross-sectional_disc1.tar.gz"]["size"] > 0
    assert len(parts["oasis_cross-sectional_disc2.tar.gz"]["sha256"]) == 64


def test_discs_limit_the_job_and_unpacked_ones_serve_as_well(data_dir):
    packed = prepare(chosen(), data_dir)
    assert len(np.load(prepare(chosen(discs="2"), data_dir) / "slices.npy")) == 6
    (data_dir / "oasis_cross-sectional_disc2.tar.gz").unlink()
    unpack(data_dir / "by hand/disc2", sessions([4, 5, 6]))
    unpacked = prepare(chosen(), data_dir)
    assert unpacked != packed
    assert (unpacked / "slices.npy").read_bytes() == (packed / "slices.npy").read_bytes()
    assert (unpacked / "slices.csv").read_bytes() == (packed / "slices.csv").read_bytes()


def test_sessions_unpacked_without_their_discs_are_the_whole_job(tmp_path, capsys):
    unpack(tmp_path / "data/mine", sessions([1, 2]))
    dataset = OASIS(chosen(discs=""), tmp_path / "data")
    assert len(dataset.table) == 4
    assert "2 sessions" not in capsys.readouterr().out  # there is no sheet to miss a row in
    assert dataset.description["sheets"] == {}


def test_a_disc_that_is_nowhere_is_named_with_the_remedy(data_dir, monkeypatch):
    monkeypatch.setattr(supply, "download", partial(supply.download, retries=0))
    with pytest.raises(DownloadError, match=r"disc3\.tar\.gz.*by hand.*--discs"):
        prepare(chosen(discs="1-3"), data_dir)
    with pytest.raises(DatasetError, match="--discs"):
        prepare(chosen(discs="13"), data_dir)


def test_oasis2_is_averaged_and_brought_to_the_atlas(tmp_path, monkeypatch):
    head = phantom((24, 30, 26))
    files = oasis2_session([head, head, head])
    archive = tmp_path / "data/OAS2_RAW_PART1.tar.gz"
    write_archive(archive, "OAS2_RAW_PART1", {"OAS2_0001_MR1": files, "OAS2_0001_MR2": files})
    (tmp_path / "data/oasis_longitudinal.csv").write_text("MRI ID,Age\nOAS2_0001_MR2,88\n")
    asked = []

    def to_atlas(volume, name, scaling):
        asked.append((name, scaling))
        return Volume(np.full((176, 208, 176), 7, np.float32), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    monkeypatch.setattr(sources, "to_atlas", to_atlas)
    monkeypatch.setattr(sources, "average_repeats", lambda volumes, names: (volumes[0], names[1:]))
    for kind, masked in (("t88_masked_gfc", True), ("t88_gfc", False), ("raw", False)):
        dataset = OASIS(chosen(dataset="oasis2", discs="1", oasis1_image=kind), tmp_path / "data")
        assert dataset.image_shape == (208, 176)
        assert (dataset.slices[0] == 0).any() == masked
        assert list(dataset.table["age"].fillna(0)) == [0, 0, 88, 88]
        assert len(dataset.description["notes"]["OAS2_0001_MR1"]) == 2
        assert dataset.description["sessions_without_a_row"] == ["OAS2_0001_MR1"]
    scalings = [{scaling for _, scaling in asked[n : n + 2]} for n in (0, 2, 4)]
    assert scalings == [{True}, {True}, {False}]  # the two sessions are worked on at once


def test_discs_are_downloaded_while_earlier_ones_are_sliced(tmp_path, monkeypatch, capsys):
    for number in (2, 3):
        disc(tmp_path / "server", number, sessions([number]))
    serve(tmp_path / "server", monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/oasis_cross-sectional.csv").write_text(SHEET)
    disc(tmp_path / "data", 1, sessions([1]))
    supply.say_terms.cache_clear()
    fetched, scan, fetch = threading.Event(), sources._Archives._scan, supply.download

    def waiting_scan(self, session, **arguments):
        assert fetched.wait(30)  # the first disc is sliced only once the others are there
        return scan(self, session, **arguments)

    def telling_fetch(url, *arguments, **options):
        fetch(url, *arguments, **options)
        if "disc3" in url:
            fetched.set()

    monkeypatch.setattr(sources._Archives, "_scan", waiting_scan)
    monkeypatch.setattr(supply, "download", telling_fetch)
    folder = prepare(chosen(discs="1-3"), tmp_path / "data")
    assert len(np.load(folder / "slices.npy")) == 6
    said = capsys.readouterr().out
    for part in ("To fetch: http://127.0.0.1", "GB free", "identify", "D. Marcus", "disc2"):
        assert part in said
    assert "disc1.tar.gz (" not in said  # it was there
    lock = json.loads((tmp_path / "data/oasis_cross-sectional_disc2.tar.gz.lock").read_text())
    assert lock["size"] == (tmp_path / "server/oasis_cross-sectional_disc2.tar.gz").stat().st_size
    again = prepare(chosen(discs="1-3"), tmp_path / "data")
    assert again == folder  # where an archive came from makes no difference
    assert "To fetch" not in capsys.readouterr().out


def serve(folder, monkeypatch):
    handler = partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OASIS_MIRROR", f"http://127.0.0.1:{server.server_port}")


def test_a_sheet_that_comes_later_is_joined_without_slicing_again(data_dir, monkeypatch, capsys):
    (data_dir / "oasis_cross-sectional.csv").rename(data_dir / "away.csv")
    monkeypatch.setattr(supply, "download", partial(supply.download, retries=0))
    first = OASIS(chosen(), data_dir)
    assert first.table["age"].isna().all()
    assert "age, sex and CDR stay unknown" in capsys.readouterr().err
    stamp = (first.folder / "slices.npy").stat().st_mtime_ns
    assert OASIS(chosen(), data_dir).folder == first.folder
    assert capsys.readouterr().err == ""  # the server is not asked again
    (data_dir / "away.csv").rename(data_dir / "oasis_cross-sectional.csv")
    later = OASIS(chosen(), data_dir)
    assert list(later.table["age"][::2]) == [51, 52, 53, 54, 55, 56]
    assert (later.folder / "slices.npy").stat().st_mtime_ns == stamp
    assert list(later.description["sheets"]) == ["oasis_cross-sectional.csv"]


def test_an_interrupt_does_not_wait_for_a_server_that_hangs(data_dir):
    server = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    process = start(data_dir, discs="1-3", OASIS_MIRROR=address)
    connections = [server.accept() for _ in range(2)]  # how large it is; the file
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert (process.returncode, errors.splitlines()[-1]) == (130, "dataset.py: error: interrupted")
    assert len(connections) == 2


def test_no_more_scans_are_at_work_than_cores():
    at_work, most, lock = 0, 0, threading.Lock()
    taken = []

    def work(item):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1
        return item

    cores = min(os.cpu_count(), sources.MOST_THREADS)
    for result in sources._in_parallel(work, (taken.append(n) or n for n in range(30))):
        assert len(taken) - result <= cores + 1  # nor is more of the archive in memory
    assert most <= cores
    assert taken == list(range(30))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_full_disk_is_said_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(supply.shutil, "disk_usage", lambda place: Usage())
    with pytest.raises(DatasetError, match=r"GB are to be fetched, 1\.0 GB are free.*--discs"):
        prepare(chosen(), tmp_path / "data")


class Usage:
    free = 1e9


# Interrupted


def test_what_was_interrupted_goes_on_and_ends_the_same(data_dir, tmp_path, monkeypatch):
    whole = contents(prepare(chosen(), data_dir))
    add, steps = Store.add, 8  # six sessions and two archives
    for stop in range(steps):
        (tmp_path / f"{stop}").mkdir()
        for path in data_dir.glob("oasis_*"):
            (tmp_path / f"{stop}" / path.name).symlink_to(path)
        read = []

        def interrupted(self, *arguments, stop=stop, read=read):
            if len(read) == stop:
                raise KeyboardInterrupt
            read.append(arguments[0]["key"])
            add(self, *arguments)

        monkeypatch.setattr(Store, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(chosen(), tmp_path / f"{stop}")
        again = []
        monkeypatch.setattr(
            Store, "add", lambda self, *a, again=again: again.append(a[0]["key"]) or add(self, *a)
        )
        assert contents(prepare(chosen(), tmp_path / f"{stop}")) == whole
        assert len(again) == steps - stop  # nothing was done twice
        assert not set(again) & set(read)
        assert not list((tmp_path / f"{stop}").glob("*.partial"))


def test_interrupted_while_putting_together(data_dir, monkeypatch):
    whole = contents(prepare(chosen(), data_dir))
    (folder,) = data_dir.glob("oasis1-*")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with monkeypatch.context() as patched:
        patched.setattr(preparation, "_summarise", lambda description: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(chosen(), data_dir)
    assert not folder.exists()
    assert contents(prepare(chosen(), data_dir)) == whole


def start(data_dir, discs="1,2", **environment):
    flags = ["--dataset", "oasis1", "--discs", discs, "--slices-per-volume", "2"]
    return subprocess.Popen(
        [sys.executable, ROOT / "dataset.py", *flags, "--data-dir", data_dir],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment,
        # A job that a shell starts in the background ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_a_killed_job_goes_on_and_two_at_once_make_one(data_dir, tmp_path):
    whole = contents(prepare(chosen(), data_dir))
    other = tmp_path / "other"
    other.mkdir()
    for number in (1, 2):
        disc(other, number, sessions(range(3 * number - 2, 3 * number + 1)))
    (other / "oasis_cross-sectional.csv").write_text(SHEET)
    for records in (1, 4):
        process = start(other)
        while process.poll() is None and len(list(other.glob(".*.partial/*.npz"))) < records:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    both = [start(other), start(other)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert [status for _, status in ended] == [0, 0], ended
    (folder,) = other.glob("oasis1-*")
    assert contents(folder) == whole
    assert not list(other.glob("**/*.new"))


# Damaged


def test_a_bad_scan_is_left_out_and_named(data_dir, capsys):
    broken = sessions([4, 5, 6])
    for path in broken["OAS1_0005_MR1"]:
        if "masked_gfc.img" in path:
            broken["OAS1_0005_MR1"][path] = b"short"
    broken["OAS1_0006_MR1"] = oasis1_session("OAS1_0006_MR1", phantom(), phantom() * 0)
    disc(data_dir, 2, broken)
    with pytest.raises(DatasetError, match=r"OAS1_0005_MR1.* 2 of 6 scans.*--max-bad-scans"):
        prepare(chosen(), data_dir)
    dataset = OASIS(chosen(max_bad_scans=0.5), data_dir)
    assert len(dataset.subjects("all")) == 4
    assert set(dataset.description["bad_scans"]) == {"OAS1_0005_MR1", "OAS1_0006_MR1"}
    said = capsys.readouterr().out
    assert "Left out: 2" in said
    assert "OAS1_0006_MR1: " in said.replace(" MR1", "_MR1")


def test_all_scans_bad_is_an_error_whatever_is_allowed(data_dir):
    for number in (1, 2):
        disc(data_dir, number, sessions([number], brain=False))
    with pytest.raises(DatasetError, match="2 of 2 scans"):
        prepare(chosen(max_bad_scans=1.0), data_dir)


def test_a_job_whose_first_scans_are_all_bad_stops_early(tmp_path, monkeypatch):
    disc(tmp_path, 1, sessions(range(1, 40)))
    (tmp_path / "oasis_cross-sectional.csv").write_text(SHEET)
    with pytest.raises(DatasetError, match=r"--slice-range.* 20 of 20 scans"):
        prepare(chosen(discs="1", slice_unit="mm", slice_range=(90.0, 99.0)), tmp_path)


def mend(data_dir, number, of):
    """Another archive in the place of one, as someone puts it there who knows of the lock."""
    path = disc(data_dir, number, of)
    path.with_name(f"{path.name}.lock").unlink()


def test_once_the_archive_is_replaced_bad_scans_are_tried_again(data_dir):
    disc(data_dir, 2, sessions([4, 5, 6], brain=False))
    with pytest.raises(DatasetError, match="3 of 6 scans"):
        prepare(chosen(), data_dir)
    disc(data_dir, 2, sessions([4, 5, 6]))
    with pytest.raises(DownloadError, match=r"disc2\.tar\.gz.*SHA-256.*lock"):
        prepare(chosen(), data_dir)  # another archive than before: the user should know
    mend(data_dir, 2, sessions([4, 5, 6]))
    assert len(np.load(prepare(chosen(), data_dir) / "slices.npy")) == 12


def test_slices_of_an_archive_that_was_replaced_are_not_kept(data_dir, tmp_path, monkeypatch):
    before, after = sessions([1, 2, 3]), sessions([1, 2, 3])
    after["OAS1_0001_MR1"] = oasis1_session("OAS1_0001_MR1", phantom(number=40))
    clean = tmp_path / "clean"
    disc(clean, 1, after)
    disc(clean, 2, sessions([4, 5, 6]))
    (clean / "oasis_cross-sectional.csv").write_text(SHEET)
    expected = contents(prepare(chosen(), clean))
    add = Store.add
    for stop in (2, 5):  # in the middle of the first disc, and behind it
        disc(data_dir, 1, before)
        count = iter(range(99))
        with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
            patched.setattr(
                Store, "add", lambda s, *a, c=count, n=stop: add(s, *a) if next(c) < n else 1 / 0
            )
            prepare(chosen(), data_dir)
        mend(data_dir, 1, after)
        folder = prepare(chosen(), data_dir)
        assert contents(folder) == expected
        mend(data_dir, 1, before)
        with pytest.raises(DatasetError, match=r"disc1.*not the archive.*Delete that folder"):
            prepare(chosen(), data_dir)
        shutil.rmtree(folder)
        Path(data_dir / "oasis_cross-sectional_disc1.tar.gz.lock").unlink()


def test_two_images_where_one_is_expected_are_a_bad_scan(data_dir):
    both = oasis1_session("OAS1_0007_MR1", phantom(), count=3) | oasis1_session(
        "OAS1_0007_MR1", phantom(), count=4
    )
    disc(data_dir, 2, {"OAS1_0007_MR1": both})
    dataset = OASIS(chosen(max_bad_scans=0.3), data_dir)
    (problem,) = dataset.description["bad_scans"].values()
    assert "n3" in problem
    assert "n4" in problem


def test_a_truncated_archive_stops_the_job_but_loses_nothing(data_dir):
    path = data_dir / "oasis_cross-sectional_disc2.tar.gz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match=r"disc2\.tar\.gz: .* Delete it"):
        prepare(chosen(), data_dir)
    (partial_folder,) = data_dir.glob(".*.partial")
    assert len(list(partial_folder.glob("*.npz"))) > 3
    path.write_bytes(data)
    assert len(np.load(prepare(chosen(), data_dir) / "slices.npy")) == 12


def test_torn_records_are_made_again(tmp_path):
    store = Store(tmp_path / "store")
    store.add({"key": "a"}, [np.ones((2, 3), np.uint8), np.zeros((4, 5), np.uint8)])
    store.add({"key": "b"})
    assert [picture.shape for picture in Store(tmp_path / "store").pictures("a")] == [
        (2, 3),
        (4, 5),
    ]
    path = next(p for p in (tmp_path / "store").iterdir() if p.stat().st_size > 700)
    path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "store/.partial.x.npz").write_bytes(b"")
    again = Store(tmp_path / "store")
    assert list(again.facts) == ["b"]
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError, match="data: cannot be written.*--data-dir"):
        prepare(Hyperparameters(dataset="demo", demo_subjects=3), tmp_path / "data")
