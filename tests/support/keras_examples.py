"""The models of the Keras example "Vector-Quantized Variational Autoencoders", for Keras 3.

They are what one would otherwise start from (https://keras.io/examples/generative/vq_vae/). Layers,
sizes, losses and training by `fit` are kept. Only what Keras 3 refuses, or silently leaves
untrained, is changed: weights come from `add_weight`, `tf.one_hot` stands in a layer, and the
masked kernel is a product in place of an assignment.
"""

import keras
import numpy as np
import tensorflow as tf


class ExampleQuantizer(keras.layers.Layer):
    """Finds the nearest code in a table of all distances, and fetches it by a one-hot product."""

    def __init__(self, num_embeddings, embedding_dim, beta=0.25):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.beta = num_embeddings, embedding_dim, beta
        self.embeddings = self.add_weight(
            (embedding_dim, num_embeddings), "random_uniform", name="embeddings"
        )

    def call(self, x):
        quantized = tf.reshape(
            self.nearest_codes(tf.reshape(x, [-1, self.embedding_dim])), tf.shape(x)
        )
        commitment_loss = tf.reduce_mean((tf.stop_gradient(quantized) - x) ** 2)
        codebook_loss = tf.reduce_mean((quantized - tf.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment_loss + codebook_loss)
        return x + tf.stop_gradient(quantized - x)

    def nearest_codes(self, flat):
        """Returns the nearest codes `(N, D)` of latents `(N, D)`."""
        encodings = tf.one_hot(self.code_indices(flat), self.num_embeddings)  # (N, K)
        return tf.matmul(encodings, self.embeddings, transpose_b=True)

    def code_indices(self, flat):
        """Returns the index of the nearest code of each latent: `(N, D)` to `(N,)`."""
        similarity = tf.matmul(flat, self.embeddings)
        distances = (
            tf.reduce_sum(flat**2, axis=1, keepdims=True)
            + tf.reduce_sum(tf.convert_to_tensor(self.embeddings) ** 2, axis=0)
            - 2 * similarity
        )
        return tf.argmin(distances, axis=1)


def example_encoder(image_shape, embedding_dim):
    """Builds the encoder, from images `(B, H, W, 1)` to latents `(B, H / 4, W / 4, D)`."""
    images = keras.Input((*image_shape, 1))
    x = keras.layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(images)
    x = keras.layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(images, keras.layers.Conv2D(embedding_dim, 1, padding="same")(x))


def example_decoder(image_shape, embedding_dim):
    """Builds the decoder, from latents to images; its output is linear."""
    latents = keras.Input((image_shape[0] // 4, image_shape[1] // 4, embedding_dim))
    x = latents
    for filters in (64, 32):
        x = keras.layers.Conv2DTranspose(filters, 3, activation="relu", strides=2, padding="same")(
            x
        )
    return keras.Model(latents, keras.layers.Conv2DTranspose(1, 3, padding="same")(x))


class ExampleVQVAE(keras.Model):
    """Encodes, quantises and decodes, with the example's own training step."""

    def __init__(self, image_shape, variance, num_embeddings, embedding_dim):
        super().__init__()
        self.variance = variance
        images = keras.Input((*image_shape, 1))
        quantizer = ExampleQuantizer(num_embeddings, embedding_dim)
        latents = example_encoder(image_shape, embedding_dim)(images)
        outputs = example_decoder(image_shape, embedding_dim)(quantizer(latents))
        self.vqvae = keras.Model(images, outputs)
        self.trackers = [
            keras.metrics.Mean(name) for name in ("loss", "reconstruction_loss", "vqvae_loss")
        ]

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, images):
        with tf.GradientTape() as tape:
            reconstructions = self.vqvae(images)
            reconstruction_loss = tf.reduce_mean((images - reconstructions) ** 2) / self.variance
            loss = reconstruction_loss + sum(self.vqvae.losses)
        variables = self.vqvae.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        values = (loss, reconstruction_loss, sum(self.vqvae.losses))
        for tracker, value in zip(self.trackers, values, strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


class OneHot(keras.layers.Layer):
    """Turns codes `(B, h, w)` into one-hot vectors `(B, h, w, K)`."""

    def __init__(self, num_embeddings):
        super().__init__()
        self.num_embeddings = num_embeddings

    def call(self, code_indices):
        return tf.one_hot(tf.cast(code_indices, tf.int32), self.num_embeddings)


class ExampleConvolution(keras.layers.Layer):
    """Convolves with a kernel that is 0 beyond its middle, and for type A in the middle too."""

    def __init__(self, mask_type, **options):
        super().__init__()
        self.mask_type = mask_type
        self.conv = keras.layers.Conv2D(**options)

    def build(self, input_shape):
        self.conv.build(input_shape)
        height, width = self.conv.kernel_size
        mask = np.zeros((height, width, 1, 1), np.float32)
        mask[: height // 2] = 1
        mask[height // 2, : width // 2 + (self.mask_type == "B")] = 1
        self.mask = mask

    def call(self, x):
        x = tf.nn.conv2d(x, self.conv.kernel * self.mask, 1, "SAME") + self.conv.bias
        return self.conv.activation(x)


class ExampleResidualBlock(keras.layers.Layer):
    """Adds a 1x1, a masked 3x3 and a 1x1 convolution to a skip connection."""

    def __init__(self, filters, convolution):
        super().__init__()
        self.conv1 = keras.layers.Conv2D(filters, 1, activation="relu")
        self.pixel_conv = convolution(
            "B", filters=filters // 2, kernel_size=3, activation="relu", padding="same"
        )
        self.conv2 = keras.layers.Conv2D(filters, 1, activation="relu")

    def call(self, inputs):
        return inputs + self.conv2(self.pixel_conv(self.conv1(inputs)))


def example_prior(code_shape, num_embeddings, convolution=ExampleConvolution, first=None):
    """Builds the PixelCNN, from code indices `(B, h, w)` to logits `(B, h, w, K)`.

    Args:
        convolution: The class of its masked convolutions.
        first: What stands in place of the one-hot codes and the first convolution: a layer from
            codes to `(B, h, w, 128)`.
    """
    code_indices = keras.Input(code_shape, dtype="int32")
    if first is None:
        x = OneHot(num_embeddings)(code_indices)
        x = convolution("A", filters=128, kernel_size=7, activation="relu", padding="same")(x)
    else:
        x = first(code_indices)
    for _ in range(2):
        x = ExampleResidualBlock(128, convolution)(x)
    for _ in range(2):
        x = convolution("B", filters=128, kernel_size=1, activation="relu", padding="same")(x)
    return keras.Model(code_indices, keras.layers.Conv2D(num_embeddings, 1)(x))
