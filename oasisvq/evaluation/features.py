"""A small network trained on real slices, whose features the panel compares."""

import math

import keras
import numpy as np
import pandas
import tensorflow as tf

from oasisvq.evaluation.image_scores import BACKGROUND

BATCH_SIZE = 32
# What the network learns to tell; those that are yes or no are learned as odds.
TASKS = ("position", "age", "sex", "warp", "mixed", "blur", "noise")
YES_OR_NO = ("sex", "mixed")
# Distortions at strength 1. Half of all slices are spared each of them.
LARGEST_WARP = 0.03  # of the side
LARGEST_BLUR = 2.0  # standard deviation in pixels
LARGEST_NOISE = 0.1  # standard deviation in units of intensity
SHARPEST = 0.3  # standard deviation in pixels: hardly any blur, and still interpolates


def build_feature_network(image_shape, dimension=64):
    """The untrained network.

    Every scale is averaged over the slice, the finest too: grain and
    sharpness stand beside anatomy. Weights do not depend on `image_shape`.

    Args:
        image_shape: `(H, W)` in pixels.
        dimension: Integer, how many features.

    Returns:
        `keras.Model` from `(B, H, W, 1)` in [0, 1] to a dictionary:
        `"features"`, `(B, dimension)`, standardised once trained, and
        `"predictions"`, `(B, 7)`, one of each of `TASKS`.
    """
    images = keras.Input((*image_shape, 1), name="images")
    # Its mirror image beside each slice, so that left is seen with right.
    x = keras.layers.Concatenate(dtype="float32")([images, keras.ops.flip(images, axis=2)])
    summaries = []
    for number, filters in enumerate((16, 32, 64, 64, 64)):
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed=number), dtype="float32",
        )(x)  # fmt: skip
        summaries.append(keras.layers.GlobalAveragePooling2D(dtype="float32")(x))
        summaries.append(keras.layers.GlobalMaxPooling2D(dtype="float32")(x))
    x = keras.layers.Concatenate(dtype="float32")(summaries)
    x = _dense(128, seed=5, activation="relu")(x)
    raw = _dense(dimension, seed=6)(x)
    x = keras.layers.ReLU(dtype="float32")(raw)
    # Keeps mean and variance in weights, which are saved with the others.
    standardised = keras.layers.Normalization(name="standardise", dtype="float32")(raw)
    outputs = {"features": standardised, "predictions": _dense(len(TASKS), seed=7)(x)}
    return keras.Model(images, outputs, name="feature_network")


def _dense(units, seed, activation=None):
    start = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer=start, dtype="float32"
    )


def train_feature_network(images, rows, table, seed=0, steps=600, dimension=64):
    """Trains on real slices to tell what is known of them, and what was done to them.

    Position, age and sex are asked where they are known. Every batch is
    distorted anew (see `distort`), and the strengths are asked too, so that
    slices of which nothing is known serve as well. Who it is is never asked:
    the terms of the data forbid it. The same seed gives the same weights on
    the same processor, and no other random state is touched.

    Args:
        images: uint8 array `(N, H, W)`; may be memory-mapped.
        rows: Integer array `(n,)`, which of them are training slices.
        table: Data frame of n rows with the columns `position`, in any unit,
            `age` in years and `sex`, `"F"` or `"M"`; all may be blank.
        seed: Integer.
        steps: Integer, batches of 32: the time it takes does not depend on n.
        dimension: Integer, how many features.

    Returns:
        The trained `keras.Model`, see `build_feature_network`.

    Raises:
        ValueError: If rows and table differ in length, or images are not uint8.
    """
    if images.dtype != np.uint8 or len(rows) != len(table) or not len(rows):
        raise ValueError(
            f"expected uint8 images, one a row of the table. Received: {len(rows)} of "
            f"{images.dtype} for {len(table)} rows"
        )
    model = build_feature_network(images.shape[1:], dimension)
    learner = keras.Model(model.input, model.output["predictions"])
    learner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        _masked_loss,
        jit_compile=False,  # on a processor XLA only slows convolutions down
    )
    batches = _distorted_batches(images, rows, table, seed, steps)
    learner.fit(batches, shuffle=False, verbose=0)
    raw = keras.Model(model.input, model.get_layer("standardise").input)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, 2000).astype(int))]
    parts = [images[part] for part in np.array_split(chosen, math.ceil(len(chosen) / BATCH_SIZE))]
    responses = [raw(part[..., None] / np.float32(255)).numpy() for part in parts]
    model.get_layer("standardise").adapt(np.concatenate(responses))
    return model


def features(model, images):
    """Standardised features of slices.

    Args:
        model: See `train_feature_network`.
        images: Float array `(n, H, W, 1)` in [0, 1].

    Returns:
        float32 array `(n, dimension)`; over the training slices each has
        mean 0 and standard deviation 1.
    """
    return _outputs(model, images, "features")


def predictions(model, images):
    """What the network says of slices: as `features`, `(n, 7)`, one of each of `TASKS`."""
    return _outputs(model, images, "predictions")


def _outputs(model, images, name):
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
    return np.concatenate([model(batch)[name].numpy() for batch in batches])


def skill(model, images, glued, table):
    """What the network can tell of slices that it was not trained on.

    Args:
        model: See `train_feature_network`.
        images, glued: Float arrays `(n, H, W, 1)` in [0, 1]: slices, and the same with half of
            another head.
        table: As for `train_feature_network`.

    Returns:
        Dictionary: the correlation of `position` and `age` with what it says of them; of `sex` and
        `mixed`, the chance that it finds a woman's slice more likely a woman's than a man's, and a
        mixed one more likely mixed (area under the ROC curve). `None` where that is unknown.
    """
    said, of_glued = predictions(model, images), predictions(model, glued)
    known = _known_targets(table)
    found = {}
    for name in ("position", "age"):
        column = TASKS.index(name)
        true, guessed = (part[np.isfinite(known[:, column]), column] for part in (known, said))
        varied = len(true) and np.ptp(true) > 0 and np.ptp(guessed) > 0
        found[name] = float(np.corrcoef(true, guessed)[0, 1]) if varied else None
    sex = TASKS.index("sex")
    found["sex"] = _chance(said[known[:, sex] == 1, sex], said[known[:, sex] == 0, sex])
    mixed = TASKS.index("mixed")
    found["mixed"] = _chance(of_glued[:, mixed], said[:, mixed])
    return found


def _chance(greater, smaller):
    """How often one of the first is above one of the second, or `None` without either."""
    from scipy.stats import mannwhitneyu  # not at the top: it takes half a second

    if not len(greater) or not len(smaller):
        return None
    return float(mannwhitneyu(greater, smaller).statistic / (len(greater) * len(smaller)))


def distort(images, others, seed):
    """Distorts slices at random, each kind half of the time.

    `mixed`: beyond a line through the brain stands another slice. `warp`: rows
    and columns are drawn apart and together in waves. `blur` and `noise`:
    Gaussian, the noise on the brain alone.

    Args:
        images, others: Float tensors `(B, H, W)` in [0, 1]: slices, and what they are mixed with.
        seed: int32 tensor `(2,)`.

    Returns:
        The slices, and float `(B, 4)` in [0, 1]: the strengths of warp,
        mixed (0 or 1), blur and noise.
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
    """1 beyond a line, 0 before it: `(B, H, W)` from uniforms `(B,)`."""
    direction, place, softness = (
        u[:, None, None] for u in (2 * math.pi * direction, 0.6 * place - 0.3, softness)
    )
    rows, columns = tf.linspace(-1.0, 1.0, height)[:, None], tf.linspace(-1.0, 1.0, width)
    distance = tf.cos(direction) * columns + tf.sin(direction) * rows - place
    return tf.sigmoid(distance / (0.005 + 0.02 * softness))


def _wave_matrices(size, amplitude, sigma, cycles, phase):
    """Resampling along one axis, `(B, size, size)`: displaced in a wave, and blurred."""
    pixels = tf.range(size, dtype=tf.float32)
    turns = (1 + 2 * cycles[:, None]) * pixels / size + phase[:, None]
    sources = pixels + size * amplitude[:, None] * tf.sin(2 * math.pi * turns)  # (B, size)
    sources = tf.clip_by_value(sources, 0.0, size - 1.0)
    distances = (pixels - sources[..., None]) / sigma[:, None, None]
    return tf.nn.softmax(-(distances**2) / 2)


def _distorted_batches(images, rows, table, seed, steps):
    """`(images (B, H, W, 1), targets (B, 7))` of all steps, whatever came before."""
    random = np.random.default_rng(seed)
    rounds = math.ceil(steps * BATCH_SIZE / len(rows))
    order = np.concatenate([random.permutation(len(rows)) for _ in range(rounds)])
    order = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)
    partners = _partners(order, table["position"].to_numpy(), random)
    known = _known_targets(table)

    def prepare(step, chosen, partners):
        slices, others = _read(images, rows, chosen), _read(images, rows, partners)
        pixels, strengths = distort(slices, others, tf.stack([seed, step]))
        # Half of another slice: no longer this one's age and sex.
        labels = tf.where(strengths[:, 1:2] > 0, math.nan, tf.gather(known, chosen))
        # Strengths spread by a third about their mean; position and age by 1.
        strengths *= tf.constant([3.0, 1.0, 3.0, 3.0])
        return pixels[..., None], tf.concat([labels, strengths], axis=1)

    numbers = np.arange(steps, dtype=np.int32)
    batches = tf.data.Dataset.from_tensor_slices((numbers, order, partners))
    return batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _partners(order, positions, random):
    """For each slice of `order` another at its position, to be mixed with: of other positions, the
    seam would tell what anatomy should."""
    partners = np.empty_like(order)
    keys = pandas.factorize(positions, use_na_sentinel=False)[0]
    for key in np.unique(keys):
        here = keys[order] == key
        partners[here] = random.choice(np.flatnonzero(keys == key), here.sum())
    alone = partners == order  # then any other will do
    partners[alone] = random.integers(len(keys), size=alone.sum())
    return partners


def _read(images, rows, chosen):
    """Float32 `(B, H, W)` in [0, 1] of the slices of these rows."""
    pixels = tf.numpy_function(lambda chosen: images[rows[chosen]], [chosen], tf.uint8)
    return tf.cast(tf.ensure_shape(pixels, (BATCH_SIZE, *images.shape[1:])), tf.float32) / 255


def _known_targets(table):
    """Position and age with mean 0 and spread 1, and whether female: `(n, 3)`, NaN unknown."""
    columns = []
    for name in ("position", "age"):
        values = pandas.to_numeric(table[name], errors="coerce").astype(float)
        spread = values.std(ddof=0)
        columns.append((values - values.mean()) / (spread if spread > 0 else 1.0))
    columns.append(table["sex"].map({"F": 1.0, "M": 0.0}).astype(float))
    return np.stack(columns, axis=1).astype(np.float32)


def _masked_loss(targets, predictions):
    """Squared error, or cross-entropy of yes or no, of what is known: `(B,)`."""
    known = tf.math.is_finite(targets)
    targets = tf.where(known, targets, 0.0)
    odds = tf.constant([name in YES_OR_NO for name in TASKS])
    errors = tf.where(
        odds,
        tf.nn.sigmoid_cross_entropy_with_logits(targets, predictions),
        (targets - predictions) ** 2,
    )
    return tf.reduce_sum(tf.where(known, errors, 0.0), axis=1)
