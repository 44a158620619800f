"""Slices on disk: made once, whatever interrupts it and whoever shares it, and read again."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from dataset import OASIS
from oasisvq.core.errors import ArchiveError, DatasetError, DownloadError, WriteError
from oasisvq.core.files import one_at_a_time
from oasisvq.data import acquire
from oasisvq.data import prepare as prepare_module
from oasisvq.data.prepare import Store, fit_picture, prepare, read_prepared
from oasisvq.data.sources.base import Shard
from oasisvq.training.stages import save_split
from support.archive_builder import oasis1_session, phantom
from support.disks import read_only
from support.processes import HANG
from support.sources import (
    SHEET,
    choose,
    choose_discs,
    contents,
    open_folder,
    sessions,
    start_dataset,
    write_disc,
    write_png,
    write_volume,
)


def test_the_second_use_reads_what_the_first_made(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    stamp = (first.folder / "slices.npy").stat().st_mtime_ns
    second = open_folder(coronal, tmp_path)
    assert second.folder == first.folder
    assert (second.folder / "slices.npy").stat().st_mtime_ns == stamp
    names = {path.name for path in first.folder.iterdir()}
    assert names == {"dataset.json", "slices.csv", "slices.npy"}


def test_ready_slices_in_a_read_only_folder_are_used_without_a_lock(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    (first.folder.with_name(f".{first.folder.name}.mutex")).unlink()
    with read_only(tmp_path / "data"):
        again = open_folder(coronal, tmp_path)
        np.testing.assert_array_equal(again.slices, first.slices)
        with pytest.raises(WriteError, match="cannot be locked .Read-only file system"):
            open_folder(coronal, tmp_path, slice_range=(0.1, 0.2), slice_unit="fraction")
        del again
    first.slices.flush()


def write_heads(folder, brains, placed):
    """Writes two pictures of each of some brains into a folder of its own."""
    for number, name in placed.items():
        for change in (0, 1):
            picture = np.roll(brains[number], change, axis=1) * 255
            write_png(folder / f"{name}/AD/{number} ({change}).png", picture)


def test_heads_found_by_likeness_keep_their_folders_split(brains, tmp_path):
    folders = dict.fromkeys(range(4), "train") | {4: "validation", 5: "validation", 6: "test"}
    write_heads(tmp_path / "in", brains, folders)
    write_png(tmp_path / "in/test/AD/3 (2).png", np.roll(brains[3], 2, axis=1) * 255)
    dataset = open_folder(tmp_path / "in", tmp_path, persons="by-likeness")
    counts = {"train": (4, 9), "validation": (2, 4), "test": (1, 2)}
    assert counts == {s: (len(dataset.subjects(s)), len(dataset.rows(s))) for s in counts}
    assert "Moved to train: 1 picture of 1 head" in "".join(dataset.description["remarks"])


def test_a_head_whose_files_sort_first_moves_no_other(brains, tmp_path):
    heads = {number: f"b{number}" for number in range(1, 8)}
    write_heads(tmp_path / "in", brains, heads)
    before = open_folder(tmp_path / "in", tmp_path, persons="by-likeness")
    larger = np.pad(brains[:1], ((0, 0), (4, 4), (6, 6)))  # and widens all other slices
    write_heads(tmp_path / "in", larger, {0: "a"})
    after = open_folder(tmp_path / "in", tmp_path, persons="by-likeness")
    assert (len(before.table), len(after.table)) == (14, 16)
    assert after.image_shape != before.image_shape
    known = dict(before.subject_splits().to_numpy())
    assert len(known) == 7
    assert known.items() <= dict(after.subject_splits().to_numpy()).items()
    assert list(after.table["subject"][2:]) == list(before.table["subject"])


def test_each_scan_is_scaled_by_its_own_percentile(tmp_path):
    pixels = np.zeros((40, 40))
    pixels[10:30, 10:30] = np.linspace(1, 100, 400).reshape(20, 20)
    write_png(tmp_path / "in/case_1_slice_0.png", pixels)
    write_png(tmp_path / "in/case_1_slice_1.png", pixels // 2)  # dimmer, of the same scan
    write_png(tmp_path / "in/case_2_slice_0.png", 2 * pixels)
    slices = open_folder(tmp_path / "in", tmp_path).slices
    assert slices[0].max() == slices[2].max() == 255
    assert 120 < slices[1].max() < 135
    assert np.abs(slices[0].astype(int) - slices[2]).max() <= 3
    foreground = np.concatenate([np.floor(pixels)[pixels > 0], (pixels // 2)[pixels >= 2]])
    full_scale = np.percentile(foreground, 99.8)
    expected = np.round((np.floor(pixels) / full_scale).clip(0, 1) * 255)
    np.testing.assert_array_equal(slices[0], expected)


def test_mixed_sizes_meet_without_squashing(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.full((20, 10), 50))
    write_png(tmp_path / "in/case_2_slice_0.png", np.full((12, 30), 50))
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.image_shape == (20, 30)
    assert (dataset.slices[0] > 0).sum() == 200
    assert (dataset.slices[1] > 0).sum() == 360
    assert (dataset.slices[0][:, 10:20] == 255).all()


def test_a_slice_too_large_shrinks_alike_in_both_directions():
    picture = np.full((40, 20), 200, np.uint8)
    fitted = fit_picture(picture, (20, 20))
    assert fitted.shape == (20, 20)
    assert (fitted[:, 5:15] == 200).all()
    assert (fitted[:, :5] == 0).all()


def test_a_prepared_folder_is_a_source(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    save_split(first, "train", tmp_path / "kept")
    again = open_folder(tmp_path / "kept", tmp_path)
    assert again.folder == tmp_path / "kept"
    np.testing.assert_array_equal(again.slices, first.slices[first.rows("train")])
    assert set(again.table["split"]) == {"train"}


def test_dataset_json_tells_what_made_it(coronal, tmp_path):
    description = json.loads((open_folder(coronal, tmp_path).folder / "dataset.json").read_text())
    assert description["subjects"] == 12
    assert description["slices"] == 36
    assert set(description["sha256"]) == {"slices.npy", "slices.csv"}


def test_a_sheet_that_comes_later_is_joined_without_slicing_again(data_dir, monkeypatch, capsys):
    (data_dir / "oasis_cross-sectional.csv").rename(data_dir / "away.csv")
    monkeypatch.setattr(acquire, "download", partial(acquire.download, retries=0))
    first = OASIS(choose_discs(), data_dir)
    assert first.table["age"].isna().all()
    assert "age, sex and CDR stay unknown" in capsys.readouterr().err
    stamp = (first.folder / "slices.npy").stat().st_mtime_ns
    assert OASIS(choose_discs(), data_dir).folder == first.folder
    assert capsys.readouterr().err == ""  # the server is not asked again
    (data_dir / "away.csv").rename(data_dir / "oasis_cross-sectional.csv")
    later = OASIS(choose_discs(), data_dir)
    assert list(later.table["age"][::2]) == [51, 52, 53, 54, 55, 56]
    assert (later.folder / "slices.npy").stat().st_mtime_ns == stamp
    assert list(later.description["sheets"]) == ["oasis_cross-sectional.csv"]


def test_a_folder_of_an_earlier_version_is_searched_once(brains, tmp_path, monkeypatch):
    for name, n in {"a": 0, "b": 1, "c": 0}.items():
        write_png(tmp_path / f"in/sub-{name}/slice_1.png", np.round(255 * brains[n]))
    path = open_folder(tmp_path / "in", tmp_path).folder / "dataset.json"
    description = json.loads(path.read_text())
    expected = description.pop("near_duplicates")
    assert [pair["subjects"] for pair in expected] == [["sub-a", "sub-c"]]
    path.write_text(json.dumps(description))
    assert open_folder(tmp_path / "in", tmp_path).description["near_duplicates"] == expected
    with monkeypatch.context() as patched:
        patched.setattr(prepare_module, "compare_subjects", None)
        assert open_folder(tmp_path / "in", tmp_path).people["sub-c"] == "sub-a"
    path.write_text(json.dumps(description))
    for damage in (b"\x00garbage", b"subject,session\n", b""):
        path.with_name("slices.csv").write_bytes(damage)
        with pytest.raises(DatasetError, match="Delete the folder"):
            open_folder(tmp_path / "in", tmp_path)


# Interrupted


def test_what_was_interrupted_goes_on_and_ends_the_same(data_dir, tmp_path, monkeypatch):
    whole = contents(prepare(choose_discs(), data_dir))
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
            prepare(choose_discs(), tmp_path / f"{stop}")
        again = []
        monkeypatch.setattr(
            Store, "add", lambda self, *a, again=again: again.append(a[0]["key"]) or add(self, *a)
        )
        assert contents(prepare(choose_discs(), tmp_path / f"{stop}")) == whole
        assert len(again) == steps - stop  # nothing was done twice
        assert not set(again) & set(read)
        assert not list((tmp_path / f"{stop}").glob("*.partial"))


def test_interrupted_while_putting_together(data_dir, monkeypatch):
    whole = contents(prepare(choose_discs(), data_dir))
    (folder,) = data_dir.glob("oasis1-*")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with monkeypatch.context() as patched:
        patched.setattr(prepare_module, "_summarise", lambda description: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(choose_discs(), data_dir)
    assert not folder.exists()
    assert contents(prepare(choose_discs(), data_dir)) == whole


@pytest.mark.slow
def test_a_killed_job_goes_on_and_two_at_once_make_one(data_dir, tmp_path):
    whole = contents(prepare(choose_discs(), data_dir))
    other = tmp_path / "other"
    other.mkdir()
    for number in (1, 2):
        write_disc(other, number, sessions(range(3 * number - 2, 3 * number + 1)))
    (other / "oasis_cross-sectional.csv").write_text(SHEET)
    two_discs = ("--discs", "1,2", "--slices-per-volume", "2")
    for records in (1, 4):
        process = start_dataset("oasis1", other, *two_discs)
        while process.poll() is None and len(list(other.glob(".*.partial/*.npz"))) < records:
            pass
        process.kill()
        process.communicate()
    both = [start_dataset("oasis1", other, *two_discs) for _ in range(2)]
    ended = [(process.communicate(timeout=HANG), process.returncode) for process in both]
    assert [status for _, status in ended] == [0, 0], ended
    (folder,) = other.glob("oasis1-*")
    assert contents(folder) == whole
    assert not list(other.glob("**/.partial*"))


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


# Shared


@pytest.fixture
def slices(tmp_path, random):
    """Seven scans of two slices, of mixed sizes, and their sheet."""
    for n in range(7):
        for index in range(2):
            pixels = random.integers(0, 200, (50 + n, 48), np.uint8)
            write_png(tmp_path / f"slices/case_{n:03d}_slice_{index}.png", pixels)
    rows = [f"case_{n:03d},{20 + n},F" for n in range(6)]
    (tmp_path / "slices/sheet.csv").write_text("\n".join(["ID,Age,M/F", *rows]))
    return tmp_path / "slices"


@pytest.fixture
def volumes(tmp_path, random):
    """Five volumes, one of them black."""
    for n in range(5):
        voxels = random.random((20, 24, 18), np.float32) * (n != 3)
        write_volume(tmp_path / f"volumes/head_{n}.nii.gz", voxels)
    return tmp_path / "volumes"


def config_of(source, **options):
    """Returns a `DataConfig` of a source whose volumes may be bad in part."""
    return choose(source, **{"max_bad_scans": 0.3} | options)


@pytest.mark.parametrize("kind", ["slices", "volumes"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_shards_in_any_order_end_with_the_same_bytes(kind, order, tmp_path, request):
    source = request.getfixturevalue(kind)
    whole = contents(prepare(config_of(source), tmp_path / "whole"))
    folders = [prepare(config_of(source), tmp_path / "data", Shard(n, 3)) for n in order]
    assert folders[:2] == [None, None]
    assert contents(folders[2]) == whole
    hidden = [path.name for path in (tmp_path / "data").iterdir() if path != folders[2]]
    assert hidden == [f".{folders[2].name}.mutex"]
    assert prepare(config_of(source), tmp_path / "data", Shard(1, 3)) == folders[2]


def test_the_demo_too(tmp_path):
    few = config_of("demo", demo_subjects=3, slices_per_volume=1)
    whole = contents(prepare(few, tmp_path / "whole"))
    assert prepare(few, tmp_path / "data", Shard(2, 2)) is None
    assert contents(prepare(few, tmp_path / "data", Shard(1, 2))) == whole


def test_what_a_missing_shard_left_is_made_by_a_run_without_one(slices, tmp_path, monkeypatch):
    whole = contents(prepare(config_of(slices), tmp_path / "whole"))
    for n in (1, 3):
        assert prepare(config_of(slices), tmp_path / "data", Shard(n, 3)) is None
    made, add = [], Store.add
    monkeypatch.setattr(Store, "add", lambda s, *a: made.append(a[0]["key"]) or add(s, *a))
    assert contents(OASIS(config_of(slices), tmp_path / "data").folder) == whole
    assert made == ["00000001", "00000004"]


def test_another_number_of_shards_goes_on_from_what_is_made(slices, tmp_path):
    whole = contents(prepare(config_of(slices), tmp_path / "whole"))
    shards = [Shard(1, 3), Shard(2, 3), Shard(1, 2), Shard(6, 7)]  # 0 3 6, 1 4, 2, 5
    *first, last = [prepare(config_of(slices), tmp_path / "data", shard) for shard in shards]
    assert first == [None, None, None]
    assert contents(last) == whole


def test_more_shards_than_scans(slices, tmp_path):
    folders = [prepare(config_of(slices), tmp_path / "data", Shard(n, 9)) for n in range(9, 0, -1)]
    assert folders[:-1] == [None] * 8
    assert contents(folders[-1]) == contents(prepare(config_of(slices), tmp_path / "whole"))


@pytest.mark.slow
def test_shards_and_a_whole_run_at_once(slices, tmp_path):
    whole = contents(prepare(config_of(slices, max_bad_scans=0.05), tmp_path / "whole"))
    flags = (["--shard", "1/2"], ["--shard", "2/2"], ["--shard", "2/2"], [])
    at_once = [start_dataset(slices, tmp_path / "data", *some) for some in flags]
    ended = [(process.communicate(timeout=HANG), process.returncode) for process in at_once]
    assert [status for _, status in ended] == [0] * 4, ended
    (folder,) = (tmp_path / "data").glob("slices-*")
    assert contents(folder) == whole
    assert not list((tmp_path / "data").glob("**/.partial*"))
    assert not list((tmp_path / "data").glob("*.partial"))


def test_a_killed_shard_goes_on(slices, tmp_path):
    whole = contents(prepare(config_of(slices), tmp_path / "whole"))
    process = start_dataset(slices, tmp_path / "data", "--shard", "1/2")
    while process.poll() is None and not list((tmp_path / "data").glob(".*.partial/*.npz")):
        pass
    process.kill()
    process.communicate()
    folders = [prepare(config_of(slices), tmp_path / "data", Shard(n, 2)) for n in (1, 2)]
    assert folders[0] is None
    assert contents(folders[1]) == whole


def test_a_whole_run_waits_for_shards_at_work(slices, tmp_path):
    assert prepare(config_of(slices), tmp_path / "data", Shard(1, 2)) is None
    (mutex,) = (tmp_path / "data").glob(".slices-*.1-of-2.mutex")
    with one_at_a_time(mutex, "is this test"):  # as if that shard were at work
        process = start_dataset(slices, tmp_path / "data")
        line = process.stderr.readline()
        assert "Waiting for another process that prepares a shard" in line
        assert not list((tmp_path / "data").glob("slices-*"))
    assert process.wait(HANG) == 0
    assert list((tmp_path / "data").glob("slices-*"))
    process.communicate()


def test_bad_scans_of_all_shards_are_counted_together(volumes, tmp_path):
    few = config_of(volumes, max_bad_scans=0.1)
    assert prepare(few, tmp_path / "data", Shard(2, 2)) is None  # one of its two is black
    with pytest.raises(DatasetError, match=r"black.* 1 of 5 scans"):
        prepare(few, tmp_path / "data", Shard(1, 2))


# Damaged


def test_a_bad_scan_is_left_out_and_named(data_dir, capsys):
    broken = sessions([4, 5, 6])
    for path in broken["OAS1_0005_MR1"]:
        if "masked_gfc.img" in path:
            broken["OAS1_0005_MR1"][path] = b"short"
    broken["OAS1_0006_MR1"] = oasis1_session("OAS1_0006_MR1", phantom(), phantom() * 0)
    write_disc(data_dir, 2, broken)
    with pytest.raises(DatasetError, match=r"OAS1_0005_MR1.* 2 of 6 scans.*--max-bad-scans"):
        prepare(choose_discs(), data_dir)
    dataset = OASIS(choose_discs(max_bad_scans=0.5), data_dir)
    assert len(dataset.subjects("all")) == 4
    assert set(dataset.description["bad_scans"]) == {"OAS1_0005_MR1", "OAS1_0006_MR1"}
    printed = capsys.readouterr().out
    assert "Left out: 2" in printed
    assert "OAS1_0006_MR1: " in printed.replace(" MR1", "_MR1")


def test_notes_that_differ_in_names_and_numbers_only_are_printed_once(tmp_path, capsys):
    for number in range(1, 5):
        brain = np.pad(np.random.default_rng(0).uniform(50, 99, (20, 24, 30)), 4)
        brain[:number] = np.nan
        write_volume(tmp_path / f"in/sub-{number}_T1w.nii", brain)
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert len(dataset.description["notes"]) == 4
    printed = capsys.readouterr().out
    assert printed.count("are NaN and became 0") == 1
    assert "(and 3 more such, in dataset.json)" in printed


def test_all_scans_bad_is_an_error_whatever_is_allowed(data_dir):
    for number in (1, 2):
        write_disc(data_dir, number, sessions([number], brain=False))
    with pytest.raises(DatasetError, match="2 of 2 scans"):
        prepare(choose_discs(max_bad_scans=1.0), data_dir)


def test_a_job_whose_first_scans_are_all_bad_stops_early(tmp_path, monkeypatch):
    write_disc(tmp_path, 1, sessions(range(1, 40)))
    (tmp_path / "oasis_cross-sectional.csv").write_text(SHEET)
    with pytest.raises(DatasetError, match=r"--slice-range.* 20 of 20 scans"):
        prepare(choose_discs(discs="1", slice_unit="mm", slice_range=(90.0, 99.0)), tmp_path)


def mend(data_dir, number, of):
    """Another archive in the place of one, as someone puts it there who knows of the lock."""
    path = write_disc(data_dir, number, of)
    path.with_name(f"{path.name}.lock").unlink()


def test_once_the_archive_is_replaced_bad_scans_are_tried_again(data_dir):
    write_disc(data_dir, 2, sessions([4, 5, 6], brain=False))
    with pytest.raises(DatasetError, match="3 of 6 scans"):
        prepare(choose_discs(), data_dir)
    write_disc(data_dir, 2, sessions([4, 5, 6]))
    with pytest.raises(DownloadError, match=r"disc2\.tar\.gz.*SHA-256.*lock"):
        prepare(choose_discs(), data_dir)  # another archive than before: the user should know
    mend(data_dir, 2, sessions([4, 5, 6]))
    assert len(np.load(prepare(choose_discs(), data_dir) / "slices.npy")) == 12


def test_slices_of_an_archive_that_was_replaced_are_not_kept(data_dir, tmp_path, monkeypatch):
    before, after = sessions([1, 2, 3]), sessions([1, 2, 3])
    after["OAS1_0001_MR1"] = oasis1_session("OAS1_0001_MR1", phantom(number=40))
    clean = tmp_path / "clean"
    write_disc(clean, 1, after)
    write_disc(clean, 2, sessions([4, 5, 6]))
    (clean / "oasis_cross-sectional.csv").write_text(SHEET)
    expected = contents(prepare(choose_discs(), clean))
    add = Store.add
    for stop in (2, 5):  # in the middle of the first disc, and behind it
        write_disc(data_dir, 1, before)
        count = iter(range(99))
        with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
            patched.setattr(
                Store, "add", lambda s, *a, c=count, n=stop: add(s, *a) if next(c) < n else 1 / 0
            )
            prepare(choose_discs(), data_dir)
        mend(data_dir, 1, after)
        folder = prepare(choose_discs(), data_dir)
        assert contents(folder) == expected
        mend(data_dir, 1, before)
        with pytest.raises(DatasetError, match=r"disc1.*not the archive.*Delete that folder"):
            prepare(choose_discs(), data_dir)
        shutil.rmtree(folder)
        (data_dir / "oasis_cross-sectional_disc1.tar.gz.lock").unlink()


def test_a_truncated_archive_stops_the_job_but_loses_nothing(data_dir):
    path = data_dir / "oasis_cross-sectional_disc2.tar.gz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match=r"disc2\.tar\.gz: .* Delete it"):
        prepare(choose_discs(), data_dir)
    (partial_folder,) = data_dir.glob(".*.partial")
    assert len(list(partial_folder.glob("*.npz"))) > 3
    path.write_bytes(data)
    assert len(np.load(prepare(choose_discs(), data_dir) / "slices.npy")) == 12


def test_a_black_scan_is_named(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.zeros((16, 16)))
    with pytest.raises(DatasetError, match=r"case_1 .*black"):
        open_folder(tmp_path / "in", tmp_path)


@pytest.mark.parametrize("name", ["slices.npy", "slices.csv", "dataset.json"])
def test_a_damaged_prepared_folder_says_so(coronal, tmp_path, name):
    folder = open_folder(coronal, tmp_path).folder
    for damage in (b"\x00garbage", b"", b"null", b'{"near_duplicates": [1]}'):
        (folder / name).write_bytes(damage)
        with pytest.raises(DatasetError, match="Delete the folder"):
            open_folder(coronal, tmp_path)


@pytest.mark.parametrize(
    "source", ["/../../escaped", "..", "", "a/b", "a\\b", "a\n", None, "a" * 201]
)
def test_a_source_that_is_no_plain_name_is_refused(coronal, tmp_path, source):
    folder = open_folder(coronal, tmp_path).folder
    facts = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(facts | {"source": source}))
    with pytest.raises(DatasetError, match="no plain name"):
        read_prepared(folder)


def test_a_small_table_cannot_fill_the_memory_with_blank_cells(coronal, tmp_path):
    folder = open_folder(coronal, tmp_path).folder
    header = (folder / "slices.csv").read_text().splitlines()[0]
    wide = header + "".join(f",c{number}" for number in range(1000))
    for text in (wide + "\n" + "a\n" * 100, header + "," * 10_000 + "\n"):
        (folder / "slices.csv").write_text(text)
        with pytest.raises(DatasetError, match="are not in each of its rows"):
            read_prepared(folder)


def test_a_data_dir_that_is_a_file_is_refused(coronal, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DatasetError, match="--data-dir"):
        open_folder(coronal, tmp_path)


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError, match="data: cannot be written.*--data-dir"):
        prepare(choose("demo", demo_subjects=3), tmp_path / "data")
