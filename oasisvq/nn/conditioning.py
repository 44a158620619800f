"""What the prior is told beside the codes: the slice's conditions, and the place in the grid."""

import keras
import numpy as np
import tensorflow as tf

from oasisvq.data.conditions import CONDITIONS
from oasisvq.nn.random import UniformDraws

CONDITION_COUNT = len(CONDITIONS)  # 4: position, age, sex, CDR


@keras.saving.register_keras_serializable(package="oasisvq")
class ConditionEmbedding(keras.layers.Layer):
    """Turns the conditions of a slice into a vector; unknown is a value of its own.

    Training hides conditions at random. Without that, a missing CDR could mean that somebody is
    young, and a condition that a user leaves out must not mean it too.

    Args:
        units: Integer, length of the vector.
        hidden_share: Float, share of the conditions that training hides, each by itself.
        stranger_share: Float, share of the slices whose age, sex and CDR training hides at once.
        seed: Integer, draws what training hides.

    Call arguments:
        conditions: Float tensor of shape `(B, 4)`, see `OASIS.conditions`; NaN is unknown.
        training: Boolean, whether conditions are hidden at random.

    Returns:
        Float tensor of shape `(B, units)`.
    """

    def __init__(self, units, hidden_share, stranger_share, seed, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # bfloat16 would round ages
        self.units, self.seed = units, seed
        self.hidden_share, self.stranger_share = hidden_share, stranger_share
        self.uniforms = UniformDraws(seed)
        self.dense1 = keras.layers.Dense(units, activation="relu", dtype=self.dtype_policy)
        self.dense2 = keras.layers.Dense(units, activation="relu", dtype=self.dtype_policy)

    def build(self, input_shape):
        shape = (CONDITION_COUNT,)
        self.mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(shape, "ones", trainable=False, name="deviation")
        self.dense1.build((None, 6 * CONDITION_COUNT))
        self.dense2.build((None, self.units))

    def adapt(self, conditions):
        """Takes mean and standard deviation of each condition from training slices `(n, 4)`."""
        known = np.ma.masked_invalid(conditions)
        self.mean.assign(known.mean(axis=0).filled(0))
        deviation = known.std(axis=0).filled(1)
        # Nothing is learned of a number that never varies: another value must not become huge.
        self.deviation.assign(np.where(deviation > 1e-3, deviation, 1))

    def call(self, conditions, training=False):
        known = tf.cast(~tf.math.is_nan(conditions), tf.float32)
        if training:
            known *= self._visible(tf.shape(conditions)[0])
        x = tf.where(known > 0, (conditions - self.mean) / self.deviation, 0.0)
        waves = (x, tf.sin(x), tf.cos(x), tf.sin(2 * x), tf.cos(2 * x))
        x = tf.concat([known, *(known * wave for wave in waves)], axis=-1)  # (B, 24)
        return self.dense2(self.dense1(x))

    def _visible(self, batch):
        """Returns 0 for each condition that training hides, else 1: `(B, 4)`.

        The position belongs to no person, so it is hidden by itself only.
        """
        uniforms = self.uniforms(tf.stack([batch, CONDITION_COUNT + 1]))
        singly = tf.cast(uniforms[:, :CONDITION_COUNT] >= self.hidden_share, tf.float32)
        person = tf.cast(uniforms[:, CONDITION_COUNT:] >= self.stranger_share, tf.float32)
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
    """Adds a learned vector at each position of the grid, which the condition shifts.

    A convolution alone does not know where in the head it stands; the shape of the brain lies in
    these vectors. They depend on no code, so they reveal nothing of later ones.

    Args:
        maps: Integer, number of grids of vectors that the condition mixes, beside one that is
            always there.

    Call arguments:
        inputs: Float tensor of shape `(B, h, w, C)`.
        condition: Float tensor of shape `(B, units)`, which mixes the maps.

    Returns:
        Float tensor of shape `(B, h, w, C)`.
    """

    def __init__(self, maps, **kwargs):
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

    def get_config(self):
        return {**super().get_config(), "maps": self.count}
