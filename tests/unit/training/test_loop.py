"""The loop of both stages: what is kept, when it ends, and that several devices do as one does."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

from hyperparameters import Hyperparameters
from modules import PixelCNN, VQVAETrainer
from oasisvq.core.errors import HyperparameterError, TrainingError
from oasisvq.training.devices import slurm_config, start_replicas, worker_addresses
from oasisvq.training.loop import Stage, batches_at_random, batches_in_order, build_optimizer
from train import code_reader, precision

WORKER = Path(__file__).parent / "replicas_worker.py"


class Climber(keras.Model):
    """One weight, that many steps away from where its loss is least."""

    def __init__(self):
        super().__init__()
        self.place = self.add_weight((), "zeros", name="place")
        self.seen = []
        self.built = True

    def losses(self, batch, training):
        if training:
            tf.py_function(lambda place: self.seen.append(float(place)), [self.place], [])
        return {"loss": (1000 - self.place + batch) ** 2}

    def summarise(self, means):
        return {name: float(value) for name, value in means.items()}


def climber_stage(epochs=4, average=0.0, rows=40, batch_size=4, read=None):
    model = Climber()
    optimizer = build_optimizer(1.0, epochs * rows // batch_size, average)
    training = np.arange(rows)
    read = read or (lambda chosen: tf.zeros_like(chosen, tf.float32))
    return Stage("climb", model, optimizer, read, training, training[:3], batch_size, epochs, 0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    return tmp_path


@pytest.fixture
def spoiled(brains):
    """A stage whose validation slices are black: each epoch makes it worse."""

    def of(epochs):
        vqvae = VQVAETrainer((96, 80), 0.1, 16, width=8)
        images = tf.constant(np.concatenate([brains, np.zeros((2, 96, 80), "float32")])[..., None])
        read = lambda rows: tf.gather(images, rows)  # noqa: E731
        optimizer = keras.optimizers.Adam(3e-3)
        return Stage("vqvae", vqvae, optimizer, read, np.resize(range(8), 32), [8, 9], 8, epochs, 0)

    return of


def history(folder, name):
    return pandas.read_csv(folder / f"{name}_history.csv")


# What is kept


def test_the_best_weights_on_validation_are_kept_in_the_folder_and_the_model(folder, spoiled):
    stage = spoiled(4)
    stage.run(folder, "best.weights.h5", "val_distortion")
    values = history(folder, "vqvae")["val_distortion"]
    assert values.iloc[-1] > values.min()
    assert stage.evaluate()["distortion"] == pytest.approx(values.min(), rel=1e-4)
    again = spoiled(4)
    again.model.load_weights(folder / "best.weights.h5")
    assert again.evaluate()["distortion"] == pytest.approx(values.min(), rel=1e-4)
    assert (folder / "figures/vqvae_curves.png").is_file()
    assert len(list((folder / "tensorboard/vqvae/validation").iterdir())) == 1


def test_training_ends_when_validation_no_longer_gains(folder, spoiled):
    spoiled(30).run(folder, "best.weights.h5", "val_loss", patience=2)
    losses = history(folder, "vqvae")["val_loss"]
    assert len(losses) == losses.argmin() + 3 < 30


def test_what_is_judged_and_kept_is_the_average_of_the_weights(folder):
    stage = climber_stage(average=0.25)
    stage.run(folder, "climb.weights.h5", "val_loss")
    # `seen` are the places before each step: the one after the last is missing.
    places = [*stage.model.seen[1:], None]
    assert len(places) == 40
    average = places[0]
    for place in places[1:-1]:
        average += (place - average) / 10  # a quarter of forty steps
    kept = float(stage.model.place)
    last = 10 * (kept - average) + average  # what the last step must have led to
    assert places[-2] < last < places[-2] + 1.5
    assert last - kept > 3
    assert history(folder, "climb")["val_loss"].iloc[-1] == pytest.approx((1000 - kept) ** 2)


def test_training_goes_on_from_the_weights_themselves_not_from_their_average(folder):
    with_average, without = climber_stage(average=0.25), climber_stage()
    for stage in (with_average, without):
        stage.run(folder, "climb.weights.h5", "val_loss")
    assert with_average.model.seen == without.model.seen


@pytest.mark.parametrize("step", [0, 3, 9])
def test_a_loss_that_is_no_number_is_named_and_nothing_is_kept(folder, step):
    def read(rows):
        bad = batches_at_random(np.arange(40), 4, 0, 0)[step]
        return tf.where(tf.reduce_all(rows == bad), np.nan, 0.0) * tf.ones_like(rows, tf.float32)

    with pytest.raises(
        TrainingError, match=rf"climb: the loss is nan at epoch 1, step {step + 1}\."
    ):
        climber_stage(read=read).run(folder, "climb.weights.h5", "val_loss")
    assert not (folder / "climb.weights.h5").exists()


# Order


def test_an_epochs_order_is_a_function_of_seed_and_epoch():
    rows = np.arange(100, 143)
    first = batches_at_random(rows, 8, 0, 0)
    assert first.shape == (5, 8)
    assert len(np.unique(first)) == 40
    assert set(first.ravel()) <= set(rows)
    np.testing.assert_array_equal(first, batches_at_random(rows, 8, 0, 0))
    for other in ((0, 1), (1, 0), (0, 0, 1)):
        assert (batches_at_random(rows, 8, *other) != first).any()
    assert batches_at_random(rows[:5], 8, 0, 0).shape == (1, 5)


def test_every_validation_slice_counts_once():
    rows, weights = batches_in_order(np.array([3, 5, 9]), 2)
    np.testing.assert_array_equal(rows, [[3, 5], [9, 3]])
    np.testing.assert_array_equal(weights, [[1, 1], [1, 0]])
    values = tf.constant([1.0, 2.0, 30.0])
    stage = climber_stage(batch_size=2, read=lambda chosen: tf.gather(values, chosen))
    expected = np.mean((1000 + values.numpy()) ** 2)
    assert stage.evaluate()["loss"] == pytest.approx(expected)


# Several devices


def worker(*arguments, **environment):
    """Starts `replicas_worker.py`; it prints its history and ends with its weights in a file."""
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process):
    out, errors = process.communicate(timeout=300)
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Histories and weights of both stages, trained on one device."""
    folder = tmp_path_factory.mktemp("alone")
    return finished(worker(folder, 1)), np.load(folder / "weights.npz")


def assert_alike(found, folder, alone):
    histories, weights = alone
    for name, values in histories.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, err_msg=name)
    other = np.load(folder / "weights.npz")
    assert set(other) == set(weights)
    for name in weights:
        np.testing.assert_allclose(other[name], weights[name], atol=2e-3, err_msg=name)


def test_two_devices_train_as_one_does(alone, tmp_path):
    assert_alike(finished(worker(tmp_path, 2)), tmp_path, alone)


def test_two_processes_train_as_one_does_and_only_the_first_writes(alone, tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    processes = [
        worker(folder, 1, TF_CONFIG=config)
        for folder, config in zip(folders, cluster(2), strict=True)
    ]
    for folder, process in zip(folders, processes, strict=True):
        assert_alike(finished(process), folder, alone)
    assert (folders[0] / "vqvae_history.csv").is_file()
    assert {path.name for path in folders[1].iterdir()} == {"weights.npz", "figures"}


def test_a_worker_that_dies_is_named(tmp_path):
    configs = cluster(2)
    first, second = (
        worker(tmp_path / str(n), 1, 10_000, TF_CONFIG=config) for n, config in enumerate(configs)
    )
    try:
        assert "training" in second.stdout.readline()
        second.send_signal(signal.SIGKILL)
        _, errors = first.communicate(timeout=120)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    address = json.loads(configs[0])["cluster"]["worker"][1]
    assert first.returncode == 1
    assert f"worker 1 ({address}) does not answer any more" in errors.splitlines()[-1]


def test_a_batch_must_come_out_even(monkeypatch):
    class Three:
        num_replicas_in_sync = 3

    monkeypatch.setattr(tf.distribute, "get_strategy", Three)
    with pytest.raises(HyperparameterError, match="multiples of 3.*Received: 4"):
        climber_stage()


# Who takes part


def test_without_a_cluster_one_process_trains_alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert worker_addresses() == []
    assert start_replicas().num_replicas_in_sync == 1


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)  # fmt: skip
def test_a_broken_cluster_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(HyperparameterError, match="TF_CONFIG: not a cluster of workers"):
        start_replicas()


def test_slurms_tasks_keep_their_numbers():
    environment = {
        "SLURM_STEP_NODELIST": "node[2,10],other", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_PROCID": "3",
    }  # fmt: skip
    assert slurm_config(environment) == {
        "cluster": {
            "worker": ["node2:8888", "node2:8889", "node10:8888", "node10:8889", "other:8888"]
        },
        "task": {"type": "worker", "index": 3},
    }


# Mixed precision


def test_a_few_steps_in_bfloat16_lead_where_those_in_float32_do(brains, folder):
    images = tf.constant(brains[..., None])
    read = lambda rows: tf.gather(images, rows)  # noqa: E731
    losses = {}
    for name in (False, True):
        keras.utils.set_random_seed(0)
        with precision(Hyperparameters(mixed_precision=name)):
            vqvae = VQVAETrainer((96, 80), 0.1, 16, embedding_dim=3, width=8)
        stage = Stage(
            "vqvae", vqvae, keras.optimizers.Adam(1e-3), read, range(8), range(8), 4, 1, 0
        )
        means = [stage.train_epoch(epoch) for epoch in range(6)]
        losses[name] = [mean["loss"] for mean in means]
        inner = vqvae.encoder.layers[2]
        assert inner.compute_dtype == ("bfloat16" if name else "float32")
        assert vqvae.quantizer.compute_dtype == vqvae.decoder.layers[-1].compute_dtype == "float32"
        assert {weight.dtype for weight in vqvae.trainable_weights} == {"float32"}
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.03)
    assert losses[True] != losses[False]
    assert losses[True][-1] < 0.9 * losses[True][0]


def test_the_prior_in_bfloat16_keeps_softmax_and_loss_in_float32(random):
    codes, conditions = random.integers(0, 8, (4, 6, 5)), np.full((4, 4), np.nan, "float32")
    bits = {}
    for name in (False, True):
        keras.utils.set_random_seed(0)
        with precision(Hyperparameters(mixed_precision=name)):
            prior = PixelCNN((6, 5), 8, filters=8, residual_blocks=2)
        reader = code_reader(codes, conditions)
        rows = np.arange(4)
        stage = Stage("prior", prior, keras.optimizers.Adam(1e-2), reader, rows, rows, 4, 1, 0)
        bits[name] = [stage.train_epoch(epoch)["loss"] for epoch in range(8)]
        assert prior((codes, conditions)).dtype == tf.float32
        assert prior.here_blocks[0].conv1.compute_dtype == ("bfloat16" if name else "float32")
    np.testing.assert_allclose(bits[True], bits[False], rtol=0.03)
    assert bits[True] != bits[False]
