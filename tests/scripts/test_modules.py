"""The quantiser, the masked convolutions and the models built of them."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import modules
from hyperparameters import VQVAEConfig
from modules import PixelConvLayer, ResidualBlock, VectorQuantizer
from oasisvq.training.batches import shuffled_rows
from oasisvq.training.stages import layer_precision
from support.models import loop_of, random_weights, small_prior, small_vqvae, train_epochs
from support.tensor_cores import tensor_cores

UNKNOWN = np.full((1, 4), np.nan, np.float32)


def quantizer_of(size=7, dimension=4, **changes):
    """Builds a quantiser that takes the nearest code, unless `changes` say otherwise."""
    sizes = {"num_embeddings": size, "embedding_dim": dimension, "rate_weight": 0.0}
    quantizer = VectorQuantizer(VQVAEConfig(**{**sizes, **changes}), seed=0)
    quantizer.build((None, 3, 5, dimension))
    return quantizer


def epoch_of(vqvae, brains):
    """Returns the means of one training step on all brains."""
    return train_epochs(loop_of(vqvae, brains[..., None]), 1)[0]


def evaluation_of(vqvae, brains):
    """Returns the means over all brains, without a step."""
    means = loop_of(vqvae, brains[..., None]).evaluate()
    return {name.removeprefix("val_"): value for name, value in means.items()}


@pytest.fixture
def latents(random):
    return tf.constant(random.normal(size=(2, 3, 5, 4)), tf.float32)


def nearest_by_numpy(latents, codebook):
    distances = ((latents[..., None, :] - codebook) ** 2).sum(-1)
    return distances.argmin(-1)


# The quantiser


def test_quantizer_picks_the_nearest_code(latents):
    quantizer = quantizer_of()
    codebook = quantizer.codebook.numpy()
    nearest = nearest_by_numpy(latents.numpy(), codebook)
    np.testing.assert_array_equal(quantizer.code_indices(latents), nearest)
    np.testing.assert_allclose(quantizer(latents), codebook[nearest], atol=1e-6)
    np.testing.assert_array_equal(quantizer.code_vectors(nearest), codebook[nearest])


def test_nearest_code_is_exact_far_from_the_origin(random):
    # |z - e|^2 expanded about the origin would lose the small differences.
    codebook = 1000 + random.normal(size=(64, 4)).astype("float32")
    latents = 1000 + random.normal(size=(1, 20, 20, 4)).astype("float32")
    quantizer = quantizer_of(64)
    quantizer.start(codebook, 1.0)
    expected = nearest_by_numpy(latents.astype("float64"), codebook.astype("float64"))
    agreement = (quantizer.code_indices(latents).numpy() == expected).mean()
    assert agreement > 0.995


def test_rate_weight_sets_bits_against_distance(latents):
    quantizer = quantizer_of(rate_weight=3.0, rate_steps=0)
    codebook, counts = quantizer.codebook.numpy(), np.array([1, 2, 4, 8, 16, 32, 65.0])
    quantizer.ema_counts.assign(counts)
    np.testing.assert_array_equal(  # no error is known yet, so no bit costs anything
        quantizer.code_indices(latents), nearest_by_numpy(latents.numpy(), codebook)
    )
    quantizer.ema_error.assign(0.2)
    distances = ((latents.numpy()[..., None, :] - codebook) ** 2).sum(-1)
    expected = (distances - 3.0 * 0.2 * np.log2(counts / counts.sum())).argmin(-1)
    assert (expected != distances.argmin(-1)).any()
    np.testing.assert_array_equal(quantizer.code_indices(latents), expected)


def test_rate_weight_follows_the_error_of_the_quantiser(latents):
    quantizer = quantizer_of(rate_weight=0.5, rate_steps=0, ema_decay=0.9, revive_below=0.0)
    codes = quantizer.code_vectors(quantizer.code_indices(latents))
    error = ((latents - codes).numpy() ** 2).sum(-1).mean()
    quantizer(latents, training=True)
    assert float(quantizer.ema_error) == pytest.approx(0.1 * error, rel=1e-4)
    quantizer(latents)
    assert float(quantizer.ema_error) == pytest.approx(0.1 * error, rel=1e-4)


def test_rate_weight_grows_in_over_the_first_steps(latents):
    quantizer = quantizer_of(rate_weight=2.0, rate_steps=9)
    quantizer.ema_error.assign(0.5)
    full = np.full(7, 2.0 * 0.5 * np.log2(7))
    for updates, share in ((0, 0.1), (4, 0.5), (9, 1.0), (1000, 1.0)):
        quantizer.updates.assign(updates)
        np.testing.assert_allclose(quantizer._price(), share * full, rtol=1e-5)


def test_a_code_that_never_occurs_has_a_finite_price(latents):
    quantizer = quantizer_of(rate_weight=1.0, rate_steps=0)
    quantizer.ema_counts.assign([0.0, 0, 0, 0, 0, 0, 1])
    quantizer.ema_error.assign(1e-9)
    nearest = nearest_by_numpy(latents.numpy(), quantizer.codebook.numpy())
    np.testing.assert_array_equal(quantizer.code_indices(latents), nearest)


def test_gradient_passes_straight_through(latents):
    quantizer = quantizer_of(commitment_cost=0.0)
    weights = tf.random.stateless_normal(latents.shape, (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(latents)
        out = tf.reduce_sum(weights * quantizer(latents))
    np.testing.assert_allclose(tape.gradient(out, latents), weights, atol=1e-6)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_commitment_cost_scales_the_encoder_gradient_only(latents, update):
    # The two losses are equal in value, so only gradients tell them apart.
    quantizer = quantizer_of(commitment_cost=0.1, codebook_update=update)
    with tf.GradientTape() as tape:
        tape.watch(latents)
        quantizer(latents)
        (loss,) = quantizer.losses
    codes = quantizer.code_vectors(quantizer.code_indices(latents))
    pull = 2 * (latents - codes) / tf.size(latents, tf.float32)
    np.testing.assert_allclose(tape.gradient(loss, latents), 0.1 * pull, atol=1e-7)


def test_codebook_loss_moves_each_code_to_its_latents(latents):
    quantizer = quantizer_of(codebook_update="gradient")
    with tf.GradientTape() as tape:
        quantizer(latents)
        (loss,) = quantizer.losses
    gradient = tf.convert_to_tensor(tape.gradient(loss, quantizer.codebook)).numpy()
    nearest = quantizer.code_indices(latents).numpy().ravel()
    flat, codebook = latents.numpy().reshape(-1, 4), quantizer.codebook.numpy()
    expected = np.zeros_like(codebook)
    np.add.at(expected, nearest, 2 * (codebook[nearest] - flat) / flat.size)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_ema_codebook_has_no_gradient(latents):
    quantizer = quantizer_of()
    assert quantizer.trainable_variables == []


def test_ema_update_is_the_moving_average(latents):
    quantizer = quantizer_of(ema_decay=0.9, revive_below=0.0)
    before, flat = quantizer.codebook.numpy(), latents.numpy().reshape(-1, 4)
    nearest = nearest_by_numpy(flat, before)
    quantizer(latents, training=True)
    counts = 0.9 + 0.1 * np.bincount(nearest, minlength=7)
    sums = 0.9 * before
    np.add.at(sums, nearest, 0.1 * flat)
    np.testing.assert_allclose(quantizer.ema_counts, counts, rtol=1e-5)
    np.testing.assert_allclose(quantizer.codebook, sums / counts[:, None], rtol=1e-4)


def test_codebook_rests_outside_training(latents):
    quantizer = quantizer_of()
    before = quantizer.codebook.numpy()
    quantizer(latents)
    np.testing.assert_array_equal(quantizer.codebook, before)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_move_onto_latents_with_their_averages(latents, update):
    quantizer = quantizer_of(revive_below=0.4, codebook_update=update, ema_decay=0.1)
    far = np.full((7, 4), 100.0, "float32")
    far[0] = 0  # takes every latent
    quantizer.start(far, 1.0)
    quantizer(latents, training=True)
    codebook, flat = quantizer.codebook.numpy(), latents.numpy().reshape(-1, 4)
    fair_share = len(flat) / 7
    for code in range(1, 7):
        count = float(quantizer.ema_counts[code])
        assert np.abs(flat - codebook[code]).max(axis=1).min() < 1e-5
        assert count == pytest.approx(fair_share)
        np.testing.assert_allclose(quantizer.ema_sums[code], count * codebook[code], rtol=1e-5)
    assert len(np.unique(codebook[1:], axis=0)) > 3  # not all onto one latent
    drawn = quantizer.codebook.numpy()[1:]
    quantizer.start(far, 1.0)
    quantizer(latents, training=True)
    assert (quantizer.codebook.numpy()[1:] != drawn).any()  # each update draws anew


def test_dead_codes_go_where_the_codebook_errs_most():
    latents = np.zeros((1, 10, 10, 4), "float32")
    latents[0, 7, 3] = 50.0  # the one latent that no code is near
    quantizer = quantizer_of(revive_below=0.9, ema_decay=0.1)
    quantizer.start(np.eye(7, 4, dtype="float32"), 1.0)
    quantizer(tf.constant(latents), training=True)
    nearest = np.abs(quantizer.codebook.numpy() - 50).max(axis=1)
    assert (nearest < 1e-3).sum() >= 4


@pytest.mark.parametrize("scores", [1, 7 * 4, 7 * 15, 7 * 29, 7 * 30, 10**9])
def test_how_many_scores_are_in_memory_changes_no_code(latents, monkeypatch, scores):
    quantizer = quantizer_of(rate_weight=0.3)
    quantizer(latents, training=True)
    whole = quantizer.code_indices(latents)
    monkeypatch.setattr(modules, "SCORES_AT_ONCE", scores)
    np.testing.assert_array_equal(quantizer.code_indices(latents), whole)
    np.testing.assert_array_equal(tf.function(quantizer.code_indices)(latents), whole)
    assert quantizer.code_indices(latents[:0]).shape == (0, 3, 5)


def test_a_code_unused_for_long_stays_where_it_is(latents):
    quantizer = quantizer_of(revive_below=0.0, ema_decay=0.5)
    far = np.full((7, 4), 100.0, "float32")
    far[0] = 0
    quantizer.start(far, 1.0)
    for _ in range(200):
        quantizer(latents, training=True)
    np.testing.assert_allclose(quantizer.codebook[1:], far[1:])


def test_living_codes_follow_their_gradient_alone_in_gradient_mode(brains):
    vqvae = small_vqvae(codebook_update="gradient", revive_below=0.0)
    quantizer, images = vqvae.quantizer, tf.constant(brains[..., None])
    before = quantizer.codebook.numpy()
    quantizer(vqvae.encoder(images), training=True)
    np.testing.assert_array_equal(quantizer.codebook, before)
    epoch_of(vqvae, brains)
    moved = np.abs(quantizer.codebook.numpy() - before).max(axis=1) > 0
    used = np.unique(vqvae.encode(images))
    assert moved[used].any()


def test_living_codes_are_not_revived(latents):
    quantizer = quantizer_of(ema_decay=0.99, revive_below=0.5)
    before = quantizer.codebook.numpy()
    quantizer.start(before, 30 / 7)  # each has its fair share
    quantizer(latents, training=True)
    assert np.abs(quantizer.codebook.numpy() - before).max() < 0.2


def test_training_statistics_do_not_count_revived_codes(brains):
    vqvae = small_vqvae(revive_below=0.9)
    far = np.full((16, 3), 1000.0, "float32")
    far[0] = 0
    vqvae.quantizer.start(far, 1.0)
    means = epoch_of(vqvae, brains)
    assert means["codebook_usage"] == pytest.approx(1 / 16)
    assert means["perplexity"] == pytest.approx(1)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_commitment_metric_is_the_commitment_alone(brains, update):
    vqvae = small_vqvae(codebook_update=update)
    images = tf.constant(brains[..., None])
    latents = vqvae.encoder(images)
    codes = vqvae.quantizer.code_vectors(vqvae.quantizer.code_indices(latents))
    expected = 0.25 * ((latents - codes) ** 2).numpy().mean()
    found = evaluation_of(vqvae, brains)["commitment_loss"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_quantizer_computes_in_float32_under_bfloat16(latents):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        quantizer = quantizer_of()
        out = quantizer(tf.cast(latents, tf.bfloat16))
        assert out.dtype == tf.float32
        assert quantizer.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_quantizer_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"embedding_dim=4.*Received: shape"):
        quantizer_of().build((None, 3, 5, 6))


@pytest.mark.parametrize(
    "layer",
    [
        VectorQuantizer(VQVAEConfig(num_embeddings=7, codebook_update="gradient"), seed=3),
        PixelConvLayer("B", filters=4, kernel_size=3, dilation_rate=2, activation="relu"),
        PixelConvLayer("A", filters=4, kernel_size=5, use_bias=False, kernel_initializer="ones"),
        ResidualBlock(6, dilation_rate=2, dropout=0.3, seed=5),
    ],
)
def test_layers_are_rebuilt_from_their_configuration(layer):
    config = layer.get_config()
    own = inspect.signature(type(layer).__init__).parameters
    assert {name for name in own if own[name].kind == own[name].POSITIONAL_OR_KEYWORD} <= {
        "self",
        *config,
    }
    assert type(layer).from_config(config).get_config() == config


# The VQ-VAE


@pytest.mark.parametrize("shape", [(96, 80), (97, 81), (47, 62)])
@pytest.mark.parametrize("downsample", [4, 8, 16])
def test_any_image_size_comes_back_at_its_own_size(shape, downsample):
    vqvae = small_vqvae(shape, downsample=downsample)
    images = np.zeros((2, *shape, 1), "float32")
    assert vqvae(images).shape == images.shape
    codes = vqvae.encode(images)
    assert codes.shape == (2, *(-(-side // downsample) for side in shape))
    np.testing.assert_allclose(vqvae.decode(codes), vqvae(images), atol=1e-6)


def test_reconstructions_pass_through_the_codebook(brains):
    vqvae = small_vqvae()
    images = brains[..., None]
    before = vqvae(images).numpy()
    vqvae.quantizer.start(np.zeros((16, 3), "float32"), 1.0)
    after = vqvae(images).numpy()
    assert np.abs(after - before).max() > 1e-3
    # All latents fall on one code now, so all images come back alike.
    np.testing.assert_allclose(after[0], after[1], atol=1e-6)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codebook_moves_in_training_and_survives_save_and_load(brains, tmp_path, update):
    vqvae = small_vqvae(codebook_update=update, rate_weight=0.4)
    before = vqvae.quantizer.codebook.numpy()
    train_epochs(loop_of(vqvae, brains[..., None]), 3)
    trained = vqvae.quantizer.codebook.numpy()
    assert np.abs(trained - before).max() > 1e-4
    vqvae.save_weights(tmp_path / "vqvae.weights.h5")
    again = small_vqvae(codebook_update=update, rate_weight=0.4, seed=1)
    again.load_weights(tmp_path / "vqvae.weights.h5")
    np.testing.assert_array_equal(again.quantizer.codebook, trained)
    np.testing.assert_array_equal(again.quantizer.ema_counts, vqvae.quantizer.ema_counts)
    np.testing.assert_array_equal(again.quantizer.ema_sums, vqvae.quantizer.ema_sums)
    assert float(again.quantizer.ema_error) == float(vqvae.quantizer.ema_error) > 0
    np.testing.assert_array_equal(again(brains[..., None]), vqvae(brains[..., None]))


def test_loss_is_the_sum_of_its_documented_terms(brains):
    vqvae = small_vqvae(ssim_weight=0.5)
    images = tf.constant(brains[..., None])
    logs = evaluation_of(vqvae, brains)
    latents = vqvae.encoder(images)
    codes = vqvae.quantizer.code_vectors(vqvae.quantizer.code_indices(latents))
    raw = vqvae.decoder(codes).numpy()
    shown = np.where(brains[..., None] > 0, raw, raw.clip(0))  # below 0 is black
    error = ((shown - brains[..., None]) ** 2).mean() / 0.1
    commitment = 0.25 * ((codes - latents) ** 2).numpy().mean()
    ssim = tf.reduce_mean(tf.image.ssim(images, raw.clip(0, 1), 1.0)).numpy()
    assert float(logs["reconstruction_loss"]) == pytest.approx(error, rel=1e-4)
    assert float(logs["commitment_loss"]) == pytest.approx(commitment, rel=1e-4)
    assert float(logs["ssim"]) == pytest.approx(ssim, rel=1e-4)
    total = error + 0.5 * (1 - ssim) + commitment
    assert float(logs["loss"]) == pytest.approx(total, rel=1e-4)


def test_an_output_below_0_on_black_ground_is_no_error(brains, monkeypatch):
    vqvae = small_vqvae(ssim_weight=0.0)
    images = tf.constant(brains[..., None])
    darker = tf.where(images > 0, images, -0.3)
    monkeypatch.setattr(vqvae, "decoder", lambda codes, training: darker)
    losses, _ = vqvae.slice_losses(images, training=False)
    np.testing.assert_array_equal(losses["reconstruction_loss"], 0)
    # Above 0 there, or below 0 in the brain, it is one.
    for wrong in (tf.where(images > 0, images, 0.3), tf.where(images > 0, -0.3, images)):
        monkeypatch.setattr(vqvae, "decoder", lambda codes, training, wrong=wrong: wrong)
        losses, _ = vqvae.slice_losses(images, training=False)
        assert losses["reconstruction_loss"].numpy().min() > 0


def test_training_lowers_the_loss(brains):
    vqvae = small_vqvae()
    losses = [means["loss"] for means in train_epochs(loop_of(vqvae, brains[..., None]), 60)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_warm_up_leaves_the_codebook_alone(brains):
    vqvae = small_vqvae()
    codebook, kernel = vqvae.quantizer.codebook.numpy(), vqvae.encoder.weights[0].numpy()
    loop = loop_of(vqvae, brains[..., None])
    loop.warm_up(1, functools.partial(vqvae.train_step, quantize=False))
    np.testing.assert_array_equal(vqvae.quantizer.codebook, codebook)
    assert np.abs(vqvae.encoder.weights[0].numpy() - kernel).max() > 0


@pytest.mark.parametrize("variance", [0.1 / 255**2, 0.0, 0.26, 8000.0])
def test_a_variance_of_other_units_is_refused(variance):
    with pytest.raises(ValueError, match="pixels in"):
        small_vqvae(variance=variance)


# The layers of the prior


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_pixel_conv_layer_hides_later_positions(mask_type, dilation, random):
    layer = PixelConvLayer(mask_type, filters=3, kernel_size=5, dilation_rate=dilation)
    inputs = tf.constant(random.normal(size=(1, 6, 5, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    jacobian = np.abs(tape.jacobian(outputs, inputs).numpy()).sum((0, 3, 4, 7))
    jacobian = jacobian.reshape(30, 30)  # (output position, input position)
    later = np.triu(np.ones((30, 30)), k=0 if mask_type == "A" else 1).astype(bool)
    assert (jacobian[later] == 0).all()
    beside = jacobian[np.arange(1, 30), np.arange(0, 29)]
    if dilation == 1:
        assert (beside[np.arange(1, 30) % 5 > 0] > 0).all()
    assert (np.diag(jacobian) > 0).all() == (mask_type == "B")


@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_vertical_pixel_conv_layer_sees_whole_rows(mask_type, random):
    layer = PixelConvLayer(mask_type, "vertical", filters=3, kernel_size=3)
    inputs = tf.constant(random.normal(size=(1, 5, 3, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    jacobian = np.abs(tape.jacobian(outputs, inputs).numpy()).sum((0, 2, 3, 4, 6, 7))
    seen = np.eye(5, k=-1) + (np.eye(5) if mask_type == "B" else 0)  # (output row, input row)
    np.testing.assert_array_equal(jacobian > 0, seen > 0)


@pytest.mark.parametrize(
    ("mask_type", "stack", "size"),
    [
        *[("A", "horizontal", size) for size in (3, 5, (1, 3), (1, 7))],
        *[("B", "horizontal", size) for size in (3, 5, (1, 3), (1, 7), (3, 1))],
        *[("A", "vertical", size) for size in (3, 5, (3, 1))],
        *[("B", "vertical", size) for size in (3, 5, (1, 3), (1, 7), (3, 1))],
    ],
)
def test_pixel_conv_layer_is_a_masked_convolution(mask_type, stack, size, random):
    layer = PixelConvLayer(mask_type, stack, filters=3, kernel_size=size, dilation_rate=2)
    inputs = random.normal(size=(2, 9, 8, 2)).astype("float32")
    layer.build(inputs.shape)
    layer.conv.bias.assign(random.normal(size=3))
    kernel = layer.conv.kernel.numpy()
    row, column = kernel.shape[0] // 2, kernel.shape[1] // 2
    kernel[row + 1 :] = 0
    if stack == "horizontal":
        kernel[row, column + (mask_type == "B") :] = 0
    elif mask_type == "A":
        kernel[row] = 0
    expected = tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=2) + layer.conv.bias
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-5)


def test_pixel_conv_layer_goes_without_a_bias(random):
    inputs = random.normal(size=(1, 4, 4, 2)).astype("float32")
    layer = PixelConvLayer("B", filters=3, kernel_size=3, use_bias=False)
    assert np.abs(layer(inputs)).max() > 0
    np.testing.assert_array_equal(layer(np.zeros_like(inputs)), 0)


def test_pixel_conv_layer_never_changes_its_kernel(random):
    layer = PixelConvLayer("A", filters=3, kernel_size=3)
    inputs = random.normal(size=(1, 4, 4, 2)).astype("float32")
    layer(inputs)
    before = layer.conv.kernel.numpy()
    layer(inputs)
    np.testing.assert_array_equal(layer.conv.kernel, before)
    assert np.abs(before[2]).min() > 0  # hidden weights are kept, only multiplied away


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 4}, {"kernel_size": 3, "strides": 2}, {"padding": "valid"}]
)
def test_pixel_conv_layer_refuses_what_it_cannot_mask(arguments):
    with pytest.raises(ValueError, match="odd kernel_size"):
        PixelConvLayer("A", **{"filters": 2, "kernel_size": 3, **arguments})
    with pytest.raises(ValueError, match="Received: 'C'"):
        PixelConvLayer("C", filters=2, kernel_size=3)
    with pytest.raises(ValueError, match="Received: 'across'"):
        PixelConvLayer("A", "across", filters=2, kernel_size=3)
    with pytest.raises(ValueError, match="hides all"):
        PixelConvLayer("A", "vertical", filters=2, kernel_size=(1, 3))


def test_residual_block_has_the_published_parts(random):
    block = ResidualBlock(filters=8)
    inputs = random.normal(size=(1, 5, 5, 8)).astype("float32")
    outputs = block(inputs)
    assert block.filters == 8
    assert block.conv1.kernel_size == block.conv2.kernel_size == (1, 1)
    assert block.conv1.activation is block.conv2.activation is keras.activations.relu
    assert block.pixel_conv.mask_type == "B"
    inside = block.conv2(block.pixel_conv(block.conv1(inputs)))
    np.testing.assert_allclose(outputs, inputs + inside, atol=1e-6)


# The prior


@pytest.fixture(scope="module")
def prior():
    """A prior all of whose weights matter."""
    return random_weights(small_prior((5, 4), 6), 1, 0.4)


def test_prior_sees_every_earlier_code_and_no_other(prior):
    codes = np.random.default_rng(2).integers(0, 6, size=(1, 5, 4))
    others = np.repeat(codes, 120, axis=0)  # of each position, one with each code there
    others.reshape(20, 6, 20)[np.arange(20), :, np.arange(20)] = np.arange(6)
    unknown = np.repeat(UNKNOWN, 120, axis=0)
    logits = prior((np.repeat(codes, 120, axis=0), unknown)).numpy()
    change = np.abs(prior((others, unknown)).numpy() - logits).max(-1)
    changes = change.reshape(20, 6, 20).max(1).T  # (output position, changed position)
    np.testing.assert_array_equal(changes[np.triu_indices(20)], 0)
    assert (changes[np.tril_indices(20, -1)] > 0).all()


def test_a_wide_grid_has_no_blind_spot():
    # Convolutions alone would not reach from the first row's far end to the second row's start.
    prior = random_weights(small_prior((12, 30), 3, filters=16, dilations=(1,)), 1, 0.2)
    codes = np.random.default_rng(2).integers(0, 2, size=(8, 12, 30))
    other = codes.copy()
    other[:, 0, 29] = 2
    unknown = np.repeat(UNKNOWN, 8, axis=0)
    change = np.abs(prior((other, unknown)).numpy() - prior((codes, unknown)).numpy()).max((0, 3))
    assert (change[0] == 0).all()
    assert (change[1:] > 0).all()


def test_conditions_change_the_prior_and_unknown_is_a_value(prior):
    codes = np.zeros((5, 5, 4), np.int32)
    conditions = np.array(
        [[95, 70, 0, 0], [95, 30, 0, 0], [95, np.nan, 0, 0], [95, 0, 0, 0], [np.nan] * 4],
        np.float32,
    )
    logits = prior((codes, conditions)).numpy()
    assert np.isfinite(logits).all()
    for one in range(5):
        for other in range(one):
            assert np.abs(logits[one] - logits[other]).max() > 1e-3


def test_conditions_are_not_rounded_where_layers_compute_in_bfloat16():
    with layer_precision(mixed=True):
        prior = small_prior((5, 4), 6)
    assert prior.hidden.compute_dtype == prior.embedding.compute_dtype == "bfloat16"
    random_weights(prior, 1, 0.4)
    conditions = np.full((2, 4), np.nan, np.float32)
    conditions[:, 0] = 93.1, 93.2  # in bfloat16 both are 93
    prior.condition.adapt(conditions)
    one, other = prior((np.zeros((2, 5, 4), np.int32), conditions)).numpy()
    assert np.abs(one - other).max() > 1e-2


def test_every_weight_is_saved_and_loaded(prior, tmp_path):
    prior.save_weights(tmp_path / "prior.weights.h5")
    again = small_prior((5, 4), 6)
    again.load_weights(tmp_path / "prior.weights.h5")
    codes = np.random.default_rng(3).integers(0, 6, size=(2, 5, 4))
    conditions = np.array([[95, 70, 0, 0.5], [90, np.nan, 1, np.nan]], np.float32)
    np.testing.assert_array_equal(again((codes, conditions)), prior((codes, conditions)))


def test_prior_learns_shape_from_position_and_condition():
    # Which code fills the lower half depends on the age: nothing is left to guess.
    codes = np.zeros((64, 6, 6), "int32")
    codes[::2, 3:], codes[1::2, 3:] = 1, 2
    conditions = np.full((64, 4), np.nan, "float32")
    conditions[:, 1] = np.resize([20, 80], 64)
    prior = small_prior((6, 6), 4, filters=16, residual_blocks=1)
    prior.condition.adapt(conditions)
    optimizer = keras.optimizers.Adam(0.01)
    train_epochs(loop_of(prior, codes, conditions, optimizer=optimizer, batch_size=16), 30)

    def bits_of_the_first_code_below(conditions):
        logits = prior((codes, conditions))
        nats = keras.losses.sparse_categorical_crossentropy(codes, logits, from_logits=True)
        return nats.numpy()[:, 3, 0] / np.log(2)  # the one code that only the age can tell

    assert bits_of_the_first_code_below(conditions).mean() < 0.2
    assert bits_of_the_first_code_below(np.full_like(conditions, np.nan)).mean() > 0.5


def test_bits_per_code_are_the_mean_of_the_distributions_bits(prior, random):
    codes, conditions = random.integers(0, 6, (3, 5, 4)), np.repeat(UNKNOWN, 3, axis=0)
    logits = prior((codes, conditions)).numpy()
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log2(np.take_along_axis(p, codes[..., None], -1))[..., 0]
    grids = prior.distribution(codes, conditions)
    assert grids.event_shape == (5, 4)
    assert grids.batch_shape == (3,)
    np.testing.assert_allclose(grids.log_prob(codes), -np.log(2) * expected.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(prior.bits_per_code(codes, conditions), expected.mean((1, 2)), 1e-5)
    np.testing.assert_allclose(grids.distribution.probs_parameter(), p, atol=1e-6)
    prior.logits.kernel.assign(0 * prior.logits.kernel)
    prior.logits.bias.assign(np.zeros(6))
    np.testing.assert_allclose(prior.bits_per_code(codes, conditions), np.log2(6), rtol=1e-6)


# Both as ordinary Keras models


def test_a_reader_can_fit_save_and_load_the_vqvae(brains, tmp_path):
    images = brains[:, ::4, ::4, None]
    vqvae = small_vqvae((24, 20), ssim_weight=0.5)
    vqvae.compile(keras.optimizers.Adam(3e-3))
    batches = tf.data.Dataset.from_tensor_slices(images).batch(4)
    history = vqvae.fit(batches, validation_data=batches, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {"perplexity", "codebook_usage", "val_ssim", "val_distortion"} <= set(history)
    vqvae.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == vqvae.get_config()
    np.testing.assert_array_equal(again(images), vqvae(images))
    np.testing.assert_array_equal(again.quantizer.ema_counts, vqvae.quantizer.ema_counts)


def test_a_reader_can_fit_save_and_load_the_prior(random, tmp_path):
    codes, conditions = random.integers(0, 3, (8, 6, 5)), np.repeat(UNKNOWN, 8, axis=0)
    codes[:, 1:] = codes[:, :1]  # so that there is something to learn
    prior = small_prior((6, 5), 8, residual_blocks=1, dilations=(3, 1))
    prior.compile(keras.optimizers.Adam(3e-2))
    batches = tf.data.Dataset.from_tensor_slices((codes, conditions)).batch(4)
    history = prior.fit(batches, validation_data=batches, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    prior.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == prior.get_config()
    np.testing.assert_array_equal(again((codes, conditions)), prior((codes, conditions)))


def test_fit_and_the_loop_take_the_same_steps(brains):
    images = brains[:, ::4, ::4, None]
    by_fit, by_loop = small_vqvae((24, 20), seed=5), small_vqvae((24, 20), seed=5)
    by_loop.set_weights(by_fit.get_weights())
    by_fit.compile(keras.optimizers.Adam(1e-3))
    loop = loop_of(by_loop, images, batch_size=4)
    rows = np.concatenate(list(_rows_of(loop)))
    batches = tf.data.Dataset.from_tensor_slices(images[rows]).batch(4)
    (losses,) = by_fit.fit(batches, epochs=1, verbose=0).history["loss"]
    assert train_epochs(loop, 1)[0]["loss"] == pytest.approx(losses, rel=1e-6)
    for one, other in zip(by_fit.get_weights(), by_loop.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def _rows_of(loop):
    return shuffled_rows(loop.training.rows, 4, loop.training.seed, 0)


def test_each_block_of_the_prior_drops_other_units():
    prior = small_prior((7, 6), 9, dropout=0.3)
    seeds = [block.dropout.seed for block in (*prior.above_blocks, *prior.here_blocks)]
    assert len(set(seeds)) == len(seeds) == 4


# Tensor cores, which round the inputs of float32 products to ten bits


def test_products_of_float32_are_taken_in_float32():
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_on_tensor_cores_some_codes_would_be_others(random):
    quantizer = quantizer_of(512, 32)
    latents = random.normal(0, 0.5, (8, 22, 22, 32)).astype("float32")
    codes = quantizer.code_indices(latents).numpy()
    with tensor_cores():
        share = np.mean(quantizer.code_indices(latents).numpy() != codes)
    assert 2e-4 < share < 0.01


def test_on_tensor_cores_the_logits_would_hardly_differ(random):
    prior = random_weights(small_prior((7, 6), 9), 0, 0.3)
    codes = random.integers(0, 9, (4, 7, 6))
    unknown = np.repeat(UNKNOWN, 4, axis=0)
    logits = prior((codes, unknown)).numpy()
    with tensor_cores():
        error = np.abs(prior((codes, unknown)).numpy() - logits)
    assert 1e-5 < error.max() < 1e-3 * np.ptp(logits)
