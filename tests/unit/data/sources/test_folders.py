"""Folders of pictures and of volumes as sources, in all layouts."""

import os

import nibabel
import numpy as np
import pytest

from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.data.pictures import read_picture
from oasisvq.data.sources import folders
from support.sources import choose, open_folder, write_png, write_volume


def test_oasis_names_give_subject_session_and_index(coronal, tmp_path):
    table = open_folder(coronal, tmp_path).table
    assert len(table) == 36
    first = table.iloc[0]
    assert (first["subject"], first["session"], first["index"]) == ("OAS1_0001", "MR1", 90)
    assert list(table["index"][:3]) == [90, 95, 100]


def test_the_sheet_is_joined_and_blanks_stay_unknown(coronal, tmp_path):
    table = open_folder(coronal, tmp_path).table.set_index("subject")
    assert (table.loc["OAS1_0003", "age"] == 53).all()
    assert (table.loc["OAS1_0003", "sex"] == "F").all()
    assert table["cdr"].isna().all()
    assert table.loc["OAS1_0012", "age"].isna().all()  # no row in the sheet, still there


def test_a_subject_pattern_overrides_the_names(tmp_path):
    write_png(tmp_path / "in/P12/x_T3_007.png", np.full((16, 16), 9))
    pattern = r"(?P<subject>P\d+)/x_(?P<session>T\d)_(?P<index>\d+)"
    row = open_folder(tmp_path / "in", tmp_path, subject_pattern=pattern).table.iloc[0]
    assert (row["subject"], row["session"], row["index"]) == ("P12", "T3", 7)
    for wrong in ("(", "no group", r"(?P<subject>Q\d+)"):
        with pytest.raises(DatasetError, match="--subject-pattern"):
            open_folder(tmp_path / "in", tmp_path, subject_pattern=wrong)


def test_the_course_layout_keeps_its_split_and_leaves_labels_out(tmp_path):
    root = tmp_path / "keras_png_slices_data"
    for split, cases in {"train": (1, 2), "validate": (3,), "test": (4,)}.items():
        for case in cases:
            name = f"case_{case:03d}_slice_0.nii.png"
            write_png(root / f"keras_png_slices_{split}" / name, np.full((16, 16), 9))
            label = f"seg_{case:03d}_slice_0.nii.png"
            write_png(root / f"keras_png_slices_seg_{split}" / label, np.full((16, 16), 9))
            write_png(root / f"keras_png_slices_{split}" / f"seg_{name}", np.full((16, 16), 9))
    dataset = open_folder(root, tmp_path)
    assert len(dataset.table) == 4
    assert dataset.subjects("train") == ["case_001", "case_002"]
    assert dataset.subjects("validation") == ["case_003"]
    assert dataset.subjects("test") == ["case_004"]


def test_volumes_are_cut_in_each_plane(tmp_path):
    voxels = np.random.default_rng(0).random((20, 30, 40)).astype(np.float32)
    for n in (1, 2):
        write_volume(tmp_path / f"in/brain_{n}.nii.gz", voxels)
    shapes = {"axial": (30, 20), "coronal": (40, 20), "sagittal": (40, 30)}
    for plane, shape in shapes.items():
        dataset = open_folder(tmp_path / "in", tmp_path, plane=plane, slices_per_volume=3)
        assert dataset.image_shape == shape
        assert set(dataset.table["plane"]) == {plane}
        assert dataset.table["subject"].nunique() == 2
    positions = open_folder(
        tmp_path / "in", tmp_path, slice_unit="mm", slice_range=(10, 20), slices_per_volume=3
    ).table["position_mm"]
    assert list(positions[:3]) == [10, 15, 20]
    with pytest.raises(DatasetError, match=r"brain_1\.nii\.gz: no slice is in --slice-range"):
        open_folder(tmp_path / "in", tmp_path, slice_unit="mm", slice_range=(90, 99))


def test_other_options_and_changed_files_make_their_own(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    pattern = r"(?P<subject>OAS1_\d+)"
    assert open_folder(coronal, tmp_path, subject_pattern=pattern).folder != first.folder
    one = next(coronal.rglob("*.png"))
    write_png(one, np.full((24, 20), 7))
    os.utime(one, ns=(1, 1))
    assert open_folder(coronal, tmp_path).folder != first.folder


def test_the_data_of_an_analyze_pair_are_watched(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in/brain_1.hdr"
    voxels = np.arange(12 * 14 * 16, dtype="<i2").reshape(12, 14, 16)
    nibabel.save(nibabel.AnalyzeImage(voxels, None), path)
    first = open_folder(tmp_path / "in", tmp_path)
    os.utime(path.with_suffix(".img"), ns=(1, 1))
    assert open_folder(tmp_path / "in", tmp_path).folder != first.folder


def test_a_sheet_with_numbers_for_names_is_joined(tmp_path):
    for n in (7, 8):
        write_png(tmp_path / f"in/{n}/slice_1.png", np.full((16, 16), 9))
    (tmp_path / "in/sheet.csv").write_text("ID,Age,position_mm\n7,61,5\n8,72,6\n")
    table = open_folder(tmp_path / "in", tmp_path).table
    assert list(table["age"].astype(str)) in (["61", "72"], ["61.0", "72.0"])
    assert table["position_mm"].isna().all()  # ours, not the sheet's


def test_of_an_oasis_disc_the_masked_atlas_volumes_are_taken(tmp_path):
    folder = tmp_path / "disc1/OAS1_0001_MR1"
    folder.mkdir(parents=True)
    voxels = np.arange(12 * 14 * 12, dtype=">i2").reshape(
        12, 14, 12
    )  # so is the raw one, whose axes are A, S, L
    stem = "OAS1_0001_MR1_mpr"
    for name in ("n4_anon_111_t88_gfc", "n4_anon_111_t88_masked_gfc", "-1_anon"):
        name = f"{stem}_{name}".replace("_-", "-")
        nibabel.save(nibabel.AnalyzeImage(voxels, None), folder / f"{name}.hdr")
    fseg = folder / f"{stem}_n4_anon_111_t88_masked_gfc_fseg.hdr"
    nibabel.save(nibabel.AnalyzeImage(voxels, None), fseg)
    dataset = open_folder(tmp_path / "disc1", tmp_path, slices_per_volume=2)
    assert len(dataset.table) == 2
    (folder / f"{stem}_n4_anon_111_t88_masked_gfc.hdr").unlink()
    with pytest.raises(DatasetError, match=r"several kinds .*--oasis1-image"):
        open_folder(tmp_path / "disc1", tmp_path)
    raw = open_folder(tmp_path / "disc1", tmp_path, slices_per_volume=2, oasis1_image="raw")
    assert raw.image_shape == (12, 12)  # A, S, L in the file: an axial slice is 12 high, 12 wide


def test_no_such_folder_and_no_images(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        open_folder(tmp_path / "missing", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        open_folder(tmp_path / "empty", tmp_path)


def test_a_bad_picture_is_named_and_leaves_nothing_behind(coronal, tmp_path):
    path = coronal / "OAS1_0005_MR1/OAS1_0005_MR1.95.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"OAS1_0005_MR1\.95\.png.* 1 of 12 scans"):
        open_folder(coronal, tmp_path)
    assert not any(path.is_dir() for path in (tmp_path / "data").iterdir())
    dataset = open_folder(coronal, tmp_path, max_bad_scans=0.1)
    assert len(dataset.subjects("all")) == 11
    (problem,) = dataset.description["bad_scans"].values()
    assert "OAS1_0005_MR1.95.png" in problem
    path.write_text("not a picture")
    with pytest.raises(VolumeError, match=r"OAS1_0005_MR1\.95\.png"):
        read_picture(path)


def test_slices_and_volumes_in_one_folder_are_refused(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.full((16, 16), 9))
    (tmp_path / "in/head.nii").write_bytes(b"")
    with pytest.raises(DatasetError, match="--exclude"):
        open_folder(tmp_path / "in", tmp_path)


def test_an_image_of_freesurfer_that_is_cut_off_is_no_label_map(tmp_path, random):
    voxels = np.zeros((40, 48, 44), np.uint8)
    head = voxels[10:30, 12:36, 11:33]
    head[:] = 255  # nearly all of it is at the limit
    head[:, :, ::8] = random.integers(150, 255, (20, 24, 3))
    for name in ("surfer/P1/mri/norm.mgz", "else/P1/norm.mgz", "mask/P1/mri/norm.mgz"):
        write_volume(tmp_path / name, voxels if "mask" not in name else voxels // 255)
    assert len(open_folder(tmp_path / "surfer", tmp_path).table)
    for folder in ("else", "mask"):
        with pytest.raises(DatasetError, match="looks like a label map"):
            open_folder(tmp_path / folder, tmp_path)


def test_a_volume_of_one_value_is_a_bad_scan(tmp_path, random):
    for number in range(30):
        voxels = random.random((20, 24, 22)) if number else np.full((20, 24, 22), 7)
        write_volume(tmp_path / f"in/P{number:02d}.nii.gz", voxels.astype(np.float32))
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.table["subject"].nunique() == 29
    assert "every voxel is 7" in str(dataset.description["bad_scans"])


def test_slices_of_one_volume_are_one_head_by_likeness(tmp_path, random):
    for number in range(4):
        write_volume(tmp_path / f"in/P{number}.nii.gz", random.random((40, 48, 44)))
    options = {"persons": "by-likeness", "slices_per_volume": 6}
    table = open_folder(tmp_path / "in", tmp_path, **options).table
    assert list(table.groupby("subject", sort=False).size()) == [6, 6, 6, 6]


def test_pictures_that_are_all_persons_of_their_own_are_said(tmp_path):
    for number in range(12):
        write_png(tmp_path / f"in/P{number:02d}_{70 + number}.png", np.full((16, 16), 9 + number))
    (line,) = (
        n for n in open_folder(tmp_path / "in", tmp_path).description["remarks"] if "own" in n
    )
    assert line.startswith(
        "Nearly every picture is a person of its own: 12 persons, as P00 of P00_70"
    )


@pytest.mark.parametrize(
    ("name", "thickness"),
    [("P1_{}.png", 1), ("sub-P1_run-{}_T1w.nii.gz", 10)],
)
def test_the_files_of_a_scan_are_measured_together_before_they_are_read(
    name, thickness, tmp_path, monkeypatch
):
    for number in range(3):
        path = tmp_path / "in" / name.format(number + 1)
        if name.endswith("png"):
            write_png(path, np.zeros((50, 50)))
        else:
            write_volume(path, np.zeros((50, 50, thickness), np.uint8))
    monkeypatch.setattr(folders, "LARGEST_SCAN", 7500 * thickness - 1)
    for reader in ("read_pictures", "read_volume"):
        monkeypatch.setattr(folders, reader, None)
    with pytest.raises(DatasetError, match=f"the 3 files of its scan have {7500 * thickness:,}"):
        open_folder(tmp_path / "in", tmp_path)


def test_what_unpacks_from_nothing_is_more_than_files_of_that_size_hold(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32))
    for number in range(4):
        write_png(tmp_path / f"in/sub-P{number}_1.png", noise)
        write_png(tmp_path / f"in/sub-Q{number}_1.png", np.pad(noise[:2, :2], 15))
    scans = folders.open_folder(choose(tmp_path / "in")).scans_of
    sizes = {scan[0].path.name: folders._unpacked_from_nothing(scan) for scan in scans}
    assert {name for name, size in sizes.items() if size} == {f"sub-Q{n}_1.png" for n in range(4)}
