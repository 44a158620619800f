"""The feature network learns, is saved with its scaling, and disturbs no other random state."""

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

from oasisvq.evaluation.features import (
    TASKS,
    _distorted_batches,
    _known_targets,
    _masked_loss,
    _partners,
    _wave_matrices,
    build_feature_network,
    distort,
    network_outputs,
    train_feature_network,
)


def unknown(count):
    return pandas.DataFrame({"position": [np.nan] * count, "age": np.nan, "sex": ""})


@pytest.fixture(scope="module")
def slices(brains):
    """Sixteen slices of 32 pixels, uint8: the invented ones, and their darker mirror images."""
    small = brains.reshape(8, 32, 3, 80)[:, :, 1, 24:56]
    return np.round(np.concatenate([small, 0.6 * small[:, :, ::-1]]) * 255).astype("uint8")


@pytest.fixture(scope="module")
def trained(slices):
    table = pandas.DataFrame(
        {"position": np.arange(16.0), "age": [20, 80] * 8, "sex": ["F"] * 8 + ["M"] * 8}
    )
    return train_feature_network(slices, np.arange(len(slices)), table, seed=3, steps=120)


def as_images(slices):
    return slices[..., None].astype("float32") / 255


def test_features_of_training_slices_are_standardised(trained, slices):
    found = network_outputs(trained, as_images(slices))
    assert found.shape == (16, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-2)


def test_it_learns_sex_and_noise_from_what_differs(trained, slices):
    random = np.random.default_rng(0)
    images = as_images(slices)
    before = trained(images)["predictions"].numpy()
    noisy = (images + random.normal(0, 0.1, images.shape) * (images > 0)).clip(0, 1)
    after = trained(noisy.astype("float32"))["predictions"].numpy()
    noise, sex = TASKS.index("noise"), TASKS.index("sex")
    assert (after[:, noise] > before[:, noise]).mean() > 0.9
    assert ((before[:, sex] > 0) == (np.arange(16) < 8)).mean() >= 0.75


def test_weights_restore_the_network_with_its_scaling(trained, slices, tmp_path):
    trained.save_weights(tmp_path / "features.weights.h5")
    other = build_feature_network((32, 32))
    assert (
        np.abs(
            network_outputs(other, as_images(slices)) - network_outputs(trained, as_images(slices))
        ).max()
        > 1
    )
    other.load_weights(tmp_path / "features.weights.h5")
    np.testing.assert_array_equal(
        network_outputs(other, as_images(slices)), network_outputs(trained, as_images(slices))
    )


def test_a_seed_gives_the_same_network_and_touches_no_other_random_state(slices):
    keras.utils.set_random_seed(1)
    expected = (
        np.random.random(),
        keras.random.uniform((2,)).numpy(),
        tf.random.uniform([2]).numpy(),
    )
    keras.utils.set_random_seed(1)
    first = train_feature_network(slices, np.arange(16), unknown(16), seed=5, steps=3)
    state = np.random.random(), keras.random.uniform((2,)).numpy(), tf.random.uniform([2]).numpy()
    for value, other in zip(state, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    second = train_feature_network(slices, np.arange(16), unknown(16), seed=5, steps=3)
    images = as_images(slices)
    np.testing.assert_array_equal(network_outputs(first, images), network_outputs(second, images))
    pictures = tf.constant(images[..., 0])
    shuffled = [distort(pictures, pictures, [seed, 0])[0] for seed in (5, 6)]
    assert np.abs(shuffled[0] - shuffled[1]).max() > 0.1


@pytest.mark.parametrize("shape", [(16, 16), (17, 30)])
def test_any_size_and_no_label_will_do(random, shape):
    slices = random.integers(0, 256, size=(5, *shape)).astype("uint8")
    model = train_feature_network(slices, np.arange(5), unknown(5), seed=0, steps=2)
    found = network_outputs(model, as_images(slices))
    assert found.shape == (5, 64)
    assert np.isfinite(found).all()


def test_unknown_labels_teach_nothing(random):
    known = random.normal(size=(4, 7)).astype("float32")
    targets = known.copy()
    targets[:, 1] = np.nan
    targets[2] = np.nan
    predictions = tf.Variable(random.normal(size=(4, 7)).astype("float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(_masked_loss(tf.constant(targets), predictions))
    gradient = tape.gradient(loss, predictions).numpy()
    np.testing.assert_array_equal(gradient == 0, np.isnan(targets))


def test_loss_is_squared_error_and_cross_entropy():
    targets, predictions = np.zeros((1, 7), "float32"), np.full((1, 7), 2.0, "float32")
    # Five numbers missed by 2, and two certain of yes by odds of e^2 where it is no.
    expected = 5 * 4 + 2 * np.log(1 + np.exp(2))
    assert _masked_loss(targets, predictions).numpy() == pytest.approx([expected])


def test_targets_are_standardised_and_blank_where_unknown():
    table = pandas.DataFrame(
        {"position": ["", 90, 92], "age": [50.0, 50.0, 50.0], "sex": ["F", "", "M"]}
    )
    expected = [[np.nan, 0, 1], [-1, 0, np.nan], [1, 0, 0]]
    np.testing.assert_allclose(_known_targets(table), expected)


def test_distortion_of_strength_0_leaves_a_slice_nearly_as_it_was(brains):
    images = tf.constant(np.tile(brains, (8, 1, 1)), tf.float32)
    distorted, strengths = distort(images, tf.roll(images, 1, axis=0), tf.constant([0, 1]))
    strengths = strengths.numpy()
    spared = strengths.max(axis=1) == 0
    assert 0 < spared.sum() < 16
    changes = np.abs(distorted.numpy() - images.numpy()).mean((1, 2))
    assert changes[spared].max() < 0.002
    assert changes[strengths.max(axis=1) > 0.5].min() > 0.004
    np.testing.assert_allclose((strengths > 0).mean(axis=0), 0.5, atol=0.2)
    assert set(strengths[:, 1]) == {0, 1}


def test_mixing_shows_the_other_slice_on_one_side_only():
    black = tf.zeros((32, 64, 64))
    distorted, strengths = distort(black, black + 0.5, tf.constant([0, 2]))
    still = (strengths[:, 3] == 0) & (strengths[:, 1] == 1)
    mixed = distorted.numpy()[still.numpy()]
    assert len(mixed) > 4
    shares = (mixed > 0.25).mean((1, 2))
    assert 0.1 < shares.min() < shares.max() < 0.9


def test_partners_lie_at_the_same_position(random):
    positions = np.repeat([90.0, 95.0, np.nan], [100, 200, 300])
    order = random.integers(0, 600, (20, 32))
    partners = _partners(order, positions, random)
    same = (positions[partners] == positions[order]) | np.isnan(
        positions[partners] + positions[order]
    )
    assert same.mean() > 0.98
    assert (partners != order).mean() > 0.98
    assert (_partners(np.arange(8)[None], np.arange(8), random) != np.arange(8)).sum() >= 5


def test_mixed_heads_have_no_position_age_and_sex():
    table = pandas.DataFrame(
        {"position": [1.0, 2] * 8, "age": [20.0, 80] * 8, "sex": ["F", "M"] * 8}
    )
    images, rows = np.zeros((20, 16, 16), "uint8"), np.arange(4, 20)
    batches = _distorted_batches(images, rows, table, seed=0, steps=4)
    targets = np.concatenate([targets for _, targets in batches])
    mixed = targets[:, TASKS.index("mixed")] > 0
    assert 32 < mixed.sum() < 96
    assert (np.isnan(targets[:, :3]) == mixed[:, None]).all()


def test_only_the_given_rows_are_learned_and_mixed_in(random):
    images, rows = np.full((40, 16, 16), 255, "uint8"), np.arange(1, 40, 3)
    images[rows] = 0
    batches = _distorted_batches(images, rows, unknown(len(rows)), seed=0, steps=8)
    assert max(pixels.numpy().max() for pixels, _ in batches) == 0


def test_resampling_is_the_identity_shifted_in_a_wave():
    still = _wave_matrices(20, np.float32([0]), np.float32([0.1]), np.float32([0]), np.float32([0]))
    np.testing.assert_allclose(still[0], np.eye(20), atol=1e-6)
    wave = _wave_matrices(
        40, np.float32([0.05]), np.float32([0.2]), np.float32([0]), np.float32([0])
    )
    # A quarter of the way along, the wave reaches 0.05 of 40 pixels.
    assert wave[0].numpy()[10].argmax() == 12
    assert wave[0].numpy()[30].argmax() == 28
    np.testing.assert_allclose(wave[0].numpy().sum(axis=1), 1, rtol=1e-5)


def test_blur_has_the_variance_it_says():
    row = _wave_matrices(41, np.float32([0]), np.float32([2]), np.float32([0]), np.float32([0]))[
        0, 20
    ]
    assert np.average((np.arange(41) - 20) ** 2, weights=row) == pytest.approx(4, rel=1e-3)


def test_images_and_table_must_belong_together(slices):
    with pytest.raises(ValueError, match="expected uint8 images, one for each row of the table"):
        train_feature_network(slices, np.arange(16), unknown(15), seed=0, steps=1)
    with pytest.raises(ValueError, match="16 of float32 for 16 rows"):
        train_feature_network(slices.astype("float32"), np.arange(16), unknown(16), seed=0, steps=1)
