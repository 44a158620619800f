"""Trains a small network on real slices; its features describe slices."""

import math

import keras
import numpy as np
import pandas
import tensorflow as tf

from oasisvq.core.checks import finite
from oasisvq.core.intensities import as_floats
from oasisvq.evaluation.image_scores import BACKGROUND

BATCH_SIZE = 32
FEATURES = 64  # numbers that describe a slice
# What the network learns to predict; the tasks of YES_OR_NO as logits.
TASKS = ("position", "age", "sex", "warp", "mixed", "blur", "noise")
YES_OR_NO = ("sex", "mixed")
# Distortions at strength 1. Each of them leaves half of the slices unchanged.
LARGEST_WARP = 0.03  # of the side
LARGEST_BLUR = 2.0  # standard deviation in pixels
LARGEST_NOISE = 0.1  # standard deviation in units of intensity
SHARPEST = 0.3  # standard deviation in pixels: hardly any blur, and still interpolates


def build_feature_network(image_shape, seed=0):
    """Builds the untrained network.

    Every scale is averaged over the slice, the finest too, so the features describe grain and
    sharpness as well as anatomy. The weights do not depend on `image_shape`.

    Args:
        image_shape: `(H, W)` in pixels.
        seed: Integer, draws the first weights.

    Returns:
        `keras.Model` from `(B, H, W, 1)` in [0, 1] to a dictionary: `"features"`,
        `(B, 64)`, standardised once trained, and `"predictions"`, `(B, 7)`, one of each of
        `TASKS`.
    """
    images = keras.Input((*image_shape, 1), name="images")
    # The mirror image is a second channel, so that the network compares left and right.
    x = keras.layers.Concatenate()([images, keras.ops.flip(images, axis=2)])
    summaries = []
    for number, filters in enumerate((16, 32, 64, 64, 64), start=8 * seed):
        options = {"strides": 2, "padding": "same", "activation": "relu"}
        start = keras.initializers.HeNormal(number)
        x = keras.layers.Conv2D(filters, 3, kernel_initializer=start, **options)(x)
        summaries.append(keras.layers.GlobalAveragePooling2D()(x))
        summaries.append(keras.layers.GlobalMaxPooling2D()(x))
    glorot = keras.initializers.GlorotUniform
    x = keras.layers.Concatenate()(summaries)
    x = keras.layers.Dense(128, "relu", kernel_initializer=glorot(8 * seed + 5))(x)
    raw = keras.layers.Dense(FEATURES, kernel_initializer=glorot(8 * seed + 6))(x)
    # Mean and variance are weights, and saved with the others.
    standardised = keras.layers.Normalization(name="standardise")(raw)
    predictions = keras.layers.Dense(len(TASKS), kernel_initializer=glorot(8 * seed + 7))
    outputs = {"features": standardised, "predictions": predictions(keras.layers.ReLU()(raw))}
    return keras.Model(images, outputs, name="features")


def train_feature_network(images, rows, table, seed, steps):
    """Trains the network to predict the position, age and sex of slices, and their distortions.

    Every batch is distorted at random (see `distort`). The network also predicts the strengths of
    the distortions, so slices without position, age and sex are of use too. It never learns the
    subject of a slice: the terms of the data forbid it. The same seed gives the same weights on
    the same processor, and no other random state is changed.

    Args:
        images: uint8 array `(N, H, W)`; may be memory-mapped.
        rows: Integer array `(n,)`, the rows of the training slices.
        table: Data frame of n rows with the columns `position` in any unit, `age` in years and
            `sex`, `"F"` or `"M"`; values may be missing.
        seed: Integer.
        steps: Integer, number of batches of 32; the time does not depend on n.

    Returns:
        The trained `keras.Model`, see `build_feature_network`.

    Raises:
        ValueError: If rows and table differ in length, or images are not uint8.
    """
    if images.dtype != np.uint8 or len(rows) != len(table) or not len(rows):
        raise ValueError(
            f"expected uint8 images, one for each row of the table. Received: {len(rows)} of "
            f"{images.dtype} for {len(table)} rows"
        )
    model = build_feature_network(images.shape[1:], seed)
    learner = keras.Model(model.input, model.output["predictions"])
    learner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        _masked_loss,
        jit_compile=False,  # on a processor XLA only slows convolutions down
    )
    batches = _distorted_batches(images, rows, table, seed, steps)
    learner.fit(batches, shuffle=False, verbose=0)
    standardise = model.get_layer("standardise")
    raw = keras.Model(model.input, {"raw": standardise.input})
    few = rows[np.unique(np.linspace(0, len(rows) - 1, 2000).astype(int))]
    parts = np.array_split(few, math.ceil(len(few) / BATCH_SIZE))  # they need not be in memory
    responses = [network_outputs(raw, images[part][..., None], "raw") for part in parts]
    standardise.adapt(np.concatenate(responses))
    return model


def network_outputs(model, images, name="features"):
    """Returns features of slices, or predictions.

    Args:
        model: See `train_feature_network`.
        images: Float array `(n, H, W, 1)` in [0, 1], or uint8.
        name: `"features"` or `"predictions"`.

    Returns:
        float32 array: features `(n, 64)`, each with mean 0 and standard deviation 1 over the
        training slices, or predictions `(n, 7)`, one for each of `TASKS`.
    """
    outputs = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        batch = as_floats(batch) if batch.dtype == np.uint8 else batch
        outputs.append(finite(model(batch)[name].numpy(), "features"))
    return np.concatenate(outputs)


def distort(images, others, seed):
    """Distorts slices at random, each kind half of the time.

    `mixed`: beyond a line through the brain, another slice takes its place. `warp`: rows and
    columns are displaced in waves. `blur` and `noise` are Gaussian; noise is on the brain only.

    Args:
        images, others: Float tensors `(B, H, W)` in [0, 1]: slices, and the slices to mix in.
        seed: int32 tensor `(2,)`.

    Returns:
        The slices, and float `(B, 4)` in [0, 1]: the strengths of warp, mixed (0 or 1), blur and
        noise.
    """
    batch = tf.shape(images)[0]
    _, height, width = images.shape
    uniforms = tf.random.stateless_uniform([15, batch], seed)
    strengths = tf.where(uniforms[:4] < 0.5, 0.0, uniforms[4:8])
    warp, mixed, blur, noise = tf.unstack(strengths)
    mixed = tf.cast(mixed > 0, tf.float32)
    share = mixed[:, None, None] * _half_planes(height, width, *tf.unstack(uniforms[8:11]))
    images += share * (others - images)
    sigma = tf.maximum(LARGEST_BLUR * blur, SHARPEST)
    down = _wave_matrices(height, LARGEST_WARP * warp, sigma, *tf.unstack(uniforms[11:13]))
    across = _wave_matrices(width, LARGEST_WARP * warp, sigma, *tf.unstack(uniforms[13:15]))
    images = tf.matmul(down, tf.matmul(images, across, transpose_b=True))
    grain = tf.random.stateless_normal(tf.shape(images), seed) * LARGEST_NOISE
    brain = tf.cast(images > BACKGROUND, tf.float32)
    images = tf.clip_by_value(images + noise[:, None, None] * grain * brain, 0.0, 1.0)
    return images, tf.stack([warp, mixed, blur, noise], axis=1)


def _half_planes(height, width, direction, place, softness):
    """Returns masks `(B, H, W)`, 1 beyond a line and 0 before it, from uniforms `(B,)`."""
    direction, place, softness = (
        u[:, None, None] for u in (2 * math.pi * direction, 0.6 * place - 0.3, softness)
    )
    rows, columns = tf.linspace(-1.0, 1.0, height)[:, None], tf.linspace(-1.0, 1.0, width)
    distance = tf.cos(direction) * columns + tf.sin(direction) * rows - place
    return tf.sigmoid(distance / (0.005 + 0.02 * softness))


def _wave_matrices(size, amplitude, sigma, cycles, phase):
    """Returns matrices `(B, size, size)` that displace an axis in a wave, and blur it."""
    pixels = tf.range(size, dtype=tf.float32)
    turns = (1 + 2 * cycles[:, None]) * pixels / size + phase[:, None]
    sources = pixels + size * amplitude[:, None] * tf.sin(2 * math.pi * turns)  # (B, size)
    sources = tf.clip_by_value(sources, 0.0, size - 1.0)
    distances = (pixels - sources[..., None]) / sigma[:, None, None]
    return tf.nn.softmax(-(distances**2) / 2)


def _distorted_batches(images, rows, table, seed, steps):
    """Returns the batches of all steps: images `(B, H, W, 1)` and targets `(B, 7)`."""
    random = np.random.default_rng(seed)
    rounds = math.ceil(steps * BATCH_SIZE / len(rows))
    order = np.concatenate([random.permutation(len(rows)) for _ in range(rounds)])
    order = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)
    partners = _partners(order, table["position"].to_numpy(), random)
    known = _known_targets(table).to_numpy(np.float32)  # (n, 3)

    def prepare(step, chosen, partners):
        slices, others = _read(images, rows, chosen), _read(images, rows, partners)
        pixels, strengths = distort(slices, others, tf.stack([seed, step]))
        # A mixed slice no longer has one position, age and sex.
        labels = tf.where(strengths[:, 1:2] > 0, math.nan, tf.gather(known, chosen))
        # Strengths spread by a third about their mean; position and age by 1.
        strengths *= tf.constant([3.0, 1.0, 3.0, 3.0])
        return pixels[..., None], tf.concat([labels, strengths], axis=1)

    numbers = np.arange(steps, dtype=np.int32)
    batches = tf.data.Dataset.from_tensor_slices((numbers, order, partners))
    return batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _partners(order, positions, random):
    """Returns, for each slice of `order`, a slice at the same position to mix with it.

    A slice from another position would be recognised by the seam alone.
    """
    partners = np.empty_like(order)
    keys = pandas.factorize(positions, use_na_sentinel=False)[0]
    for key in np.unique(keys):
        here = keys[order] == key
        partners[here] = random.choice(np.flatnonzero(keys == key), here.sum())
    alone = partners == order  # without another slice there, any slice
    partners[alone] = random.integers(len(keys), size=alone.sum())
    return partners


def _read(images, rows, chosen):
    """Returns the chosen slices of these rows: float32 `(B, H, W)` in [0, 1]."""
    pixels = tf.numpy_function(lambda chosen: images[rows[chosen]], [chosen], tf.uint8)
    return tf.cast(tf.ensure_shape(pixels, (BATCH_SIZE, *images.shape[1:])), tf.float32) / 255


def _known_targets(table):
    """Returns position and age with mean 0 and deviation 1, and 1 for female; NaN is unknown."""
    known = table[["position", "age"]].apply(pandas.to_numeric, errors="coerce").astype(float)
    known = (known - known.mean()) / known.std(ddof=0).replace(0, 1)
    return known.assign(sex=table["sex"].map({"F": 1.0, "M": 0.0}).astype(float))


def _masked_loss(targets, predictions):
    """Returns the squared error, or the cross-entropy of logits, of known targets: `(B,)`."""
    known = tf.math.is_finite(targets)
    targets = tf.where(known, targets, 0.0)
    odds = tf.constant([name in YES_OR_NO for name in TASKS])
    errors = tf.where(
        odds,
        tf.nn.sigmoid_cross_entropy_with_logits(targets, predictions),
        (targets - predictions) ** 2,
    )
    return tf.reduce_sum(tf.where(known, errors, 0.0), axis=1)
