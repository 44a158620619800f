"""Attention along the rows or the columns of a grid."""

import keras
import numpy as np
import tensorflow as tf

HIDDEN = -1e9  # added to a logit, it makes the weight 0


@keras.saving.register_keras_serializable(package="oasisvq")
class AxialAttention(keras.layers.Layer):
    """Attends along one axis of the grid, beside a skip connection.

    Args:
        axis: `"row"` or `"column"`: which positions attend to one another.
        causal: Boolean, whether each position sees only itself and the positions before it.
        heads: Integer, number of heads; each has `C / heads` channels.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, C)`.

    Returns:
        Float tensor of shape `(B, h, w, C)`.

    Raises:
        ValueError: If `axis` is neither `"row"` nor `"column"`.

    Reference:

    - [Ho et al., 2019](https://arxiv.org/abs/1912.12180)
    """

    def __init__(self, axis, causal, heads, **kwargs):
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
        # Zeros: at the start of training the layer adds nothing to its inputs.
        self.combine = keras.layers.Dense(channels, kernel_initializer="zeros", dtype=dtype)
        self.project.build(input_shape)
        self.combine.build((*input_shape[:-1], inner))
        # A learned weight of each pair of places, whatever they hold: a place and its mirror image
        # in the other half of the brain, say, belong together.
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
        """The bias of each pair of places, `(heads, n, n)`, with hidden places at `HIDDEN`."""
        length = self.bias.shape[-1]
        hidden = np.triu(np.full((length, length), HIDDEN, "float32"), k=1)
        bias = tf.cast(self.bias, tf.float32)  # as the softmax
        return bias + hidden if self.causal else bias

    def get_config(self):
        own = {"axis": self.axis, "causal": self.causal, "heads": self.heads}
        return {**super().get_config(), **own}
