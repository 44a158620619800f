"""The prior: what it sees, what it learns, and what it makes of conditions."""

import inspect

import keras
import numpy as np
import pytest

from hyperparameters import Hyperparameters
from modules import PixelCNN, code_bits
from oasisvq.nn.attention import AxialAttention
from oasisvq.nn.conditioning import ConditionEmbedding, PositionBias
from oasisvq.training.loop import Stage
from train import code_reader, precision

UNKNOWN = np.full((1, 4), np.nan, np.float32)


@pytest.fixture(scope="module")
def prior():
    """A prior all of whose weights matter."""
    prior = PixelCNN((5, 4), 6, filters=8, residual_blocks=2)
    random = np.random.default_rng(1)
    prior.set_weights([random.normal(0, 0.4, size=w.shape) for w in prior.get_weights()])
    return prior


def test_prior_sees_every_earlier_code_and_no_other(prior):
    codes = np.random.default_rng(2).integers(0, 6, size=(1, 5, 4))
    logits = prior((codes, UNKNOWN)).numpy()
    changes = np.zeros((20, 20))  # (output position, changed position)
    for position in range(20):
        for code in range(6):
            other = codes.copy()
            other.reshape(-1)[position] = code
            change = np.abs(prior((other, UNKNOWN)).numpy() - logits).max(-1).reshape(-1)
            changes[:, position] = np.maximum(changes[:, position], change)
    np.testing.assert_array_equal(changes[np.triu_indices(20)], 0)
    assert (changes[np.tril_indices(20, -1)] > 0).all()


def test_a_wide_grid_has_no_blind_spot():
    # Convolutions alone would not reach from the first row's far end to the second row's start.
    prior = PixelCNN((12, 30), 3, filters=16, residual_blocks=2, dilations=(1,))
    random = np.random.default_rng(1)
    prior.set_weights([random.normal(0, 0.2, size=w.shape) for w in prior.get_weights()])
    codes = random.integers(0, 2, size=(8, 12, 30))
    other = codes.copy()
    other[:, 0, 29] = 2
    unknown = np.repeat(UNKNOWN, 8, axis=0)
    change = np.abs(prior((other, unknown)).numpy() - prior((codes, unknown)).numpy()).max((0, 3))
    assert (change[0] == 0).all()
    assert (change[1:] > 0).all()


def test_conditions_change_the_prior_and_unknown_is_a_value(prior):
    codes = np.zeros((5, 5, 4), np.int32)
    conditions = np.array(
        [[95, 70, 0, 0], [95, 30, 0, 0], [95, np.nan, 0, 0], [95, 0, 0, 0], [np.nan] * 4],
        np.float32,
    )
    logits = prior((codes, conditions)).numpy()
    assert np.isfinite(logits).all()
    for one in range(5):
        for other in range(one):
            assert np.abs(logits[one] - logits[other]).max() > 1e-3


def test_conditions_are_not_rounded_where_layers_compute_in_bfloat16():
    with precision(Hyperparameters(mixed_precision=True)):
        prior = PixelCNN((5, 4), 6, filters=8, residual_blocks=2)
    assert prior.hidden.compute_dtype == prior.embedding.compute_dtype == "bfloat16"
    random = np.random.default_rng(1)
    prior.set_weights([random.normal(0, 0.4, size=w.shape) for w in prior.get_weights()])
    conditions = np.full((2, 4), np.nan, np.float32)
    conditions[:, 0] = 93.1, 93.2  # in bfloat16 both are 93
    prior.condition.adapt(conditions)
    one, other = prior((np.zeros((2, 5, 4), np.int32), conditions)).numpy()
    assert np.abs(one - other).max() > 1e-2


def test_condition_embedding_takes_its_scale_from_what_is_known():
    layer = ConditionEmbedding(4)
    layer.build((None, 4))
    layer.adapt(np.array([[90, 20, 1, np.nan], [94, np.nan, 1, np.nan], [98, 60, 1, np.nan]]))
    np.testing.assert_allclose(layer.mean, [94, 40, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(layer.deviation, [np.sqrt(32 / 3), 20, 1, 1], rtol=1e-5)


def test_training_hides_conditions_now_and_then():
    layer = ConditionEmbedding(16, hidden_share=0.25, stranger_share=0.2)
    conditions = np.tile(np.float32([1, 1, 1, 1]), (4000, 1))
    shown = layer(conditions).numpy()
    np.testing.assert_allclose(shown, np.tile(shown[:1], (4000, 1)), atol=1e-6)
    hidden = layer(conditions, training=True).numpy()
    as_shown = (np.abs(hidden - shown) < 1e-6).all(axis=1).mean()
    assert as_shown == pytest.approx(0.75**4 * 0.8, abs=0.03)
    layer.hidden_share = 0
    hidden = layer(conditions, training=True).numpy()
    stranger = layer(np.float32([[1, np.nan, np.nan, np.nan]])).numpy()
    strange, usual = (np.abs(hidden - x).max(axis=1) < 1e-6 for x in (stranger, shown))
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


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_axial_attention_against_loops(axis, causal, random):
    layer = AxialAttention(axis, causal, heads=2)
    x = random.normal(size=(2, 4, 5, 6)).astype("float32")
    layer(x)
    for weight in (layer.combine.kernel, layer.combine.bias, layer.bias):
        weight.assign(random.normal(size=weight.shape))
    line = x if axis == "row" else x.transpose(0, 2, 1, 3)
    q, k, v = np.moveaxis(
        (line @ layer.project.kernel.numpy()).reshape(*line.shape[:3], 3, 2, 3), 3, 0
    )
    expected = np.zeros_like(line)
    for b, n, i in np.ndindex(line.shape[:3]):
        seen = range(i + 1) if causal else range(line.shape[2])
        heads = []
        for head in range(2):
            bias = layer.bias.numpy()[head, i]
            logits = np.array(
                [q[b, n, i, head] @ k[b, n, j, head] / 3**0.5 + bias[j] for j in seen]
            )
            weights = np.exp(logits) / np.exp(logits).sum()
            heads.append(sum(w * v[b, n, j, head] for w, j in zip(weights, seen, strict=True)))
        mixed = np.concatenate(heads) @ layer.combine.kernel.numpy() + layer.combine.bias.numpy()
        expected[b, n, i] = line[b, n, i] + mixed
    expected = expected if axis == "row" else expected.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_axial_attention_knows_two_axes():
    with pytest.raises(ValueError, match="Received: 'depth'"):
        AxialAttention("depth", causal=True)


@pytest.mark.parametrize(
    "layer",
    [
        ConditionEmbedding(5, hidden_share=0.2, stranger_share=0.4, seed=3),
        PositionBias(maps=4),
        AxialAttention("column", True, heads=3),
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


def test_every_weight_is_saved_and_loaded(prior, tmp_path):
    prior.save_weights(tmp_path / "prior.weights.h5")
    again = PixelCNN((5, 4), 6, filters=8, residual_blocks=2)
    again.load_weights(tmp_path / "prior.weights.h5")
    codes = np.random.default_rng(3).integers(0, 6, size=(2, 5, 4))
    conditions = np.array([[95, 70, 0, 0.5], [90, np.nan, 1, np.nan]], np.float32)
    np.testing.assert_array_equal(again((codes, conditions)), prior((codes, conditions)))


def test_prior_learns_shape_from_position_and_condition():
    # Which code fills the lower half depends on the age: nothing is left to guess.
    codes = np.zeros((64, 6, 6), "int32")
    codes[::2, 3:], codes[1::2, 3:] = 1, 2
    conditions = np.full((64, 4), np.nan, "float32")
    conditions[:, 1] = np.resize([20, 80], 64)
    prior = PixelCNN((6, 6), 4, filters=16, residual_blocks=1)
    prior.condition.adapt(conditions)
    rows, read = np.arange(64), code_reader(codes, conditions)
    stage = Stage("prior", prior, keras.optimizers.Adam(0.01), read, rows, rows, 16, 30, seed=0)
    for epoch in range(30):
        stage.train_epoch(epoch)
    first = code_bits(codes, prior((codes, conditions))).numpy()[:, 3, 0]
    assert first.mean() < 0.2  # the one code that only the age can tell
    hidden = code_bits(codes, prior((codes, np.full_like(conditions, np.nan)))).numpy()[:, 3, 0]
    assert hidden.mean() > 0.5


def test_code_bits_is_the_cross_entropy_in_bits(random):
    codes, logits = (
        random.integers(0, 8, (2, 3, 3)),
        random.normal(size=(2, 3, 3, 8)).astype("float32"),
    )
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log2(np.take_along_axis(p, codes[..., None], -1))[..., 0]
    np.testing.assert_allclose(code_bits(codes, logits), expected, rtol=1e-5)
    uniform = code_bits(codes, np.zeros((2, 3, 3, 8), "float32"))
    np.testing.assert_allclose(uniform, 3.0, rtol=1e-6)
