"""The devices, of one machine or of several, that train one model together.

Each takes an equal share of every batch. What the model learns from is always the whole batch, so
that their number changes nothing but the time: gradients are summed, the codebook sees the latents
of all, and chance is drawn for the whole batch.
"""

import contextlib
import json
import os
import re

import numpy as np
import tensorflow as tf

from oasisvq.core.errors import HyperparameterError, WorkerError

__all__ = [
    "bytes_from_chief",
    "chance",
    "from_chief",
    "gathered",
    "is_chief",
    "local_replicas",
    "share_of_batch",
    "start_replicas",
    "together",
    "worker_addresses",
]

PORT = 8888  # of the first task on a machine, under Slurm


def start_replicas():
    """The `tf.distribute` strategy of all devices that there are: those of every machine that
    `TF_CONFIG` or a Slurm job names, or all GPUs of this one, or the only one.

    Raises:
        HyperparameterError: If `TF_CONFIG` is not what TensorFlow takes.
    """
    if "TF_CONFIG" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        os.environ["TF_CONFIG"] = json.dumps(slurm_config(os.environ))
    if len(worker_addresses()) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def worker_addresses():
    """`host:port` of every machine's process, as `TF_CONFIG` has them; `[]` without one."""
    return _cluster()[0]


def is_chief():
    """Whether this process is the one that writes: the first, or the only one."""
    return _cluster()[1] == 0


def _cluster():
    """The addresses of all workers, and which of them this process is."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return [], 0
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        workers = [*jobs.get("chief", []), *jobs["worker"]]
        number = int(task["index"]) + (
            len(jobs.get("chief", [])) if task["type"] == "worker" else 0
        )
        if task["type"] not in ("chief", "worker") or not 0 <= number < len(workers):
            raise ValueError(f"no task {task} among {len(workers)} workers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HyperparameterError(
            f"TF_CONFIG: not a cluster of workers ({type(error).__name__}: {error}). Set it as "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}, '
            "or unset it"
        ) from error
    return workers, number


def slurm_config(environment):
    """`TF_CONFIG` of the tasks of a Slurm job step, numbered as Slurm numbers them.

    `tf.distribute.cluster_resolver.SlurmClusterResolver` sorts machines by name, node10 before
    node2, and then takes a task for another.
    """
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
    counts = slurm.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    workers = [
        f"{host}:{PORT + n}"
        for host, count in zip(hosts, counts, strict=True)
        for n in range(count)
    ]
    task = {"type": "worker", "index": int(environment["SLURM_PROCID"])}
    return {"cluster": {"worker": workers}, "task": task}


def gathered(tensor):
    """The tensors `(n, …)` of all replicas one after the other: those of the whole batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    return context.all_gather(tensor, axis=0)


def chance(shape, seed):
    """Uniform numbers in [0, 1) of `shape`, whose first axis is a replica's share of the batch:
    a slice has the same numbers on however many replicas. `seed` are two integers."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.random.stateless_uniform(shape, seed)
    whole = tf.concat([[shape[0] * context.num_replicas_in_sync], shape[1:]], axis=0)
    first = context.replica_id_in_sync_group * shape[0]
    return tf.random.stateless_uniform(whole, seed)[first : first + shape[0]]


def from_chief(array):
    """The first worker's array, on all of them: a sum of floats may end otherwise elsewhere."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return array

    @tf.function
    def share():
        def own(tensor):
            context = tf.distribute.get_replica_context()
            first = tf.cast(context.replica_id_in_sync_group == 0, tensor.dtype)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor * first)

        return strategy.run(own, args=(tf.constant(array),))

    return strategy.experimental_local_results(share())[0].numpy()


def bytes_from_chief(content):
    """The first worker's bytes, on all of them."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return content
    length = int(from_chief(np.array([len(content)], np.int32))[0])
    padded = np.zeros(-(-length // 4), np.int32)
    if is_chief():
        padded.view(np.uint8)[:length] = np.frombuffer(content, np.uint8)
    return from_chief(padded).tobytes()[:length] if length else b""


@contextlib.contextmanager
def together(strategy):
    """Within it, all devices train what is made.

    Raises:
        WorkerError: If another worker does not answer any more; it is named.
    """
    workers, own = _cluster()
    try:
        with strategy.scope():
            yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if len(workers) < 2:
            raise
        found = re.findall(r"/job:worker/replica:0/task:(\d+)", str(error))
        numbers = {int(number) for number in found} - {own}
        named = [f"worker {n} ({workers[n]})" for n in sorted(numbers)] or ["another worker"]
        raise WorkerError(
            f"{' or '.join(named)} does not answer any more. Look at its log, then start all "
            f"workers again with --fresh ({str(error).splitlines()[0][:200]})"
        ) from error


def share_of_batch(batch_size):
    """How many of a batch's slices a replica takes.

    Raises:
        HyperparameterError: If it does not come out even.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % replicas:
        raise HyperparameterError(
            f"--batch-size and --prior-batch-size must be multiples of {replicas}, the number of "
            f"devices that share a batch. Received: {batch_size}"
        )
    return batch_size // replicas


def local_replicas():
    """The numbers of this process's replicas, among those of all."""
    strategy = tf.distribute.get_strategy()
    values = strategy.experimental_distribute_values_from_function(
        lambda context: np.int32(context.replica_id_in_sync_group)
    )
    return [int(value) for value in strategy.experimental_local_results(values)]
