"""The loop of both stages: what is kept, when it ends, and what goes wrong."""

import re

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

from oasisvq.core.errors import TrainingError
from oasisvq.training.batches import Batches, shuffled_rows
from oasisvq.training.loop import Loop, build_optimizer
from oasisvq.training.stages import layer_precision
from support.models import (
    OneWeightModel,
    loop_of,
    pairs_of,
    small_prior,
    small_vqvae,
    train_epochs,
)
from support.processes import run_python


def climber(epochs=4, average=0.0, rows=40, values=None):
    """Returns a loop whose weight climbs towards 1000, that many steps away."""
    model = OneWeightModel("climb", lambda place, value: (1000 - place + value) ** 2)
    values = np.zeros(rows, np.float32) if values is None else np.float32(values)
    optimizer = build_optimizer(1.0, epochs * rows // 4, average)
    return loop_of(model, values, optimizer=optimizer, batch_size=4, validation=np.arange(3))


def walker(values, batch_size=1, **options):
    """Returns a loop whose weight each step moves by its slices' mean."""
    model = OneWeightModel("steps", lambda place, value: place * value)
    values, optimizer = np.float32(values), keras.optimizers.SGD(1.0)
    return loop_of(model, values, optimizer=optimizer, batch_size=batch_size, **options)


@pytest.fixture
def spoiled(brains):
    """A loop whose validation slices are black: each epoch makes it worse."""
    images = np.concatenate([brains, np.zeros((2, 96, 80), "float32")])[..., None]

    def build():
        return loop_of(
            small_vqvae(),
            images,
            optimizer=keras.optimizers.Adam(3e-3),
            rows=np.resize(range(8), 32),
            batch_size=8,
            validation=np.array([8, 9]),
        )

    return build


def history(folder, name):
    return pandas.read_csv(folder / f"{name}_history.csv")


# What is kept


def test_the_best_weights_on_validation_are_kept_in_the_folder_and_the_model(tmp_path, spoiled):
    loop = spoiled()
    loop.run(tmp_path, 4, "val_distortion")
    values = history(tmp_path, "vqvae")["val_distortion"]
    assert values.iloc[-1] > values.min()
    assert loop.evaluate()["val_distortion"] == pytest.approx(values.min(), rel=1e-4)
    again = spoiled()
    again.model.load_weights(tmp_path / "vqvae.weights.h5")
    assert again.evaluate()["val_distortion"] == pytest.approx(values.min(), rel=1e-4)
    assert len(list((tmp_path / "tensorboard/vqvae/validation").iterdir())) == 1


def test_training_ends_when_validation_no_longer_gains(tmp_path, spoiled):
    spoiled().run(tmp_path, 30, "val_loss", patience=2)
    losses = history(tmp_path, "vqvae")["val_loss"]
    assert len(losses) == losses.argmin() + 3 < 30


def test_what_is_judged_and_kept_is_the_average_of_the_weights(tmp_path):
    loop = climber(average=0.25)
    loop.run(tmp_path, 4, "val_loss")
    # `seen` are the places before each step: the one after the last is missing.
    places = [*loop.model.seen[1:], None]
    assert len(places) == 40
    average = places[0]
    for place in places[1:-1]:
        average += (place - average) / 10  # a quarter of forty steps
    kept = float(loop.model.place)
    last = 10 * (kept - average) + average  # what the last step must have led to
    assert places[-2] < last < places[-2] + 1.5
    assert last - kept > 3
    assert history(tmp_path, "climb")["val_loss"].iloc[-1] == pytest.approx((1000 - kept) ** 2)


def test_training_goes_on_from_the_weights_themselves_not_from_their_average(tmp_path):
    with_average, without = climber(average=0.25), climber()
    for loop in (with_average, without):
        loop.run(tmp_path, 4, "val_loss")
    assert with_average.model.seen == without.model.seen


def test_every_validation_slice_counts_once():
    values = np.array([1.0, 2.0, 30.0])
    model = OneWeightModel("climb", lambda place, value: (1000 - place + value) ** 2)
    loop = loop_of(model, values.astype("float32"), batch_size=2)
    expected = np.mean((1000 + values) ** 2)
    assert loop.evaluate()["val_loss"] == pytest.approx(expected)


def test_a_warning_about_the_history_is_printed(tmp_path, capfd):
    climber().run(tmp_path, 1, "val_loss", warning=lambda history: f"after {len(history)} epochs")
    assert capfd.readouterr().err.endswith("train.py: warning: climb: after 1 epochs\n")


# What goes wrong


@pytest.mark.parametrize("step", [0, 3, 9])
def test_a_loss_that_is_no_number_is_named_and_nothing_is_kept(tmp_path, step):
    values = np.zeros(40)
    values[shuffled_rows(np.arange(40), 4, 0, 0)[step]] = np.nan
    with pytest.raises(
        TrainingError, match=rf"climb: the loss is nan at epoch 1, step {step + 1}\."
    ):
        climber(values=values).run(tmp_path, 4, "val_loss")
    assert not (tmp_path / "climb.weights.h5").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_steps_are_undone_as_many_as_may_be(bad):
    values = [1.0, bad, 2.0, bad, 4.0, 8.0]
    loop = walker(values, max_bad_steps=2)
    loop.finish_epoch()
    assert float(loop.model.place) == -15
    assert loop.progress.bad_steps == 2
    assert int(loop.model.optimizer.iterations) == 4
    with pytest.raises(TrainingError, match=r"steps: the loss is nan.* after 1 that were undone\."):
        walker(values, max_bad_steps=1).finish_epoch()


def test_an_epoch_of_bad_steps_only_is_an_error():
    with pytest.raises(TrainingError, match="the loss is nan"):
        walker([np.nan, np.nan], max_bad_steps=10).finish_epoch()


TWO_DEVICES = """
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from unit.training.test_loop import walker
with strategy.scope():
    loop = walker([1, 2, float("nan"), 4, 8, 16], batch_size=2, max_bad_steps=1)
    loop.finish_epoch()
print(*strategy.experimental_local_results(loop.model.place.value))
"""


@pytest.mark.slow
def test_a_bad_step_of_one_device_is_undone_on_all():
    values = np.array([1, 2, np.nan, 4, 8, 16])
    moved = -np.nansum(values[shuffled_rows(np.arange(6), 2, 0, 0)].mean(axis=1))
    places = re.findall(r"numpy=(-?[\d.]+)", run_python("-c", TWO_DEVICES))
    assert [float(place) for place in places] == [moved, moved]


def test_means_leave_bad_steps_out():
    loop = walker([np.nan, 3.0, 3.0], max_bad_steps=1)
    loop.model.place.assign(10)
    loop.finish_epoch()
    assert loop.progress.means["loss"] == pytest.approx((3 * 10 + 3 * 7) / 2)


@pytest.mark.parametrize(("room", "named"), [(3, "A step of 2 fits"), (0, "even at --batch-size")])
def test_out_of_memory_names_a_batch_that_fits(brains, room, named):
    loop = loop_of(small_vqvae((24, 20)), brains[:, ::4, ::4, None])
    step = loop.train_step

    def fits(batch):
        if len(batch[0]) > room:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return step(batch)

    loop.train_step = fits
    with pytest.raises(TrainingError, match=named):
        loop.finish_epoch()


def test_the_flag_of_the_batch_size_is_the_stages_own():
    model = OneWeightModel("climb", lambda place, value: value - place)
    model.compile(keras.optimizers.SGD(1.0))
    read = pairs_of(np.zeros(4, np.float32))
    training = Batches(read, np.arange(4), 2, size_flag="--prior-batch-size")
    loop = Loop(model, training, training)

    def never(batch):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    loop.train_step = never
    with pytest.raises(TrainingError, match="climb: out of memory even at --prior-batch-size 1"):
        loop.finish_epoch()


# Mixed precision


def test_a_few_steps_in_bfloat16_lead_where_those_in_float32_do(brains):
    images, losses = brains[..., None], {}
    for mixed in (False, True):
        keras.utils.set_random_seed(0)
        with layer_precision(mixed):
            vqvae = small_vqvae(residual_blocks=2)
        loop = loop_of(vqvae, images, batch_size=4)
        losses[mixed] = [means["loss"] for means in train_epochs(loop, 6)]
        inner = vqvae.encoder.layers[2]
        assert inner.compute_dtype == ("bfloat16" if mixed else "float32")
        assert vqvae.quantizer.compute_dtype == vqvae.decoder.layers[-1].compute_dtype == "float32"
        assert {weight.dtype for weight in vqvae.trainable_weights} == {"float32"}
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.03)
    assert losses[True] != losses[False]
    assert losses[True][-1] < 0.9 * losses[True][0]


def test_the_prior_in_bfloat16_keeps_softmax_and_loss_in_float32(random):
    codes, conditions = random.integers(0, 8, (4, 6, 5)), np.full((4, 4), np.nan, "float32")
    bits = {}
    for mixed in (False, True):
        keras.utils.set_random_seed(0)
        with layer_precision(mixed):
            prior = small_prior((6, 5), 8, residual_blocks=1)
        loop = loop_of(prior, codes, conditions, optimizer=keras.optimizers.Adam(1e-2))
        bits[mixed] = [means["loss"] for means in train_epochs(loop, 8)]
        assert prior((codes, conditions)).dtype == tf.float32
        assert prior.here_blocks[0].conv1.compute_dtype == ("bfloat16" if mixed else "float32")
    np.testing.assert_allclose(bits[True], bits[False], rtol=0.03)
    assert bits[True] != bits[False]
