"""What the prior is told of a slice's conditions, and where in the grid a code stands."""

import inspect

import numpy as np
import pytest

from oasisvq.nn.conditioning import ConditionEmbedding, PositionBias


def test_condition_embedding_takes_its_scale_from_what_is_known():
    layer = ConditionEmbedding(4, hidden_share=0.1, stranger_share=0.2, seed=0)
    layer.build((None, 4))
    layer.adapt(np.array([[90, 20, 1, np.nan], [94, np.nan, 1, np.nan], [98, 60, 1, np.nan]]))
    np.testing.assert_allclose(layer.mean, [94, 40, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(layer.deviation, [np.sqrt(32 / 3), 20, 1, 1], rtol=1e-5)


def test_training_hides_conditions_now_and_then():
    layer = ConditionEmbedding(16, hidden_share=0.25, stranger_share=0.2, seed=0)
    conditions = np.tile(np.float32([1, 1, 1, 1]), (4000, 1))
    visible = layer(conditions).numpy()
    np.testing.assert_allclose(visible, np.tile(visible[:1], (4000, 1)), atol=1e-6)
    hidden = layer(conditions, training=True).numpy()
    as_visible = (np.abs(hidden - visible) < 1e-6).all(axis=1).mean()
    assert as_visible == pytest.approx(0.75**4 * 0.8, abs=0.03)
    layer.hidden_share = 0
    hidden = layer(conditions, training=True).numpy()
    stranger = layer(np.float32([[1, np.nan, np.nan, np.nan]])).numpy()
    strange, usual = (np.abs(hidden - x).max(axis=1) < 1e-6 for x in (stranger, visible))
    assert (strange | usual).all()
    assert strange.mean() == pytest.approx(0.2, abs=0.03)


def test_position_bias_is_a_map_and_a_mixture_of_maps(random):
    layer = PositionBias(maps=3)
    inputs = random.normal(size=(2, 4, 3, 5)).astype("float32")
    condition = random.normal(size=(2, 6)).astype("float32")
    outputs = layer(inputs, condition)
    maps = layer.maps.numpy()
    weights = condition @ layer.mix.kernel.numpy() + layer.mix.bias.numpy()
    expected = inputs + maps[0] + np.einsum("bm,mhwc->bhwc", weights, maps[1:])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        ConditionEmbedding(5, hidden_share=0.2, stranger_share=0.4, seed=3),
        PositionBias(maps=4),
    ],
)
def test_layers_are_rebuilt_from_their_configuration(layer):
    config = layer.get_config()
    own = inspect.signature(type(layer).__init__).parameters
    assert {name for name in own if own[name].kind == own[name].POSITIONAL_OR_KEYWORD} <= {
        "self",
        *config,
    }
    assert type(layer).from_config(config).get_config() == config
