"""The prior: how likely each code is, given those before it, where the slice lies, and whose."""

import keras
import numpy as np
import tensorflow as tf

from modules import Chance, PixelConvLayer, ResidualBlock

__all__ = [
    "AxialAttention",
    "ConditionEmbedding",
    "PixelCNN",
    "PositionBias",
    "code_bits",
]

CONDITION_COUNT = 4  # position, age, sex, CDR: the columns of `OASIS.conditions`
HIDDEN = -1e9  # a logit that leaves a softmax nothing


@keras.saving.register_keras_serializable(package="oasisvq")
class ConditionEmbedding(keras.layers.Layer):
    """What is known of a slice as a vector; unknown is a value of its own.

    Training hides numbers now and then: in data a missing CDR may mean that
    somebody is young, and what was left out by choice must not mean it too.

    Args:
        units: Integer, length of the vector.
        hidden_share: Float, share of the numbers that training hides, each by
            itself.
        stranger_share: Float, share of the slices whose age, sex and CDR
            training hides together.
        seed: Integer, draws those.

    Call arguments:
        conditions: Float tensor of shape `(B, 4)`, see `OASIS.conditions`; NaN
            is unknown.

    Returns:
        Float tensor of shape `(B, units)`.
    """

    def __init__(self, units, hidden_share=0.1, stranger_share=0.2, seed=0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # bfloat16 would round ages
        self.units, self.seed = units, seed
        self.hidden_share, self.stranger_share = hidden_share, stranger_share
        self.chance = Chance(seed)
        self.dense1 = keras.layers.Dense(units, activation="relu", dtype=self.dtype_policy)
        self.dense2 = keras.layers.Dense(units, activation="relu", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.mean = self.add_weight(
            shape=(CONDITION_COUNT,), initializer="zeros", trainable=False, name="mean"
        )
        self.deviation = self.add_weight(
            shape=(CONDITION_COUNT,), initializer="ones", trainable=False, name="deviation"
        )
        self.dense1.build((None, 6 * CONDITION_COUNT))
        self.dense2.build((None, self.units))

    def adapt(self, conditions):
        """Takes the scale of each number from the training slices' `(n, 4)`."""
        known = np.ma.masked_invalid(conditions)
        self.mean.assign(known.mean(axis=0).filled(0))
        deviation = known.std(axis=0).filled(1)
        # Of a number that never varies nothing is learned: another value must not be huge.
        self.deviation.assign(np.where(deviation > 1e-3, deviation, 1))

    def call(self, conditions, training=False):
        known = tf.cast(~tf.math.is_nan(conditions), tf.float32)
        if training:
            known *= self._shown(tf.shape(conditions)[0])
        x = tf.where(known > 0, (conditions - self.mean) / self.deviation, 0.0)
        waves = (x, tf.sin(x), tf.cos(x), tf.sin(2 * x), tf.cos(2 * x))
        x = tf.concat([known, *(known * wave for wave in waves)], axis=-1)  # (B, 24)
        return self.dense2(self.dense1(x))

    def _shown(self, batch):
        """0 for each number that training hides, `(B, 4)`: the position is nobody's own."""
        drawn = self.chance(tf.stack([batch, CONDITION_COUNT + 1]))
        singly = tf.cast(drawn[:, :CONDITION_COUNT] >= self.hidden_share, tf.float32)
        person = tf.cast(drawn[:, CONDITION_COUNT:] >= self.stranger_share, tf.float32)
        return singly * tf.concat([tf.ones_like(person), *[person] * (CONDITION_COUNT - 1)], axis=1)

    def get_config(self):
        own = {
            "units": self.units,
            "hidden_share": self.hidden_share,
            "stranger_share": self.stranger_share,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="oasisvq")
class PositionBias(keras.layers.Layer):
    """Adds a learned vector for each position of the grid, which the condition shifts.

    A convolution alone does not know where in the head it stands; the shape
    of the brain lies in these vectors. They depend on no code, so nothing
    later is given away.

    Args:
        maps: Integer, grids of vectors that the condition mixes, beside one
            that is always there.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, C)`.
        condition: Float tensor of shape `(B, units)`.

    Returns:
        Float tensor of shape `(B, h, w, C)`.
    """

    def __init__(self, maps=8, **kwargs):
        super().__init__(**kwargs)
        self.count = maps
        self.mix = keras.layers.Dense(maps, dtype=self.dtype_policy)

    def build(self, inputs_shape, condition_shape):
        start = keras.initializers.RandomNormal(stddev=0.02)
        shape = (self.count + 1, *inputs_shape[1:])
        self.maps = self.add_weight(shape=shape, initializer=start, name="maps")
        self.mix.build(condition_shape)

    def call(self, inputs, condition):
        weights = self.mix(condition)  # (B, maps)
        weights = tf.concat([tf.ones_like(weights[:, :1]), weights], axis=1)
        flat = tf.reshape(tf.cast(self.maps, weights.dtype), [self.count + 1, -1])
        return inputs + tf.reshape(weights @ flat, tf.shape(inputs))

    def compute_output_shape(self, inputs_shape, condition_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "maps": self.count}


@keras.saving.register_keras_serializable(package="oasisvq")
class AxialAttention(keras.layers.Layer):
    """Attention along one axis of the grid, beside a skip connection.

    Args:
        axis: `"row"` or `"column"`, the line of positions that attend to one
            another.
        causal: Boolean, whether each position sees itself and those before it
            only.
        heads: Integer; each has `channels / heads` numbers.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, C)`.

    Returns:
        Float tensor of shape `(B, h, w, C)`.

    Raises:
        ValueError: If `axis` is neither.

    Reference:

    - [Ho et al., 2019](https://arxiv.org/abs/1912.12180)
    """

    def __init__(self, axis, causal, heads=4, **kwargs):
        super().__init__(**kwargs)
        if axis not in ("row", "column"):
            raise ValueError(f'axis must be "row" or "column". Received: {axis!r}')
        self.axis, self.causal, self.heads = axis, causal, heads

    def build(self, input_shape):
        channels = input_shape[-1]
        length = input_shape[2 if self.axis == "row" else 1]
        self.size = max(channels // self.heads, 1)  # of a head
        inner = self.heads * self.size
        dtype = self.dtype_policy
        self.project = keras.layers.Dense(3 * inner, use_bias=False, dtype=dtype)
        # From 0, so that the layer adds nothing until it has learned what.
        self.combine = keras.layers.Dense(channels, kernel_initializer="zeros", dtype=dtype)
        self.project.build(input_shape)
        self.combine.build((*input_shape[:-1], inner))
        # How much one place matters to another, whatever stands there: the mirror image's, say.
        self.bias = self.add_weight(
            shape=(self.heads, length, length), initializer="zeros", name="bias"
        )

    def call(self, inputs):
        x = self.project(inputs)
        if self.axis == "column":
            x = tf.transpose(x, [0, 2, 1, 3])
        lines, length = x.shape[1:3]
        x = tf.reshape(x, [-1, length, 3, self.heads, self.size])
        queries, keys, values = tf.unstack(tf.transpose(x, [2, 0, 3, 1, 4]))  # (B l, heads, n, d)
        logits = tf.matmul(queries, keys, transpose_b=True) / self.size**0.5
        weights = tf.nn.softmax(tf.cast(logits, tf.float32) + self.visible_bias)
        x = tf.matmul(tf.cast(weights, values.dtype), values)
        x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, lines, length, self.heads * self.size])
        if self.axis == "column":
            x = tf.transpose(x, [0, 2, 1, 3])
        return inputs + self.combine(x)

    @property
    def visible_bias(self):
        """`(heads, n, n)`: the bias of each place on each, hidden ones far below."""
        length = self.bias.shape[-1]
        hidden = np.triu(np.full((length, length), HIDDEN, "float32"), k=1)
        bias = tf.cast(self.bias, tf.float32)  # the softmax is taken in it
        return bias + hidden if self.causal else bias

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"axis": self.axis, "causal": self.causal, "heads": self.heads}
        return {**super().get_config(), **own}


class PixelCNN(keras.Model):
    """The distribution of each code given those before it in reading order.

    Two streams: `above` knows the rows above a position, over their whole
    width; `here` knows the position's own row as well, up to the code before
    it, and sees what `above` knows. With attention along rows and columns
    half-way, every code before a position reaches it.

    Args:
        code_shape: `(h, w)` of the code grid.
        num_embeddings: Integer, number of codes K.
        filters: Integer, channels of either stream.
        residual_blocks: Integer, number of `ResidualBlock`s of either stream.
        dilations: Integers, the dilation rates of the blocks of `above`, taken
            in turn.
        dropout: Float, see `ResidualBlock`.
        seed: Integer, draws what training hides and drops.

    Call arguments:
        inputs: A pair: int32 code indices of shape `(B, h, w)`, and float
            conditions of shape `(B, 4)`, see `OASIS.conditions`; NaN is unknown.

    Returns:
        Float32 logits `(B, h, w, K)`. Those at a position depend on the codes
        before it only.

    Reference:

    - [van den Oord et al., 2016](https://arxiv.org/abs/1606.05328), the two streams
    - [Chen et al., 2018](https://arxiv.org/abs/1712.09763), attention between the blocks
    """

    def __init__(
        self,
        code_shape,
        num_embeddings,
        filters=64,
        residual_blocks=6,
        dilations=(1, 2, 4, 8),
        dropout=0.0,
        seed=0,
        **kwargs,
    ):
        # The model's own inputs stay float32, for bfloat16 would round positions and ages; its
        # layers compute as the global policy says.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.code_shape = tuple(code_shape)
        self.num_embeddings = num_embeddings
        # A convolution over one-hot codes is one over embeddings with a free table;
        # at width `filters` / 2 it is many times cheaper than over 512 channels.
        self.embedding = keras.layers.Embedding(num_embeddings, max(filters // 2, 1))
        self.condition = ConditionEmbedding(filters, seed=seed)
        self.above_conv = PixelConvLayer("A", "vertical", filters=filters, kernel_size=7)
        self.here_conv = PixelConvLayer("A", filters=filters, kernel_size=7)
        self.above_bias, self.here_bias = PositionBias(), PositionBias()
        self.above_blocks = [
            ResidualBlock(filters, 3, dilations[n % len(dilations)], "vertical", dropout, seed + n)
            for n in range(residual_blocks)
        ]
        self.here_blocks = [
            ResidualBlock(filters, (1, 3), dropout=dropout, seed=seed - 1 - n)
            for n in range(residual_blocks)
        ]
        self.attention_before = residual_blocks // 2
        self.above_rows = AxialAttention("row", causal=False)
        self.above_columns = AxialAttention("column", causal=True)
        self.here_rows = AxialAttention("row", causal=True)
        self.hidden = PixelConvLayer("B", filters=filters, kernel_size=1, activation="relu")
        self.logits = keras.layers.Conv2D(num_embeddings, 1, dtype="float32")
        # Called once, it makes its weights.
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

    def losses(self, batch, training):
        """The bits per code of each slice, `(B,)`, for a `Stage`; `batch` are the inputs."""
        bits = code_bits(batch[0], self(batch, training=training))
        return {"loss": tf.reduce_mean(bits, axis=(1, 2))}

    def summarise(self, means):
        """The means of `losses` over many slices as the numbers of a history."""
        return {name: float(value) for name, value in means.items()}


def code_bits(code_indices, logits):
    """Sparse categorical cross-entropy of each code in bits.

    Args:
        code_indices: int32 `(B, h, w)`.
        logits: Float `(B, h, w, K)`.

    Returns:
        Float32 tensor `(B, h, w)`; its mean is the bits per code.
    """
    nats = keras.losses.sparse_categorical_crossentropy(code_indices, logits, from_logits=True)
    return nats / tf.math.log(2.0)
