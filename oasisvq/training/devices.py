"""The devices, of one machine or of several, that train one model at the same time.

Each takes an equal share of every batch. What the model learns from is always the whole batch, so
that the number of devices changes nothing but the time: gradients are summed, the codebook sees
the latents of all, and random numbers are drawn for the whole batch.
"""

import contextlib
import inspect
import json
import os
import re

import numpy as np
import tensorflow as tf

from oasisvq.core.errors import HyperparameterError, WorkerError

PORT = 8888  # of the first task on a machine, under Slurm
ADDRESS = re.compile(r"(\[[^\s\[\]]+\]|[^\s\[\]:/]+):\d{1,5}")


def start_strategy():
    """Returns the `tf.distribute` strategy of all devices that there are.

    They are those of every machine that `TF_CONFIG` or a Slurm job names, or all GPUs of this
    one, or the only one.

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


def describe_devices(strategy):
    """Describes the devices that TensorFlow computes on."""
    machines, count = len(worker_addresses()), strategy.num_replicas_in_sync
    gpus = len(tf.config.list_physical_devices("GPU"))
    here = f"{gpus} GPU" if gpus else f"the CPU ({os.cpu_count()} cores); no GPU was found"
    return f"{count} devices of {machines} machines, here {here}" if machines > 1 else here


def worker_addresses():
    """Returns the `host:port` of every process that `TF_CONFIG` names; `[]` without one."""
    return _cluster()[0]


def is_chief():
    """Tells whether this process is the one that writes: the first, or the only one."""
    return _cluster()[1] == 0


def _cluster():
    """Returns the addresses of all workers, and which of them this process is."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return [], 0
    try:
        config = json.loads(text)
        jobs, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        chiefs, others = jobs.get("chief", []), jobs["worker"]
        if not set(jobs) <= {"chief", "worker"} or len(chiefs) > 1:
            raise ValueError("expected workers, and at most one chief")
        if not isinstance(chiefs, list) or not isinstance(others, list):
            raise ValueError("expected lists of addresses")
        workers = [*chiefs, *others]
        if not all(ADDRESS.fullmatch(address) for address in workers):
            raise ValueError(f"expected addresses as host:port. Received: {workers}")
        if len(set(workers)) < len(workers):
            raise ValueError(f"expected an address for each. Received: {workers}")
        if config.get("rpc_layer", "grpc") != "grpc":
            raise ValueError(f"rpc_layer {config['rpc_layer']}")
        tasks = [(job, n) for job in ("chief", "worker") for n in range(len(jobs.get(job, [])))]
        number = tasks.index((kind, int(index)))
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise HyperparameterError(
            f"TF_CONFIG: not a cluster of workers ({type(error).__name__}: {error}). Set it as "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}, '
            "or unset it"
        ) from error
    return workers, number


def slurm_config(environment):
    """Returns the `TF_CONFIG` of a Slurm job step, its tasks numbered as Slurm numbers them.

    `tf.distribute.cluster_resolver.SlurmClusterResolver` sorts machines by name, node10 before
    node2, and then takes a task for another.
    """
    # These helpers are private to TensorFlow: only a Slurm job depends on them.
    slurm = inspect.getmodule(tf.distribute.cluster_resolver.SlurmClusterResolver)
    hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
    counts = slurm.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    workers = [
        f"{host}:{PORT + n}"
        for host, count in zip(hosts, counts, strict=True)
        for n in range(count)
    ]
    task = {"type": "worker", "index": int(environment["SLURM_PROCID"])}
    return {"cluster": {"worker": workers}, "task": task}


def from_chief(array):
    """Returns the first worker's array on all workers: sums of floats may differ elsewhere."""
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
    """Returns the first worker's bytes on all workers."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return content
    length = int(from_chief(np.array([len(content)], np.int32))[0])
    padded = np.zeros(-(-length // 4), np.int32)
    if is_chief():
        padded.view(np.uint8)[:length] = np.frombuffer(content, np.uint8)
    return from_chief(padded).tobytes()[:length] if length else b""


@contextlib.contextmanager
def devices_of(strategy):
    """Makes all devices of a strategy train the models that are made within it.

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
    """Returns the number of slices of a batch that each device takes.

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


def local_replica_numbers():
    """Returns the numbers of this process's devices among those of all processes."""
    strategy = tf.distribute.get_strategy()
    values = strategy.experimental_distribute_values_from_function(
        lambda context: np.int32(context.replica_id_in_sync_group)
    )
    return [int(value) for value in strategy.experimental_local_results(values)]
