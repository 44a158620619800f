"""Near-duplicates found among subjects, however they differ, and none where there are none."""

import numpy as np
import pandas
import pytest
from PIL import Image
from scipy import ndimage

from oasisvq.data.near_duplicates import (
    CEILING,
    FLOOR,
    Tally,
    compare_subjects,
    details,
    group_heads,
)
from oasisvq.data.sources.synthetic import invent_slices
from oasisvq.data.splits import join_people


def rows(subjects, index=(0,), session=""):
    """A table with a row for each of the subjects' slices."""
    return pandas.DataFrame(
        [(s, session, "coronal", i, None) for s in subjects for i in index],
        columns=("subject", "session", "plane", "index", "position_mm"),
    )


def slices_of(brains):
    return np.round(brains * 255).clip(0, 255).astype(np.uint8)


def near_duplicates(slices, table):
    return compare_subjects(slices, table).pairs


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
    "mirrored": lambda brain: brain[:, ::-1],
    "upside down": lambda brain: brain[::-1],
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
    figures = compare_subjects(slices, table).figures["at the same positions"]
    one, other = details(slices[[1, 4]])
    assert figures["lowest_above"] == pytest.approx((1 + one @ other) / 2, abs=1e-3)


@pytest.mark.parametrize("column", ["index", "position_mm"])
def test_without_a_shared_position_the_nearest_are_compared_wherever_they_lie(brains, column):
    slices = slices_of(np.stack([brains[0], brains[1], noisy(brains[1]), brains[2]]))
    table = rows("aabb").assign(**{column: (90.4, 99, 12.5, 30)})
    found = compare_subjects(slices, table)
    assert [pair["subjects"] for pair in found.pairs] == [["a", "b"]]
    assert list(found.figures) == ["nearest slices"]


NUMBERINGS = {
    "from one": lambda index: index - 89,
    "by two more": lambda index: index + 2,
    "from the other end": lambda index: 185 - index,
}


@pytest.mark.parametrize("number", NUMBERINGS.values(), ids=NUMBERINGS)
@pytest.mark.parametrize("change", [lambda brain: brain, noisy], ids=["equal", "noisy"])
def test_a_copy_whose_slices_have_other_numbers_is_found(brains, number, change):
    copies = np.concatenate([brains, change(brains[:4])])
    subjects, index = np.repeat(["a", "b", "c"], 4), [90, 91, 92, 93] * 2 + [0] * 4
    index[8:] = map(number, index[:4])
    (pair,) = near_duplicates(
        slices_of(copies), rows("c" * 12).assign(subject=subjects, index=index)
    )
    assert pair["subjects"] == ["a", "c"]


def test_slices_at_other_positions_must_be_more_alike(brains, random):
    # Alike enough at one position, but not if any slice of one may be like any of the other.
    changed = brains[0] + random.normal(0, 0.32, brains[0].shape) * (brains[0] > 0)
    slices = slices_of(np.stack([brains[0], brains[1], brains[2], changed]))
    one, other = details(slices[[0, 3]])
    assert 0.77 < one @ other < 0.84
    assert len(near_duplicates(slices[[0, 3]], rows("ab"))) == 1
    assert near_duplicates(slices, rows("ab", index=(1, 2))) == []


@pytest.mark.parametrize("side", [24, 64])
def test_equal_slices_are_one_head_at_any_size_but_for_their_border(random, side, monkeypatch):
    monkeypatch.setattr("oasisvq.data.near_duplicates.MOST_SLICES", 0)
    slices = np.zeros((5, side, side), np.uint8)
    slices[:3, :20, :16] = random.integers(1, 256, (3, 20, 16))
    slices[3, 3:23, 4:20], slices[4] = slices[0, :20, :16], slices[1]
    table = rows("ababc").assign(index=[1, 1, 2, 2, 7])
    assert near_duplicates(slices[:3], table[:3]) == []
    pairs = near_duplicates(slices, table)
    assert {"subjects": ["a", "b"], "similarity": 1.0} in pairs
    assert {"subjects": ["b", "c"], "similarity": 1.0} in pairs


def test_a_picture_that_everybody_has_makes_nobody_the_same(random):
    slices = slices_of(0.5 + ndimage.gaussian_filter(random.normal(0, 1, (36, 64, 64)), (0, 1, 1)))
    legends = [3 * person + person % 3 for person in range(12)]  # at one of three positions
    slices[legends] = slices[0]
    assert near_duplicates(slices, rows("abcdefghijkl", index=(1, 2, 3))) == []


def test_slices_of_two_planes_are_not_compared(brains):
    table = rows("ab").assign(plane=["axial", "coronal"], source=["x", "y"])
    assert near_duplicates(slices_of(np.stack([brains[0], noisy(brains[0])])), table) == []


def test_slices_of_two_sources_are_compared_wherever_they_lie(brains):
    slices = np.zeros((4, *brains.shape[1:]), np.uint8)
    slices[:2] = slices_of(brains[:2])
    slices[2:, 10:58, 5:45] = slices_of(brains[1:3, ::2, ::2])  # of larger pixels
    table = rows("aabb").assign(source=list("xxyy"), index=[90, 91, None, None])
    table["position_mm"] = [None, None, -30.5, 7.25]
    (pair,) = near_duplicates(slices, table)
    assert pair["subjects"] == ["a", "b"]
    assert near_duplicates(slices[[0, 0, 3, 3]], table) == []
    by_chance = rows("ab", index=(90, 91)).assign(source=list("xxyy"))
    assert near_duplicates(slices, by_chance) == [pair]


def test_without_positions_the_order_in_the_scan_counts(brains):
    table = rows(["a", "b"], index=(None, None))
    assert len(near_duplicates(slices_of(brains[[0, 1, 0, 1]]), table)) == 1
    exchanged = compare_subjects(slices_of(brains[[0, 1, 1, 0]]), table)
    assert exchanged.figures["at the same positions"]["lowest_above"] is None
    assert near_duplicates(slices_of(brains[[0, 1, 2, 3]]), table) == []


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


# The threshold


def tally_of(values):
    tally = Tally()
    tally.add(np.asarray(values, np.float32)[None], np.ones((1, len(values)), bool), 0)
    return tally


def test_the_figures_name_the_similarities_beside_the_threshold(random):
    others, same = random.normal(0.4, 0.05, 5000), [0.8, 0.9]
    figures = tally_of([*others, *same]).figures(100)
    assert others.max() - 0.02 < figures["threshold"] < 0.7
    assert figures["highest_below"] == pytest.approx(others.max(), abs=1e-3)
    assert (figures["pairs"], figures["lowest_above"]) == (5002, 0.8)


@pytest.mark.parametrize("middle", [-0.5, 0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("count", [1, 3, 100, 100_000])
def test_the_threshold_lies_between_floor_and_ceiling(random, middle, count):
    values = random.normal(middle, 0.08, count).clip(-1, 1)
    assert FLOOR <= tally_of(values).figures(max(count // 10, 2))["threshold"] <= CEILING


def test_pairs_of_one_head_hardly_move_the_threshold(random):
    others = random.normal(0.5, 0.06, 5000)
    plain, mixed = (
        tally_of(v).figures(100) for v in (others, [*others, *[0.8] * 35, *[0.93] * 200])
    )
    assert mixed["threshold"] == pytest.approx(plain["threshold"], abs=0.02)


def test_heads_that_are_all_alike_do_not_become_one_person(brains, random):
    # All are the same but for noise: no threshold can tell them from one another.
    heads = brains[0] + random.normal(0, 0.12, (300, *brains.shape[1:])) * (brains[0] > 0)
    names = [f"{n:03d}" for n in range(300)]
    pairs = near_duplicates(slices_of(heads), rows(names))
    assert pairs and max(pair["similarity"] for pair in pairs) < 0.95
    people = pandas.Series(join_people(pair["subjects"] for pair in pairs))
    assert people.value_counts().max() <= 10


# Pictures without names


def test_neighbouring_slices_become_one_head(template):
    heads = [invent_slices(template, n, "axial", (0.45, 0.55), "fraction", 8)[0] for n in range(6)]
    pictures = np.concatenate(heads)
    order = np.random.default_rng(0).permutation(len(pictures))
    found = group_heads(slices_of(pictures / pictures.max())[order])
    truth = order // 8
    for head in range(6):
        assert len(set(found.numbers[truth == head])) == 1
    assert found.figures["pictures"] == 48
    assert f"{found.figures['heads']} heads" in str(found)


def test_slices_of_one_volume_are_one_head(brains):
    found = group_heads(slices_of(brains), np.array([0, 0, 1, 2, 2, 1, 3, 3]))
    assert list(found.numbers) == [0, 0, 1, 2, 2, 1, 3, 3]


def test_pictures_of_different_heads_stay_alone(brains):
    found = group_heads(slices_of(brains))
    assert list(found.numbers) == list(range(8))
    assert found.figures["alone"] == found.figures["heads"] == 8


@pytest.mark.parametrize("shape", [(0, 64, 64), (3, 8, 8), (3, 64, 64)])
def test_what_shows_no_head_is_not_grouped(shape):
    assert len(set(group_heads(np.zeros(shape, np.uint8)).numbers)) == shape[0]


@pytest.mark.slow
@pytest.mark.real_data
def test_the_known_pair_is_found_among_real_heads(real_data):
    paths = sorted((real_data / "oasis1_coronal").glob("*/*.95.png"))[50:200]
    slices = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
    found = compare_subjects(slices, rows([path.name[:9] for path in paths]))
    assert ["OAS1_0079", "OAS1_0193"] in [pair["subjects"] for pair in found.pairs]
    assert len(found.pairs) <= 4
    assert 0.6 < found.figures["at the same positions"]["threshold"] < 0.8
