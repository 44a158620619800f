"""What was stopped goes on to the same end, bit by bit; what goes wrong in training is named."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

from modules import PixelCNN, VQVAETrainer
from oasisvq.core import signals as stopping
from oasisvq.core.errors import RunFolderError, TrainingError
from oasisvq.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from oasisvq.training.loop import Stage, batches_at_random, build_optimizer
from train import code_reader, collapsed

STRESS = Path(__file__).resolve().parent / "stress"
sys.path.insert(0, str(STRESS))
import kills  # noqa: E402


def vqvae_stage(brains, folder, **options):
    keras.utils.set_random_seed(3)
    vqvae = VQVAETrainer((24, 20), 0.1, 16, embedding_dim=3, width=8, revive_below=0.3)
    images = tf.constant(brains[:, ::4, ::4, None])
    return Stage(
        "vqvae", vqvae, build_optimizer(1e-2, 12), lambda rows: tf.gather(images, rows),
        np.arange(8), np.arange(6), 2, 3, 0, folder / "vqvae.checkpoint.npz", **options,
    )  # fmt: skip


def prior_stage(brains, folder, **options):
    keras.utils.set_random_seed(3)
    prior = PixelCNN((6, 5), 8, filters=8, residual_blocks=2, dropout=0.3)
    random = np.random.default_rng(0)
    codes, conditions = random.integers(0, 8, (8, 6, 5)), random.normal(size=(8, 4))
    return Stage(
        "pixelcnn", prior, build_optimizer(1e-2, 12, average=0.3), code_reader(codes, conditions),
        np.arange(8), np.arange(6), 2, 3, 0, folder / "pixelcnn.checkpoint.npz", **options,
    )  # fmt: skip


def train(stage, folder):
    """Both of its parts; what it ends with."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    if not stage.progress.ready:
        options = {"quantize": False} if stage.name == "vqvae" else {}
        stage.warm_up(3, **options)
        stage.progress.ready = True
        stage.save()
    stage.run(folder, f"{stage.name}.weights.h5", "val_loss")
    values = [keras.ops.convert_to_numpy(variable) for variable in stage.variables]
    return values, (folder / f"{stage.name}_history.csv").read_bytes()


def stop_after(monkeypatch, calls):
    """The signal comes at that question whether one has come, the first being 0."""
    asked = itertools.count()
    monkeypatch.setattr(stopping, "asked", lambda: next(asked) >= calls)
    monkeypatch.setattr(stopping, "_asked", signal.SIGTERM)


@pytest.mark.parametrize("build", [vqvae_stage, prior_stage])
@pytest.mark.parametrize("first", [2, 14])
def test_stopped_and_resumed_twice_it_ends_as_if_left_alone(
    build, first, brains, tmp_path, monkeypatch
):
    wanted, history = train(build(brains, tmp_path / "alone"), tmp_path / "alone")
    for calls in (first, 5):
        with monkeypatch.context() as patched:
            stop_after(patched, calls)
            with pytest.raises(stopping.Stopped) as stopped:
                train(build(brains, tmp_path), tmp_path)
            assert stopped.value.status == 143
    values, again = train(build(brains, tmp_path), tmp_path)
    for value, other in zip(values, wanted, strict=True):
        np.testing.assert_array_equal(value, other)
    assert again == history


def test_a_stage_that_is_done_gives_its_best_weights_again(brains, tmp_path):
    first = vqvae_stage(brains, tmp_path)
    train(first, tmp_path)
    again = vqvae_stage(brains, tmp_path)
    train(again, tmp_path)
    for value, other in zip(again.model.get_weights(), first.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_checkpoints_come_as_often_as_asked(brains, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("training.write_checkpoint", lambda path, *_: saved.append(path))
    train(vqvae_stage(brains, tmp_path, checkpoint_minutes=0), tmp_path)
    assert len(saved) == 3 + 1 + 12 + 1  # the warm-up's steps, its end, the steps, the end
    saved.clear()
    train(vqvae_stage(brains, tmp_path / "rarely", checkpoint_minutes=60), tmp_path / "rarely")
    assert len(saved) == 2


def test_a_checkpoint_of_another_model_or_broken_is_refused(tmp_path):
    path = tmp_path / "stage.npz"
    values = [np.ones((2, 3), np.float32), np.array(4)]
    write_checkpoint(path, Progress(epoch=2, sums={"loss": np.float64(2)}), values, [values[0]])
    progress, read, best = read_checkpoint(path, [(2, 3), ()], [(2, 3)])
    assert progress == Progress(epoch=2, sums={"loss": np.float64(2)})
    np.testing.assert_array_equal(read[0], values[0])
    assert len(best) == 1
    for shapes in ([(3, 2), ()], [(2, 3), (), ()]):
        with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
            read_checkpoint(path, shapes, [(2, 3)])
    write_checkpoint(path, Progress(), [np.full((2, 3), np.nan), values[1]], [])
    with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
        read_checkpoint(path, [(2, 3), ()], [])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
        read_checkpoint(path, [(2, 3), ()], [])
    assert read_checkpoint(tmp_path / "none.npz", [], []) is None


# Whole scripts


def test_killed_training_ends_as_if_left_alone(tmp_path):
    problems = kills.kill_and_compare(tmp_path, Namespace(kills=2, seed=5, signal="KILL"))
    assert not problems


def test_another_seed_gives_another_run(tmp_path):
    short = ["--epochs", "1", "--prior-epochs", "1"]
    for seed in ("0", "1"):
        assert kills.start(tmp_path, seed, *short, "--seed", seed).wait(300) == 0
    for name in ("vqvae.weights.h5", "pixelcnn.weights.h5", "features.weights.h5"):
        one, other = (kills.weights(tmp_path / seed / name) for seed in "01")
        assert kills.differences(one, other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_so_by_the_status(tmp_path, number):
    process = kills.start(tmp_path, "run", "--epochs", "500")
    history = tmp_path / "run/vqvae_history.csv"
    wait_for(history, process)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    said = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert said.startswith("train_and_keep.py: error: ")
    assert {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number] in said
    with np.load(tmp_path / "run/vqvae.checkpoint.npz") as saved:
        epochs = len(pandas.read_csv(history))
        assert f'"epoch": {epochs}'.encode() in saved["progress"].tobytes()


def test_a_second_signal_ends_it_at_once(tmp_path):
    script = (
        "import stopping, time\nstopping.watch()\nprint('ready', flush=True)\n"
        "with stopping.deferred():\n    while True: time.sleep(0.01)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(STRESS.parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    process.stdout.close()


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Trouble


class Steps(keras.Model):
    """A weight that each step moves by its slices' numbers."""

    def __init__(self):
        super().__init__()
        self.place = self.add_weight((), "zeros", name="place")
        self.built = True

    def losses(self, batch, training):
        return {"loss": self.place * batch}

    def summarise(self, means):
        return {name: float(value) for name, value in means.items()}


def steps_stage(numbers, batch_size=1, **options):
    numbers = tf.constant(numbers, tf.float32)
    rows = np.arange(len(numbers))
    return Stage(
        "steps", Steps(), keras.optimizers.SGD(1.0), lambda chosen: tf.gather(numbers, chosen),
        rows, rows, batch_size, 1, 0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_steps_are_undone_as_many_as_may_be(bad):
    numbers = [1.0, bad, 2.0, bad, 4.0, 8.0]
    stage = steps_stage(numbers, max_bad_steps=2)
    stage.train_epoch(0)
    assert float(stage.model.place) == -15
    assert stage.progress.bad_steps == 2
    assert int(stage.optimizer.iterations) == 4
    with pytest.raises(TrainingError, match=r"steps: the loss is nan.* after 1 that were undone\."):
        steps_stage(numbers, max_bad_steps=1).train_epoch(0)


TWO_DEVICES = """
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from test_resume import steps_stage
with strategy.scope():
    stage = steps_stage([1, 2, float("nan"), 4, 8, 16], batch_size=2, max_bad_steps=1)
    stage.train_epoch(0)
print(*strategy.experimental_local_results(stage.model.place.value))
"""


def test_a_bad_step_of_one_device_is_undone_on_all():
    environment = {**os.environ, "PYTHONPATH": f"{STRESS.parents[1]}:{STRESS.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    numbers = np.array([1, 2, np.nan, 4, 8, 16])
    moved = -np.nansum(numbers[batches_at_random(np.arange(6), 2, 0, 0)].mean(axis=1))
    places = re.findall(r"numpy=(-?[\d.]+)", done.stdout)
    assert [float(place) for place in places] == [moved, moved]


def test_means_leave_bad_steps_out():
    stage = steps_stage([np.nan, 3.0, 3.0], max_bad_steps=1)
    stage.model.place.assign(10)
    assert stage.train_epoch(0)["loss"] == pytest.approx((3 * 10 + 3 * 7) / 2)


def test_weights_that_are_not_finite_are_never_saved(brains, tmp_path):
    stage = vqvae_stage(brains, tmp_path)
    stage.save()
    before = (tmp_path / "vqvae.checkpoint.npz").read_bytes()
    stage.model.quantizer.ema_sums.assign(stage.model.quantizer.ema_sums * np.nan)
    with pytest.raises(TrainingError, match="ema_sums is not finite"):
        stage.save()
    assert (tmp_path / "vqvae.checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize(("room", "named"), [(3, "A step of 2 fits"), (0, "even at --batch-size")])
def test_out_of_memory_names_a_batch_that_fits(brains, tmp_path, room, named):
    stage = vqvae_stage(brains, tmp_path)
    step = stage.compiled_train_step

    def fits(batch):
        if len(batch) > room:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return step(batch)

    stage.batch_size = 8
    stage.compiled_train_step = fits
    with pytest.raises(TrainingError, match=named):
        stage.train_epoch(0)


def test_a_collapsed_codebook_is_told_of_once():
    usages = [0.5, 0.09, 0.05, 0.08, 0.02, 0.3, 0.01]
    history = [{"val_codebook_usage": usage} for usage in usages]
    told = [bool(collapsed(history[: n + 1])) for n in range(len(history))]
    assert told == [False, False, False, True, False, False, False]
    assert "--fresh" in collapsed(history[:4])
