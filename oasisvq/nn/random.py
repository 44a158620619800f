"""Layers that draw random numbers: a resumed training draws what it would have drawn."""

import keras
import tensorflow as tf

from oasisvq.nn.replicas import SAME_EVERYWHERE


@keras.saving.register_keras_serializable(package="oasisvq")
class UniformDraws(keras.layers.Layer):
    """Draws uniform numbers in [0, 1), others at each call.

    They are a function of the seed and of the number of calls before, which is a weight and so
    saved with the model; the state of a `keras.random.SeedGenerator` is not. A slice of a batch
    gets the same numbers on however many devices.

    Args:
        seed: Integer.

    Call arguments:
        shape: The shape of the result, whose first axis is this device's share of the batch.

    Returns:
        Float32 tensor of that shape.
    """

    def __init__(self, seed, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.seed = seed
        self.calls = self.add_weight(
            (), "zeros", dtype="int32", trainable=False, aggregation=SAME_EVERYWHERE, name="calls"
        )
        self.built = True

    def call(self, shape):
        seed = tf.stack([self.seed, tf.convert_to_tensor(self.calls)])
        self.calls.assign_add(1)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return tf.random.stateless_uniform(shape, seed)
        # Every device draws for the whole batch, and takes the numbers of its own share.
        whole = tf.concat([[shape[0] * context.num_replicas_in_sync], shape[1:]], axis=0)
        first = context.replica_id_in_sync_group * shape[0]
        return tf.random.stateless_uniform(whole, seed)[first : first + shape[0]]

    def load_own_variables(self, store):
        # Weights of version 0.3 keep the count in another place. A trained model draws nothing.
        if store.keys():
            super().load_own_variables(store)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="oasisvq")
class Dropout(keras.layers.Layer):
    """Sets a share of the inputs to 0 in training, and scales up the others.

    Args:
        rate: Float in [0, 1), the share.
        seed: Integer, see `UniformDraws`.

    Call arguments:
        inputs: Float tensor of any shape.
        training: Boolean; when it is false, the inputs are returned as they are.

    Returns:
        Tensor of the same shape and type.
    """

    def __init__(self, rate, seed, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.uniforms = UniformDraws(seed)

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        kept = tf.cast(self.uniforms(tf.shape(inputs)) >= self.rate, inputs.dtype)
        return inputs * kept / (1 - self.rate)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
