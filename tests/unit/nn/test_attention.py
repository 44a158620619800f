"""Attention along one axis, against plain loops."""

import numpy as np
import pytest

from oasisvq.nn.attention import AxialAttention


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
        AxialAttention("depth", causal=True, heads=4)


def test_attention_is_rebuilt_from_its_configuration():
    config = AxialAttention("column", True, heads=3).get_config()
    assert {"axis", "causal", "heads"} <= set(config)
    assert AxialAttention.from_config(config).get_config() == config
