"""Random numbers that are the same for a slice on however many devices."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oasisvq")
class Chance(keras.layers.Layer):
    """Uniform numbers in [0, 1), others at each call: a function of the seed and of how many calls
    came before, which is a weight and so saved with the model; the same for a slice on however
    many devices.

    Args:
        seed: Integer.

    Call arguments:
        shape: Of what is wanted, the first axis a replica's share of the batch.

    Returns:
        float32 tensor of that shape.
    """

    def __init__(self, seed=0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.seed = seed
        self.calls = self.add_weight(
            (), "zeros", dtype="int32", trainable=False, aggregation=SAME_EVERYWHERE, name="calls"
        )
        self.built = True

    def call(self, shape):
        numbers = chance(shape, tf.stack([self.seed, tf.convert_to_tensor(self.calls)]))
        self.calls.assign_add(1)
        return numbers

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="oasisvq")
class Dropout(keras.layers.Layer):
    """Sets a share of the inputs to 0 in training, and scales up the others; see `Chance`.

    Args:
        rate: Float in [0, 1), the share.
        seed: Integer.

    Call arguments:
        inputs: Float tensor of any shape.
        training: Boolean; without, the inputs are returned as they are.

    Returns:
        Float tensor of the same shape.
    """

    def __init__(self, rate, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.chance = Chance(seed)

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        kept = tf.cast(self.chance(tf.shape(inputs)) >= self.rate, inputs.dtype)
        return inputs * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
