"""The words of file names: each is found where it is meant, and not where it only looks so."""

import pytest

from oasisvq.data.name_words import (
    AUGMENTED,
    CONTRAST_WORD,
    LABEL_WORD,
    MADE_UP,
    SESSION,
    SLICE,
    SPM_IMAGE,
    SPM_TISSUE,
)

DATES = [
    "20190503",
    "2019-05-03",
    "2019_05_03",
    "2019-5-3",
    "03.05.2019",
    "05-23-2019",
    "03May2019",
]
VISITS = [
    *("ses-pre", "visit1", "visitA", "tp2", "time1", "Y2", "6m", "12mo", "wk12", "exam1", "sess1"),
    *("baseline", "base", "FU", "followup", "pre", "post", "preop", "before", "first", "2nd"),
]


@pytest.mark.parametrize("word", DATES + VISITS)
def test_sessions_are_known_behind_a_person(word):
    match = SESSION.search(f"P01_{word}_010")
    assert match
    assert match["session"].startswith(word)


def test_a_time_of_day_is_no_part_of_the_session():
    for name in ("P01_20190503101500_T1", "P01_2019-05-03_08_20_30.0"):
        match = SESSION.search(name)
        assert match
        assert match["session"] in ("20190503", "2019-05-03")
        assert "0" not in name[match.end() :]


@pytest.mark.parametrize(
    "name", ["V01_90", "S01_90", "M01_78", "T1_post", "P01_T1w-pre", "1234567"]
)
def test_what_only_looks_like_a_session_is_none(name):
    assert not SESSION.search(name)


@pytest.mark.parametrize(
    "word",
    [
        "flip",
        "hflip",
        "flip_lr",
        "rotation15",
        "rot-90",
        "blur",
        "zoom",
        "gamma0.8",
        "copy",
        "kopie",
    ],
)
def test_changed_copies_are_known(word):
    assert AUGMENTED.search(f"P01_10_{word}")
    assert not AUGMENTED.search(f"P01_10_{word}ed_x".replace("_", ""))


def test_what_spm_puts_before_a_name():
    for prefix in ("c1", "p0", "mwp1", "rc2", "y_", "iy_"):
        assert SPM_TISSUE.match(f"{prefix}P01")
    for prefix in ("m", "w", "wm", "r"):
        assert SPM_IMAGE.match(f"{prefix}P01")
        assert not SPM_TISSUE.match(f"{prefix}X01")
    assert not SPM_TISSUE.match("P01")  # SPM writes small letters


def test_numbers_of_slices_amid_a_name():
    found = {
        "slice_90_patient_a": "90",
        "P01_slice_010_of_170": "010",
        "z090_P00": "090",
        "P01_y+4mm": "+4",
        "P01[012]": "012",
    }
    for name, number in found.items():
        match = SLICE.search(name)
        assert match
        assert number in match.groups()
    assert not SLICE.search("patient_a_90")


def test_contrasts_and_labels_are_whole_words():
    assert CONTRAST_WORD.search("P01_T2w")
    assert not CONTRAST_WORD.search("PT2w01")
    assert LABEL_WORD.search("P01_aparc+aseg")
    assert not LABEL_WORD.search("masked")


def test_names_that_computers_make_up():
    assert MADE_UP.fullmatch("0a0a0acd-8bd8-4b79-b724-cc5711e83bc7")
    assert MADE_UP.fullmatch("0cc175b9c0f1b6a831c399e269772661")
    assert not MADE_UP.fullmatch("abc123")
