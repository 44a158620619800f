"""Members of archives, and archives made to do harm."""

import bz2
import contextlib
import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from oasisvq.core.errors import ArchiveError
from oasisvq.data import archives as module
from oasisvq.data.archives import read_members
from support.archive_builder import oasis1_session, phantom, write_archive

IMAGE = "disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc"
END = bytes(2 * tarfile.BLOCKSIZE)


def member(name, data=b"", **fields):
    """Returns a tar header and its data as bytes; `fields` are those of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def changed(block, at, value):
    """Returns a member with other bytes in its header, and the checksum that fits them."""
    block = bytearray(block)
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[: tarfile.BLOCKSIZE])
    return bytes(block)


def packed(*blocks, level=1):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=level, mtime=0) as file:
        for block in blocks:
            file.write(block)
    return buffer.getvalue()


def bomb(name):
    """Returns the header of a member of 300 MB."""
    return changed(member(name), 124, b"%011o\0" % (300 * 2**20))


def linked(name, kind, target):
    return member(name, type=kind, linkname=target)


GOOD = member("disc1/a.txt", b"good")


def hostile_archives():
    """Returns thirty archives by name: a function that makes one, and whether it is refused."""
    image = f"{IMAGE}.img"
    long_name = member("././@LongLink", b"x" * 10_000_000, type=tarfile.GNUTYPE_LONGNAME)
    pax = member("pax", b"30 path=" + b"y" * 22 + b"\n", type=tarfile.XHDTYPE)
    zeros = [bytes(2**20)] * 300
    return {
        # Names and kinds that would be followed if anything were unpacked
        "traversal": (lambda: packed(member(f"../../{image}", b"x"), END), False),
        "absolute": (lambda: packed(member(f"/{image}", b"x"), END), False),
        "inner traversal": (lambda: packed(member(f"disc1/../../{image}", b"x"), END), False),
        "link": (lambda: packed(linked(image, tarfile.SYMTYPE, "/etc/passwd"), END), False),
        "hard link": (lambda: packed(linked(image, tarfile.LNKTYPE, "/etc/passwd"), END), False),
        "link, then a file below it": (
            lambda: packed(linked("disc1", tarfile.SYMTYPE, "/"), member(image, b"x"), END),
            False,
        ),
        "pipe": (lambda: packed(member(image, type=tarfile.FIFOTYPE), END), False),
        "device": (lambda: packed(member(image, type=tarfile.CHRTYPE), END), False),
        "block device": (lambda: packed(member(image, type=tarfile.BLKTYPE), END), False),
        "duplicate names": (lambda: packed(member(image, b"1"), member(image, b"2"), END), False),
        "names that clash in case": (
            lambda: packed(member(image, b"1"), member(image.upper(), b"2"), END),
            False,
        ),
        "name that is no text": (lambda: packed(changed(GOOD, 0, b"\xff\xfe\x80"), END), False),
        "name of dots": (lambda: packed(member("....//", b"x"), END), False),
        # Bombs
        "bomb of zeros": (lambda: packed(bomb("z"), *zeros, END), True),
        "bomb in a wanted image": (lambda: packed(bomb(image), *zeros, END), True),
        "bomb behind the end": (lambda: packed(GOOD, END, *zeros), True),
        "bomb of empty members": (lambda: packed(member("e") * 20_000), True),
        "bomb in a name": (lambda: packed(GOOD, long_name, GOOD, END), True),
        "size beyond the end": (lambda: packed(changed(GOOD, 124, b"77777777777\0"), END), True),
        "negative size": (lambda: packed(changed(GOOD, 124, b"\xff" * 9 + b"\0\0\0"), END), True),
        "endless headers of headers": (lambda: packed(pax * 3000, GOOD, END), True),
        # Damage
        "truncated": (lambda: packed(GOOD, member("b", os.urandom(9999)), END)[:-3000], True),
        "checksum of the packing wrong": (lambda: packed(GOOD, END)[:-8] + bytes(8), True),
        "checksum of a header wrong": (lambda: packed(GOOD, b"\1" + GOOD[1:], END), True),
        "no end mark": (lambda: packed(GOOD), True),
        "rubbish behind the packing": (lambda: packed(GOOD, END) + b"rubbish" * 99, True),
        # No archive
        "a web page": (lambda: b"<!doctype html><title>Sign in</title>" * 50, True),
        "empty": (lambda: b"", True),
        "packed otherwise": (lambda: bz2.compress(GOOD + END), True),
        "packed rubbish": (lambda: packed(os.urandom(5000)), True),
    }


ARCHIVES = hostile_archives()


MOST_HEADERS = 2**22  # bytes; fewer than otherwise, so that the limit is reached sooner
# Bytes that come out of an archive at most before it is refused; of the others 64 KB at most
MOST_UNPACKED = {
    "bomb of zeros": 280_000_000,  # just above 200 times what is packed
    "bomb in a wanted image": 280_000_000,
    "bomb behind the end": module.LARGEST_REST + 2 * module.PIECE,
    "bomb of empty members": MOST_HEADERS + module.PIECE,
    "bomb in a name": module.LARGEST_HEADER + module.PIECE,
    "endless headers of headers": module.LARGEST_HEADER + module.PIECE,
}


class Counted:
    """A stream that notes how many bytes are read from it."""

    def __init__(self, stream, sizes):
        self.stream, self.sizes = stream, sizes

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()

    def read(self, size):
        piece = self.stream.read(size)
        self.sizes.append(len(piece))
        return piece


def test_there_are_thirty_hostile_archives():
    assert len(ARCHIVES) == 30


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_ends_in_one_line_or_does_nothing(tmp_path, monkeypatch, name):
    make, refused = ARCHIVES[name]
    path = tmp_path / "in" / "disc1.tar.gz"
    path.parent.mkdir()
    path.write_bytes(make())
    monkeypatch.setattr(module, "LARGEST_HEADERS", MOST_HEADERS)
    open_packed, unpacked, problem = module.igzip_threaded.open, [], None
    monkeypatch.setattr(
        module.igzip_threaded, "open", lambda *a, **k: Counted(open_packed(*a, **k), unpacked)
    )
    try:
        for _, size, read in read_members(path):
            if size < 2**20:
                read()
    except ArchiveError as error:
        problem = str(error)
    assert sum(unpacked) <= MOST_UNPACKED.get(name, 2**16)
    assert bool(problem) == refused, problem
    assert problem is None or (problem.startswith(f"{path}: ") and "\n" not in problem)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "disc1.tar.gz"]  # nothing was written


@pytest.mark.parametrize("name", ["duplicate names", "link", "bomb in a wanted image", "absolute"])
def test_a_hostile_archive_in_the_data_folder_is_one_line(tmp_path, name):
    """Runs the whole way, as a user meets it; memory stays bounded."""
    (tmp_path / "oasis_cross-sectional_disc1.tar.gz").write_bytes(ARCHIVES[name][0]())
    (tmp_path / "oasis_cross-sectional.csv").write_text("ID,M/F,Age\n")
    flags = ["--dataset", "oasis1", "--discs", "1", "--data-dir", tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, *flags], capture_output=True, text=True, cwd=ROOT
    )
    problem, memory = result.stderr.strip().splitlines()  # one line, and what MEASURED adds
    assert result.returncode == 2
    assert re.search(r"OAS1_0001_MR1|disc1\.tar\.gz", problem)
    assert int(memory) < 800_000  # KB


ROOT = Path(__file__).parents[3]
MEASURED = """
import atexit, re, runpy, sys
peak = lambda: re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]
atexit.register(lambda: print(peak(), file=sys.stderr))
runpy.run_path("dataset.py", run_name="__main__")
"""


def test_members_are_read_or_passed_over(tmp_path):
    head = phantom()
    sessions = {"OAS1_0001_MR1": oasis1_session("OAS1_0001_MR1", head)}
    path = write_archive(tmp_path / "a.tar.gz", "disc1", sessions)
    found = {name: read() for name, _, read in read_members(path) if name.endswith(".img")}
    files = sessions["OAS1_0001_MR1"]
    expected = {f"disc1/OAS1_0001_MR1/{k}": v for k, v in files.items() if k.endswith(".img")}
    assert found == expected
    sizes = {name: size for name, size, _ in read_members(path) if not name.endswith("/")}
    assert sizes == {f"disc1/OAS1_0001_MR1/{k}": len(v) for k, v in files.items()} | {
        "disc1/.DS_Store": 5
    }


@pytest.mark.parametrize(("length", "refused"), [(60_000, False), (70_000, True)])
def test_a_member_whose_header_is_too_large_is_refused(tmp_path, length, refused):
    name = member("././@LongLink", b"x" * length, type=tarfile.GNUTYPE_LONGNAME)
    (tmp_path / "a.tar.gz").write_bytes(packed(GOOD, name, GOOD, END))
    with pytest.raises(ArchiveError, match="header") if refused else contextlib.nullcontext():
        assert [len(name) for name, _, _ in read_members(tmp_path / "a.tar.gz")] == [11, length]


def test_sparse_files_are_passed_over(tmp_path):
    sparse = member("disc1/holes.img", b"x", type=tarfile.GNUTYPE_SPARSE)
    (tmp_path / "a.tar.gz").write_bytes(packed(sparse, GOOD, END))
    assert [name for name, _, _ in read_members(tmp_path / "a.tar.gz")] == ["disc1/a.txt"]


def test_an_archive_that_a_browser_unpacked_is_read_too(tmp_path):
    (tmp_path / "a.tar").write_bytes(GOOD + END)
    assert [(name, read()) for name, _, read in read_members(tmp_path / "a.tar")] == [
        ("disc1/a.txt", b"good")
    ]


def test_large_members_come_whole_and_in_order(tmp_path):
    random = np.random.default_rng(0)
    blobs = [random.bytes(n) for n in (3_000_001, 512, 0, 2**20, 2**20 + 1)]
    (tmp_path / "a.tar.gz").write_bytes(
        packed(*(member(f"{i}", b) for i, b in enumerate(blobs)), END)
    )
    assert [read() for _, _, read in read_members(tmp_path / "a.tar.gz")] == blobs
