"""Subjects, sessions, numbers and splits from paths: no person may pass for two."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oasisvq.core.errors import DatasetError
from oasisvq.data.filenames import names_in_path
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
        ("sub-02_run-2_T1w.nii.gz", "sub-02", "run-2", None),
        ("patient_A-12.png", "patient_A", "", 12),
        ("patient_12_3.png", "patient_12", "", 3),
        ("001_10.png", "001", "", 10),
        ("subj01_z045.png", "subj01", "", 45),
        ("S01_slice10.png", "S01", "", 10),
        ("patient12slice3.png", "patient12slice", "", 3),
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
        ("mildDem12.jpg", "mildDem", "", 12),
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
        ("brain.png", "brain", "", None),
        ("007.png", "007", "", 7),
        ("MR_20190101123045123456789.png", None, None, None),
    ],
)
def test_names_of_slices_and_volumes(path, subject, session, index):
    found = names_in_path(path, volume=path.endswith((".nii", ".nii.gz", ".hdr")))
    if subject is None:
        assert found[2] is None  # too long a number for a slice's
    else:
        assert found[:3] == (subject, session, index)


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
    assert names_in_path(f"{folder}/case_001_slice_0.png")[3] == split


def test_a_pattern_that_finds_no_subject_is_refused():
    pattern = re.compile(r"(?P<subject>P\d+)?_\d+")
    with pytest.raises(DatasetError, match="finds no subject"):
        names_in_path("_12.png", pattern)


@pytest.mark.parametrize("volume", [False, True])
@given(path=st.lists(st.from_regex(r"[A-Za-z0-9 ._()-]{1,12}", fullmatch=True), min_size=1))
def test_every_path_has_a_subject(volume, path):
    assume(not any(part.strip(".") == "" for part in path))
    subject, session, index, split = names_in_path("/".join(path), volume=volume)
    assert subject
    assert isinstance(session, str)
    assert index is None or 0 <= index < 10**9
    assert split in ("", *SPLITS)


@given(st.integers(1, 9999), st.integers(1, 9), st.integers(0, 255))
def test_names_of_oasis_are_read_for_what_they_are(subject, session, index):
    name = f"OAS1_{subject:04d}_MR{session}.{index}.png"
    assert names_in_path(name) == (f"OAS1_{subject:04d}", f"MR{session}", index, "")


@given(st.from_regex(r"[a-z]{3,9}_?[0-9]{0,3}[a-z]", fullmatch=True), st.integers(0, 999))
def test_slices_of_one_name_are_one_subject(name, index):
    one, other = (names_in_path(f"{name}-{n}.png")[0] for n in (index, index + 1))
    assert one == other
