"""The two models: a VQ-VAE that turns slices into codes, and a PixelCNN, the prior of codes."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from hyperparameters import PriorConfig, VQVAEConfig
from oasisvq.nn.attention import AxialAttention
from oasisvq.nn.conditioning import CONDITION_COUNT, ConditionEmbedding, PositionBias
from oasisvq.nn.losses import LEAST_VARIANCE, MOST_VARIANCE, ssim
from oasisvq.nn.metrics import CodebookUse, SliceMean
from oasisvq.nn.random import Dropout
from oasisvq.nn.replicas import SAME_EVERYWHERE, gather_batch

__all__ = [
    "PixelCNN",
    "PixelConvLayer",
    "ResidualBlock",
    "VQVAETrainer",
    "VectorQuantizer",
    "build_decoder",
    "build_encoder",
    "build_prior",
    "build_vqvae",
    "load_prior",
    "load_vqvae",
]

# On NVIDIA cards since 2020, TensorFlow rounds the inputs of float32 products to ten bits unless it
# is told not to: one code in 400 would come out wrong, and SSIM be off by 0.0025.
tf.config.experimental.enable_tensor_float_32_execution(False)

SCORES_AT_ONCE = 2**20  # of latents with codes: 4 MB


@keras.saving.register_keras_serializable(package="oasisvq")
class VectorQuantizer(keras.layers.Layer):
    """Replaces each latent by a near and frequent code; gradients pass straight through.

    It chooses the code with the least `|z - e|^2 + rate_weight * error * bits`, where `bits` is
    `-log2` of the code's share of the latents, and `error` the mean squared error of the quantiser:
    of two codes that are about as near, the more frequent one, which costs fewer bits. Share and
    error are moving averages, and the weight grows from 0 over the first `rate_steps` steps. A code
    that stands for less than `revive_below` of a fair share (the latents of a batch, divided by K)
    is dead, and moves to a latent of the batch.

    It computes in float32 under any dtype policy: in bfloat16 one code in a hundred comes out
    wrong. Its whole state lies in weights, so it is trained, saved and resumed with the model.

    Args:
        config: `VQVAEConfig`, with the numbers named above, the number of codes K, their length D,
            and whether the codebook follows a moving average of its latents (appendix A.1 of the
            paper) or the gradient of its own loss (equation 3).
        seed: Integer, draws the first codebook, and the latents that dead codes move to.

    Call arguments:
        latents: Float tensor of shape `(B, h, w, D)`, the encoder's output.
        training: Boolean, whether the codebook learns from this batch.
        code_indices: int32 tensor of shape `(B, h, w)`, the chosen codes if
            they are known already. Default: they are searched for.

    Returns:
        Tensor of shape `(B, h, w, D)`. Its value is the chosen code; its
        gradient with respect to `latents` is the identity.

    Raises:
        ValueError: If the last axis of `latents` is not `config.embedding_dim`.

    Reference:

    - [van den Oord et al., 2017](https://arxiv.org/abs/1711.00937)
    - [Chou et al., 1989](https://doi.org/10.1109/29.17498), for the rate
    """

    def __init__(self, config, seed, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.config, self.seed = config, seed

    def build(self, input_shape):
        if input_shape[-1] != self.config.embedding_dim:
            raise ValueError(
                f"The last axis of the latents must be embedding_dim={self.config.embedding_dim}. "
                f"Received: shape {tuple(input_shape)}"
            )
        shape = (self.config.num_embeddings, self.config.embedding_dim)
        start = keras.initializers.RandomUniform(-1, 1, seed=self.seed)
        self.codebook = self.add_weight(
            shape=shape,
            initializer=start,
            trainable=self.config.codebook_update == "gradient",
            aggregation=SAME_EVERYWHERE,
            name="codebook",
        )
        # Latents a batch that each code stands for, and their sum, as moving averages.
        state = {"trainable": False, "aggregation": SAME_EVERYWHERE}
        self.ema_counts = self.add_weight(shape[:1], "ones", name="ema_counts", **state)
        self.ema_sums = self.add_weight(shape, start, name="ema_sums", **state)
        self.ema_error = self.add_weight((), "zeros", name="ema_error", **state)
        # Seeds the draws of revival. A seed generator's state is not saved with the weights.
        self.updates = self.add_weight((), "zeros", dtype="int32", name="updates", **state)

    def start(self, codebook, latents_per_code):
        """Sets the codebook `(K, D)`, each code standing for so many latents a batch."""
        self.codebook.assign(codebook)
        self.ema_counts.assign(tf.fill([self.config.num_embeddings], float(latents_per_code)))
        self.ema_sums.assign(self.codebook * self.ema_counts[:, None])

    def call(self, latents, training=False, code_indices=None):
        if code_indices is None:
            code_indices = self.code_indices(latents)
        codes = self.code_vectors(code_indices)
        self.add_loss(tf.reduce_mean(self.slice_losses(latents, codes)))
        if training:
            flat = tf.reshape(tf.stop_gradient(latents), [-1, self.config.embedding_dim])  # (N, D)
            self._learn(gather_batch(flat), gather_batch(tf.reshape(code_indices, [-1])))
        return latents + tf.stop_gradient(codes - latents)

    def slice_losses(self, latents, codes):
        """Returns the commitment loss of each slice `(B,)`, with a gradient codebook's own."""
        losses = self.config.commitment_cost * _mean_square(tf.stop_gradient(codes) - latents)
        if self.config.codebook_update == "gradient":
            losses += _mean_square(codes - tf.stop_gradient(latents))
        return losses

    def code_indices(self, latents):
        """Returns the chosen code of each latent: `(B, h, w, D)` to int32 `(B, h, w)`."""
        flat = tf.reshape(tf.cast(latents, "float32"), [-1, self.config.embedding_dim])  # (N, D)
        # |z - e|^2 + price is least where z.e - (|e|^2 + price) / 2 is greatest. Taking the
        # codebook's mean off both sides first keeps float32 from cancelling two large numbers.
        centre = tf.reduce_mean(self.codebook, axis=0)
        codebook = self.codebook - centre
        offsets = (tf.reduce_sum(codebook**2, axis=1) + self._price()) / 2  # (K,)
        weights = tf.concat([codebook, -offsets[:, None]], axis=1)  # (K, D + 1)

        def choose(start, chosen):
            block = flat[start : start + rows] - centre
            block = tf.concat([block, tf.ones_like(block[:, :1])], axis=1)  # (rows, D + 1)
            scores = tf.matmul(block, weights, transpose_b=True)  # (rows, K)
            best = tf.argmax(scores, axis=1, output_type=tf.int32)
            return start + rows, chosen.write(start // rows, best)

        # A block's scores at a time: those of all latents with all codes would be the largest
        # tensor of the whole training.
        rows, count = max(SCORES_AT_ONCE // self.config.num_embeddings, 1), tf.shape(flat)[0]
        blocks = tf.TensorArray(
            tf.int32, tf.maximum(-(-count // rows), 1), element_shape=[None], infer_shape=False
        )
        first = choose(0, blocks)  # there may be no latent at all
        _, blocks = tf.while_loop(
            lambda start, _: start < count, choose, first, parallel_iterations=1
        )
        return tf.reshape(blocks.concat(), tf.shape(latents)[:-1])

    def _price(self):
        """Returns what the bits of each code weigh beside squared distances, `(K,)`."""
        shares = tf.maximum(self.ema_counts / tf.reduce_sum(self.ema_counts), 1e-9)
        bits = -tf.math.log(shares) / tf.math.log(2.0)
        grown = (tf.cast(self.updates, "float32") + 1) / (self.config.rate_steps + 1)
        return self.config.rate_weight * tf.minimum(grown, 1.0) * self.ema_error * bits

    def code_vectors(self, code_indices):
        """Returns the codes themselves: integers `(B, h, w)` to float32 `(B, h, w, D)`."""
        return tf.gather(self.codebook, tf.cast(code_indices, tf.int32))

    def _learn(self, flat, indices):
        """Moves the codebook after latents `(N, D)` and their code indices `(N,)`."""
        ones = tf.ones_like(flat[:, 0])
        counts = tf.math.unsorted_segment_sum(ones, indices, self.config.num_embeddings)
        sums = tf.math.unsorted_segment_sum(flat, indices, self.config.num_embeddings)
        counts = self.config.ema_decay * self.ema_counts + (1 - self.config.ema_decay) * counts
        sums = self.config.ema_decay * self.ema_sums + (1 - self.config.ema_decay) * sums

        # Dead codes go where the codebook errs most (the k-means++ rule), with a fair
        # share's count: time to find their use, at no higher price than the others.
        fair_share = tf.cast(tf.size(indices), tf.float32) / self.config.num_embeddings
        fatal = self.config.revive_below * fair_share
        dead = counts < fatal
        errors = tf.reduce_sum((flat - tf.gather(self.codebook, indices)) ** 2, axis=1)
        error = self.config.ema_decay * self.ema_error + (
            1 - self.config.ema_decay
        ) * tf.reduce_mean(errors)
        cumulative = tf.cumsum(errors)
        draws = tf.random.stateless_uniform(
            [self.config.num_embeddings],
            seed=tf.stack([self.seed, tf.convert_to_tensor(self.updates)]),
        )
        drawn = tf.searchsorted(cumulative, draws * cumulative[-1])
        newcomers = tf.gather(flat, tf.minimum(drawn, tf.size(errors) - 1))  # (K, D)
        counts = tf.where(dead, fair_share, counts)
        sums = tf.where(dead[:, None], newcomers * counts[:, None], sums)
        if self.config.codebook_update == "ema":
            # Of a code unused for long, count and sum both vanish: it stays where it is.
            used = (counts > 1e-5)[:, None]
            means = sums / tf.where(used, counts[:, None], 1.0)
            codebook = tf.where(used, means, self.codebook)
        else:
            codebook = tf.where(dead[:, None], newcomers, self.codebook)

        self.updates.assign_add(1)
        self.ema_error.assign(error)
        self.ema_counts.assign(counts)
        self.ema_sums.assign(sums)
        self.codebook.assign(codebook)

    def get_config(self):
        own = {"config": dataclasses.asdict(self.config), "seed": self.seed}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": VQVAEConfig(**config["config"])})


def _mean_square(tensor):
    """Returns the mean square over each slice, `(B, …)` to `(B,)`."""
    return tf.reduce_mean(tensor**2, axis=list(range(1, len(tensor.shape))))


def build_encoder(image_shape, downsample, embedding_dim, width, residual_blocks):
    """Builds the encoder, from images to latents.

    Args:
        image_shape: `(H, W)` in pixels, of any size: the image is padded with
            black to a multiple of `downsample`.
        downsample: Integer 4, 8 or 16, pixels a code along each axis.
        embedding_dim: Integer, length D of a latent.
        width: Integer, channels at the code grid; half as many at full size.
        residual_blocks: Integer, how many at the code grid.

    Returns:
        `keras.Model` from `(B, H, W, 1)` in [0, 1] to `(B, h, w, D)`.
    """
    images = keras.Input((*image_shape, 1), name="images")
    x = keras.layers.ZeroPadding2D(_padding(image_shape, downsample))(images)
    for filters in _widths(downsample, width):
        x = keras.layers.Conv2D(filters, 4, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(width, 3, padding="same")(x)
    x = _residual_blocks(x, width, residual_blocks)
    return keras.Model(images, keras.layers.Conv2D(embedding_dim, 1)(x), name="encoder")


def build_decoder(image_shape, downsample, embedding_dim, width, residual_blocks):
    """Builds the decoder, from quantised latents `(B, h, w, D)` to images `(B, H, W, 1)`.

    It is the mirror image of `build_encoder`, with the same arguments; the padding is cropped off
    again. The output is linear: clip it to [0, 1] to look at it.
    """
    (top, bottom), (left, right) = _padding(image_shape, downsample)
    height, columns = image_shape[0] + top + bottom, image_shape[1] + left + right
    latents = keras.Input((height // downsample, columns // downsample, embedding_dim))
    x = keras.layers.Conv2D(width, 3, padding="same")(latents)
    x = _residual_blocks(x, width, residual_blocks)
    for filters in reversed(_widths(downsample, width)[:-1]):
        x = keras.layers.Conv2DTranspose(filters, 4, strides=2, padding="same", activation="relu")(
            x
        )
    x = keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same", dtype="float32")(x)
    images = keras.layers.Cropping2D(((top, bottom), (left, right)), dtype="float32")(x)
    return keras.Model(latents, images, name="decoder")


def _padding(image_shape, downsample):
    """Returns the black rows and columns to add: `((top, bottom), (left, right))`."""
    missing = [-size % downsample for size in image_shape]
    return tuple((size // 2, size - size // 2) for size in missing)


def _widths(downsample, width):
    """Returns the channels after each halving: few where the image is large, for speed."""
    halvings = downsample.bit_length() - 1
    return [max(width // 2, 1)] + [width] * (halvings - 1)


def _residual_blocks(x, width, count):
    for _ in range(count):
        y = keras.layers.ReLU()(x)
        y = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Conv2D(width, 1)(y)])
    return keras.layers.ReLU()(x)


@keras.saving.register_keras_serializable(package="oasisvq")
class VQVAETrainer(keras.Model):
    """The VQ-VAE with its training step: it turns slices into codes and back.

    The loss is `MSE / variance + ssim_weight (1 - SSIM) + commitment`, with the codebook loss
    beside them if `codebook_update` is `"gradient"`. The first term is relative to what the mean
    intensity alone would leave; in it, an output below 0 on black ground is no error. SSIM is taken
    on reconstructions clipped to [0, 1]. The first two terms are the `distortion`, by which the
    best epoch is chosen: the others fall when the latents merely shrink.

    Args:
        image_shape: `(H, W)` of the slices in pixels, of any size.
        variance: Float, variance of the training pixels in [0, 1]: measured, see `OASIS.variance`.
        config: `VQVAEConfig`, see there.
        seed: Integer, see `VectorQuantizer`.

    Call arguments:
        images: Float tensor of shape `(B, H, W, 1)` in [0, 1].

    Returns:
        Reconstructions from the quantised latents, `(B, H, W, 1)` in [0, 1].

    Raises:
        ValueError: If `variance` is not that of pixels in [0, 1], which lies above 0 and is at most
            0.25.

    Reference:

    - [van den Oord et al., 2017](https://arxiv.org/abs/1711.00937)
    """

    def __init__(self, image_shape, variance, config, seed, name="vqvae", **kwargs):
        super().__init__(name=name, **kwargs)
        if not LEAST_VARIANCE < variance <= MOST_VARIANCE:
            raise ValueError(
                f"variance must be that of pixels in [0, 1], from {LEAST_VARIANCE} to "
                f"{MOST_VARIANCE}. Received: {variance}"
            )
        self.image_shape, self.variance = tuple(image_shape), variance
        self.config, self.seed = config, seed
        self.num_embeddings = config.num_embeddings
        sizes = (config.downsample, config.embedding_dim, config.width, config.residual_blocks)
        self.encoder = build_encoder(self.image_shape, *sizes)
        self.decoder = build_decoder(self.image_shape, *sizes)
        self.quantizer = VectorQuantizer(config, seed)
        self.code_shape = tuple(self.encoder.output_shape[1:3])  # (h, w)
        self.quantizer.build((None, *self.code_shape, config.embedding_dim))
        names = ("loss", "distortion", "reconstruction_loss", "ssim", "commitment_loss")
        self.loss_means = [SliceMean(name) for name in names]
        self.codebook_use = CodebookUse(config.num_embeddings)
        self.supports_jit = False  # on a CPU, XLA halves the speed of convolutions
        self.built = True

    def call(self, images, training=False):
        codes = self.quantizer(self.encoder(images), training=training)
        return tf.clip_by_value(self.decoder(codes), 0.0, 1.0)

    def encode(self, images):
        """Turns images `(B, H, W, 1)` in [0, 1] into code indices, int32 `(B, h, w)`."""
        return self.quantizer.code_indices(self.encoder(images))

    def decode(self, code_indices):
        """Turns code indices `(B, h, w)` into images `(B, H, W, 1)` in [0, 1]."""
        images = self.decoder(self.quantizer.code_vectors(code_indices))
        return tf.clip_by_value(images, 0.0, 1.0)

    def encode_all(self, read_images, rows, batch_size=16):
        """Returns the codes of any number of slices, uint16 `(n, h, w)`: 8 kB for 256x256 pixels.

        Args:
            read_images: Function from row numbers `(b,)` to images `(b, H, W, 1)` in [0, 1].
            rows: Integer array `(n,)`.
            batch_size: Integer, slices in memory at a time.
        """
        codes = np.empty((len(rows), *self.code_shape), np.uint16)
        for start in range(0, len(rows), batch_size):
            batch = slice(start, start + batch_size)
            codes[batch] = self.encode(read_images(rows[batch])).numpy()
        return codes

    def decode_all(self, code_indices, batch_size=16):
        """Decodes any number of grids `(n, h, w)`, a batch at a time, into a NumPy array."""
        starts = range(0, len(code_indices), batch_size)
        return np.concatenate(
            [self.decode(code_indices[start:][:batch_size]).numpy() for start in starts]
        )

    def slice_losses(self, images, training, quantize=True):
        """Returns what training lowers and watches, of each slice.

        Args:
            images: Float tensor `(B, H, W, 1)` in [0, 1].
            training: Boolean, whether the codebook learns from this batch.
            quantize: Boolean, whether the latents go through the quantiser; if not, the codebook
                stays as it is. The latents of an untrained encoder hardly differ from one
                another: after some steps without it they carry the image, and k-means can start.

        Returns:
            Dictionary of float tensors `(B,)`, and the code indices `(B, h, w)`, or `None`.
        """
        latents = self.encoder(images, training=training)
        codes, code_indices, losses = latents, None, {}
        if quantize:
            # They are found before the codebook learns: statistics afterwards would count every
            # revived code as used, for it lies on a latent of this very batch.
            code_indices = self.quantizer.code_indices(latents)
            vectors = self.quantizer.code_vectors(code_indices)
            latents = tf.cast(latents, tf.float32)
            quantizer_losses = self.quantizer.slice_losses(latents, vectors)
            distances = tf.stop_gradient(vectors - latents)
            losses["commitment_loss"] = self.config.commitment_cost * _mean_square(distances)
            codes = self.quantizer(latents, training=training, code_indices=code_indices)
        reconstructions = self.decoder(codes, training=training)
        # Below 0 is black: on black ground such an output is no error, and what is left of the
        # decoder's ripples there falls below 0 instead of about it.
        shown = tf.where(images > 0, reconstructions, tf.maximum(reconstructions, 0.0))
        losses["reconstruction_loss"] = _mean_square(shown - images) / self.variance
        losses["ssim"] = ssim(images, tf.clip_by_value(reconstructions, 0.0, 1.0))
        losses["distortion"] = losses["reconstruction_loss"]
        if self.config.ssim_weight:  # its gradient costs time
            losses["distortion"] += self.config.ssim_weight * (1 - losses["ssim"])
        losses["loss"] = losses["distortion"] + (quantizer_losses if quantize else 0.0)
        return losses, code_indices

    @property
    def metrics(self):
        return [*self.loss_means, self.codebook_use]

    def train_step(self, data, quantize=True):
        """Lowers the loss of one batch by one step.

        Args:
            data: Images `(B, H, W, 1)` in [0, 1], or `(images, targets, weights)`, of which the
                targets are not used: a VQ-VAE's target is its input.
            quantize: See `slice_losses`.

        Returns:
            Dictionary of the means over the epoch so far.
        """
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses, code_indices = self.slice_losses(images, training=True, quantize=quantize)
            loss = _batch_mean(losses["loss"], weights)
        _descend(self, tape, loss)
        return self._update_metrics(losses, code_indices, weights)

    def test_step(self, data):
        """Measures one batch, see `train_step`."""
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        return self._update_metrics(*self.slice_losses(images, training=False), weights)

    def _update_metrics(self, losses, code_indices, weights):
        for metric in self.loss_means:
            if metric.name in losses:  # without the quantiser there is no commitment loss
                metric.update_state(losses[metric.name], weights)
        if code_indices is not None:
            self.codebook_use.update_state(code_indices, weights)
        return self.get_metrics_result()

    def get_config(self):
        own = {name: getattr(self, name) for name in ("image_shape", "variance", "seed", "name")}
        return {**own, "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": VQVAEConfig(**config["config"])})


def _batch_mean(losses, weights):
    """Returns this device's share of the weighted mean of losses `(b,)` over the whole batch."""
    weighted = losses if weights is None else losses * weights
    return tf.reduce_mean(weighted) / tf.distribute.get_strategy().num_replicas_in_sync


def _descend(model, tape, loss):
    """Moves the weights of a model one step down the gradient of a loss."""
    variables = model.trainable_variables
    gradients = zip(tape.gradient(loss, variables), variables, strict=True)
    # Without the quantiser, a codebook that learns by gradient has none.
    model.optimizer.apply(*zip(*[pair for pair in gradients if pair[0] is not None], strict=True))


@keras.saving.register_keras_serializable(package="oasisvq")
class PixelConvLayer(keras.layers.Layer):
    """Convolves a grid so that each position sees only codes that are already drawn.

    Args:
        mask_type: `"A"` hides the current place and all later ones, for the first layer of a stack;
            `"B"` hides the later ones only.
        stack: `"horizontal"`, places are positions, in reading order; or `"vertical"`, places are
            rows, seen over their whole width. Stacked horizontal layers have a blind spot to the
            upper right; vertical ones beside them fill it.
        **kwargs: Those of `keras.layers.Conv2D`; `kernel_size` must be odd, `strides` 1 and
            `padding` `"same"`, the default here.

    Attributes:
        mask_type, stack: As above.
        conv: The `keras.layers.Conv2D` that holds kernel and bias. Its kernel is never changed by
            the mask: each call multiplies the two, so the hidden weights keep no part in the output
            nor in the gradient.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, C)`.

    Returns:
        Float tensor of shape `(B, h, w, filters)`.

    Raises:
        ValueError: If `mask_type` or `stack` is unknown, the convolution is not of odd size, stride
            1 and "same" padding, or it sees nothing at all.

    Reference:

    - [van den Oord et al., 2016](https://arxiv.org/abs/1601.06759), section 3.4
    - [van den Oord et al., 2016](https://arxiv.org/abs/1606.05328), section 2.2, for the stacks
    """

    def __init__(
        self, mask_type, stack="horizontal", name=None, dtype=None, trainable=True, **kwargs
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        if mask_type not in ("A", "B"):
            raise ValueError(f'mask_type must be "A" or "B". Received: {mask_type!r}')
        if stack not in ("horizontal", "vertical"):
            raise ValueError(f'stack must be "horizontal" or "vertical". Received: {stack!r}')
        self.mask_type = mask_type
        self.stack = stack
        self.conv = keras.layers.Conv2D(**{"padding": "same", **kwargs}, dtype=dtype)
        if (
            any(size % 2 == 0 for size in self.conv.kernel_size)
            or self.conv.strides != (1, 1)
            or self.conv.padding != "same"
        ):
            raise ValueError(
                "PixelConvLayer takes an odd kernel_size, strides=1 and padding='same'. "
                f"Received: kernel_size={self.conv.kernel_size}, strides={self.conv.strides}, "
                f"padding={self.conv.padding!r}"
            )
        if 0 in self.visible_size:
            raise ValueError(
                f"mask {mask_type} hides all of a kernel of size {self.conv.kernel_size} in the "
                f"{stack} stack"
            )

    def build(self, input_shape):
        self.conv.build(input_shape)

    @property
    def visible_size(self):
        """The rows and columns of the kernel, from its upper left, that are not all hidden."""
        (height, width), current = self.conv.kernel_size, self.mask_type == "B"
        if self.stack == "vertical":
            return height // 2 + current, width
        return height // 2 + 1, width if height > 1 else width // 2 + current

    @property
    def visible_kernel(self):
        """The part of the kernel that is not all hidden, `(*visible_size, C, filters)`."""
        rows, columns = self.visible_size
        mask = np.ones((rows, columns, 1, 1), "float32")
        if self.stack == "horizontal":
            mask[-1, self.conv.kernel_size[1] // 2 + (self.mask_type == "B") :] = 0
        return self.conv.kernel[:rows, :columns] * mask

    @property
    def reach(self):
        """The number of rows up and of columns to the left at which the first tap lies."""
        (height, width), (down, across) = self.conv.kernel_size, self.conv.dilation_rate
        return height // 2 * down, width // 2 * across

    def call(self, inputs):
        height, width = inputs.shape[1:3]
        kernel = tf.cast(self.visible_kernel, inputs.dtype)
        (rows, columns), (down, across) = self.visible_size, self.conv.dilation_rate
        above, left = self.reach
        below, right = (rows - 1) * down - above, (columns - 1) * across - left
        # Below 0, the last rows or columns are seen by no output.
        padded = tf.pad(inputs, [[0, 0], [above, 0], [left, max(right, 0)], [0, 0]])
        padded = padded[:, : height + above + below, : width + left + right]
        outputs = tf.nn.convolution(padded, kernel, dilations=(down, across))
        if self.conv.use_bias:
            outputs += tf.cast(self.conv.bias, outputs.dtype)
        return self.conv.activation(outputs)

    def get_config(self):
        conv = self.conv.get_config()
        for shared in ("name", "dtype", "trainable"):  # the layer's own
            conv.pop(shared)
        return {**super().get_config(), "mask_type": self.mask_type, "stack": self.stack, **conv}


@keras.saving.register_keras_serializable(package="oasisvq")
class ResidualBlock(keras.layers.Layer):
    """Adds a 1x1, a masked and a 1x1 convolution to a skip connection.

    Args:
        filters: Integer, channels in and out; half as many inside.
        kernel_size: Integer or pair, of the masked convolution.
        dilation_rate: Integer, the spacing of the masked convolution's taps.
        stack: Of the masked convolution, see `PixelConvLayer`.
        dropout: Float, share of the inner channels dropped in training, or `None`.
        seed: Integer, draws what is dropped.

    Attributes:
        filters: As above.
        conv1: 1x1 convolution, ReLU.
        pixel_conv: `PixelConvLayer` of type "B", ReLU.
        conv2: 1x1 convolution, ReLU.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, filters)`.
        context: Float tensor of shape `(B, h, w, any)` that `conv1` sees beside
            the inputs, or `None`.

    Returns:
        Float tensor of shape `(B, h, w, filters)`.

    Reference:

    - [van den Oord et al., 2016](https://arxiv.org/abs/1601.06759), figure 5
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        dilation_rate=1,
        stack="horizontal",
        dropout=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        inner = max(filters // 2, 1)
        dtype = self.dtype_policy
        self.conv1 = keras.layers.Conv2D(inner, 1, activation="relu", dtype=dtype)
        self.pixel_conv = PixelConvLayer(
            "B",
            stack,
            filters=inner,
            kernel_size=kernel_size,
            dilation_rate=dilation_rate,
            activation="relu",
            dtype=dtype,
        )
        self.dropout = Dropout(dropout or 0.0, seed or 0, dtype=dtype)
        self.conv2 = keras.layers.Conv2D(filters, 1, activation="relu", dtype=dtype)

    def build(self, inputs_shape, context_shape=None):
        beside = context_shape[-1] if context_shape else 0
        inner = (*inputs_shape[:-1], self.conv1.filters)
        self.conv1.build((*inputs_shape[:-1], inputs_shape[-1] + beside))
        self.pixel_conv.build(inner)
        self.conv2.build(inner)

    def call(self, inputs, context=None, training=False):
        x = inputs if context is None else tf.concat([inputs, context], axis=-1)
        x = self.pixel_conv(self.conv1(x))
        return inputs + self.conv2(self.dropout(x, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.pixel_conv.conv.kernel_size,
            "dilation_rate": self.pixel_conv.conv.dilation_rate[0],
            "stack": self.pixel_conv.stack,
            "dropout": self.dropout.rate,
            "seed": self.dropout.seed,
        }


# Of the conditions, training hides each by itself in this share of the slices, and age, sex and
# CDR at once in that share.
HIDDEN_SHARE, STRANGER_SHARE = 0.1, 0.2
POSITION_MAPS = 8  # grids of vectors that the condition mixes
ATTENTION_HEADS = 4


@keras.saving.register_keras_serializable(package="oasisvq")
class PixelCNN(keras.Model):
    """The prior: the distribution of each code given those before it in reading order.

    It has two streams: `above` knows the rows above a position, over their whole width; `here`
    knows the position's own row as well, up to the code before it, and sees what `above` knows.
    With attention along rows and columns half-way, every code before a position reaches it.

    Args:
        code_shape: `(h, w)` of the code grid.
        num_embeddings: Integer, number of codes K.
        config: `PriorConfig`, see there.
        seed: Integer, draws what training hides and drops.

    Call arguments:
        inputs: A pair: int32 code indices of shape `(B, h, w)`, and float conditions of shape
            `(B, 4)`, see `OASIS.conditions`; NaN is unknown.

    Returns:
        Float32 logits `(B, h, w, K)`. Those at a position depend on the codes before it only.

    Reference:

    - [van den Oord et al., 2016](https://arxiv.org/abs/1606.05328), the two streams
    - [Chen et al., 2018](https://arxiv.org/abs/1712.09763), attention between the blocks
    """

    def __init__(self, code_shape, num_embeddings, config, seed, name="pixelcnn", **kwargs):
        # The model's own inputs stay float32, for bfloat16 would round positions and ages; its
        # layers compute as the global policy says.
        super().__init__(**{**kwargs, "name": name, "dtype": "float32"})
        self.code_shape, self.num_embeddings = tuple(code_shape), num_embeddings
        self.config, self.seed = config, seed
        filters, count = config.filters, config.residual_blocks
        # A convolution over one-hot codes is one over embeddings with a free table; at width
        # `filters` / 2 it is many times cheaper than over 512 channels.
        self.embedding = keras.layers.Embedding(num_embeddings, max(filters // 2, 1))
        self.condition = ConditionEmbedding(filters, HIDDEN_SHARE, STRANGER_SHARE, seed)
        self.above_conv = PixelConvLayer("A", "vertical", filters=filters, kernel_size=7)
        self.here_conv = PixelConvLayer("A", filters=filters, kernel_size=7)
        self.above_bias, self.here_bias = PositionBias(POSITION_MAPS), PositionBias(POSITION_MAPS)
        dilations = [config.dilations[n % len(config.dilations)] for n in range(count)]
        self.above_blocks = [
            ResidualBlock(filters, 3, dilation, "vertical", config.dropout, seed + n)
            for n, dilation in enumerate(dilations)
        ]
        self.here_blocks = [
            ResidualBlock(filters, (1, 3), dropout=config.dropout, seed=seed - 1 - n)
            for n in range(count)
        ]
        self.attention_before = count // 2
        self.above_rows = AxialAttention("row", causal=False, heads=ATTENTION_HEADS)
        self.above_columns = AxialAttention("column", causal=True, heads=ATTENTION_HEADS)
        self.here_rows = AxialAttention("row", causal=True, heads=ATTENTION_HEADS)
        self.hidden = PixelConvLayer("B", filters=filters, kernel_size=1, activation="relu")
        self.logits = keras.layers.Conv2D(num_embeddings, 1, dtype="float32")
        self.loss_mean = SliceMean("loss")
        self.supports_jit = False  # on a CPU, XLA halves the speed of convolutions
        # The first call makes the weights.
        self((tf.zeros((1, *code_shape), tf.int32), tf.zeros((1, CONDITION_COUNT))))

    def call(self, inputs, training=False):
        code_indices, conditions = inputs
        x = self.embedding(code_indices)  # (B, h, w, F / 2)
        condition = self.condition(conditions, training=training)  # (B, F)
        above = self.above_bias(self.above_conv(x), condition)  # (B, h, w, F)
        here = self.here_bias(self.here_conv(x), condition)  # (B, h, w, F)
        blocks = zip(self.above_blocks, self.here_blocks, strict=True)
        for number, (above_block, here_block) in enumerate(blocks):
            if number == self.attention_before:
                above = self.above_columns(self.above_rows(above))
                here = self.here_rows(here)
            above = above_block(above, training=training)
            here = here_block(here, above, training=training)
        return self.logits(self.hidden(here))

    def distribution(self, code_indices, conditions, training=False):
        """Returns the distribution of code grids, each code given those before it.

        Args:
            code_indices: Integer tensor `(B, h, w)`, what each position sees of the codes before.
            conditions: Float tensor `(B, 4)`, see `OASIS.conditions`; NaN is unknown.
            training: Boolean, whether conditions are hidden and channels dropped.

        Returns:
            `tfp.distributions.Independent` of `Categorical`s over the K codes, with batch shape
            `(B,)` and event shape `(h, w)`. Its `log_prob` of the grids themselves is theirs
            under the prior, in nats.
        """
        from tensorflow_probability import distributions  # 1 s that the first stage need not wait

        logits = self((code_indices, conditions), training=training)  # (B, h, w, K)
        return distributions.Independent(distributions.Categorical(logits=logits), 2)

    def bits_per_code(self, code_indices, conditions, training=False):
        """Returns the mean of -log2 p over the codes of each grid, `(B,)`; see `distribution`."""
        grids = self.distribution(code_indices, conditions, training)
        return grids.log_prob(code_indices) / (-math.log(2) * math.prod(self.code_shape))

    @property
    def metrics(self):
        return [self.loss_mean]

    def train_step(self, data):
        """Lowers the bits per code of one batch by one step.

        Args:
            data: Code indices `(B, h, w)` and conditions `(B, 4)`, and the weights of the grids
                `(B,)` if there are any.

        Returns:
            Dictionary of the mean over the epoch so far.
        """
        code_indices, conditions, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            bits = self.bits_per_code(code_indices, conditions, training=True)
            loss = _batch_mean(bits, weights)
        _descend(self, tape, loss)
        self.loss_mean.update_state(bits, weights)
        return self.get_metrics_result()

    def test_step(self, data):
        """Measures one batch, see `train_step`."""
        code_indices, conditions, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_mean.update_state(self.bits_per_code(code_indices, conditions), weights)
        return self.get_metrics_result()

    def get_config(self):
        names = ("code_shape", "num_embeddings", "seed", "name")
        own = {name: getattr(self, name) for name in names}
        return {**own, "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": PriorConfig(**config["config"])})


def build_vqvae(run):
    """Builds the untrained VQ-VAE of a run, see `oasisvq.runs.folder.Run`."""
    settings = run.hyperparameters
    return VQVAETrainer(run.image_shape, run.variance, settings.vqvae, settings.run.seed)


def build_prior(run):
    """Builds the untrained prior of a run, see `oasisvq.runs.folder.Run`."""
    settings = run.hyperparameters
    code_shape = [math.ceil(side / settings.vqvae.downsample) for side in run.image_shape]
    return PixelCNN(code_shape, settings.vqvae.num_embeddings, settings.prior, settings.run.seed)


def load_vqvae(run):
    """Returns the trained VQ-VAE of a run."""
    return run.load_weights(build_vqvae(run))


def load_prior(run):
    """Returns the trained prior of a run."""
    return run.load_weights(build_prior(run))
