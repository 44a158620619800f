"""Names in sheets, and the sessions that they mean."""

import pytest

from oasisvq.data.session_names import find_rows, respellings


def rows_of(names, sessions, visits=None, whole=False):
    """Returns the rows by session, and the ambiguous sessions."""
    return find_rows(names, visits or [""] * len(names), sessions, whole)[:2]


@pytest.mark.parametrize(
    ("name", "session"),
    [
        (" oas1-0001-mr1 ", ("OAS1_0001", "MR1")),
        ("OAS1_0001", ("OAS1_0001", "MR1")),
        ("OAS1_0001_MR1", ("OAS1_0001", "")),
        ("OAS30001_MR_d0129", ("sub-oas30001", "d0129")),
        ("sub-OAS30001_ses-d0129", ("OAS30001", "MR_d0129")),
        ("002_S_0295_bl", ("sub-adni002s0295", "ses-M00")),
        ("ADNI002S0295 m006", ("002_S_0295", "ses-M06")),
        ("subject_07", ("sub-07", "")),
        ("Case 12", ("case_12", "visit2")),
        ("7.0", ("7", "")),
        ("Müller 3", ("müller_3", "")),
        ("Jos\xe9", ("Jose\u0301", "")),
    ],
)
def test_spellings_do_not_matter(name, session):
    assert rows_of([name], [session]) == ({session: [0]}, [])


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("OAS1_0010", ("OAS1_001", "")),
        ("OAS1_0001_MR2", ("OAS1_0001", "MR1")),
        ("OAS1_0001_MR10", ("OAS1_0001", "MR1")),
        ("patient 1 mother", ("patient_1", "")),
        ("subash", ("ash", "")),
        ("", ("OAS1_0001", "MR1")),
    ],
)
def test_other_names_do_not_join(name, session):
    assert rows_of([name], [session]) == ({}, [])


@pytest.mark.parametrize("visits", [["ses-01", "ses-02"], ["1", "2.0"], ["V1", "visit 2"]])
def test_a_visit_has_its_own_row(visits):
    sessions = [("sub-a", "ses-1"), ("sub-a", "ses-2"), ("sub-a", "ses-3")]
    rows, _ = rows_of(["a", "A"], sessions, visits)
    assert rows == {sessions[0]: [0], sessions[1]: [1]}
    assert rows_of(["a", "a"], [("sub-a", "")], visits)[0] == {("sub-a", ""): [0, 1]}


def test_ids_that_are_alike_are_not_merged():
    both = [("s1_11", ""), ("s11_1", "")]
    assert rows_of(["S1-11"], both) == ({}, both)
    assert rows_of(["s1_11", "s11_1"], both)[0] == {both[0]: [0], both[1]: [1]}
    assert rows_of(["S1-11", "S11-1"], both[:1]) == ({}, both[:1])
    twins = [("a", "ses-1"), ("a", "ses-01")]
    assert rows_of(["a", "a"], twins, ["ses-01", "ses-1"])[0] == {twins[0]: [1], twins[1]: [0]}


def test_a_visit_alone_names_nobody():
    assert rows_of(["1"], [("1", "ses-1")], whole=True) == ({}, [])
    assert rows_of(["1_ses-1"], [("1", "ses-1")], whole=True)[0] == {("1", "ses-1"): [0]}


def respelled(text, subjects):
    """Returns what the functions make of a text, a list per kind."""
    functions = respellings([(subject, "") for subject in subjects])
    return [[function(text) for function in kind] for kind in functions]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("C:\\data\\OAS1_0001_MR1_mpr-1_95.png", "OAS1_0001_MR1"),
        ("/home/me/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2"),
        ("train/anna/slice_3.png", "anna"),
        ("case_441_slice_0.nii.png", "case_441"),
    ],
)
def test_paths_of_images_name_sessions(text, name):
    assert name in respelled(text, ["a"])[1]


@pytest.mark.parametrize(
    ("text", "subjects", "expected"),
    [
        ("1", ["OAS1_0001", "OAS1_0002", "template"], "OAS1_0001"),
        ("002", ["IXI002", "ixi012"], "IXI002"),
        ("sub-1", ["sub-01", "sub-02"], "sub-01"),
        ("2.0", ["IXI002-Guys-0828", "IXI012-HH-1211"], "IXI002-Guys-0828"),
        ("1", ["patient01", "patient1"], ""),
        ("1", ["OAS1_0001", "OAS2_0002"], ""),
        ("1", ["OAS1_0007"], ""),
        ("x1", ["OAS1_0001"], ""),
    ],
)
def test_numbers_name_subjects_of_one_prefix(text, subjects, expected):
    assert next(filter(None, respelled(text, subjects)[2]), "") == expected
