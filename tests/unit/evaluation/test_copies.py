"""Copies of training slices, planted and found, and what is no copy."""

import json
import warnings

import numpy as np
import pytest
from scipy import ndimage

from oasisvq.evaluation import copies as copies_module
from oasisvq.evaluation.copies import (
    References,
    describe,
    describe_search,
    find_copies,
    plant_copies,
)
from support.heads import read_heads

KINDS = [
    "moved by up to 3 pixels",
    "turned by 2 degrees",
    "2% larger",
    "mirrored",
    "one half of a head",
]


def invent(count, seed, shape=(48, 40)):
    """Returns heads of smooth noise on a black ground, uint8 `(count, H, W)`."""
    noise = np.random.default_rng([seed, 3]).random((count, *shape))
    y, x = (np.linspace(-1, 1, n) for n in shape)
    head = np.hypot(y[:, None], x[None]) < 0.9
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    smooth = 0.5 + (smooth - 0.5) / (6 * smooth.std())
    return (255 * (smooth * head).clip(0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def train():
    return invent(60, 1)


@pytest.fixture(scope="module")
def real():
    return invent(80, 2) / np.float32(255)


def slow_likeness(images, train):
    """Returns the highest correlation of whole and of half details, and the best rows, one by one.

    Halves are compared with the half that lies on the same side.
    """

    def likeness(one, other):
        return np.corrcoef(one.ravel(), other.ravel())[0, 1]

    described, others = describe(images), describe(train)
    whole, half, rows = [], [], []
    for one in described:
        flips = one, one[:, ::-1]
        table = [max(likeness(flip, other) for flip in flips) for other in others]
        whole.append(max(table))
        rows.append(int(np.argmax(table)))
        half.append(
            max(
                likeness(flip[:, side], other[:, side])
                for flip in flips
                for other in others
                for side in (slice(0, 16), slice(16, 32))
            )
        )
    return whole, half, rows


def test_likeness_against_brute_force_over_several_blocks(train, real, monkeypatch):
    monkeypatch.setattr(copies_module, "BLOCK", 3)
    images = np.concatenate([real[:5], real[3:5, :, ::-1], train[7:8] / np.float32(255)])
    (whole, half), (rows, half_rows) = References(describe(train[:10])).most_alike(images)
    expected = slow_likeness(images, train[:10])
    np.testing.assert_allclose(whole, expected[0], atol=1e-5)
    np.testing.assert_allclose(half, expected[1], atol=1e-5)
    np.testing.assert_array_equal(rows, expected[2])
    np.testing.assert_allclose(whole[3:5], whole[5:7], atol=1e-5)  # mirrored
    assert (whole[7], half[7]) == (pytest.approx(1), pytest.approx(1))
    assert rows[7] == half_rows[7] == 7


def test_slices_are_described_alike_as_bytes_and_as_floats(train):
    described = describe(train)
    assert described.shape == (60, 32, 32)
    np.testing.assert_array_equal(describe(train / np.float32(255)), described)
    beyond = np.where(train > 100, 1.3, -0.2)
    np.testing.assert_array_equal(describe(beyond), describe(beyond.clip(0, 1)))


def test_planted_copies_are_what_their_names_say(train, real):
    planted = dict(plant_copies(train, real, seed=0))
    assert list(planted) == KINDS
    rows = np.random.default_rng([0, 5]).permutation(60)
    images = train[rows] / np.float32(255)
    for copies in planted.values():
        assert copies.shape == images.shape
    np.testing.assert_array_equal(planted["mirrored"], images[:, :, ::-1])
    for turned, image in zip(planted["turned by 2 degrees"], images, strict=True):
        turns = [ndimage.rotate(image, angle, reshape=False, order=1) for angle in (-2, 2)]
        assert min(np.abs(turned - turn).max() for turn in turns) < 1e-6
    moves = [
        np.subtract(ndimage.center_of_mass(copy), ndimage.center_of_mass(image))
        for copy, image in zip(planted["moved by up to 3 pixels"], images, strict=True)
    ]
    assert 2 < np.abs(moves).max() < 3.2
    assert (np.abs(moves).max(axis=1) > 0.1).all()
    ratios = (planted["2% larger"] > 0.2).sum(axis=(1, 2)) / (images > 0.2).sum(axis=(1, 2))
    assert ratios.mean() == pytest.approx(1.02**2, abs=0.02)
    lefts = 0
    for half, image in zip(planted["one half of a head"], images, strict=True):
        left, right = (half[:, :20] == image[:, :20]).all(), (half[:, 20:] == image[:, 20:]).all()
        assert left != right
        other = half[:, 20:] if left else half[:, :20]
        others = real[:, :, 20:] if left else real[:, :, :20]
        assert (others == other).all(axis=(1, 2)).any()
        lefts += left
    assert 10 < lefts < 50


def test_at_most_so_many_copies_are_planted(train, real):
    assert {len(copies) for _, copies in plant_copies(train, real, 0, count=7)} == {7}


def test_copies_are_counted_once_whole_or_by_half(train, real):
    generated = real[:20].copy()
    generated[4], generated[9] = train[8] / 255, train[31, :, ::-1] / 255
    # One half, and nothing else: the other half is as unlike as it can be.
    generated[15] = np.where(train[50] > 0, 1 - train[50] / 255, 0)
    generated[15, :, :20] = train[50, :, :20] / 255
    report, found = find_copies(generated, real[20:], train)
    assert np.flatnonzero(found["copies"]).tolist() == [4, 9, 15]
    assert np.flatnonzero(found["halves"]).tolist() == [15]
    assert found["rows"][[4, 9, 15]].tolist() == [8, 31, 50]
    np.testing.assert_allclose(found["alike"][[4, 9]], 1, atol=1e-5)
    assert found["alike"][15] > report["half_limit"]
    assert (report["copies"], report["half_copies"]) == (2, 1)
    assert report["share"] == 3 / 20
    assert list(report["found"]) == KINDS
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_brain_of_many_slices_is_a_copy_once(train, real):
    generated = real[:20].copy()
    generated[[4, 5, 9]] = train[[8, 9, 31]] / np.float32(255)
    brains = np.repeat(list("abcde"), 4)  # two of the copies are of b, one of c
    report, _ = find_copies(generated, real[20:], train, brains=brains)
    assert (report["copies"], report["half_copies"], report["share"]) == (2, 0, 2 / 5)


def test_limits_lie_a_tenth_of_the_way_from_real_slices_to_a_copy(train, real):
    report, _ = find_copies(real[:1], real, train)
    alike, _ = References(describe(train)).most_alike(real)
    usual = np.quantile(alike, 0.995, axis=1)
    expected = usual + 0.1 * (1 - usual)
    np.testing.assert_allclose([report["whole_limit"], report["half_limit"]], expected)


def test_false_alarms_are_of_either_half_by_the_limits_of_the_other(train, real):
    assert find_copies(real[:1], real, train)[0]["false_alarms"] == 0
    # Ten real slices of the second half are copies; the limits of the first half show them.
    leaked = real.copy()
    leaked[40:50] = train[:10] / 255
    assert find_copies(real[:1], leaked, train)[0]["false_alarms"] == pytest.approx(10 / 80)


def test_false_alarms_are_of_as_many_real_slices_as_a_brain_has(train, real):
    leaked = real.copy()
    leaked[40:50] = train[:10] / 255
    generated, brains = real[:20], np.repeat(list("abcd"), 5)
    report = find_copies(generated, leaked, train, brains=brains)[0]
    assert report["false_alarms"] == pytest.approx(2 / 16)  # two groups of five hold all ten
    assert "12.5% of groups of 5 real slices" in describe_search(report)


def test_the_seed_decides_which_copies_are_planted(train, real):
    first, same, other = (find_copies(real[:2], real, train, seed)[0] for seed in (3, 3, 4))
    assert first == same
    assert first["whole_limit"] == other["whole_limit"]
    planted = [dict(plant_copies(train, real, seed))["mirrored"] for seed in (3, 4)]
    assert (planted[0] != planted[1]).any()


def test_black_slices_are_no_copies_and_no_trouble(train, real):
    black = np.zeros_like(train[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, found = find_copies(
            np.concatenate([black / np.float32(255), real[:2]]),
            np.concatenate([real, black / np.float32(255)]),
            np.concatenate([train, black]),
        )
    assert report["copies"] == report["half_copies"] == 0
    np.testing.assert_allclose(found["alike"][:2], 0, atol=1e-6)


def test_tiny_slices_are_described():
    tiny = invent(12, 1, (8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, _ = find_copies(tiny[:3] / 255, tiny[3:8] / np.float32(255), tiny[8:])
    assert 0 <= report["share"] <= 1


@pytest.fixture
def oasis(real_data):
    """Returns real slices: of 60 training persons, uint8, and of 40 others, in [0, 1]."""
    images, _ = read_heads(real_data, 0, 100)
    return images[:120], images[120:] / np.float32(255)


@pytest.mark.real_data
def test_real_copies_are_found_and_other_persons_are_not(oasis):
    train, test = oasis
    report, found = find_copies(test[:40], test[40:], train)
    assert not found["copies"].any()
    assert report["false_alarms"] <= 0.01
    for kind, share in report["found"].items():
        assert share >= 0.95, kind


@pytest.mark.real_data
@pytest.mark.parametrize("change", ["noise", "blur", "darker"])
def test_a_copy_may_be_changed_a_little(oasis, change, random):
    train, test = oasis
    generated, copied = test[:6].copy(), train[[8, 31]] / np.float32(255)
    if change == "noise":
        copied = (copied + random.normal(0, 0.02, copied.shape)).clip(0, 1)
    if change == "blur":
        copied = ndimage.gaussian_filter(copied, (0, 1, 1))
    if change == "darker":
        copied = 0.7 * copied  # darker, as another scaling makes it
    generated[[1, 4]] = copied
    found = find_copies(generated, test[6:], train)[1]
    assert np.flatnonzero(found["copies"]).tolist() == [1, 4]
    assert found["rows"][[1, 4]].tolist() == [8, 31]


@pytest.mark.real_data
def test_two_names_of_one_training_head_hide_no_copies(oasis):
    # As near-duplicates have, and visits in which a person was of another age.
    train, test = oasis
    generated = ndimage.rotate(train[:2] / np.float32(255), 2, (1, 2), reshape=False, order=1)
    twice = np.concatenate([train, train[:20]])
    report, found = find_copies(generated, test, twice)
    assert found["copies"].all()
    assert min(report["found"].values()) >= 0.95
