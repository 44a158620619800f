"""The batches of a split: which slices, how many a step, in which order, on which device."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from oasisvq.training.devices import local_replica_numbers, share_of_batch


@dataclasses.dataclass(frozen=True)
class Batches:
    """The slices of a split, and how they are read.

    Attributes:
        read: Function from an int64 tensor of row numbers `(B,)` to a pair of inputs and targets,
            tensors `(B, …)`. It runs beside the training.
        rows: Integer array `(n,)`, the row numbers of the split.
        batch_size: Integer, slices a step, over all devices.
        seed: Integer, gives each epoch its order.
        size_flag: The flag that sets the batch size.
    """

    read: Callable[[Any], tuple[Any, Any]]
    rows: np.ndarray
    batch_size: int
    seed: int = 0
    size_flag: str = "--batch-size"

    @property
    def step_size(self):
        """The number of slices a step: there may be fewer than the batch size."""
        return min(self.batch_size, len(self.rows))

    @property
    def steps(self):
        """The number of steps in an epoch."""
        return len(self.rows) // self.step_size

    def shuffled(self, epoch, first=0, last=None, stream=()):
        """Yields the batches of an epoch in random order, see `deliver`.

        Args:
            epoch: Integer, which epoch.
            first, last: Integers, the step to begin with, and the one to end before.
            stream: Integers that give the order another seed.
        """
        rows = shuffled_rows(self.rows, self.step_size, self.seed, epoch, *stream)
        return deliver(self.read, rows[first:last])

    def in_order(self):
        """Yields all slices once, in order: weights of 0 mark those that only fill the batch."""
        return deliver(self.read, *ordered_rows(self.rows, self.batch_size))


def ordered_rows(rows, batch_size):
    """Arranges rows `(n,)` as batches `(steps, B)`, with weights of 0 for what fills the last."""
    steps = math.ceil(len(rows) / batch_size)
    filled = np.resize(rows, (steps, batch_size))
    weights = (np.arange(filled.size) < len(rows)).reshape(filled.shape)
    return filled, weights


def shuffled_rows(rows, batch_size, *seeds):
    """Arranges rows `(n,)` as the batches `(steps, B)` of an epoch, by the seeds alone.

    The last, incomplete batch is left out, unless it is the only one.
    """
    order = np.random.default_rng(seeds).permutation(rows)
    batch_size = min(batch_size, len(rows))
    steps = len(rows) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def deliver(read, rows, weights=None):
    """Yields each batch as `(inputs, targets, weights)`, every device its share.

    Args:
        read: See `Batches`.
        rows: Integer array `(steps, B)`.
        weights: Float array `(steps, B)`. Default: 1.
    """
    if not len(rows):  # all steps are done
        return
    strategy, share = tf.distribute.get_strategy(), share_of_batch(rows.shape[1])
    numbers = local_replica_numbers()

    def local(array, dtype):
        """Returns what the devices of this process take, `(steps, b)`."""
        return array.reshape(len(rows), -1, share)[:, numbers].reshape(len(rows), -1).astype(dtype)

    weights = np.ones(rows.shape) if weights is None else weights
    batches = tf.data.Dataset.from_tensor_slices(
        (local(rows, np.int64), local(weights, np.float32))
    )
    batches = batches.map(lambda some, weights: (*read(some), weights), num_parallel_calls=2)
    for batch in batches.prefetch(2):

        def of_device(context, batch=batch):
            first = numbers.index(context.replica_id_in_sync_group) * share
            return tf.nest.map_structure(lambda tensor: tensor[first : first + share], batch)

        single = strategy.num_replicas_in_sync == 1
        yield batch if single else strategy.experimental_distribute_values_from_function(of_device)
