"""The images below a folder: links are followed once, and strays are named or passed over."""

import collections
import os

from hyperparameters import DataConfig
from oasisvq.data.entries import count_entries, describe_entries, find_entries
from oasisvq.data.inventory import take_inventory
from support.sources import touch_files

CONFIG = DataConfig()
SUBJECTS = [f"sub-{n}/T1w.nii.gz" for n in (1, 2, 3)]


def test_links_are_followed_once_and_strays_are_left_out(tmp_path):
    store = touch_files(tmp_path / "store", *SUBJECTS)
    folder = touch_files(
        tmp_path / "in", "sub-9/T1w.nii.gz", ".hidden/x.png", "__MACOSX/y.png", "z.dcm"
    )
    for number in (1, 2):
        (folder / f"sub-{number}").symlink_to(store / f"sub-{number}")
    (folder / "loop").symlink_to(folder)
    (folder / "sub-8_T1w.nii.gz").symlink_to("nowhere.nii.gz")
    os.mkfifo(folder / "pipe.nii.gz")
    touch_files(folder, "runs/a/config.json", "runs/a/split.csv", "runs/a/figures/brain.png")
    touch_files(folder, "data/p/dataset.json", "data/p/slices.npy", "data/p/preview.png")
    entries = take_inventory(folder, CONFIG)
    found = collections.Counter(entry.reason for entry in entries if not entry.problem)
    assert found == {"": 3, "loop": 1, "special": 1, "run": 1, "prepared": 1, "format": 1}
    (dangling,) = (entry.problem for entry in entries if entry.problem)
    assert "datalad get" in dangling


def test_names_that_are_not_utf_8_stay_distinct(tmp_path):
    for name in (b"caf\xe9_1.nii.gz", b"caf\xe8_1.nii.gz"):
        (tmp_path / os.fsdecode(name)).touch()
    names = {entry.names.subject for entry in take_inventory(tmp_path, CONFIG)}
    assert len(names) == 2
    assert all(name.encode() for name in names)


def test_a_link_beside_what_it_links_to_is_not_taken_again(tmp_path):
    touch_files(tmp_path, *SUBJECTS)
    (tmp_path / "best_case").symlink_to("sub-3")
    (tmp_path / "example.nii.gz").symlink_to("sub-1/T1w.nii.gz")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "x.nii.gz").symlink_to("x.nii.gz")
    entries = take_inventory(tmp_path, CONFIG)
    assert sorted(e.names.subject for e in entries if e.taken) == ["sub-1", "sub-2", "sub-3"]
    assert {e.path.name: e.reason for e in entries if e.reason} == {
        "best_case": "loop",
        "example.nii.gz": "second",
    }
    (broken,) = (e.problem for e in entries if e.problem)
    assert "x.nii.gz" in broken


def test_what_is_left_out_is_counted_with_an_example_of_each_reason(tmp_path):
    folder = touch_files(tmp_path, *SUBJECTS, "derivatives/x.nii", "scan.dcm", "other.dcm", "a.txt")
    counts = count_entries(find_entries(folder, ()))
    assert counts == {
        "taken": 3,
        "in a folder of derived data": {"count": 1, "example": "derivatives"},
        "in a format that is not read": {"count": 2, "example": "other.dcm"},
    }
    assert describe_entries(counts) == [
        "  2 in a format that is not read, as other.dcm",
        "  1 in a folder of derived data, as derivatives",
    ]
