"""Code grids drawn from the prior, one code at a time, each layer keeping what it has computed."""

import keras
import numpy as np
from tqdm import tqdm

from modules import PixelConvLayer, PositionBias, ResidualBlock

__all__ = ["draw_codes", "sample_code_grids"]

GRIDS_AT_ONCE = 64  # a 44x44 grid's caches take about 2 MB


def sample_code_grids(prior, uniforms, temperature=1.0, top_k=0, top_p=1.0):
    """Draws code grids from the prior, in reading order.

    A forward pass for each code computes every position anew, though only
    one changes. Here each layer keeps its inputs and computes that one
    position, so a grid costs about as much as one forward pass. The codes are
    those that the plain loop draws from the same `uniforms`.

    Args:
        prior: The model of `build_pixelcnn`.
        uniforms: Float array `(B, h, w)` in [0, 1), the chance in each draw.
        temperature, top_k, top_p: See `draw_codes`.

    Returns:
        int32 array `(B, h, w)`.

    Raises:
        ValueError: If the prior has a layer that this sampler does not know,
            or another grid than `uniforms`.
    """
    _, height, width = uniforms.shape
    if prior.input_shape[1:] != (height, width):
        raise ValueError(
            f"expected uniforms (B, h, w) of {prior.input_shape}, got {uniforms.shape}"
        )
    codes = np.zeros(uniforms.shape, np.int32)
    rows = -(-len(uniforms) // GRIDS_AT_ONCE) * height
    with tqdm(total=rows, desc="Sampling", unit="row", leave=False, disable=None) as bar:
        for start in range(0, len(uniforms), GRIDS_AT_ONCE):
            some = slice(start, start + GRIDS_AT_ONCE)
            codes[some] = _sample(prior, uniforms[some], (temperature, top_k, top_p), bar)
    return codes


def _sample(prior, uniforms, options, bar):
    """`sample_code_grids` for as many grids as memory takes at once."""
    batch, height, width = uniforms.shape
    _, embedding, first, *rest = prior.layers
    table = embedding.get_weights()[0]  # (K, E)
    first = _CachedConvolution(first, batch, height, width)
    steps = [_step(layer, batch, height, width) for layer in rest]

    codes = np.zeros((batch, height, width), np.int32)
    for row in range(height):
        for column in range(width):
            x = first.output(row, column)  # (B, F); mask A: no need of the current code
            for step in steps:
                x = step(x, row, column)
            drawn = draw_codes(x, uniforms[:, row, column], *options)
            codes[:, row, column] = drawn
            first.remember(table[drawn], row, column)
        bar.update()
    return codes


def draw_codes(logits, uniforms, temperature=1.0, top_k=0, top_p=1.0):
    """Draws a code from each row of logits by inverting its cumulative distribution.

    Args:
        logits: Float array `(B, K)`.
        uniforms: Float array `(B,)` in [0, 1).
        temperature: Float above 0 that divides the logits; below 1 likely codes
            become likelier.
        top_k: Integer, keeps the k likeliest codes; 0 keeps all.
        top_p: Float in (0, 1], keeps the likeliest codes that together reach
            this probability (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751).

    Returns:
        int32 array `(B,)`.
    """
    logits = np.asarray(logits, np.float64) / temperature
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    if 0 < top_k < logits.shape[1]:
        kth = np.partition(probabilities, -top_k, axis=1)[:, [-top_k]]
        probabilities = np.where(probabilities >= kth, probabilities, 0)
    if top_p < 1:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        descending = np.take_along_axis(probabilities, order, axis=1)
        before = descending.cumsum(axis=1) - descending
        descending[before >= top_p * descending.sum(axis=1, keepdims=True)] = 0
        np.put_along_axis(probabilities, order, descending, axis=1)
    cumulative = probabilities.cumsum(axis=1)
    targets = uniforms[:, None] * cumulative[:, [-1]]
    return (cumulative <= targets).sum(axis=1).astype(np.int32)


class _CachedConvolution:
    """A `PixelConvLayer` at one position, over the inputs it remembers."""

    def __init__(self, layer, batch, height, width):
        kernel = keras.ops.convert_to_numpy(layer.visible_kernel)  # (rows, columns, C, F)
        rows, columns, channels, filters = kernel.shape
        down, across = layer.conv.dilation_rate
        taps = np.argwhere(np.ones((rows, columns)))
        hidden = columns // 2 + (layer.mask_type == "B")
        taps = taps[(taps[:, 0] < rows - 1) | (taps[:, 1] < hidden)]  # (T, 2)
        self.kernel = kernel[taps[:, 0], taps[:, 1]].reshape(-1, filters)  # (T C, F)
        self.tap_rows, self.tap_columns = taps[:, 0] * down, taps[:, 1] * across
        self.bias = keras.ops.convert_to_numpy(layer.conv.bias) if layer.conv.use_bias else 0
        self.activation = _activation(layer.conv)
        self.above, self.beside = (rows - 1) * down, columns // 2 * across
        padded = (batch, height + self.above, width + 2 * self.beside, channels)
        self.inputs = np.zeros(padded, np.float32)

    def remember(self, x, row, column):
        self.inputs[:, row + self.above, column + self.beside] = x

    def output(self, row, column):
        seen = self.inputs[:, row + self.tap_rows, column + self.tap_columns]  # (B, T, C)
        return self.activation(seen.reshape(len(seen), -1) @ self.kernel + self.bias)

    def __call__(self, x, row, column):
        self.remember(x, row, column)
        return self.output(row, column)


def _step(layer, batch, height, width):
    """A layer as a function of its new input `(B, C)` and the position `row, column`."""
    if isinstance(layer, PixelConvLayer) and layer.visible_kernel.shape[:2] == (1, 1):
        layer = layer.conv  # of type B: it sees the current position alone, nothing to remember
    if isinstance(layer, PixelConvLayer):
        return _CachedConvolution(layer, batch, height, width)
    if isinstance(layer, PositionBias):
        bias = layer.get_weights()[0]  # (h, w, F)
        return lambda x, row, column: x + bias[row, column]
    if isinstance(layer, ResidualBlock):
        inner = (layer.conv1, layer.pixel_conv, layer.conv2)
        first, middle, last = (_step(part, batch, height, width) for part in inner)
        return lambda x, *at: x + last(middle(first(x, *at), *at), *at)
    if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
        kernel, bias = layer.get_weights()
        kernel, activation = kernel[0, 0], _activation(layer)
        return lambda x, row, column: activation(x @ kernel + bias)
    raise ValueError(f"the sampler does not know the layer {layer.name} ({type(layer).__name__})")


def _activation(layer):
    name = keras.activations.serialize(layer.activation)
    if name == "linear":
        return lambda x: x
    if name == "relu":
        return lambda x: np.maximum(x, 0)
    raise ValueError(f"the sampler does not know the activation {name} of {layer.name}")
