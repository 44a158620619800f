"""Copies of training slices, planted and found."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from oasisvq.evaluation import copies as copies_module
from oasisvq.evaluation.copies import find_copies, find_nearest


def test_nearest_against_brute_force_over_several_blocks(random, monkeypatch):
    monkeypatch.setattr(copies_module, "BLOCK", 4)
    images = random.random((7, 5, 6, 1)).astype("float32")
    references = random.integers(0, 256, size=(11, 5, 6)).astype("uint8")
    pixels = references / 255
    table = np.sqrt(((images[:, None, ..., 0] - pixels) ** 2).mean((2, 3)))
    distances, rows = find_nearest(images, references)
    np.testing.assert_array_equal(rows, table.argmin(axis=1))
    np.testing.assert_allclose(distances, table.min(axis=1), rtol=1e-5)


def test_nearest_finds_a_copy_at_distance_0(brains):
    pixels = np.round(brains * 255).astype("uint8")
    distances, rows = find_nearest(pixels[3:5, ..., None].astype("float32") / 255, pixels)
    assert rows.tolist() == [3, 4]
    assert distances.max() == 0


def test_nearest_refuses_references_of_another_size(brains):
    with pytest.raises(ValueError, match="of the images' size"):
        find_nearest(brains[..., None], np.zeros((3, 95, 80), np.uint8))


def planted(train, rows, kind, random):
    copies = train[rows, ..., None].astype("float32") / 255
    if kind == "noise":
        copies = (copies + random.normal(0, 0.01, copies.shape)).clip(0, 1)
    if kind == "blur":
        copies = gaussian_filter(copies, (0, 0.5, 0.5, 0))
    return copies.astype("float32")


@pytest.fixture
def oasis(real_data):
    """Returns real slices of 30 subjects at three positions, uint8 (30, 3, 176, 176)."""
    folders = sorted((real_data / "oasis1_coronal").glob("OAS1_*"))[:30]
    slices = np.array(
        [
            [np.asarray(Image.open(one / f"{one.name}.{p}.png")) for p in (90, 94, 99)]
            for one in folders
        ]
    )
    tops = np.array([np.percentile(one[one > 0], 99.8) for one in slices])
    return np.round((slices / tops[:, None, None, None]).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["exact", "noise", "blur"])
def test_planted_copies_are_found_and_real_slices_are_not(oasis, random, kind):
    train, test = oasis[:20].reshape(-1, 176, 176), oasis[20:].reshape(-1, 176, 176, 1) / 255
    generated, subjects = test.copy(), np.repeat(np.arange(10), 3)
    generated[[4, 17]] = planted(train, [8, 31], kind, random)
    report, found = find_copies(generated, test, train, subjects)
    assert np.flatnonzero(found["copies"]).tolist() == [4, 17]
    assert found["rows"][[4, 17]].tolist() == [8, 31]
    assert report["copies"] == 2
    assert find_copies(test, test, train, subjects)[0]["copies"] == 0


@pytest.mark.real_data
def test_it_tells_whether_generated_slices_lie_closer(oasis, random):
    train, test = oasis[:20].reshape(-1, 176, 176), oasis[20:].reshape(-1, 176, 176, 1) / 255
    subjects = np.repeat(np.arange(10), 3)
    report, _ = find_copies(test, test, train, subjects)
    assert report["ratio"] == 1
    assert report["closer_p"] > 0.4
    halfway = 0.5 * test + 0.5 * train[find_nearest(test, train)[1], ..., None] / 255
    report, _ = find_copies(halfway, test, train, subjects)
    assert report["ratio"] == pytest.approx(0.5, abs=0.05)
    assert report["closer_p"] < 1e-4


def test_the_limit_lies_half_way_to_the_closest_test_slices(random):
    train = np.full((1, 20, 20), 128, np.uint8)
    grey = train[..., None] / 255
    step = random.choice([-1.0, 1.0], grey.shape)
    test = np.concatenate([grey + 0.1 * step, grey - 0.1 * step])
    generated = np.concatenate([grey + 0.048 * step, grey + 0.052 * step])
    report, found = find_copies(generated, test, train, ["a", "b"])
    assert report["copy_distance"] == pytest.approx(0.05, rel=1e-3)
    assert found["copies"].tolist() == [True, False]


def test_closer_is_told_from_farther(random):
    train = random.integers(0, 256, (6, 12, 12)).astype("uint8")
    near = train[..., None] / 255
    test = near + 0.1
    subjects = list("abcdef")
    closer, farther = near + 0.01, near + 0.5
    assert find_copies(closer, test, train, subjects)[0]["closer_p"] < 0.01
    assert find_copies(farther, test, train, subjects)[0]["closer_p"] > 0.99


def test_black_slices_set_no_limit_and_trained_ones_tell_nothing(brains):
    train = np.round(brains[:5] * 255).astype("uint8")
    test = brains[5:, ..., None].astype("float32")
    black = np.zeros_like(test[:1])
    copies = train[:4, ..., None].astype("float32") / 255
    train = np.concatenate([train, np.zeros_like(train[:1])])
    report, found = find_copies(copies, np.concatenate([black, test]), train, list("abcd"))
    assert report["copies"] == 4
    trained = train[:4, ..., None].astype("float32") / 255
    report, found = find_copies(copies, trained, train, list("abcd"))
    assert report["copies"] is report["copy_distance"] is None
    assert not found["copies"].any()
