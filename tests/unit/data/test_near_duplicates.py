"""Near-duplicates found among subjects, however they differ, and none where there are none."""

import numpy as np
import pandas
import pytest
from scipy import ndimage

from oasisvq.data.near_duplicates import details, near_duplicates


def rows(subjects, index=(0,), session=""):
    """A table with a row for each of the subjects' slices."""
    return pandas.DataFrame(
        [(s, session, "coronal", i, None) for s in subjects for i in index],
        columns=("subject", "session", "plane", "index", "position_mm"),
    )


def slices_of(brains):
    return np.round(brains * 255).clip(0, 255).astype(np.uint8)


def found(brains, **options):
    names = [f"s{n}" for n in range(len(brains))]
    return near_duplicates(slices_of(brains), rows(names, **options))


def noisy(brain):
    return brain + np.random.default_rng(1).normal(0, 0.02, brain.shape) * (brain > 0)


COPIES = {
    "the same": lambda brain: brain,
    "dimmer": lambda brain: 0.7 * brain,
    "of less contrast": lambda brain: brain**0.8,
    "of more contrast": lambda brain: brain**1.2,
    "noisy": noisy,
    "moved": lambda brain: np.roll(brain, (2, -1), (0, 1)),
    "moved by half a pixel": lambda brain: ndimage.shift(brain, (0.5, 1.5), order=1),
    "blurred": lambda brain: ndimage.gaussian_filter(brain, 1),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("others", [0, 1, 7])
def test_a_copy_is_found_among_many_and_among_none(brains, change, others):
    (pair,) = found(np.concatenate([brains[: others + 1], change(brains[0])[None]]))
    assert pair["subjects"] == ["s0", f"s{others + 1}"]
    assert 0.85 <= pair["similarity"] <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_different_heads_are_not_found(brains, count):
    assert found(brains[:count]) == []


def test_two_sessions_of_a_subject_are_no_duplicates(brains):
    table = rows(["a", "a"]).assign(session=["MR1", "MR2"])
    assert near_duplicates(slices_of(brains[[0, 0]]), table) == []


def test_one_session_of_several_is_enough(brains):
    table = rows(["a", "a", "b"]).assign(session=["MR1", "MR2", "MR1"])
    (pair,) = near_duplicates(slices_of(brains[[0, 1, 1]]), table)
    assert pair == {"subjects": ["a", "b"], "similarity": 1.0}


def test_the_similarity_is_the_mean_over_shared_positions(brains):
    table = pandas.concat([rows(["a"], index=(1, 2, 3)), rows(["b"], index=(3, 2, 4))])
    slices = slices_of(brains[[0, 1, 2, 2, 1, 5]])  # a: 1, 2, 3; b: 3, 2, 4
    (pair,) = near_duplicates(slices, table)
    assert pair["similarity"] == 1.0
    slices[4] = slices_of(noisy(ndimage.gaussian_filter(brains[1], 1)))
    (pair,) = near_duplicates(slices, table)
    one, other = details(slices[[1, 4]])
    assert pair["similarity"] == pytest.approx((1 + one @ other) / 2, abs=1e-3)


def test_slices_at_other_positions_are_not_compared(brains):
    slices = slices_of(brains[[0, 0]])
    for column, values in {"index": [1, 2], "position_mm": [0.4, 0.6], "plane": ["x", "y"]}.items():
        assert near_duplicates(slices, rows(["a", "b"]).assign(**{column: values})) == []


def test_without_positions_the_order_in_the_scan_counts(brains):
    table = rows(["a", "b"], index=(None, None))
    assert len(near_duplicates(slices_of(brains[[0, 1, 0, 1]]), table)) == 1
    assert near_duplicates(slices_of(brains[[0, 1, 1, 0]]), table) == []
    assert near_duplicates(slices_of(brains[[0, 1, 0, 2]]), table) == []


def test_even_slices_show_no_head():
    table = rows(["a", "b", "c", "d"])
    slices = np.zeros((4, 205, 169), np.uint8)
    slices[2:] = 77  # whose sums round
    assert near_duplicates(slices, table) == []


def test_blocks_make_no_difference(brains, monkeypatch):
    copies = np.concatenate([brains, brains[:4] ** 0.9])
    whole = found(copies)
    assert len(whole) == 4
    monkeypatch.setattr("oasisvq.data.near_duplicates.BLOCK", 3)
    assert found(copies) == whole


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (33, 32), (205, 169), (40, 300)])
def test_slices_of_any_size_have_details(random, shape):
    slices = random.integers(0, 256, (2, *shape)).astype(np.uint8)
    lengths = np.linalg.norm(details(slices), axis=1)
    np.testing.assert_allclose(lengths, 0 if shape == (1, 1) else 1, atol=1e-4)
