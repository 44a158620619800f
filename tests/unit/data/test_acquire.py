"""Archives and sheets of OASIS that are at hand, and those that are not."""

import gzip
import io
import json
import re
import threading
import zipfile
from functools import partial

import pandas
import pytest

from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.data import acquire, oasis
from oasisvq.data.acquire import (
    announce,
    archive_record,
    check_archive,
    check_sheet,
    choose_archives,
    find_or_fetch_sheet,
    forget_record,
    supplied,
)
from oasisvq.data.oasis import OASIS1, OASIS2
from support.archive_builder import unpack, write_archive
from support.processes import HANG

DISC = "oasis_cross-sectional_disc{}.tar.gz"
SHEET = "oasis_cross-sectional-5708aa0a98d82080.xlsx"
SESSION = {"OAS1_0001_MR1": {"a.txt": b"x"}}


class Usage:
    """What `shutil.disk_usage` returns of a disk that is nearly full."""

    free = 1e9


@pytest.fixture(autouse=True)
def new_terms():
    """Forgets that another test has had the terms printed."""
    acquire.say_terms.cache_clear()


@pytest.fixture
def requests(monkeypatch):
    """Returns the list of addresses that are downloaded, each as the bytes of its own address."""
    addresses = []

    def download(url, path, check, **options):
        addresses.append(url)
        path.write_bytes(url.encode())

    monkeypatch.setattr(acquire, "download", download)
    return addresses


def disc(data_dir, number):
    """Writes a disc of OASIS-1 as put there by hand, and returns its path."""
    return write_archive(data_dir / DISC.format(number), f"disc{number}", SESSION)


def pretend_arrival(data_dir, number, size):
    """Makes a file of holes, as long as what has come of a disc."""
    with (data_dir / f"{DISC.format(number)}.part").open("wb") as file:
        file.truncate(size)


def sheet(**files):
    """Returns the bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def test_parts_keep_their_order_wherever_they_are(tmp_path):
    disc(tmp_path / "down", 3)
    unpack(tmp_path / "disc1", SESSION)
    parts = choose_archives("oasis", (1, 2, 3), tmp_path)
    assert [(part.collection.name, part.name, part.path) for part in parts] == [
        ("oasis1", DISC.format(1), tmp_path / "disc1"),
        ("oasis1", DISC.format(2), None),
        ("oasis1", DISC.format(3), tmp_path / "down" / DISC.format(3)),
        ("oasis2", "OAS2_RAW_PART1.tar.gz", None),
        ("oasis2", "OAS2_RAW_PART2.tar.gz", None),
    ]


def test_without_numbers_all_archives_are_parts(tmp_path):
    assert len(choose_archives("oasis1", (), tmp_path)) == 12
    assert len(choose_archives("oasis2", (), tmp_path)) == 2


def test_loose_sessions_take_the_place_of_archives_that_are_nowhere(tmp_path):
    disc(tmp_path, 2)
    unpack(tmp_path / "mine", SESSION)
    names = [part.name for part in choose_archives("oasis1", (), tmp_path)]
    assert names == [DISC.format(2), "sessions in mine"]
    names = [part.name for part in choose_archives("oasis1", (1,), tmp_path)]
    assert names == [DISC.format(1)]  # numbers are a choice of archives


def test_an_archive_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"--discs: oasis2 has no archive 3\. OASIS-1 has 1 to"):
        choose_archives("oasis2", (4, 3, 1), tmp_path)


def test_a_mirror_takes_the_place_of_the_official_servers(tmp_path, monkeypatch, requests):
    (part,) = choose_archives("oasis1", (1,), tmp_path)
    assert part.url == f"http://127.0.0.1:9/data/{DISC.format(1)}"
    monkeypatch.setenv("OASIS_MIRROR", "http://127.0.0.1:9/")
    assert part.url == f"http://127.0.0.1:9/{DISC.format(1)}"
    find_or_fetch_sheet(tmp_path, OASIS1)
    monkeypatch.delenv("OASIS_MIRROR")
    assert part.url == f"{oasis.MIRROR}/{DISC.format(1)}"
    (tmp_path / SHEET).unlink()
    find_or_fetch_sheet(tmp_path, OASIS1)
    assert requests == [f"http://127.0.0.1:9/{SHEET}", OASIS1.sheet_url]


def test_what_is_to_come_is_announced_and_what_is_here_is_not(tmp_path, monkeypatch, capsys):
    disc(tmp_path, 1)
    sizes = {DISC.format(2): 2_500_000_000}  # of the third the server names no size
    monkeypatch.setattr(acquire, "remote_size", lambda url, timeout: sizes.get(url.split("/")[-1]))
    pretend_arrival(tmp_path, 2, 300_000_000)
    announce(choose_archives("oasis1", (1, 2, 3), tmp_path), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("To fetch")] == [
        f"To fetch: http://127.0.0.1:9/data/{DISC.format(2)} (2.50 GB)",
        f"To fetch: http://127.0.0.1:9/data/{DISC.format(3)} (about 1.32 GB)",
    ]
    assert f"Still to fetch: 3.5 GB to {tmp_path} (" in lines[-1]
    assert sum("No attempt to identify" in line for line in lines) == 1  # the terms, once
    announce(choose_archives("oasis1", (1,), tmp_path), tmp_path)
    assert capsys.readouterr().out == ""


def test_a_full_disk_is_an_error_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(acquire.shutil, "disk_usage", lambda place: Usage())
    monkeypatch.setattr(acquire, "remote_size", lambda url, timeout: 2_000_000_000)
    parts = choose_archives("oasis1", (1,), tmp_path)
    with pytest.raises(DatasetError, match=r"new: 2\.0 GB to fetch, but only 1\.0 GB are free"):
        announce(parts, tmp_path / "new")
    pretend_arrival(tmp_path, 1, 100_000_000)
    monkeypatch.setattr(acquire, "remote_size", lambda url, timeout: 1_050_000_000)
    announce(parts, tmp_path)  # a tenth of it has come


def test_what_is_at_hand_comes_first_with_its_record(tmp_path, requests):
    unpack(tmp_path / "disc3", SESSION)
    path = disc(tmp_path, 2)
    parts = choose_archives("oasis1", (1, 2, 3), tmp_path)
    results = [(part.name, part.path, record) for part, record in supplied(parts, tmp_path)]
    url = f"http://127.0.0.1:9/data/{DISC.format(1)}"
    assert [result[:2] for result in results] == [
        (DISC.format(2), path),
        (DISC.format(3), tmp_path / "disc3"),
        (DISC.format(1), tmp_path / DISC.format(1)),
    ]
    assert results[0][2] == archive_record(path)
    assert results[1][2] == {}
    assert results[2][2]["size"] == len(url)
    assert requests == [url]


def test_the_known_sum_of_an_archive_is_passed_on(tmp_path, monkeypatch):
    sums = []

    def download(url, path, check, known_md5, **options):
        sums.append(known_md5)
        path.write_bytes(b"")

    monkeypatch.setattr(acquire, "download", download)
    list(supplied(choose_archives("oasis1", (1, 2), tmp_path), tmp_path))
    assert sums == ["c83e216ef8654a7cc9e2a30a4cdbe0cc", None]


def test_an_archive_that_cannot_be_had_is_an_error_after_those_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(acquire, "download", partial(acquire.download, retries=0))
    disc(tmp_path, 2)
    parts = supplied(choose_archives("oasis1", (1, 2), tmp_path), tmp_path)
    assert next(parts)[0].name == DISC.format(2)
    with pytest.raises(DownloadError, match=r"disc1\.tar\.gz.* by hand .*--discs$"):
        next(parts)


def test_a_caller_that_has_enough_ends_the_download(tmp_path, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def download(url, path, check, cancelled, **options):
        begun.set()
        assert cancelled.wait(HANG)
        ended.set()
        raise DownloadError("stopped")

    monkeypatch.setattr(acquire, "download", download)
    disc(tmp_path, 1)
    parts = supplied(choose_archives("oasis1", (1, 2), tmp_path), tmp_path)
    next(parts)
    assert begun.wait(HANG)
    assert not ended.is_set()
    parts.close()
    assert ended.wait(HANG)


def test_an_archive_that_is_not_the_one_on_record_is_refused(tmp_path):
    path = disc(tmp_path, 1)
    record = archive_record(path)
    assert set(record) == {"size", "sha256"}
    assert record["size"] == path.stat().st_size
    path.write_bytes(b"another")
    with pytest.raises(DownloadError, match=rf"{path.name}: expected .* Delete {path} to have it"):
        archive_record(path)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1/"])
def test_the_record_of_a_download_is_never_forgotten(tmp_path, url):
    path = disc(tmp_path, 1)
    lock = tmp_path / f"{path.name}.lock"
    forget_record(path)  # there is none
    archive_record(path)
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"url": url}))
    forget_record(path)
    assert lock.exists() == (url is not None)


def test_an_archive_is_checked_up_to_its_end(tmp_path):
    path = disc(tmp_path, 1)
    check_archive(path)
    whole = path.read_bytes()
    damaged = whole[:-8] + bytes(8)  # the checksum, and the size
    for content in (whole[:-1], damaged, b"", b"<html>", gzip.compress(b"no tar " * 100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a complete \.tar\.gz \("):
            check_archive(path)


def test_a_sheet_from_the_server_is_one_that_can_be_read(tmp_path):
    path = tmp_path / "sheet.xlsx.part"
    pandas.DataFrame({"ID": ["OAS1_0001_MR1"], "M/F": ["F"]}).to_excel(
        tmp_path / "a.xlsx", index=False
    )
    whole = (tmp_path / "a.xlsx").read_bytes()
    path.write_bytes(whole)
    check_sheet(path)
    encrypted, foreign = bytearray(whole), bytearray(whole)
    for mark, flags, method in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        for start in (found.start() for found in re.finditer(re.escape(mark), whole)):
            encrypted[start + flags] |= 1
            foreign[start + method] = 99
    torn, other = bytearray(whole), sheet(first="abc")
    torn[len(whole) // 2] ^= 255
    for content in (whole[:-5], b"", b"<html>", torn, other, encrypted, foreign):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a subject sheet: .*sheet\.xlsx"):
            check_sheet(path)


def test_a_sheet_at_hand_is_not_fetched(tmp_path, requests, capsys):
    (tmp_path / "oasis_longitudinal.csv").write_text("MRI ID,Age\n")
    assert find_or_fetch_sheet(tmp_path, OASIS2) == tmp_path / "oasis_longitudinal.csv"
    assert find_or_fetch_sheet(tmp_path, OASIS1) == tmp_path / SHEET
    assert requests == [f"http://127.0.0.1:9/data/{SHEET}"]
    printed = capsys.readouterr().out
    assert "OASIS-1" in printed
    assert "OASIS-2" not in printed


def test_a_sheet_that_cannot_be_had_is_a_line(tmp_path, monkeypatch, capsys):
    def refuse(url, path, check, **options):
        raise DownloadError(f"{url}: gone.")

    monkeypatch.setattr(acquire, "download", refuse)
    assert find_or_fetch_sheet(tmp_path, OASIS1) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("OASIS-1: without its subject sheet, age, sex and CDR stay unknown")
    assert f"{SHEET}: gone.) Put {SHEET}, or the sheet as .csv, into {tmp_path}" in line
