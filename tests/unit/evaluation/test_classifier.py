"""The small network tells groups that differ, by persons that it has not seen."""

import keras
import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from oasisvq.evaluation import classifier
from oasisvq.evaluation.classifier import tell_apart
from support.heads import draw_head

STEPS = 25


def draw_heads(count, seed, right=1.0):
    """Returns noisy heads of different ventricles, the right ones `right` times as large."""
    random = np.random.default_rng(seed)
    sizes = random.uniform(6, 8, count)
    heads = np.stack([draw_head((32, 32), 2.6, size, size * right) for size in sizes])
    return (heads + random.normal(0, 0.03, heads.shape) * (heads > 0)).astype(np.float32)


def tell(own, others):
    return tell_apart(own, others, np.arange(len(own)), np.arange(len(others)), steps=STEPS)


@pytest.fixture(scope="module")
def real():
    return draw_heads(48, 1)


@pytest.fixture(scope="module")
def other_persons(real):
    return tell(draw_heads(48, 2), real)


def test_other_persons_are_not_told_from_one_another(other_persons):
    area, p = other_persons
    assert 0.3 < area < 0.7
    assert p > 0.01


def test_one_small_ventricle_is_told(real):
    area, p = tell(draw_heads(48, 2, right=0.3), real)
    assert area > 0.9
    assert p < 1e-6


def test_it_is_the_same_every_time(real, other_persons):
    assert tell(draw_heads(48, 2), real) == other_persons
    first, same, other = (classifier._build((8, 8, 1), seed).get_weights() for seed in (0, 0, 1))
    for one, again, another in zip(first, same, other, strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.ndim == 1 or (one != another).any()


def test_the_first_filters_see_a_slice_and_its_mirror_image(random):
    network = classifier._build((16, 16, 1), 0)
    image = random.random((1, 16, 16, 1))
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    (pair,) = keras.Model(network.input, first.input).predict_on_batch(image)
    np.testing.assert_allclose(pair, np.concatenate([image, image[:, :, ::-1]], axis=3)[0], 1e-6)


class Means:
    """In place of a network: it tells the mean of a slice, and keeps what it has learned from."""

    def __init__(self, *learned):
        self.learned = learned

    def __call__(self, images):
        return images.mean(axis=(1, 2))


@pytest.fixture
def trained(monkeypatch):
    """Returns the networks that are trained, whose rows are those of the images."""
    networks = []

    def train(images, labels, rows, *options):
        networks.append(Means(images[rows], labels[rows]))
        return networks[-1]

    monkeypatch.setattr(classifier, "_train", train)
    return networks


@pytest.mark.parametrize("seed", range(5))
def test_half_of_either_groups_persons_are_held_out(seed, trained, random):
    persons, many = np.repeat(list("abcde"), 4), np.arange(60)
    of_person = np.unique(persons, return_inverse=True)[1]
    others = np.ones((20, 8, 8)) * of_person[:, None, None]
    own = random.random((60, 8, 8)) + 100
    tell_apart(own, others, many, persons, seed)
    sides = [
        set(images[labels == 0].mean(axis=(1, 2, 3)))
        for images, labels in (network.learned for network in trained)
    ]
    assert sides[0] | sides[1] == set(range(5))
    assert not sides[0] & sides[1]
    assert {len(side) for side in sides} == {2, 3}
    assert [int(network.learned[1].sum()) for network in trained] == [30, 30]


def test_the_area_is_over_slices_and_p_over_persons(trained, random):
    own, others = random.random((40, 4, 4)) + 0.1, random.random((40, 4, 4))
    persons = np.repeat(np.arange(8), 5)
    area, p = tell_apart(own, others, persons, persons)
    scores = [some.mean(axis=(1, 2)) for some in (own, others)]
    assert area == roc_auc_score(np.repeat([1, 0], 40), np.concatenate(scores))
    means = [some.reshape(8, 5).mean(axis=1) for some in scores]
    assert p == pytest.approx(mannwhitneyu(*means, alternative="greater").pvalue)


@pytest.mark.parametrize("shape", [(8, 8), (5, 3), (33, 17)])
def test_black_tiny_and_odd_slices_have_a_score(shape):
    scores = classifier._build((*shape, 1), 0).predict_on_batch(np.zeros((2, *shape, 1)))
    np.testing.assert_array_equal(scores, [[0], [0]])
