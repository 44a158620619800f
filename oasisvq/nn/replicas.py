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


def draw_uniforms(shape, seed):
    """Draws uniform numbers in [0, 1) that are the same for a slice on however many devices.

    Args:
        shape: The shape of the result, whose first axis is this device's share of the batch.
        seed: Integer tensor `(2,)`.

    Returns:
        Float32 tensor of that shape.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.random.stateless_uniform(shape, seed)
    whole = tf.concat([[shape[0] * context.num_replicas_in_sync], shape[1:]], axis=0)
    first = context.replica_id_in_sync_group * shape[0]
    return tf.random.stateless_uniform(whole, seed)[first : first + shape[0]]
