"""What a layer sees of a batch that several devices share: all of it, on each of them."""

import tensorflow as tf

# How a variable that every device computes alike, from the whole batch, is assigned.
SAME_EVERYWHERE = "only_first_replica"


def gather_batch(tensor):
    """Returns the tensors `(b, …)` of all devices one after the other: the whole batch `(B, …)`."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    # Between machines TensorFlow asks on which device it lies: an argument has none.
    return context.all_gather(tf.identity(tensor), axis=0)
