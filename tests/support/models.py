"""Small models, loops and folders that several tests train."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from hyperparameters import PriorConfig, VQVAEConfig
from modules import PixelCNN, VQVAETrainer
from oasisvq.nn.metrics import SliceMean
from oasisvq.training.batches import Batches
from oasisvq.training.loop import Loop

SMALL_VQVAE = {
    "num_embeddings": 16,
    "embedding_dim": 3,
    "width": 8,
    "residual_blocks": 1,
    "rate_weight": 0.0,
}
SMALL_PRIOR = {"filters": 8, "residual_blocks": 2, "dropout": 0.0}


class OneWeightModel(keras.Model):
    """A model of one weight, called `place`, whose loss is a function of it and of each slice."""

    def __init__(self, name, loss):
        super().__init__(name=name)
        self.loss_of, self.loss_mean, self.seen = loss, SliceMean("loss"), []
        self.place = self.add_weight((), "zeros", name="place")
        self.built = True

    @property
    def metrics(self):
        return [self.loss_mean]

    def train_step(self, data):
        values, _, _ = data
        tf.py_function(lambda place: self.seen.append(float(place)), [self.place], [])
        with tf.GradientTape() as tape:
            losses = self.loss_of(self.place, values)
            count = tf.distribute.get_strategy().num_replicas_in_sync
            loss = tf.reduce_mean(losses) / count
        self.optimizer.apply([tape.gradient(loss, self.place)], [self.place])
        self.loss_mean.update_state(losses)
        return self.get_metrics_result()

    def test_step(self, data):
        values, _, weights = data
        self.loss_mean.update_state(self.loss_of(self.place, values), weights)
        return self.get_metrics_result()


def small_vqvae(image_shape=(96, 80), variance=0.1, seed=0, **changes):
    """Builds a small VQ-VAE that takes the nearest code, unless `changes` say otherwise."""
    config = dataclasses.replace(VQVAEConfig(), **{**SMALL_VQVAE, **changes})
    return VQVAETrainer(image_shape, variance, config, seed)


def small_prior(code_shape, num_embeddings, seed=0, **changes):
    """Builds a small prior without dropout, unless `changes` say otherwise."""
    config = dataclasses.replace(PriorConfig(), **{**SMALL_PRIOR, **changes})
    return PixelCNN(code_shape, num_embeddings, config, seed)


def pairs_of(*arrays):
    """Returns a function that reads rows of arrays as a pair of tensors; of one array, twice."""
    tensors = [tf.constant(array) for array in arrays]

    def read(rows):
        first, *others = [tf.gather(tensor, rows) for tensor in tensors]
        return first, others[0] if others else first

    return read


def loop_of(model, *arrays, optimizer=None, rows=None, batch_size=None, validation=None, **options):
    """Returns a loop that trains a model on arrays, by default all of them in each step."""
    model.compile(optimizer or keras.optimizers.Adam(1e-3))
    rows = np.arange(len(arrays[0])) if rows is None else rows
    batch_size, read = batch_size or len(rows), pairs_of(*arrays)
    return Loop(
        model,
        Batches(read, rows, batch_size),
        Batches(read, rows if validation is None else validation, batch_size),
        **options,
    )


def train_epochs(loop, count):
    """Trains a loop for so many more epochs, and returns the means of each."""
    means = []
    for _ in range(count):
        loop.finish_epoch()
        means.append(loop.progress.means)
        loop.progress.end_epoch(loop.progress.means, better=True)
    return means


def random_weights(model, seed, scale):
    """Gives a model random weights, so that all of them matter."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, scale, size=w.shape) for w in model.get_weights()])
    return model
