"""Subjects, sessions, numbers and splits from paths: no person may pass for two."""

import re
from pathlib import PurePath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oasisvq.core.errors import DatasetError
from oasisvq.data.filenames import Names, names_in_path, read_names
from oasisvq.data.splits import SPLITS


@pytest.mark.parametrize(
    ("path", "subject", "session", "index"),
    [
        ("OAS1_0001_MR1/OAS1_0001_MR1.95.png", "OAS1_0001", "MR1", 95),
        ("OAS1_0001_MR1/95.png", "OAS1_0001", "MR1", 95),
        ("OAS1_0001_MR1_a.jpg", "OAS1_0001", "MR1", None),
        ("oas1_0001_mr1.95.png", "OAS1_0001", "MR1", 95),
        ("OAS1_0061_MR2.95.png", "OAS1_0061", "MR2", 95),
        ("d/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr", "OAS1_0001", "MR1", None),
        ("OAS2_0001_MR1/RAW/mpr-1.nifti.hdr", "OAS2_0001", "MR1", None),
        ("OAS30001_MR_d0129_12.png", "OAS30001", "MR_d0129", 12),
        ("OAS30001_MR_d0757/T1w.nii.gz", "OAS30001", "MR_d0757", None),
        ("002_S_0295/ADNI_002_S_0295_MR_x_S13408_I118671.nii", "002_S_0295", "", None),
        ("Case_441_slice_3.png", "case_441", "", 3),
        ("case_441_slice_0.nii.png", "case_441", "", 0),
        ("sub-07_ses-2_slice-033.png", "sub-07", "ses-2", 33),
        ("sub-02_T1.nii.gz", "sub-02", "", None),
        ("sub-02_run-2_T1w.nii.gz", "sub-02", "", None),
        ("sub-OAS30001_ses-d0129_run-01_T1w.nii.gz", "OAS30001", "ses-d0129", None),
        ("sub-01/ses-test/anat/sub-01_ses-test_T1w.nii.gz", "sub-01", "ses-test", None),
        ("IXI/IXI002-Guys-0828-T1.nii.gz", "IXI002", "", None),
        ("BraTS-GLI-00000-001/BraTS-GLI-00000-001-t1n.nii.gz", "brats-gli-00000", "001", None),
        ("P01_2019-05-03_T1.nii.gz", "P01", "2019-05-03", None),
        ("P01_03.05.2019.nii.gz", "P01", "03.05.2019", None),
        ("P01/2019-05-03_08_20_30.0/T1.nii.gz", "P01", "2019-05-03", None),
        ("anna_m12.nii.gz", "anna", "m12", None),
        ("anna_timepoint2_T1.nii.gz", "anna", "timepoint2", None),
        ("P01_retest.nii.gz", "P01", "retest", None),
        ("patient07_3.png", "patient07", "", 3),
        ("patient07.png", "", "", 7),
        ("AD/AD_12.png", "", "", 12),
        ("Non Demented/26 (19).jpg", "", "", 19),
        ("patient_A-12.png", "patient_A", "", 12),
        ("patient_12_3.png", "patient_12", "", 3),
        ("001_10.png", "001", "", 10),
        ("subj01_z045.png", "subj01", "", 45),
        ("S01_slice10.png", "S01", "", 10),
        ("patient12slice3.png", "patient12", "", 3),
        ("P1_visit1_001.png", "P1", "visit1", 1),
        ("P1_visit2_001.png", "P1", "visit2", 1),
        ("X_001_t1.png", "X", "", 1),
        ("X_001_t2.png", "X", "", 1),
        ("P01_T1_12.png", "P01", "", 12),
        ("P01_T2_slice_012.png", "P01", "", 12),
        ("P01_axial_12.png", "P01", "", 12),
        ("patientA_v1_12.png", "patientA", "v1", 12),
        ("patientA_20190101_12.png", "patientA", "20190101", 12),
        ("patientA/frame12.png", "patientA", "", 12),
        ("patientA/z012.png", "patientA", "", 12),
        ("patientA/baseline_12.png", "patientA", "baseline", 12),
        ("patientA/visit2/12.png", "patientA", "visit2", 12),
        ("patientA/2019/12.png", "patientA", "", 12),
        ("mildDem12.jpg", "", "", 12),
        ("patient A (2).png", "patient A", "", 2),
        ("images/pat7/031.png", "pat7", "", 31),
        ("brain_1.nii.gz", "brain_1", "", None),
        ("patient_001.nii.gz", "patient_001", "", None),
        ("A/vol_1.nii.gz", "A", "", None),
        ("B/vol_1.nii.gz", "B", "", None),
        ("pat7/RAW/IM-0001-0012.png", "pat7", "", 12),
        ("patientA/slice_01.png", "patientA", "", 1),
        ("7/slice_01.png", "7", "", 1),
        ("patient1/001.nii.gz", "patient1", "", None),
        ("brain.png", "", "", None),
        ("007.png", "", "", 7),
        ("MR_20190101123045123456789.png", None, None, None),
    ],
)
def test_names_of_slices_and_volumes(path, subject, session, index):
    found = names_in_path(path, volume=path.endswith((".nii", ".nii.gz", ".hdr")))
    if subject is None:
        assert found.index is None  # too long a number for a slice's
    else:
        assert (found.subject, found.session, found.index) == (subject, session, index)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("keras_png_slices_train", "train"),
        ("keras_png_slices_validate", "validation"),
        ("valid", "validation"),
        ("dev", "validation"),
        ("Testing", "test"),
        ("keras_png_slices_test", "test"),
        ("latest", ""),
        ("contest", ""),
        ("trains", ""),
    ],
)
def test_ready_made_splits(folder, split):
    assert names_in_path(f"{folder}/case_001_slice_0.png").split == split


def test_a_pattern_that_finds_no_subject_is_refused():
    pattern = re.compile(r"(?P<subject>P\d+)?_\d+")
    with pytest.raises(DatasetError, match="finds no subject"):
        names_in_path("_12.png", pattern)


@pytest.mark.parametrize("volume", [False, True])
@given(path=st.lists(st.from_regex(r"[A-Za-z0-9 ._()-]{1,12}", fullmatch=True), min_size=1))
def test_every_path_can_be_read(volume, path):
    assume(not any(part.strip(".") == "" for part in path))
    names = names_in_path("/".join(path), volume=volume)
    assert {type(text) for text in (names.subject, names.session, names.repeat)} == {str}
    assert names.index is None or 0 <= names.index < 10**9
    assert names.split in ("", *SPLITS)


@given(st.integers(1, 9999), st.integers(1, 9), st.integers(0, 255))
def test_names_of_oasis_are_read_for_what_they_are(subject, session, index):
    name = f"OAS1_{subject:04d}_MR{session}.{index}.png"
    assert names_in_path(name) == Names(f"OAS1_{subject:04d}", f"MR{session}", index)


@given(st.from_regex(r"[a-z]{3,9}_?[0-9]{0,3}[a-z]", fullmatch=True), st.integers(0, 999))
def test_slices_of_one_name_are_one_subject(name, index):
    one, other = (names_in_path(f"{name}-{n}.png").subject for n in (index, index + 1))
    assert one == other


def persons(*paths):
    """Returns person, class and split of each of a folder's files."""
    volumes = [path.endswith(".nii.gz") for path in paths]
    found = read_names([PurePath(path) for path in paths], None, volumes)
    return [(names.subject, names.group, names.split) for names in found]


@pytest.mark.parametrize("folder", ["AD", "Non Demented", "VeryMildDemented", "no_tumor", "CN-MCI"])
def test_class_folders_are_nobody(folder):
    assert persons(f"train/{folder}/218391_78.jpeg", f"train/{folder}/218392_78.jpeg") == [
        ("218391", folder, "train"),
        ("218392", folder, "train"),
    ]


def test_folders_of_unknown_words_are_classes_if_they_hold_persons():
    paths = [
        f"{place}/patient_{n}_{slice_}.png" for place in "XY" for n in (1, 2) for slice_ in (3, 4)
    ]
    assert {(person, place) for person, place, _ in persons(*paths)} == {
        ("patient_1", "X"),
        ("patient_2", "X"),
        ("patient_1", "Y"),
        ("patient_2", "Y"),
    }
    sites = [f"site{s}/patient_{s}{n}/T1.nii.gz" for s in (1, 2) for n in (1, 2)]
    assert [person for person, *_ in persons(*sites)] == [f"patient_{n}" for n in (11, 12, 21, 22)]


def test_a_folder_that_wraps_all_persons_is_nobody():
    assert persons("Heads/anna1/scan 1.nii.gz", "Heads/bert2/scan 1.nii.gz") == [
        ("anna1", "", ""),
        ("bert2", "", ""),
    ]


def test_series_inside_a_persons_folder_are_not_persons():
    paths = [f"{person}/left_{n}.png" for person in ("ann", "bob") for n in (1, 2)]
    paths += [f"{person}/right_{n}.png" for person in ("ann", "bob") for n in (1, 2)]
    assert {person for person, *_ in persons(*paths)} == {"ann", "bob"}


def test_kinds_of_image_in_one_folder_are_not_persons():
    paths = [f"P{n}_{kind}.nii.gz" for n in (1, 2, 3) for kind in ("raw1", "fancy", "bfc")]
    assert {person for person, *_ in persons(*paths)} == {"P1", "P2", "P3"}
    channels = [f"la_{n:03d}_000{channel}.nii.gz" for n in (7, 8) for channel in (0, 1)]
    assert {person for person, *_ in persons(*channels)} == {"la_007", "la_008"}


def test_a_split_inside_a_persons_folder_is_a_session():
    assert persons("sub-01/test/T1w.nii.gz", "train/sub-02/T1w.nii.gz") == [
        ("sub-01", "", ""),
        ("sub-02", "", "train"),
    ]


@pytest.mark.parametrize("word", ["aug_1", "flipped", "rot90", "copy"])
def test_augmented_copies_are_of_the_same_person(word):
    names = names_in_path(f"OAS1_0001_MR1_94_{word}.jpg")
    assert (names.subject, names.index, names.augmented) == ("OAS1_0001", 94, True)


# What only all names of a folder tell


def found(*paths):
    """Returns the names in paths; `.png` is a picture, everything else a volume."""
    return read_names(list(map(PurePath, paths)), None, [p[-4:] != ".png" for p in paths])


def subjects(*paths):
    return sorted({names.subject for names in found(*paths)})


@pytest.mark.parametrize(
    "tails",
    [
        *(("pre", "post"), ("M0", "M6"), ("Y1", "Y2"), ("1", "2"), ("T0", "T3"), ("BL", "FU")),
        *(("left", "right"), ("echo-1", "echo-2"), ("left", "mid", "right"), ("alpha7", "beta7")),
        *(("03052019", "10062020"), ("S01", "S02"), ("mpr-1", "mpr-2"), ("1.5T", "3T")),
    ],
)
def test_words_that_recur_behind_several_persons_are_no_persons(tails):
    persons = ["P01", "P02", "P03", "P04"]
    pictures = [f"{p}_{t}_{z}.png" for p in persons for t in tails for z in ("010", "011")]
    assert subjects(*pictures) == persons
    assert {names.index for names in found(*pictures)} == {10, 11}
    volumes = [f"{p}_{t}.nii.gz" for p in persons for t in tails]
    assert subjects(*volumes) == persons
    folders = [f"{p}/{t}/T1.nii.gz" for p in persons for t in tails]
    assert subjects(*folders) == persons


def test_numbers_behind_a_person_are_scans_and_said_to_be_guessed():
    names = found("P01_1.nii", "P01_2.nii", "P02_1.nii", "P02_2.nii", "P03_1.nii")
    assert [(n.subject, n.session, n.guessed) for n in names[:2]] == [
        ("P01", "1", True),
        ("P01", "2", True),
    ]
    folders = [f"UPENN-GBM-0000{n}_{t}/T1.nii" for n, t in ((1, 11), (2, 11), (2, 21), (3, 11))]
    assert subjects(*folders) == [f"UPENN-GBM-0000{n}" for n in (1, 2, 3)]


def test_many_numbers_behind_few_places_are_persons():
    paths = [f"site{s}_{n:03d}.nii" for s in (1, 2) for n in range(9)]
    assert len(subjects(*paths)) == 18


def test_slices_anywhere_in_a_name_are_of_the_same_person():
    for form in ("slice_{z}_patient_{p}", "z{z}_P{p}", "{z}_P{p}", "P{p}_slice_{z}_of_170"):
        paths = [f"{form.format(z=z, p=p)}.png" for z in ("090", "093") for p in ("07", "08", "09")]
        names = found(*paths)
        assert len({n.subject for n in names}) == 3
        assert {n.index for n in names} == {90, 93}
    places = [f"P0{p}_{t}.png" for p in (1, 2, 3) for t in ("top", "mid", "y+4mm")]
    assert subjects(*places) == ["P01", "P02", "P03"]
    letters = [f"P0{p}{t}.png" for p in (1, 2, 3) for t in "ab"]
    assert subjects(*letters) == ["P01", "P02", "P03"]


def test_places_and_times_hold_persons():
    assert subjects("Utrecht/0/pre/T1.nii", "Utrecht/2/pre/T1.nii", "GE3T/101/pre/T1.nii") == [
        "GE3T_101",
        "Utrecht_0",
        "Utrecht_2",
    ]
    assert subjects("batch1/P01/T1.nii", "batch1/P02/T1.nii", "batch2/P03/T1.nii") == [
        "P01",
        "P02",
        "P03",
    ]
    names = found("pre/P01/T1.nii", "pre/P02/T1.nii", "then/P01/T1.nii", "then/P02/T1.nii")
    assert {n.subject for n in names} == {"P01", "P02"}
    assert len({(n.subject, n.session) for n in names}) == 4
    abide = [f"ABIDE/{s}/00500{n}/session_1/mprage.nii" for s, n in (("A", 1), ("A", 2), ("B", 3))]
    assert len(subjects(*abide)) == 3


def test_wrappers_in_one_word_and_modalities_are_nobody():
    classes = [
        f"{d}Dataset/MildDemented/P0{n}_{z}.png"
        for d in ("AugmentedAlzheimer", "Original")
        for n in (1, 2, 3)
        for z in (10, 11)
    ]
    assert subjects(*classes) == ["P01", "P02", "P03"]
    names = found("P1_MRI_10.png", "P1_MRI_11.png", "P2_MRI_10.png")
    assert {(n.subject, n.session) for n in names} == {("P1", ""), ("P2", "")}
    assert {n.index for n in names} == {10, 11}


def test_series_of_a_person_are_one_person():
    paths = [f"{p}/{n}/IM01.png" for p in ("anna", "bert") for n in (1, 2)]
    assert subjects(*paths) == ["anna", "bert"]


def test_names_that_name_a_class_name_nobody():
    glioma = [
        f"{c}/{t}_{n:04d}.png"
        for c, t in (("glioma", "Tr-gl"), ("notumor", "Tr-no"))
        for n in range(6)
    ]
    assert subjects(*glioma) == [""]
    uuids = [f"AD/{n}a0a0acd-8bd8-4b79-b724-cc5711e83bc7.png" for n in range(3)]
    assert subjects(*uuids) == [""]
    assert subjects("Final AD JPEG/AD1.png", "Final CN JPEG/CN1.png") == [""]
    assert subjects("no/1 no.png", "no/2 no.png") == [""]
    classes = [
        f"{n}_{c}/P0{n}_9{z}.png" for n, c in ((1, "NonDemented"), (2, "Mild")) for z in (0, 1)
    ]
    assert subjects(*classes) == ["P01", "P02"]


def test_a_picture_called_like_another_with_something_behind_is_its_copy():
    paths = [f"P0{p}_01{z}{t}.png" for p in (1, 2) for z in (0, 1) for t in ("", "_sp", " (copy)")]
    names = found(*paths)
    assert {n.subject for n in names} == {"P01", "P02"}
    assert sum(n.augmented for n in names) == 8


def test_persons_called_like_sessions_or_repeats_are_persons():
    for form in ("scan_00{n}.nii.gz", "S000{n}_T1.nii.gz", "V0{n}.nii.gz", "I1372{n}.nii.gz"):
        assert len(subjects(*(form.format(n=n) for n in range(4)))) == 4


def test_capitals_make_no_other_person_and_splits_in_names_are_splits():
    assert len(subjects("P01_90.png", "p01_98.png")) == 1
    names = found("train_P01_090.png", "test_P02_090.png")
    assert [(n.subject, n.split) for n in names] == [("P01", "train"), ("P02", "test")]
    assert [n.split for n in found("tr/P01_1.png", "va/P02_1.png", "te/P03_1.png")] == list(SPLITS)


def test_a_folder_that_wraps_classes_or_persons_of_any_names_is_nobody():
    paths = [f"archive/{c}/2183{n}1_7{z}.png" for c, n in (("AD", 1), ("NC", 2)) for z in (0, 1)]
    assert subjects(*paths) == ["218311", "218321"]
    volumes = [f"Heads/{name}/brain.nii.gz" for name in ("NA", "None", "anna", "-1")]
    assert len(subjects(*volumes)) == 4
    assert subjects("anna/left/a.nii.gz", "anna/right/a.nii.gz") == ["anna"]


def code(*numbers):
    """Returns six hexadecimal digits that differ from one picture to the next."""
    return f"{sum(7919 ** (n + 2) * number for n, number in enumerate(numbers)) % 16**6:06x}"


@pytest.mark.parametrize(
    "form",
    [
        *("P{p:02d}_{z}_{c}", "{p:03d}_{z}_{c}", "P{p:02d}_slice_{z}_{c}", "{c}/P{p:02d}_{z}_{c}"),
        *("sub-{p:02d}_{z}_{c}", "P{p:02d}_{z}_{s}", "P{p:02d}_{z}_resized", "P{p:02d}_{z}_{h}"),
        *("{n:05d}_P{p:02d}_{z}", "{h}-P{p:02d}_{z}", "P{p:02d}_{z}_512", "P{p:02d}_{z}_0"),
        *("1{p:02d}_{z}_{o}", "1{p:02d}_{z}_{a}", "P{p:02d}_{z}of176", "P{p:02d}_{z}_of_176"),
        *("P{p:02d}_{z}mm", "P{p:02d}_{z}a", "P{p:02d}_{z}_256x256", "P{p:02d}_{z}-176"),
        "P{p:02d}_{z}_{h}ab-1111-4111-8111-000000{h}",
    ],
)
@pytest.mark.parametrize("persons", [range(1, 7), range(1, 21)])
def test_the_slices_number_may_stand_anywhere(form, persons):
    numbers = range(72, 102, 3)
    pairs = [(p, z) for p in persons for z in numbers]
    words = {"c": ["CN", "AD"], "s": "MF", "a": range(50, 90)}
    paths = [
        form.format(
            p=p,
            z=z,
            h=code(p, z),
            n=100 * p + z,
            o=z % 2,
            **{k: w[p % len(w)] for k, w in words.items()},
        )
        for p, z in pairs
    ]
    names = found(*(f"{path}.png" for path in paths))
    assert len({n.subject for n in names}) == len(persons)
    assert {n.index for n in names} == set(numbers)


def test_letters_of_persons_are_no_axes():
    for form in ("Y{p:02d}_{z:03d}", "Z{p:02d}/Z{p:02d}_{z}", "X{p:02d}_T1_{z}", "X{p:02d}_MR_{z}"):
        paths = [f"{form.format(p=p, z=z)}.png" for p in (1, 2, 3) for z in (72, 90, 95)]
        names = found(*paths)
        assert len({n.subject for n in names}) == 3
        assert {n.index for n in names} == {72, 90, 95}


@pytest.mark.parametrize(
    "form", ["{p}_y{z}", "{p}_s{z}", "{p}-m{z}", "{p}_scan_{z}", "{p}_vol_{z}"]
)
def test_numbers_of_slices_beside_a_visits_word(form):
    numbers = (-4, 4, 8) if "y" in form else (90, 94, 101)
    paths = [f"{form.format(p=p, z=z)}.png" for p in ("P01", "P02", "P03") for z in numbers]
    names = found(*paths)
    assert {n.subject for n in names} == {"P01", "P02", "P03"}
    assert {n.index for n in names} == set(numbers)
    assert not any(n.session or n.repeat for n in names)


def test_a_follow_up_has_slices_as_the_baseline_has():
    for visits in (("bl", "fu"), ("baseline", "followup")):
        paths = [f"P0{p}_{v}_{z}.png" for p in (1, 2) for v in visits for z in (9, 54)]
        names = found(*paths)
        assert {(n.subject, n.session) for n in names} == {
            (f"P0{p}", visit) for p in (1, 2) for visit in visits
        }
        assert {n.index for n in names} == {9, 54}
    months = found(*(f"P0{p}_M{m:02d}.png" for p in (1, 2) for m in (0, 6, 36)))
    assert {(n.subject, n.session) for n in months[:3]} == {
        ("P01", f"M{m}") for m in ("00", "06", "36")
    }


VISITS = [
    *("{p}V{v}", "{p}bl|{p}fu", "{p}pre|{p}post", "S{n}M00|S{n}M12", "subj{n}visit{v}"),
    *("pre{n}|post{n}", "V{v}_{p}", "2017_{p}|2019_{p}", "W{v}_{p}", "m00_{p}|m12_{p}"),
    *(
        "{p}_17011{n}|{p}_19022{n}",
        "{p}_1-{n}-2017|{p}_2-{n}-2018",
        "{p}_1{n}.04.17|{p}_1{n}.04.18",
    ),
    *(
        "{p}_2017_0{n}|{p}_2018_0{n}",
        "{p}_2017-May-0{n}|{p}_2018-May-0{n}",
        "{p}_M_6{n}|{p}_M_7{n}",
    ),
    *("{p}_E1203{n}|{p}_E1374{n}", "{p}_201{n}|{p}_202{n}", "{p}_2017Q1|{p}_2017Q2"),
    "{p}_MPRAGE_20170{n}10101112_{n}|{p}_MPRAGE_20190{n}10101112_1{n}",
    "{p}_t1_mprage_sag_p2_iso_20170{n}10101112_2|{p}_t1_mprage_sag_p2_iso_ND_20170{n}10101112_{n}",
]


@pytest.mark.parametrize("form", VISITS)
def test_visits_are_told_by_the_persons_that_recur(form):
    forms = form.split("|") * (2 // len(form.split("|")))
    names = [f.format(p=f"P0{n}", n=n, v=v) for n in range(1, 7) for v, f in enumerate(forms, 1)]
    assert len(names) == 12
    assert len(subjects(*(f"{name}.nii.gz" for name in names))) == 6
    assert len(subjects(*(f"{name}/T1.nii.gz" for name in names))) == 6


def test_persons_spelled_in_two_ways_are_one():
    for one, other in (("P01", "P-01"), ("P01", "P1"), ("Jos\xe9", "Jose\u0301")):
        assert len(subjects(f"visit1/{one}/T1.nii", f"visit2/{other}/T1.nii")) == 1
    assert len(subjects("s1_11.nii", "s11_1.nii")) == 2


def test_folders_of_numbers_are_persons_if_their_files_are_called_alike():
    for name in ("mprage_1", "T1_1mm", "scan3T", "3D_T1_series5", "T1_MNI152"):
        assert subjects(*(f"00{p}/{name}.nii.gz" for p in (1, 2, 3))) == ["001", "002", "003"]
    names = found(*(f"{p}/T{t}.nii" for p in (1, 2, 3) for t in (1, 2)))
    assert {(n.subject, n.kind) for n in names} == {(p, f"T{t}") for p in "123" for t in (1, 2)}


def test_words_like_known_names_are_no_persons():
    space = [f"sub-0{p}_space-IXI549Space_T1w.nii" for p in (1, 2)]
    assert subjects(*space) == ["sub-01", "sub-02"]
    for form in (
        "P0{p}/P0{p}_T1_sub-cortical.nii",
        "P0{p}_sub-sampled.nii",
        "sub-set1/P0{p}_T1.nii",
    ):
        assert subjects(*(form.format(p=p) for p in (1, 2, 3))) == ["P01", "P02", "P03"]


def test_folders_of_subjects_that_look_like_visits():
    names = ("T1", "mask")
    deep = [f"LPBA40/delineation_space/S0{p}/S0{p}.{k}.hdr" for p in (1, 2, 3) for k in names]
    assert subjects(*deep) == ["S01", "S02", "S03"]
    assert subjects(*(f"P0{p}/S1/S1_T1.nii" for p in (1, 2, 3))) == ["P01", "P02", "P03"]
