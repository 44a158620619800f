"""The quantisers, residual blocks and losses that search.py puts in place of those of modules.py.

None of them is used by the scripts. Every quantiser has the interface of `VectorQuantizer` and
gives one code a position, so that the prior and the price are the same.
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans

from modules import VectorQuantizer
from oasisvq.nn.losses import ssim


class RotationQuantizer(VectorQuantizer):
    """Turns and stretches the gradient as it does the latent, in place of passing it straight.

    Reference:

    - [Fifty et al., 2024](https://arxiv.org/abs/2410.06424), section 4
    """

    def call(self, latents, training=False, code_indices=None):
        codes = super().call(latents, training=training, code_indices=code_indices)
        z, q = tf.stop_gradient(latents), tf.stop_gradient(codes)
        z_length, q_length = (tf.norm(v, axis=-1, keepdims=True) + 1e-6 for v in (z, q))
        z, q = z / z_length, q / q_length
        between = z + q
        between /= tf.norm(between, axis=-1, keepdims=True) + 1e-6
        rotated = latents - 2 * between * tf.reduce_sum(between * latents, -1, keepdims=True)
        rotated += 2 * q * tf.reduce_sum(z * latents, -1, keepdims=True)
        return rotated * (q_length / z_length)


class CosineQuantizer(VectorQuantizer):
    """Scales latents and codes to length 1, so that the nearest code has the smallest angle.

    Reference:

    - [Yu et al., 2021](https://arxiv.org/abs/2110.04627), section 3.2
    """

    def call(self, latents, training=False, code_indices=None):
        latents = tf.math.l2_normalize(latents, axis=-1)
        return super().call(latents, training=training, code_indices=code_indices)

    def code_indices(self, latents):
        self.codebook.assign(tf.math.l2_normalize(self.codebook, axis=-1))
        return super().code_indices(tf.math.l2_normalize(latents, axis=-1))

    def code_vectors(self, code_indices):
        return tf.math.l2_normalize(super().code_vectors(code_indices), axis=-1)

    def slice_losses(self, latents, codes):
        return super().slice_losses(tf.math.l2_normalize(latents, axis=-1), codes)


class ScalarQuantizer(VectorQuantizer):
    """Squashes each of D numbers into (-1, 1) and rounds it to one of K^(1/D) levels.

    So the codebook never changes.

    Reference:

    - [Mentzer et al., 2023](https://arxiv.org/abs/2309.15505), section 3
    """

    def build(self, input_shape):
        super().build(input_shape)
        levels = round(self.num_embeddings ** (1 / self.embedding_dim))
        if levels**self.embedding_dim != self.num_embeddings:
            raise ValueError(f"{self.num_embeddings} is no power of {self.embedding_dim}")
        axes = [np.linspace(-1, 1, levels)] * self.embedding_dim
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        self.codebook.assign(grid.reshape(-1, self.embedding_dim))

    def start(self, codebook, latents_per_code):
        """Leaves the codebook as it is: there is nothing to start."""

    def call(self, latents, training=False, code_indices=None):
        latents = tf.tanh(latents)
        codes = self.code_vectors(super().code_indices(latents))
        return latents + tf.stop_gradient(codes - latents)

    def slice_losses(self, latents, codes):
        """Returns zeros `(B,)`: tanh and the levels keep the latents near already."""
        return tf.zeros_like(latents[:, 0, 0, 0])

    def code_indices(self, latents):
        return super().code_indices(tf.tanh(latents))


class ResidualQuantizer(VectorQuantizer):
    """Adds up a coarse code and a fine one, which stands for what the coarse one leaves.

    A table of `COARSE` and one of K / `COARSE` vectors take the place of one of K.

    Reference:

    - [Lee et al., 2022](https://arxiv.org/abs/2203.01941), section 3.1
    """

    COARSE = 32

    def build(self, input_shape):
        super().build(input_shape)
        sizes = (self.COARSE, self.num_embeddings // self.COARSE)
        self.tables = [
            self.add_weight(
                (size, self.embedding_dim), initializer="zeros", trainable=False, name="table"
            )
            for size in sizes
        ]
        self.counts = [
            self.add_weight((size,), initializer="ones", trainable=False, name="count")
            for size in sizes
        ]

    def start(self, codebook, latents_per_code):
        """Sets the tables by k-means of the codes, then of what is left of them."""
        left = np.asarray(codebook)
        for table, count in zip(self.tables, self.counts, strict=True):
            kmeans = KMeans(table.shape[0], n_init=1, random_state=self.seed).fit(left)
            table.assign(kmeans.cluster_centers_)
            count.assign(tf.fill(count.shape, latents_per_code * len(codebook) / table.shape[0]))
            left = left - kmeans.cluster_centers_[kmeans.labels_]
        self._sum()

    def _sum(self):
        coarse, fine = self.tables
        self.codebook.assign(
            tf.reshape(coarse[:, None] + fine[None], [self.num_embeddings, self.embedding_dim])
        )

    def code_indices(self, latents):
        """Returns the best coarse code, and the best fine one beside it, as one index."""
        left = tf.reshape(tf.cast(latents, tf.float32), [-1, self.embedding_dim])
        chosen = []
        for table in self.tables:
            table = tf.convert_to_tensor(table)
            scores = tf.matmul(left, table, transpose_b=True) - tf.reduce_sum(table**2, 1) / 2
            chosen.append(tf.argmax(scores, axis=1, output_type=tf.int32))
            left -= tf.gather(table, chosen[-1])
        indices = chosen[0] * self.tables[1].shape[0] + chosen[1]
        return tf.reshape(indices, tf.shape(latents)[:-1])

    def _learn(self, flat, indices):
        left = flat
        fine = self.tables[1].shape[0]
        parts = (indices // fine, indices % fine)
        for table, count, part in zip(self.tables, self.counts, parts, strict=True):
            size = table.shape[0]
            now = tf.math.unsorted_segment_sum(tf.ones_like(left[:, 0]), part, size)
            sums = tf.math.unsorted_segment_sum(left, part, size)
            sums = self.ema_decay * table * count[:, None] + (1 - self.ema_decay) * sums
            left -= tf.gather(tf.convert_to_tensor(table), part)
            count.assign(self.ema_decay * count + (1 - self.ema_decay) * now)
            table.assign(sums / tf.maximum(count, 1e-5)[:, None])
        self._sum()


def normalised_residual_blocks(x, width, count):
    """Applies the residual blocks of the VQ-VAE, with group normalisation.

    Reference:

    - [Wu and He, 2018](https://arxiv.org/abs/1803.08494)
    """
    for _ in range(count):
        y = keras.layers.ReLU()(keras.layers.GroupNormalization(8)(x))
        y = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Conv2D(width, 1)(y)])
    return keras.layers.ReLU()(x)


def bottleneck_residual_blocks(x, width, count):
    """Applies the residual blocks of the VQ-VAE, with half as many channels inside."""
    for _ in range(count):
        y = keras.layers.ReLU()(x)
        y = keras.layers.Conv2D(width // 2, 3, padding="same", activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Conv2D(width, 1)(y)])
    return keras.layers.ReLU()(x)


def ssim_and_edges(images, reconstructions):
    """Returns the SSIM `(B,)`, less the errors of the differences between neighbouring pixels.

    Reference:

    - [Mathieu et al., 2015](https://arxiv.org/abs/1511.05440), equation 6, with absolute values
    """
    edges = sum(
        tf.reduce_mean(tf.abs(true - painted), axis=(1, 2, 3))
        for true, painted in zip(
            tf.image.image_gradients(images),
            tf.image.image_gradients(reconstructions),
            strict=True,
        )
    )
    return ssim(images, reconstructions) - 5 * edges


def ms_ssim(images, reconstructions):
    """Returns the SSIM at five scales, `(B,)`.

    Reference:

    - [Wang et al., 2003](https://doi.org/10.1109/ACSSC.2003.1292216)
    """
    return tf.image.ssim_multiscale(images, reconstructions, 1.0)
