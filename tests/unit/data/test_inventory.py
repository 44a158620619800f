"""What counts as a brain: one image of one kind for each session, judged by names alone."""

import collections
import dataclasses
import os

import pytest

from hyperparameters import DataConfig
from oasisvq.core.errors import DatasetError
from oasisvq.data.inventory import take_inventory

CONFIG = DataConfig()


def make(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def taken(folder, *paths, **options):
    """Returns the taken files of a folder with these files in it."""
    entries = take_inventory(make(folder, *paths), dataclasses.replace(CONFIG, **options))
    return sorted(str(entry.relative) for entry in entries if entry.taken)


def reasons(folder, *paths, **options):
    """Returns how many files are taken (`""`), and how many left out for each reason."""
    entries = take_inventory(make(folder, *paths), dataclasses.replace(CONFIG, **options))
    return collections.Counter(entry.reason for entry in entries)


def persons(*names, count=3):
    return [name.format(n=n) for n in range(1, count + 1) for name in names]


LABEL_NAMES = [
    *("seg", "seg4", "aseg", "dseg", "label-GM_probseg", "labels", "mask", "brain_mask", "ribbon"),
    *("pve_1", "aparc+aseg", "wmparc", "parcellation", "tissues", "lesion", "warp", "xfm", "roi"),
]


@pytest.mark.parametrize("word", LABEL_NAMES)
def test_label_maps_are_known_by_name(tmp_path, word):
    files = persons("P{n}/P{n}_T1w.nii.gz", f"P{{n}}/P{{n}}_{word}.nii.gz")
    assert reasons(tmp_path / "folders", *files) == {"": 3, "label": 3}
    flat = persons("P{n}_T1w.nii.gz", f"P{{n}}_{word}.nii.gz")
    assert taken(tmp_path / "flat", *flat) == persons("P{n}_T1w.nii.gz")


def test_brains_with_such_words_in_their_names_stay(tmp_path):
    studies = persons("mask_study_P{n}_T1w.nii.gz")
    assert taken(tmp_path / "study", *studies) == studies
    clinics = persons("Ribbon-clinic/sub-{n}/T1w.nii.gz", "Ribbon-clinic/sub-{n}/seg.nii.gz")
    assert reasons(tmp_path / "clinic", *clinics) == {"": 3, "label": 3}
    masked = persons("OAS1_000{n}_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr")
    assert taken(tmp_path / "masked", *masked) == masked
    free_surfer = persons("s{n}/mri/brainmask.mgz", "s{n}/mri/aseg.mgz")
    assert taken(tmp_path / "fs", *free_surfer) == persons("s{n}/mri/brainmask.mgz")


def test_label_folders(tmp_path):
    for number, folder in enumerate(("labelsTr", "masks", "segmentations", "ground_truth")):
        files = persons("imagesTr/la_00{n}_0000.nii.gz", f"{folder}/la_00{{n}}.nii.gz")
        assert reasons(tmp_path / str(number), *files) == {"": 3, "label": 3}


def test_contrasts_and_channels(tmp_path):
    files = persons("sub-{n}/anat/sub-{n}_T1w.nii.gz", "sub-{n}/anat/sub-{n}_FLAIR.nii.gz")
    assert reasons(tmp_path / "bids", *files) == {"": 3, "contrast": 3}
    assert taken(tmp_path / "bids", suffix="FLAIR") == files[1::2]
    with pytest.raises(DatasetError, match="no image has --suffix PDw"):
        take_inventory(tmp_path / "bids", dataclasses.replace(CONFIG, suffix="PDw"))
    brats = persons(
        *(f"B{{n}}/BraTS2021_0000{{n}}_{c}.nii.gz" for c in ("t1", "t1ce", "t2", "seg"))
    )
    assert taken(tmp_path / "brats", *brats) == brats[::4]
    channels = persons("imagesTr/BRATS_00{n}_0000.nii.gz", "imagesTr/BRATS_00{n}_0001.nii.gz")
    assert reasons(tmp_path / "channels", *channels) == {"": 3, "channel": 3}
    others = persons("P{n}_T2w.nii.gz", "P{n}_PD.nii.gz")
    with pytest.raises(DatasetError, match="several contrasts, PD, T2w, and no T1.*--suffix"):
        taken(tmp_path / "others", *others)


def test_plain_images_of_known_collections(tmp_path):
    neurite = persons(
        *(f"OASIS_OAS1_000{{n}}_MR1/{k}.nii.gz" for k in ("orig", "aligned_norm", "norm"))
    )
    assert taken(tmp_path / "neurite", *neurite) == neurite[1::3]
    surfer = persons(*(f"bert{{n}}/mri/{k}.mgz" for k in ("T1", "brain", "nu", "wm", "orig/001")))
    assert taken(tmp_path / "surfer", *surfer) == persons("bert{n}/mri/brain.mgz")


def test_variants_of_bids(tmp_path):
    spaces = ("", "space-MNI152_", "space-MNI152_desc-preproc_", "acq-fast_")
    files = persons(*(f"sub-{{n}}/sub-{{n}}_{space}T1w.nii.gz" for space in spaces))
    assert reasons(tmp_path / "all", *files) == {"": 3, "variant": 9}
    spaced = persons(*(f"sub-{{n}}/sub-{{n}}_{s}T1w.nii.gz" for s in ("space-A_", "space-B_")))
    assert reasons(tmp_path / "spaced", *spaced) == {"": 3, "kind": 3}
    derived = [*persons("sub-{n}/sub-{n}_T1w.nii.gz"), *persons("derivatives/x/sub-{n}_T1w.nii.gz")]
    assert reasons(tmp_path / "derived", *derived) == {"": 3, "derived": 1}
    assert len(taken(tmp_path / "derived" / "derivatives")) == 3
    wanted = taken(tmp_path / "derived", include=("derivatives/*",))
    assert wanted == persons("derivatives/x/sub-{n}_T1w.nii.gz")


def test_several_unknown_kinds_are_listed_with_their_flags(tmp_path):
    files = persons("P{n}/early.nii.gz", "P{n}/late.nii.gz")
    with pytest.raises(DatasetError, match=r"--include '\*early\*', --include '\*late\*'"):
        taken(tmp_path, *files)
    assert taken(tmp_path, include=("*late*",)) == files[1::2]
    assert taken(tmp_path, exclude=("late.nii.gz",)) == files[::2]
    assert taken(tmp_path, exclude=("late*", "P2")) == ["P1/early.nii.gz", "P3/early.nii.gz"]


def test_repeats_and_series_of_a_session_are_all_taken(tmp_path):
    files = persons("OAS2_000{n}_MR1/RAW/mpr-1.nifti.hdr", "OAS2_000{n}_MR1/RAW/mpr-2.nifti.hdr")
    assert taken(tmp_path / "repeats", *files) == files
    series = persons("pat{n}/IM-0001-0012.png", "pat{n}/IM-0002-0012.png")
    assert taken(tmp_path / "series", *series) == series


def test_second_files_and_augmented_copies(tmp_path):
    files = persons("P{n}_3.png", "P{n}_3.jpg", "P{n}_3_aug_1.jpg", "P{n}_4_flip.png")
    assert taken(tmp_path, *files) == persons("P{n}_3.png")
    assert reasons(tmp_path) == {"": 3, "second": 3, "augmented": 6}


def test_names_that_name_nobody(tmp_path):
    numbered = [f"{n}.png" for n in range(1, 4)]
    people = [f"patient0{n}.png" for n in range(3)]
    for number, files in enumerate((numbered, people, numbered + people)):
        place = make(tmp_path / f"scan{number}", *files)
        found = take_inventory(place, CONFIG)
        assert {entry.names.subject for entry in found} == {place.name}
    classes = [f"train/{c}/{n}.jpg" for c in ("MildDemented", "NonDemented") for n in range(3)]
    with pytest.raises(DatasetError, match="no split by person.*--persons by-likeness"):
        taken(tmp_path / "kaggle", *classes)
    assert len(taken(tmp_path / "kaggle", persons="by-likeness")) == 6


def test_links_are_followed_once_and_strays_are_left_out(tmp_path):
    store = make(tmp_path / "store", *persons("sub-{n}/T1w.nii.gz"))
    folder = make(tmp_path / "in", "sub-9/T1w.nii.gz", ".hidden/x.png", "__MACOSX/y.png", "z.dcm")
    for number in (1, 2):
        (folder / f"sub-{number}").symlink_to(store / f"sub-{number}")
    (folder / "loop").symlink_to(folder)
    (folder / "sub-8_T1w.nii.gz").symlink_to("nowhere.nii.gz")
    os.mkfifo(folder / "pipe.nii.gz")
    make(folder, "runs/a/config.json", "runs/a/split.csv", "runs/a/figures/brain.png")
    make(folder, "data/p/dataset.json", "data/p/slices.npy", "data/p/preview.png")
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
