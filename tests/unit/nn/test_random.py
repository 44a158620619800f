"""Random numbers of the layers: their share, their repeatability, their place in weights."""

import numpy as np
import pytest
import tensorflow as tf

from oasisvq.nn.random import Dropout, UniformDraws


def test_dropout_drops_a_share_and_keeps_the_mean():
    layer = Dropout(0.25, seed=1)
    inputs = tf.ones((4, 50, 50, 3))
    np.testing.assert_array_equal(layer(inputs), inputs)
    first, second = layer(inputs, training=True).numpy(), layer(inputs, training=True).numpy()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert (first != second).any()
    again = Dropout(0.25, seed=1)(inputs, training=True)
    np.testing.assert_array_equal(again, first)
    assert (Dropout(0.25, seed=2)(inputs, training=True).numpy() != first).any()


@pytest.mark.parametrize("layer", [UniformDraws(seed=4), Dropout(0.4, seed=3)])
def test_layers_are_rebuilt_from_their_configuration(layer):
    config = layer.get_config()
    assert config["seed"] == layer.seed
    assert type(layer).from_config(config).get_config() == config


def test_the_number_of_calls_is_a_weight_so_that_a_resumed_layer_goes_on():
    first, again = UniformDraws(seed=1), UniformDraws(seed=1)
    shape = tf.constant([3, 2])
    drawn = [first(shape).numpy() for _ in range(3)]
    again.set_weights([np.array(2)])
    np.testing.assert_array_equal(again(shape), drawn[2])
    np.testing.assert_array_equal(drawn[2], tf.random.stateless_uniform([3, 2], [1, 2]))
    assert (drawn[1] != drawn[2]).all()
