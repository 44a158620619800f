"""Sources, the slices made of them, and the split by subject."""

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from dataset import OASIS, Hyperparameters, fit_picture, join_people, subject_split
from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.data.sources.base import read_picture

NAMES = [f"subject{n}" for n in range(2000)]


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def open_folder(folder, tmp_path, **options):
    return OASIS(Hyperparameters(dataset=str(folder), **options), tmp_path / "data")


@pytest.fixture
def coronal(tmp_path, random):
    """A folder in the layout of OASIS-1 slices, with its sheet."""
    for n in range(1, 13):
        scan = f"OAS1_{n:04d}_MR1"
        for index in (90, 95, 100):
            pixels = random.integers(0, 200, (24, 20))
            write_png(tmp_path / f"oasis/{scan}/{scan}.{index}.png", pixels)
    sheet = "ID,M/F,Age,CDR\n" + "".join(f"OAS1_{n:04d}_MR1,F,{50 + n},\n" for n in range(1, 12))
    (tmp_path / "oasis/sheet.csv").write_text(sheet)
    return tmp_path / "oasis"


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


def test_a_subject_in_two_ready_made_splits_is_refused(tmp_path):
    for split in ("train", "test"):
        write_png(tmp_path / f"in/{split}/case_001_slice_{len(split)}.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="case_001"):
        open_folder(tmp_path / "in", tmp_path)


def test_volumes_are_cut_in_each_plane(tmp_path):
    import nibabel

    (tmp_path / "in").mkdir()
    voxels = np.random.default_rng(0).random((20, 30, 40)).astype(np.float32)
    for n in (1, 2):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"in/brain_{n}.nii.gz")
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
    with pytest.raises(DatasetError, match=r"brain_1\.nii\.gz: no slice lies in --slice-range"):
        open_folder(tmp_path / "in", tmp_path, slice_unit="mm", slice_range=(90, 99))


def test_demo_makes_the_same_subjects_every_time(tmp_path):
    options = {"dataset": "demo", "demo_subjects": 3, "slices_per_volume": 2}
    first = OASIS(Hyperparameters(**options), tmp_path / "one")
    second = OASIS(Hyperparameters(**options), tmp_path / "two")
    np.testing.assert_array_equal(first.slices, second.slices)
    different = np.abs(first.slices[0].astype(int) - first.slices[2]).mean()
    assert different > 5  # another subject, another brain
    assert 0.2 < (first.slices > 0).mean() < 0.7


# Slices on disk


def test_the_second_use_reads_what_the_first_made(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    stamp = (first.folder / "slices.npy").stat().st_mtime_ns
    second = open_folder(coronal, tmp_path)
    assert second.folder == first.folder
    assert (second.folder / "slices.npy").stat().st_mtime_ns == stamp
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "dataset.json", "slices.csv", "slices.npy",
    ]  # fmt: skip


def test_other_options_and_changed_files_make_their_own(coronal, tmp_path):
    first = open_folder(coronal, tmp_path)
    pattern = r"(?P<subject>OAS1_\d+)"
    assert open_folder(coronal, tmp_path, subject_pattern=pattern).folder != first.folder
    one = next(coronal.rglob("*.png"))
    write_png(one, np.full((24, 20), 7))
    os.utime(one, ns=(1, 1))
    assert open_folder(coronal, tmp_path).folder != first.folder


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
    first.save_split("train", tmp_path / "kept")
    again = open_folder(tmp_path / "kept", tmp_path)
    assert again.folder == tmp_path / "kept"
    np.testing.assert_array_equal(again.slices, first.slices[first.rows("train")])
    assert set(again.table["split"]) == {"train"}


# Split


def test_split_is_by_subject_and_disjoint(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path, validation_fraction=0.3, test_fraction=0.3)
    parts = [set(dataset.subjects(split)) for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert (dataset.table.groupby("subject")["split"].nunique() == 1).all()


def test_split_depends_on_the_name_alone():
    chosen = Hyperparameters(dataset="demo")
    splits = {name: subject_split(name, chosen) for name in NAMES}
    assert splits == {name: subject_split(name, chosen) for name in reversed(NAMES)}
    for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        assert sum(s == split for s in splits.values()) / 2000 == pytest.approx(share, abs=0.03)


def test_split_is_the_same_on_every_machine():
    chosen = Hyperparameters()
    names = ["OAS1_0001", "OAS1_0006", "OAS1_0018", "OAS1_0023", "case_441", "sub-07"]
    place = {name: hashlib.sha256(f"0:{name}".encode()).hexdigest()[:3] for name in names}
    expected = {
        name: "test" if share < "19a" else "validation" if share < "333" else "train"
        for name, share in place.items()  # 0.1 is 0x19a of 0x1000, 0.2 is 0x333
    }
    assert {name: subject_split(name, chosen) for name in names} == expected


def test_sessions_of_a_subject_stay_together(tmp_path):
    for n in range(40):
        for session in ("MR1", "MR2"):
            write_png(tmp_path / f"in/OAS1_{n:04d}_{session}.95.png", np.full((16, 16), 9))
    dataset = open_folder(tmp_path / "in", tmp_path, test_fraction=0.3)
    assert len(dataset.table) == 80
    assert (dataset.table.groupby("subject")["split"].nunique() == 1).all()
    assert dataset.table["split"].nunique() == 3


def test_a_larger_test_share_keeps_the_test_subjects():
    few = Hyperparameters(test_fraction=0.1)
    many = Hyperparameters(test_fraction=0.2)
    kept = [n for n in NAMES if subject_split(n, few) == "test"]
    assert all(subject_split(n, many) == "test" for n in kept)


def test_another_split_seed_deals_anew():
    splits = [[subject_split(n, Hyperparameters(split_seed=s)) for n in NAMES] for s in (0, 1)]
    assert splits[0] != splits[1]


def test_known_near_duplicates_stay_together():
    for seed in range(50):
        chosen = Hyperparameters(split_seed=seed)
        assert subject_split("OAS1_0079", chosen) == subject_split("OAS1_0193", chosen)


def test_names_joined_in_pairs_all_go_by_the_first():
    pairs = [("d", "c"), ("f", "e"), ("c", "b"), ("e", "d"), ("x", "OAS1_0193")]
    people = join_people(pairs)
    assert {people[name] for name in "bcdef"} == {"b"}
    assert {people[name] for name in ("x", "OAS1_0193", "OAS1_0079")} == {"OAS1_0079"}


def test_known_near_duplicates_in_two_ready_made_splits_are_trained_on(tmp_path):
    for split, name in {"train": "OAS1_0193", "test": "OAS1_0079", "validate": "OAS1_0001"}.items():
        write_png(tmp_path / f"in/{split}/{name}_MR1.95.png", np.full((16, 16), 9))
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.subjects("train") == ["OAS1_0079", "OAS1_0193"]
    assert dataset.subjects("validation") == ["OAS1_0001"]
    assert dataset.subjects("test") == []


def test_an_empty_split_is_refused(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="--test-fraction"):
        open_folder(tmp_path / "in", tmp_path, test_fraction=0.0).require("test")


# Batches


def test_batches_are_in_0_to_1_and_whole(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path)
    rows = dataset.rows("train")
    images = np.concatenate([b.numpy() for b in dataset.batches("train", 4)])
    np.testing.assert_array_equal(images[..., 0], dataset.slices[rows].astype("float32") / 255)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_variance_is_that_of_the_training_pixels(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path)
    pixels = dataset.slices[dataset.rows("train")] / 255
    assert dataset.variance() == pytest.approx(pixels.var(), rel=1e-6)


def test_mean_slices_are_of_training_subjects_by_position(coronal, tmp_path):
    dataset = open_folder(coronal, tmp_path, test_fraction=0.4)
    rows = dataset.rows("train")
    rows = rows[dataset.table["index"].iloc[rows] == 95]
    means = dataset.mean_slices()
    np.testing.assert_allclose(means[" 95"], dataset.slices[rows].mean(0) / 255, atol=1e-6)
    assert set(means) == {"all", " 90", " 95", " 100"}


# Bad input


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


def test_a_sheet_with_numbers_for_names_is_joined(tmp_path):
    for n in (7, 8):
        write_png(tmp_path / f"in/{n}/slice_1.png", np.full((16, 16), 9))
    (tmp_path / "in/sheet.csv").write_text("ID,Age,position_mm\n7,61,5\n8,72,6\n")
    table = open_folder(tmp_path / "in", tmp_path).table
    assert list(table["age"].astype(str)) in (["61", "72"], ["61.0", "72.0"])
    assert table["position_mm"].isna().all()  # ours, not the sheet's


def test_slices_and_volumes_in_one_folder_are_refused(tmp_path):
    write_png(tmp_path / "in/case_1_slice_0.png", np.full((16, 16), 9))
    (tmp_path / "in/template.nii").write_bytes(b"")
    with pytest.raises(DatasetError, match="two folders"):
        open_folder(tmp_path / "in", tmp_path)


def test_of_an_oasis_disc_the_masked_atlas_volumes_are_taken(tmp_path):
    import nibabel

    folder = tmp_path / "disc1/OAS1_0001_MR1"
    folder.mkdir(parents=True)
    voxels = np.ones((12, 14, 12), ">i2")  # so is the raw one, whose axes are A, S, L
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


def test_a_source_with_some_ready_made_splits_is_refused(tmp_path):
    write_png(tmp_path / "in/train/case_001_slice_0.png", np.full((16, 16), 9))
    write_png(tmp_path / "in/more/case_002_slice_0.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="case_002"):
        open_folder(tmp_path / "in", tmp_path)


def test_a_subject_whose_slices_lie_in_a_split_in_part_is_refused(tmp_path):
    write_png(tmp_path / "in/test/case_1_slice_0.png", np.full((16, 16), 9))
    write_png(tmp_path / "in/case_1_slice_1.png", np.full((16, 16), 9))
    with pytest.raises(DatasetError, match="slices of subject case_1 lie in none"):
        open_folder(tmp_path / "in", tmp_path)


def test_the_data_of_an_analyze_pair_are_watched(tmp_path):
    import nibabel

    (tmp_path / "in").mkdir()
    path = tmp_path / "in/brain_1.hdr"
    voxels = np.ones((12, 14, 16), "<i2")
    nibabel.save(nibabel.AnalyzeImage(voxels, None), path)
    first = open_folder(tmp_path / "in", tmp_path)
    os.utime(path.with_suffix(".img"), ns=(1, 1))
    assert open_folder(tmp_path / "in", tmp_path).folder != first.folder


def test_a_data_dir_that_is_a_file_is_refused(coronal, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DatasetError, match="--data-dir"):
        open_folder(coronal, tmp_path)


def test_demo_outside_the_template_is_refused(tmp_path):
    chosen = Hyperparameters(dataset="demo", slice_unit="mm", slice_range=(500.0, 600.0))
    with pytest.raises(DatasetError, match="--slice-range"):
        OASIS(chosen, tmp_path)


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


def test_dataset_json_tells_what_made_it(coronal, tmp_path):
    description = json.loads((open_folder(coronal, tmp_path).folder / "dataset.json").read_text())
    assert description["subjects"] == 12
    assert description["slices"] == 36
    assert set(description["sha256"]) == {"slices.npy", "slices.csv"}


def test_fitted_slices_are_on_disk_and_those_of_each_picture(coronal, tmp_path):
    plain = open_folder(coronal, tmp_path)
    chosen = Hyperparameters(dataset=str(coronal))
    fitted = OASIS(chosen, tmp_path / "data", image_shape=(30, 18))
    assert fitted.image_shape == (30, 18)
    assert isinstance(fitted.slices, np.memmap)
    for one, picture in zip(fitted.slices, plain.slices, strict=True):
        np.testing.assert_array_equal(one, fit_picture(picture, (30, 18)))


def test_a_saved_split_is_its_slices_whole(coronal, tmp_path, monkeypatch):
    monkeypatch.setattr("dataset.BLOCK", 5)
    dataset = open_folder(coronal, tmp_path)
    dataset.save_split("train", tmp_path / "saved")
    saved, rows = np.load(tmp_path / "saved/slices.npy"), dataset.rows("train")
    assert len(rows) % 5
    np.testing.assert_array_equal(saved, dataset.slices[rows])
