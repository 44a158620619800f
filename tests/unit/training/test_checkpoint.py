"""What was stopped goes on to the same end, bit by bit."""

import functools
import itertools
import json
import shutil
import signal

import keras
import numpy as np
import pytest

from oasisvq.core import signals
from oasisvq.core.errors import RunFolderError, TrainingError
from oasisvq.training import checkpoint as checkpoints
from oasisvq.training.checkpoint import Checkpoint, Progress
from oasisvq.training.loop import build_optimizer
from support.models import OneWeightModel, loop_of, small_prior, small_vqvae

STEPS = {"batch_size": 2, "validation": np.arange(6)}


def vqvae_loop(brains, folder):
    keras.utils.set_random_seed(3)
    vqvae = small_vqvae((24, 20), revive_below=0.3)
    images, optimizer = brains[:, ::4, ::4, None], build_optimizer(1e-2, 12)
    checkpoint = Checkpoint(folder / "vqvae.checkpoint.npz", 10.0)
    return loop_of(vqvae, images, optimizer=optimizer, checkpoint=checkpoint, **STEPS)


def prior_loop(brains, folder):
    keras.utils.set_random_seed(3)
    prior, random = small_prior((6, 5), 8, residual_blocks=1, dropout=0.3), np.random.default_rng(0)
    codes, conditions = random.integers(0, 8, (8, 6, 5)), random.normal(size=(8, 4))
    optimizer = build_optimizer(1e-2, 12, average=0.3)
    checkpoint = Checkpoint(folder / "pixelcnn.checkpoint.npz", 10.0)
    grids = codes.astype(np.int32), conditions.astype(np.float32)
    return loop_of(prior, *grids, optimizer=optimizer, checkpoint=checkpoint, **STEPS)


def train(loop, folder):
    """Trains a stage to its end, 3 epochs of 4 steps; returns what it ends with.

    All but the prior are warmed up by 3 steps before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not loop.progress.ready:
        step = loop.model.train_step
        if loop.name == "vqvae":
            step = functools.partial(step, quantize=False)
        if loop.name != "pixelcnn":
            loop.warm_up(3, step)
        loop.progress.ready = True
        loop.save()
    loop.run(folder, 3, "val_loss")
    values = [keras.ops.convert_to_numpy(variable) for variable in loop.variables]
    return values, (folder / f"{loop.name}_history.csv").read_bytes()


def stop_after(monkeypatch, questions):
    """Lets a stop be requested at that question whether one is, the first being 0."""
    counter = itertools.count()
    monkeypatch.setattr(signals, "stop_requested", lambda: next(counter) >= questions)
    monkeypatch.setattr(signals, "raise_if_requested", lambda: stop_if(next(counter) >= questions))


def stop_if(requested):
    if requested:
        raise signals.Stopped(signal.SIGTERM)


@pytest.fixture(scope="module", params=[vqvae_loop, prior_loop])
def left_alone(request, brains, tmp_path_factory):
    """How a loop is built, the folder and the loop if nothing stops it, and what it ends with."""
    folder = tmp_path_factory.mktemp("alone")
    loop = request.param(brains, folder)
    return request.param, folder, loop, *train(loop, folder)


@pytest.mark.slow
def test_stopped_and_resumed_again_and_again_it_ends_as_if_left_alone(
    left_alone, brains, tmp_path, monkeypatch
):
    """It is stopped after steps and in an evaluation, the VQ-VAE first of all in its warm-up."""
    build, _, _, wanted, history = left_alone
    for questions in (2, 5, 2, 5):
        with monkeypatch.context() as patched:
            stop_after(patched, questions)
            with pytest.raises(signals.Stopped) as stopped:
                train(build(brains, tmp_path), tmp_path)
            assert stopped.value.status == 143
    values, again = train(build(brains, tmp_path), tmp_path)
    for value, other in zip(values, wanted, strict=True):
        np.testing.assert_array_equal(value, other)
    assert again == history


@pytest.mark.slow
def test_a_stage_that_is_done_gives_its_best_weights_again(left_alone, brains, tmp_path):
    build, folder, first, *_ = left_alone
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    again = build(brains, tmp_path)
    train(again, tmp_path)
    for value, other in zip(again.model.get_weights(), first.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def one_weight_loop(path, minutes=10.0):
    model = OneWeightModel("climb", lambda place, value: (place - value) ** 2)
    return loop_of(model, np.ones(8, np.float32), checkpoint=Checkpoint(path, minutes), **STEPS)


def test_stopped_in_the_evaluation_it_keeps_the_means_of_its_steps(tmp_path, monkeypatch):
    loop = one_weight_loop(tmp_path / "climb.checkpoint.npz")
    with monkeypatch.context() as patched:
        patched.setattr(loop, "evaluate", lambda: stop_if(requested=True))
        with pytest.raises(signals.Stopped):
            loop.run(tmp_path, 3, "val_loss")
    again = one_weight_loop(tmp_path / "climb.checkpoint.npz")
    assert again.progress.means == loop.progress.means != {}
    assert again.progress.step == 4
    train(again, tmp_path)
    assert again.progress.history[0]["loss"] == loop.progress.means["loss"]


def test_checkpoints_come_as_often_as_wanted(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoints.np, "savez", lambda file, **_: saved.append(file.name))

    def saves(minutes):
        saved.clear()
        train(one_weight_loop(tmp_path / "climb.checkpoint.npz", minutes), tmp_path)
        return len(saved)

    # The warm-up's steps, its end, the steps, the end. The file itself is empty.
    assert saves(minutes=0) == 3 + 1 + 12 + 1
    (tmp_path / "climb.checkpoint.npz").unlink()
    assert saves(minutes=60) == 2


def test_a_checkpoint_of_another_model_or_broken_is_refused(tmp_path):
    def variables(*values):
        return [keras.Variable(value) for value in values]

    def restore(path, variables, weights, source=""):
        return Checkpoint(path, source=source).restore(variables, weights, 4, {"loss"})

    path = tmp_path / "stage.npz"
    ones, four = np.ones((2, 3), np.float32), np.array(4, np.int32)
    progress, best = Progress(), [ones]
    progress.end_epoch({"loss": 1.0, "val_loss": 2.0}, better=True)
    progress.step, progress.means = 4, {"loss": 0.1 + 0.2}
    Checkpoint(path).save("stage", progress, variables(ones, four), best)
    blank = variables(0 * ones, 0 * four)
    found, (kept,) = restore(path, blank, variables(ones))
    assert found == progress
    np.testing.assert_array_equal(kept, ones)
    np.testing.assert_array_equal(blank[0], ones)
    assert int(blank[1]) == 4
    for others in (variables(ones.T, four), variables(ones, four, four)):
        with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
            restore(path, others, variables(ones))
    whole = path.read_bytes()
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "value 0": np.full((2, 3), np.nan)})
    for content in (path.read_bytes(), whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
            restore(path, blank, variables(ones))
    assert restore(tmp_path / "none.npz", [], []) == (Progress(), [])


def test_weights_that_are_not_finite_are_never_saved(brains, tmp_path):
    loop = vqvae_loop(brains, tmp_path)
    loop.save()
    before = (tmp_path / "vqvae.checkpoint.npz").read_bytes()
    loop.model.quantizer.ema_sums.assign(loop.model.quantizer.ema_sums * np.nan)
    with pytest.raises(TrainingError, match="ema_sums is not finite"):
        loop.save()
    assert (tmp_path / "vqvae.checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1.0},
        {"epoch": 2},
        {"epoch": -1},
        {"step": 5},
        {"step": True},
        {"step": 3},
        {"warmed": "0"},
        {"ready": 0},
        {"waited": None},
        {"best": float("nan")},
        {"seconds": float("inf")},
        {"means": {"loss": "low"}},
        {"means": {"other": 1.0}},
        {"history": []},
        {"history": [{"epoch": 0, "loss": 1.0}]},
        {"history": [7]},
        {"further": 1},
        {"source": "of another VQ-VAE"},
    ],
)
def test_a_checkpoint_whose_progress_cannot_be_is_refused(tmp_path, change):
    path, weights = tmp_path / "stage.npz", [keras.Variable(np.ones(3, np.float32))]
    progress = Progress()
    progress.end_epoch({"loss": 1.0, "val_loss": 2.0}, better=True)
    progress.step, progress.means = 4, {"loss": 0.5}
    Checkpoint(path, source="its VQ-VAE").save("stage", progress, weights, [np.ones(3)])

    def restore():
        return Checkpoint(path, source="its VQ-VAE").restore(weights, weights, 4, {"loss"})

    assert restore()[0] == progress
    with np.load(path) as arrays:
        facts = json.loads(arrays["progress"].tobytes()) | change
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(path, **{**arrays, "progress": text})
    with pytest.raises(RunFolderError, match=r"stage.npz: not the checkpoint"):
        restore()


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    path, weights = tmp_path / "stage.npz", [keras.Variable(np.zeros(10_000, np.float32))]
    Checkpoint(path).save("stage", Progress(), weights, [])
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)
    with pytest.raises(RunFolderError, match="bytes of arrays"):
        Checkpoint(path).restore(weights, weights, 4, {"loss"})
