"""What counts as a brain: one image of one kind for each session, judged by names alone."""

import collections
import dataclasses

import numpy as np
import pytest

from hyperparameters import DataConfig
from oasisvq.core.errors import DatasetError
from oasisvq.data.inventory import take_inventory
from support.sources import touch_files, write_png

CONFIG = DataConfig()


def taken(folder, *paths, **options):
    """Returns the taken files of a folder with these files in it."""
    entries = take_inventory(touch_files(folder, *paths), dataclasses.replace(CONFIG, **options))
    return sorted(str(entry.relative) for entry in entries if entry.taken)


def reasons(folder, *paths, **options):
    """Returns how many files are taken (`""`), and how many left out for each reason."""
    entries = take_inventory(touch_files(folder, *paths), dataclasses.replace(CONFIG, **options))
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
        place = touch_files(tmp_path / f"scan{number}", *files)
        found = take_inventory(place, CONFIG)
        assert {entry.names.subject for entry in found} == {place.name}
    classes = [f"train/{c}/{n}.jpg" for c in ("MildDemented", "NonDemented") for n in range(3)]
    with pytest.raises(DatasetError, match="no split by person.*--persons by-likeness"):
        taken(tmp_path / "kaggle", *classes)
    assert len(taken(tmp_path / "kaggle", persons="by-likeness")) == 6


def test_contrasts_are_told_by_folders_too(tmp_path):
    inside = persons(*(f"P{{n}}/{c}/image.nii.gz" for c in ("FLAIR", "T1", "T2")))
    assert taken(tmp_path / "inside", *inside) == persons("P{n}/T1/image.nii.gz")
    above = [f"{c}/P{n}.nii.gz" for c in ("FLAIR", "T1") for n in (1, 2, 3)]
    assert reasons(tmp_path / "above", *above) == {"": 3, "contrast": 3}
    pictures = persons("{n}000{n}/FLAIR/Image-9.png", "{n}000{n}/T1w/Image-8.png")
    assert reasons(tmp_path / "pictures", *pictures) == {"": 3, "contrast": 3}
    first = persons("T1_PD_0{n}.nii.gz", "T1_HC_1{n}.nii.gz")
    assert reasons(tmp_path / "first", *first) == {"": 6}
    moved = persons("P{n}_T1.nii.gz", "P{n}_T2_to_T1.nii.gz")
    assert reasons(tmp_path / "moved", *moved) == {"": 3, "contrast": 3}


def test_unknown_kinds_beside_t1_are_left_out(tmp_path):
    bids = persons(
        *(
            f"sub-{{n}}/{k}/sub-{{n}}_{s}.nii.gz"
            for k, s in (
                ("anat", "T1w"),
                ("fmap", "magnitude1"),
                ("fmap", "magnitude2"),
                ("func", "task-rest_space-T1w_boldref"),
            )
        )
    )
    assert reasons(tmp_path / "bids", *bids) == {"": 3, "kind": 9}
    alone = ["P1_T1.nii.gz", "P2_T1.nii.gz", "P3_QSM.nii.gz", "P4_localizer.nii.gz"]
    assert taken(tmp_path / "alone", *alone) == alone[:2]
    scouts = persons(
        "P{n}/P{n}_AAHead_Scout_20190503101110_1.nii", "P{n}/P{n}_t1_mprage_20190503101510_3.nii"
    )
    assert taken(tmp_path / "scouts", *scouts) == scouts[1::2]
    inversions = persons("sub-{n}_inv-1_MP2RAGE.nii.gz", "sub-{n}_inv-2_MP2RAGE.nii.gz")
    with pytest.raises(DatasetError, match="several kinds of image"):
        taken(tmp_path / "inversions", *inversions)


@pytest.mark.parametrize("form", ["P0{n}", "sub-0{n}_T1w", "OAS1_000{n}_MR1"])
def test_what_spm_and_cat12_make_of_an_image(tmp_path, form):
    parts = ("", "c1", "c2", "c3", "m", "wm", "y_", "mwp1", "p0")
    files = persons(*(f"{part}{form}.nii" for part in parts))
    found = take_inventory(touch_files(tmp_path / "all", *files), CONFIG)
    plain = persons(f"{form}.nii")
    assert sorted(str(entry.relative) for entry in found if entry.taken) == plain
    assert len({entry.names.subject for entry in found}) == 3
    made = persons(*(f"mri/{part}{form}.nii" for part in ("p0", "mwp1", "p1", "wm")))
    assert taken(tmp_path / "made", *made) == persons(f"mri/wm{form}.nii")


def test_templates_and_scans_processed_again_are_nobodys(tmp_path):
    files = [
        "MNI152_T1_2mm_brain.nii.gz",
        "template.nii.gz",
        *persons("P{n}_space-MNI152_T1.nii.gz"),
    ]
    assert reasons(tmp_path / "templates", *files) == {"": 3, "template": 2}
    surfer = persons(
        *(f"{p}/mri/brain.mgz" for p in ("P{n}_tp1", "P{n}_base", "P{n}_tp1.long.P{n}_base"))
    )
    assert reasons(tmp_path / "surfer", *surfer, "fsaverage/mri/brain.mgz") == {
        "": 3,
        "again": 6,
        "template": 1,
    }
    project = persons(
        "rawdata/sub-{n}/sub-{n}_T1w.nii",
        "fmriprep/sub-{n}_T1w.nii",
        "freesurfer/sub-{n}/brain.mgz",
    )
    assert reasons(tmp_path / "project", *project) == {"": 3, "derived": 2}


def test_sessions_without_the_best_kind_give_the_next(tmp_path):
    files = [
        "P1/mri/brain.mgz",
        "P1/mri/norm.mgz",
        "P2/mri/norm.mgz",
        "P2/mri/T1.mgz",
        "P3/mri/T1.mgz",
    ]
    assert taken(tmp_path, *files) == ["P1/mri/brain.mgz", "P2/mri/norm.mgz"]


def test_several_planes_without_the_chosen_one_are_refused(tmp_path):
    files = persons("P{n}/cor/9.png", "P{n}/sag/9.png")
    with pytest.raises(DatasetError, match="coronal and sagittal.*--plane"):
        taken(tmp_path, *files)
    assert taken(tmp_path, plane="sagittal") == files[1::2]


def test_images_of_one_name_in_two_folders_are_repeats(tmp_path):
    files = persons("P{n}/a1/x.nii.gz", "P{n}/b2/x.nii.gz")
    entries = take_inventory(touch_files(tmp_path, *files), CONFIG)
    assert all(entry.taken for entry in entries)
    assert {entry.names.repeat for entry in entries} == {"", *persons("P{n}/b2")}


def test_a_name_like_a_label_maps_is_believed_beside_another_image_or_by_content(tmp_path):
    brain = np.pad(np.random.default_rng(0).integers(50, 200, (20, 20)), 5)
    for number in (1, 2, 3):
        write_png(tmp_path / f"lesion_P0{number}_9.png", brain)
        write_png(tmp_path / f"control_P1{number}_9.png", brain)
        write_png(tmp_path / f"P2{number}_9.png", brain)
        write_png(tmp_path / f"P2{number}_9_mask.png", brain)
    assert reasons(tmp_path) == {"": 9, "label": 3}
    for number in (1, 2, 3):
        write_png(tmp_path / f"lesion_P0{number}_9.png", (brain > 0) * 255)
    assert reasons(tmp_path) == {"": 6, "label": 6}


def test_what_include_names_is_left_out_by_no_rule(tmp_path):
    files = persons("P{n}_T1w.nii.gz", "P{n}_dseg.nii.gz")
    assert taken(tmp_path, *files, include=("*dseg*",)) == files[1::2]
    assert taken(tmp_path, include=("p1*",)) == files[:1]
    with pytest.raises(DatasetError, match=r"--exclude sub-9 fits no image"):
        taken(tmp_path, exclude=("sub-9",))
    bids = persons("site1/sub-{n}/anat/T1w.nii", "derivatives/sub-{n}/anat/T1w.nii")
    assert reasons(tmp_path / "bids", *bids, exclude=("sub-2",)) == {
        "": 2,
        "excluded": 1,
        "derived": 1,
    }
    assert len(taken(tmp_path / "bids", include=("*T1w.nii",))) == 3


def test_words_behind_desc_are_no_changes_and_segm_is_a_label(tmp_path):
    tissue = "sub-{n}_T1w_segm-graymatter_dartelinput.nii.gz"
    clinica = persons("sub-{n}/t1/sub-{n}_desc-Crop_T1w.nii.gz", f"sub-{{n}}/spm/{tissue}")
    assert reasons(tmp_path / "clinica", *clinica) == {"": 3, "label": 3}
    thick = persons("sub-{n}_desc-crop_T1w.nii.gz", "sub-{n}_desc-smooth_thickness.nii.gz")
    assert taken(tmp_path / "thick", *thick) == sorted(thick[::2])


def test_a_persons_number_is_no_part_of_the_kind(tmp_path):
    files = persons("{n}/T1.nii", "{n}/T1_1mm.nii", "{n}/T1_IR.nii", "{n}/T2.nii")
    assert taken(tmp_path, *files) == files[::4]


@pytest.mark.parametrize(
    ("forms", "reason"),
    [
        (("brains/P{n}.nii", "gm/P{n}.nii", "thickness/P{n}.nii"), "label"),
        (("P{n}/brain/i.nii", "P{n}/gm/i.nii", "P{n}/jacobian/i.nii"), "label"),
        (("img/P{n}_90.jpg", "ann/P{n}_90.jpg"), "label"),
        (("x_train/P{n}_90.png", "y_train/P{n}_90.png"), "label"),
        (("Original/CC{n}.nii", "Skull-stripping-masks/STAPLE/CC{n}_staple.nii"), "label"),
        (("images/P{n}_90.png", "overlays/P{n}_90.png", "thumbs/P{n}_90.png"), "drawn"),
        (("P{n}/orig/90.png", "P{n}/edges/90.png"), "drawn"),
        (("P{n}_90.png", "P{n}_heat_map_90.png"), "drawn"),
        (("P{n}.nii", "P{n}_grey_matter.nii"), "label"),
        (("P{n}/P{n}_90.png", "P{n}/P{n}_mosaic.png"), "drawn"),
        (("P{n}/MR/90.png", "P{n}/CT/90.png"), "contrast"),
        (("MRI/P{n}.nii", "PET/P{n}.nii"), "contrast"),
        (("T1w/P{n}.nii", "T1map/P{n}.nii", "MTR/P{n}.nii"), "kind"),
        (("MPRAGE/P{n}_90.png", "SUSC/P{n}_90.png"), "kind"),
        (("P{n}.nii", "P{n}_b1000.nii"), "variant"),
        (("P{n}/P{n}.nii", "P{n}/P{n}_b1000.nii"), "variant"),
    ],
)
def test_folders_tell_kinds(tmp_path, forms, reason):
    files = persons(*forms)
    assert taken(tmp_path, *files) == sorted(files[:: len(forms)])
    assert set(reasons(tmp_path)) == {"", reason}
    found = take_inventory(tmp_path, CONFIG)
    assert len({entry.names.subject for entry in found if entry.taken}) == 3


def test_images_of_several_b_values_are_refused_with_the_flag(tmp_path):
    files = persons("P{n}_b0.nii", "P{n}_b1000.nii")
    with pytest.raises(DatasetError, match="several contrasts, b0, b1000, and no T1.*--suffix b0"):
        taken(tmp_path, *files)
    assert taken(tmp_path, suffix="b0") == sorted(files[::2])


def test_the_sites_of_brats_are_no_dates(tmp_path):
    names = ("2013_10_1", "2013_11_1", "CBICA_AAB_1", "TCIA01_401_1")
    taken(tmp_path, *(f"HGG/Brats18_{name}/Brats18_{name}_t1.nii.gz" for name in names))
    found = take_inventory(tmp_path, CONFIG)
    assert {entry.names.subject for entry in found} == {f"brats18_{n.lower()}" for n in names}


@pytest.mark.parametrize("folders", [("bet", "raw"), ("hippo", "scans"), ("in", "out")])
def test_folders_of_unknown_kinds_are_refused_with_the_flag_for_each(tmp_path, folders):
    for number, form in enumerate(("{f}/P{n}.nii", "P{n}/{f}/x.nii", "{f}/P{n}_90.png")):
        forms = [form.replace("{f}", folder) for folder in folders]
        place = touch_files(tmp_path / str(number), *persons(*forms))
        with pytest.raises(DatasetError, match=rf"--include '\*{folders[0]}.*--subject-pattern"):
            take_inventory(place, CONFIG)
        assert taken(place, include=(f"*{folders[0]}*",)) == sorted(persons(forms[0]))


def test_images_in_a_templates_space_are_persons(tmp_path):
    assert len(taken(tmp_path, *persons("00{n}/T1_MNI152.nii.gz"))) == 3


def test_folders_that_hold_others_called_alike_are_collections(tmp_path):
    files = [f"{name}_volumes/{name}-{n}/t1.nii" for name in ("TRT-20", "RS-22") for n in (1, 2, 3)]
    found = take_inventory(touch_files(tmp_path, *files), CONFIG)
    assert len({entry.names.subject for entry in found}) == 6


def test_scans_numbered_alike_in_two_groups(tmp_path):
    groups = touch_files(tmp_path / "groups", *persons("AD_S0{n}.nii", "HC_S0{n}.nii"))
    assert len({entry.names.subject for entry in take_inventory(groups, CONFIG)}) == 6
    sites = touch_files(tmp_path / "sites", *persons("Leiden_S0{n}.nii", "Utrecht_S0{n}.nii"))
    assert all(entry.names.guessed for entry in take_inventory(sites, CONFIG))


def test_positions_on_both_sides_of_0_are_two_slices(tmp_path):
    files = persons("P{n}_-2mm.png", "P{n}_2mm.png")
    assert taken(tmp_path, *files) == sorted(files)
