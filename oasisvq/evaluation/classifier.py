"""Tells generated slices from real ones with a small network, a two-sample test."""

import keras
import numpy as np
import pandas
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from oasisvq.evaluation.measures import deal_persons

FOLDS = 2
STEPS, BATCH_SIZE = 150, 32


def tell_apart(own, others, persons, other_persons, seed=0, steps=STEPS):
    """Trains a network to tell two groups of slices, and tests it on persons that it has not seen.

    Args:
        own, others: float32 arrays `(n, H, W)` and `(m, H, W)` in [0, 1].
        persons, other_persons: Arrays `(n,)` and `(m,)`.
        seed: Integer.
        steps: Integer, batches of 32 of each of the two trainings.

    Returns:
        The area under the ROC curve over slices, 0.5 for guesses, and p of the one-sided
        Mann-Whitney test that persons of the first group score higher.

    Reference:

    - [Lopez-Paz and Oquab, 2017](https://arxiv.org/abs/1610.06545), section 3
    """
    images = np.concatenate([own, others])[..., None]
    labels = np.repeat([1, 0], [len(own), len(others)])
    names = np.array([f"own {name}" for name in persons] + [f"other {n}" for n in other_persons])
    folds = np.concatenate([deal_persons(some, FOLDS, seed) for some in (persons, other_persons)])
    scores, random = np.zeros(len(labels)), np.random.default_rng([seed, 7])
    for fold in range(FOLDS):
        held = folds == fold
        network = _train(images, labels, np.flatnonzero(~held), random, seed, steps)
        parts = [network(images[held][start:][:128]) for start in range(0, held.sum(), 128)]
        scores[held] = np.concatenate(parts)[:, 0]
    table = pandas.DataFrame({"score": scores, "label": labels}).groupby(names).mean()
    p = mannwhitneyu(*(table["score"][table["label"] == n] for n in (1, 0)), alternative="greater")
    return float(roc_auc_score(labels, scores)), float(p.pvalue)


def _train(images, labels, rows, random, seed, steps):
    """Returns a network trained on these rows, half of each batch of either group."""
    network = _build(images.shape[1:], seed)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    groups = [rows[labels[rows] == label] for label in (0, 1)]
    order = [random.choice(group, (steps, BATCH_SIZE // 2)) for group in groups]
    for chosen in np.concatenate(order, axis=1):
        network.train_on_batch(images[chosen], labels[chosen, None].astype(np.float32))
    return network


def _build(shape, seed):
    """Returns an untrained network from slices `(B, H, W, 1)` to logits `(B, 1)`."""
    images = keras.Input(shape)
    # The mirror image is a second channel, so that the network compares left and right.
    x = keras.layers.Concatenate()([images, keras.ops.flip(images, axis=2)])
    for number, filters in enumerate((16, 32, 48, 64)):
        start = keras.initializers.HeNormal(seed + number)
        options = {"activation": "relu", "kernel_initializer": start}
        x = keras.layers.Conv2D(filters, 3, 2, "same", **options)(x)
    x = keras.layers.Concatenate()(
        [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    )
    logits = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed))(x)
    return keras.Model(images, logits, name="two_samples")
