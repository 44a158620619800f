"""Sessions of OASIS, from archives and from unpacked folders."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from oasisvq.core.errors import ArchiveError, VolumeError
from oasisvq.data import oasis
from oasisvq.data.oasis import (
    OASIS1,
    OASIS1_IMAGES,
    OASIS2,
    Session,
    find_archive,
    find_folder,
    find_loose_sessions,
    find_sheet,
    image_of,
    sessions_in_archive,
    sessions_in_folder,
    volumes_of,
)
from support.archive_builder import (
    add,
    oasis1_session,
    oasis2_session,
    phantom,
    unpack,
    write_archive,
)

MASKED = image_of(OASIS1, "t88_masked_gfc")
RAW2 = image_of(OASIS2, "t88_masked_gfc")


def one_disc(count=3):
    """Returns the sessions of a disc, n3 to n5, and a second scan of the first subject."""
    names = [f"OAS1_{n:04d}_MR1" for n in range(1, count + 1)] + ["OAS1_0001_MR2"]
    return {
        name: oasis1_session(name, phantom(number=n), phantom(number=10 + n), count=3 + n % 3)
        for n, name in enumerate(names)
    }


@pytest.mark.parametrize("kind", OASIS1_IMAGES)
def test_the_phantom_stands_upright_in_every_image_of_oasis1(tmp_path, kind):
    head, brain, raw = phantom(number=1), phantom(number=2), phantom((16, 26, 24), number=3)
    sessions = {"OAS1_0007_MR1": oasis1_session("OAS1_0007_MR1", head, brain, raw=raw)}
    path = write_archive(tmp_path / "a.tar.gz", "disc1", sessions)
    image = image_of(OASIS1, kind)
    (session,) = sessions_in_archive(path, OASIS1, image)
    volumes, names, notes = volumes_of(session, image)
    assert len(volumes) == (4 if kind == "raw" else 1)
    assert notes == []
    expected = {"t88_masked_gfc": brain, "t88_gfc": head}.get(kind, raw)
    for volume in volumes:
        np.testing.assert_array_equal(volume.voxels, expected)
        assert volume.voxel_size == ((1.25, 1, 1) if kind == "raw" else (1, 1, 1))
    assert all(name.startswith("OAS1_0007_MR1/") for name in names)


def test_repeats_of_oasis2_are_found_and_the_stray_file_is_not(tmp_path):
    repeats = [phantom(number=n) for n in range(3)]
    path = write_archive(
        tmp_path / "a.tar.gz", "OAS2_RAW_PART1", {"OAS2_0118_MR2": oasis2_session(repeats)}
    )
    (session,) = sessions_in_archive(path, OASIS2, RAW2)
    assert sorted(session.files) == sorted(
        f"RAW/mpr-{n}.nifti.{suffix}" for n in (1, 2, 3) for suffix in ("hdr", "img")
    )
    volumes, _, _ = volumes_of(session, RAW2)
    for volume, repeat in zip(volumes, repeats, strict=True):
        np.testing.assert_array_equal(volume.voxels, repeat)
        assert volume.voxel_size == (1.25, 1, 1)


def test_archives_and_folders_give_the_same_sessions(tmp_path):
    sessions = one_disc()
    write_archive(tmp_path / "a.tar.gz", "disc1", sessions)
    unpack(tmp_path / "disc1", sessions)
    packed = list(sessions_in_archive(tmp_path / "a.tar.gz", OASIS1, MASKED))
    unpacked = list(sessions_in_folder(tmp_path / "disc1", OASIS1, MASKED))
    assert {s.name: s.files for s in packed} == {s.name: s.files for s in unpacked}
    assert [s.name for s in packed] == list(sessions)
    assert all(len(s.files) == 2 for s in packed)


def test_finished_sessions_are_named_but_not_read(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", "disc1", one_disc())
    found = list(sessions_in_archive(path, OASIS1, MASKED, {"OAS1_0002_MR1"}))
    assert [bool(s.files) for s in found] == [True, False, True, True]


def test_finished_sessions_in_a_folder_are_not_read(tmp_path):
    unpack(tmp_path, one_disc())
    found = list(sessions_in_folder(tmp_path, OASIS1, MASKED, {"OAS1_0002_MR1"}))
    assert [bool(s.files) for s in found] == [True, True, False, True]


@pytest.mark.parametrize("place", ["/disc1", "../disc1", "disc1/..", "__MACOSX/disc1"])
def test_a_member_that_points_elsewhere_belongs_to_no_session(tmp_path, place):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for path, data in oasis1_session("OAS1_0001_MR1", phantom()).items():
            add(archive, f"{place}/OAS1_0001_MR1/{path}", data)
    with pytest.raises(ArchiveError, match="no session of OASIS-1"):
        list(sessions_in_archive(tmp_path / "a.tar.gz", OASIS1, MASKED))


def test_a_session_without_the_image_or_with_half_of_it_is_named(tmp_path):
    name = "OAS1_0001_MR1"
    files = oasis1_session(name, phantom())
    masked = [path for path in files if "masked_gfc." in path]
    for left_out, problem in (
        (masked, "lacks the wanted image"),
        (masked[:1], "hdr"),
        (masked[1:], "img"),
    ):
        kept = {path: data for path, data in files.items() if path not in left_out}
        archive = write_archive(tmp_path / f"{problem}.tar.gz", "disc1", {name: kept})
        (session,) = sessions_in_archive(archive, OASIS1, MASKED)
        with pytest.raises(VolumeError, match=rf"^{name}.*{problem}"):
            volumes_of(session, MASKED)


def test_a_broken_repeat_is_left_out_and_named(tmp_path):
    files = oasis2_session([phantom(), phantom()])
    files["RAW/mpr-2.nifti.img"] = files["RAW/mpr-2.nifti.img"][:-1]
    volumes, names, notes = volumes_of(Session("OAS2_0001_MR1", wanted(files)), RAW2)
    assert names == ["OAS2_0001_MR1/RAW/mpr-1.nifti"]
    assert len(volumes) == len(notes) == 1
    assert "mpr-2" in notes[0]


def test_a_file_that_is_there_twice_or_too_large_is_a_problem_of_its_session(monkeypatch):
    session = Session("OAS2_0001_MR1")
    session.add("RAW/mpr-1.IMG", 3, lambda: b"one")
    assert session.files == {"RAW/mpr-1.img": b"one"}
    session.add("RAW/mpr-1.img", 3, lambda: pytest.fail("read"))
    assert session.problem == "RAW/mpr-1.img is there twice"
    session.add("RAW/mpr-2.img", 2**27 + 1, lambda: pytest.fail("read"))
    assert (
        session.problem == "RAW/mpr-2.img of 134,217,729 bytes is too large for one of its images"
    )
    monkeypatch.setattr(oasis, "LARGEST_SESSION", 5)
    session.problem = ""
    session.add("RAW/mpr-2.img", 2, lambda: b"ab")
    assert session.problem == ""
    session.add("RAW/mpr-3.img", 1, lambda: pytest.fail("read"))
    with pytest.raises(VolumeError, match=r"OAS2_0001_MR1: RAW/mpr-3\.img of 1 bytes is too large"):
        volumes_of(session, RAW2)


def test_a_file_that_cannot_be_read_is_a_problem_of_its_session(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    unpack(tmp_path, {"OAS2_0001_MR1": wanted(oasis2_session([phantom()]))})
    monkeypatch.setattr(Path, "read_bytes", refuse)
    (session,) = sessions_in_folder(tmp_path, OASIS2, RAW2)
    assert session.problem == "RAW/mpr-1.nifti.img cannot be read (Permission denied)"


def wanted(files):
    return {path: data for path, data in files.items() if path.startswith("RAW/mpr")}


def test_a_session_in_two_places_is_refused(tmp_path):
    sessions = one_disc(2)
    path = tmp_path / "a.tar.gz"
    for again in ("OAS1_0001_MR1.txt", next(p for p in sessions["OAS1_0001_MR1"] if "masked" in p)):
        with tarfile.open(path, "w:gz") as archive:
            for name, files in sessions.items():
                for inside, data in files.items():
                    add(archive, f"disc1/{name}/{inside}", data)
            add(archive, f"disc1/OAS1_0001_MR1/{again}", b"x")
            add(archive, f"__MACOSX/disc1/OAS1_0001_MR1/{again}", b"x")
        if again.endswith(".txt"):  # makes no difference
            assert len(list(sessions_in_archive(path, OASIS1, MASKED))) == 3
        else:
            with pytest.raises(
                ArchiveError, match="holds the files of OAS1_0001_MR1 in two places"
            ):
                list(sessions_in_archive(path, OASIS1, MASKED))


def test_an_archive_of_something_else_is_refused_and_an_empty_session_is_named(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", "OAS2_RAW_PART1", {"OAS2_0001_MR1": {}})
    with pytest.raises(ArchiveError, match="no session of OASIS-1"):
        list(sessions_in_archive(path, OASIS1, MASKED))
    (session,) = sessions_in_archive(path, OASIS2, RAW2)
    assert session == Session("OAS2_0001_MR1")


def test_capital_suffixes_are_read(tmp_path):
    files = oasis2_session([phantom()])
    capital = {path.replace(".hdr", ".HDR").replace(".img", ".IMG"): files[path] for path in files}
    path = write_archive(tmp_path / "a.tar.gz", "OAS2_RAW_PART1", {"OAS2_0001_MR1": capital})
    (session,) = sessions_in_archive(path, OASIS2, RAW2)
    np.testing.assert_array_equal(volumes_of(session, RAW2)[0][0].voxels, phantom())


def test_what_was_put_there_by_hand_is_found(tmp_path):
    write_archive(tmp_path / "down/oasis_cross-sectional_disc2.tar.gz", "disc2", {})
    (tmp_path / "oasis_cross-sectional_disc3.tar").write_bytes(b"")
    unpack(tmp_path / "unpacked/disc4", {"OAS1_0004_MR1": {"a.txt": b""}})
    (tmp_path / "disc5").mkdir()  # empty: unpacking it failed
    (tmp_path / "oasis_longitudinal_demographics.xlsx").write_bytes(b"")
    assert find_archive(tmp_path, OASIS1, 1) is None
    assert find_archive(tmp_path, OASIS1, 2).name == "oasis_cross-sectional_disc2.tar.gz"
    assert find_archive(tmp_path, OASIS1, 3).name == "oasis_cross-sectional_disc3.tar"
    assert find_folder(tmp_path, OASIS1, 4) == tmp_path / "unpacked/disc4"
    assert find_folder(tmp_path, OASIS1, 5) is None
    assert find_loose_sessions(tmp_path, OASIS1) == []
    assert find_sheet(tmp_path, OASIS2).suffix == ".xlsx"
    assert find_sheet(tmp_path, OASIS1) is None
    for name in ("mine", "yours"):
        unpack(tmp_path / name, {"OAS1_0009_MR1": {"a.txt": b""}})
    assert find_loose_sessions(tmp_path, OASIS1) == [tmp_path / "mine", tmp_path / "yours"]


def test_of_several_sheets_the_one_with_the_shortest_name_is_taken(tmp_path):
    for name in ("oasis_cross-sectional-2007.csv", "oasis_cross-sectional.xlsx"):
        (tmp_path / name).write_bytes(b"")
    assert find_sheet(tmp_path, OASIS1).name == "oasis_cross-sectional.xlsx"


def test_hidden_folders_and_those_that_cannot_be_read_are_passed_over(tmp_path, monkeypatch):
    def refuse(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", refuse)
    (tmp_path / "lost+found").mkdir()
    unpack(tmp_path / ".trash/old", {"OAS1_0009_MR1": {"a.txt": b""}})
    write_archive(tmp_path / ".trash/oasis_cross-sectional_disc2.tar.gz", "disc2", {})
    unpack(tmp_path / "mine", {"OAS1_0009_MR1": {"a.txt": b""}})
    assert find_loose_sessions(tmp_path, OASIS1) == [tmp_path / "mine"]
    assert find_archive(tmp_path, OASIS1, 2) is None


@pytest.mark.parametrize("name", ["oasis_cross-sectional.CSV", "oasis_cross-sectional-5708.xlsx"])
def test_the_sheet_of_second_scans_is_not_taken_for_the_sheet(tmp_path, name):
    (tmp_path / "oasis_cross-sectional-reliability-063.xlsx").write_bytes(b"")
    assert find_sheet(tmp_path, OASIS1) is None
    (tmp_path / name).write_bytes(b"")
    assert find_sheet(tmp_path, OASIS1).name == name
