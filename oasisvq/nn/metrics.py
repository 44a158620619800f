"""Metrics of an epoch, the same on however many devices; their state lies in the checkpoint."""

import keras
import tensorflow as tf

from oasisvq.nn.replicas import SAME_EVERYWHERE, gather_batch


class BatchMetric(keras.metrics.Metric):
    """A metric to which every device adds the whole batch.

    Keras' own metrics keep a part on each device: after an exact resume the parts would differ.
    """

    def add_state(self, shape, name):
        """Returns a new float32 variable of zeros that is the same on all devices."""
        return keras.Variable(
            "zeros", shape, "float32", trainable=False, aggregation=SAME_EVERYWHERE, name=name
        )

    def save_own_variables(self, store):
        """Saves nothing: the state belongs to an epoch, not to the weights of a model."""

    def load_own_variables(self, store):
        """Loads nothing, see `save_own_variables`."""


@keras.saving.register_keras_serializable(package="oasisvq")
class SliceMean(BatchMetric):
    """The mean of a number over all slices of an epoch.

    Args:
        name: The name of the number.
    """

    def __init__(self, name, **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_state((), "total")
        self.count = self.add_state((), "count")

    def update_state(self, values, sample_weight=None):
        """Adds the numbers of a batch's slices `(B,)`, each with its weight `(B,)`."""
        weights = tf.ones_like(values) if sample_weight is None else sample_weight
        # A slice of weight 0 only fills the batch: it may hold any number, NaN too.
        values = tf.where(weights > 0, values * weights, 0.0)
        self.total.assign_add(tf.reduce_sum(gather_batch(values)))
        self.count.assign_add(tf.reduce_sum(gather_batch(weights)))

    def result(self):
        """Returns the mean, 0 before the first slice."""
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )


@keras.saving.register_keras_serializable(package="oasisvq")
class CodebookUse(BatchMetric):
    """How a codebook is used over all slices of an epoch.

    Averaged over batches, perplexity would be understated: 512 codes used evenly, 64 code indices
    a batch, would come out as 59 in place of 490.

    Args:
        num_embeddings: Integer, number of codes K.
    """

    def __init__(self, num_embeddings, name="codebook_use", **kwargs):
        super().__init__(name=name, **kwargs)
        self.num_embeddings = num_embeddings
        self.counts = self.add_state((num_embeddings,), "counts")

    def update_state(self, code_indices, sample_weight=None):
        """Adds the codes of a batch.

        Args:
            code_indices: Integer tensor `(B, h, w)`.
            sample_weight: Float tensor of weights, of the slices `(B,)` or of the codes
                `(B, h, w)`.
        """
        weights = tf.ones(tf.shape(code_indices))
        if sample_weight is not None:
            sample_weight = tf.cast(sample_weight, tf.float32)
            missing = len(code_indices.shape) - len(sample_weight.shape)
            shape = tf.concat([tf.shape(sample_weight), tf.ones(missing, tf.int32)], axis=0)
            weights *= tf.reshape(sample_weight, shape)
        indices, weights = gather_batch(code_indices), gather_batch(weights)
        self.counts.assign_add(
            tf.math.unsorted_segment_sum(
                tf.reshape(weights, [-1]), tf.reshape(indices, [-1]), self.num_embeddings
            )
        )

    def result(self):
        """Returns how evenly, and how far, the codebook is used.

        Returns:
            Dictionary: `perplexity`, e to the entropy of the codes' frequencies, from 1 to K;
            `codebook_usage`, the share of the codes that occur at all.
        """
        counts = tf.convert_to_tensor(self.counts)
        frequencies = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
        entropy = -tf.reduce_sum(tf.math.xlogy(frequencies, frequencies))
        used = tf.cast(counts > 0, tf.float32)
        return {"perplexity": tf.exp(entropy), "codebook_usage": tf.reduce_mean(used)}

    def get_config(self):
        return {**super().get_config(), "num_embeddings": self.num_embeddings}
