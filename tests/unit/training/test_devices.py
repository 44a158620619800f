"""Who takes part in a training, and that several devices or processes do as one does."""

import json
import signal
import socket

import numpy as np
import pytest

from oasisvq.core.errors import HyperparameterError
from oasisvq.training.devices import slurm_config, start_strategy, worker_addresses
from support.processes import HANG, start_python
from support.shared import made_once

pytestmark = pytest.mark.slow


def worker(*arguments, **environment):
    """Starts a worker; it prints its history and ends with its weights in a file."""
    return start_python("-m", "support.training_worker", *arguments, **environment)


def finished(process):
    """Waits for a worker's end, and returns its history."""
    out, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    (history,) = [line for line in out.splitlines() if line.startswith("{")]
    return json.loads(history)


def cluster(count):
    """`TF_CONFIG` of each of so many workers on this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": n}})
        for n in range(count)
    ]


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Returns the histories and weights of both stages, trained on one device."""
    return trained_once(tmp_path_factory, 1)


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Returns the same of two devices that nothing stops."""
    return trained_once(tmp_path_factory, 2)


def trained_once(tmp_path_factory, devices):
    def make(folder):
        (folder / "history.json").write_text(json.dumps(finished(worker(folder, devices))))

    folder = made_once(tmp_path_factory, f"devices_{devices}", make)
    return json.loads((folder / "history.json").read_text()), weights_in(folder)


def weights_in(folder):
    with np.load(folder / "weights.npz") as arrays:
        return dict(arrays)


def assert_alike(found, weights, alone):
    histories, wanted = alone
    for name, values in histories.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, err_msg=name)
    assert set(weights) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(weights[name], wanted[name], atol=2e-3, err_msg=name)


def test_two_devices_train_as_one_does(alone, pair):
    assert_alike(*pair, alone)


def test_two_devices_resume_bit_by_bit(pair, tmp_path):
    """They are stopped in the first stage, where the epoch is not done, and in the second."""
    history, weights = pair
    for steps in (6, 16):
        stopped = worker(tmp_path, 2, STOP_AFTER=str(steps))
        _, errors = stopped.communicate(timeout=HANG)
        assert stopped.returncode == 143, errors
    resumed = finished(worker(tmp_path, 2))
    assert {name: values for name, values in resumed.items() if "pixelcnn" in name} == {
        name: values for name, values in history.items() if "pixelcnn" in name
    }
    again = weights_in(tmp_path)
    assert set(again) == set(weights)
    for name in weights:
        np.testing.assert_array_equal(again[name], weights[name], err_msg=name)


def test_two_processes_train_as_one_does_and_only_the_first_writes(alone, tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    processes = [
        worker(folder, 1, TF_CONFIG=config)
        for folder, config in zip(folders, cluster(2), strict=True)
    ]
    for folder, process in zip(folders, processes, strict=True):
        assert_alike(finished(process), weights_in(folder), alone)
    assert (folders[0] / "vqvae_history.csv").is_file()
    assert {path.name for path in folders[1].iterdir()} == {"weights.npz"}


def test_a_worker_that_dies_is_named(tmp_path):
    configs = cluster(2)
    first, second = (
        worker(tmp_path / str(n), 1, 10_000, TF_CONFIG=config) for n, config in enumerate(configs)
    )
    try:
        assert "training" in second.stdout.readline()
        second.send_signal(signal.SIGKILL)
        _, errors = first.communicate(timeout=HANG)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    address = json.loads(configs[0])["cluster"]["worker"][1]
    assert first.returncode == 1
    assert f"worker 1 ({address}) does not answer any more" in errors.splitlines()[-1]


def test_without_a_cluster_one_process_trains_alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert worker_addresses() == []
    assert start_strategy().num_replicas_in_sync == 1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": Infinity}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"], "index": 0}}',
        '{"cluster": {"worker": ["a:1", 7]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": {"a:1": 0}}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        "[" * 100_000,
    ],
)
def test_a_broken_cluster_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(HyperparameterError, match="TF_CONFIG: not a cluster of workers"):
        start_strategy()


def test_slurms_tasks_keep_their_numbers():
    environment = {
        "SLURM_STEP_NODELIST": "node[2,10],other",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_PROCID": "3",
    }
    assert slurm_config(environment) == {
        "cluster": {
            "worker": ["node2:8888", "node2:8889", "node10:8888", "node10:8889", "other:8888"]
        },
        "task": {"type": "worker", "index": 3},
    }
