"""Code grids drawn from the prior, one code at a time, each layer keeping what it has computed."""

import keras
import numpy as np
from tqdm import tqdm

from prior import CONDITION_COUNT

__all__ = ["draw_codes", "sample_code_grids"]

GRIDS_AT_ONCE = 64  # a 44x44 grid's caches take about 4 MB


def sample_code_grids(prior, uniforms, conditions=None, temperature=1.0, top_k=0, top_p=1.0):
    """Draws code grids from the prior, in reading order.

    A forward pass for each code computes every position anew, though only
    one changes. Here each layer keeps its inputs: the stream that knows the
    rows above is computed once a row, the other once a position, so a grid
    costs about as much as one forward pass. The codes are those that the plain
    loop draws from the same `uniforms`, unless one lies within rounding (1e-6) of
    the border between two codes.

    Args:
        prior: `PixelCNN`.
        uniforms: Float array `(B, h, w)` in [0, 1), the chance in each draw.
        conditions: Float array `(B, 4)`, see `OASIS.conditions`; NaN is
            unknown. Default: all unknown.
        temperature, top_k, top_p: See `draw_codes`.

    Returns:
        int32 array `(B, h, w)`.

    Raises:
        ValueError: If the prior has another grid than `uniforms`, or there are
            not as many conditions.
    """
    count, *code_shape = uniforms.shape
    if prior.code_shape != tuple(code_shape):
        raise ValueError(
            f"expected uniforms (B, h, w) of {prior.code_shape}. Received: {uniforms.shape}"
        )
    if conditions is None:
        conditions = np.full((count, CONDITION_COUNT), np.nan, np.float32)
    if conditions.shape != (count, CONDITION_COUNT):
        raise ValueError(
            f"expected conditions of ({count}, {CONDITION_COUNT}). Received: {conditions.shape}"
        )
    codes = np.zeros(uniforms.shape, np.int32)
    rows = -(-count // GRIDS_AT_ONCE) * code_shape[0]
    with tqdm(total=rows, desc="Sampling", unit="row", leave=False, disable=None) as bar:
        for start in range(0, count, GRIDS_AT_ONCE):
            some = slice(start, start + GRIDS_AT_ONCE)
            options = (temperature, top_k, top_p)
            codes[some] = _sample(prior, uniforms[some], conditions[some], options, bar)
    return codes


def _sample(prior, uniforms, conditions, options, bar):
    """`sample_code_grids` for as many grids as memory takes at once."""
    batch, height, width = uniforms.shape
    condition = prior.condition(conditions)  # (B, F)
    above = _Above(prior, condition, batch)
    here = _Here(prior, condition, batch)
    table = _array(prior.embedding.embeddings)  # (K, E)

    codes = np.zeros((batch, height, width), np.int32)
    for row in range(height):
        here.start_row(row, above.row(row))
        for column in range(width):
            logits = here.logits(row, column)  # (B, K)
            codes[:, row, column] = draw_codes(logits, uniforms[:, row, column], *options)
            here.remember(table[codes[:, row, column]], row, column)
        above.remember(table[codes[:, row]], row)
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


class _Above:
    """The stream of `PixelCNN` that knows the rows above, a row at a time."""

    def __init__(self, prior, condition, batch):
        height, width = prior.code_shape
        self.conv = _RowConvolution(prior.above_conv, batch, height, width)
        self.bias = _bias(prior.above_bias, condition, (height, width))  # (B, h, w, F)
        self.blocks = [_AboveBlock(layer, batch, height, width) for layer in prior.above_blocks]
        self.attention_before = prior.attention_before
        self.rows = _RowAttention(prior.above_rows)
        self.columns = _ColumnAttention(prior.above_columns, batch, height, width)

    def remember(self, x, row):
        """Takes the embedded codes `(B, w, E)` of a finished row."""
        self.conv.remember(x, row)

    def row(self, row):
        """What each block of the other stream sees at this row: arrays `(B, w, F)`."""
        x = self.conv.output(row) + self.bias[:, row]
        outputs = []
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.columns(self.rows(x), row)
            x = block(x, row)
            outputs.append(x)
        return outputs


class _Here:
    """The stream of `PixelCNN` that knows its own row too, a position at a time."""

    def __init__(self, prior, condition, batch):
        height, width = prior.code_shape
        self.conv = _PositionConvolution(prior.here_conv, batch, height, width)
        self.bias = _bias(prior.here_bias, condition, (height, width))  # (B, h, w, F)
        self.blocks = [_HereBlock(layer, batch, width) for layer in prior.here_blocks]
        self.attention_before = prior.attention_before
        self.rows = _CausalRowAttention(prior.here_rows, batch, width)
        self.hidden, self.last = _dense(prior.hidden.conv), _dense(prior.logits)

    def start_row(self, row, contexts):
        """Begins a row, given what the other stream knows of it."""
        for block, context in zip(self.blocks, contexts, strict=True):
            block.start_row(context)

    def remember(self, x, row, column):
        """Takes the embedded codes `(B, E)` drawn at a position."""
        self.conv.remember(x, row, column)

    def logits(self, row, column):
        """Of the codes at a position: `(B, K)`."""
        x = self.conv.output(row, column) + self.bias[:, row, column]
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.rows(x, column)
            x = block(x, column)
        return self.last(self.hidden(x))


class _AboveBlock:
    """A `ResidualBlock` of the vertical stack, a row at a time."""

    def __init__(self, layer, batch, height, width):
        self.first, self.last = _dense(layer.conv1), _dense(layer.conv2)
        self.middle = _RowConvolution(layer.pixel_conv, batch, height, width)

    def __call__(self, x, row):
        self.middle.remember(self.first(x), row)
        return x + self.last(self.middle.output(row))


class _HereBlock:
    """A `ResidualBlock` of one row's height, a position at a time."""

    def __init__(self, layer, batch, width):
        kernel = _array(layer.conv1.kernel)[0, 0]  # (F + context, inner)
        self.kernel, self.context_kernel = kernel[: layer.filters], kernel[layer.filters :]
        self.first_bias, self.activation = _array(layer.conv1.bias), _activation(layer.conv1)
        self.middle = _PositionConvolution(layer.pixel_conv, batch, 1, width)
        self.last = _dense(layer.conv2)

    def start_row(self, context):
        self.context = context @ self.context_kernel + self.first_bias  # (B, w, inner)

    def __call__(self, x, column):
        inner = self.activation(x @ self.kernel + self.context[:, column])
        self.middle.remember(inner, 0, column)
        return x + self.last(self.middle.output(0, column))


class _RowConvolution:
    """A `PixelConvLayer` of the vertical stack at one row, over the rows it remembers."""

    def __init__(self, layer, batch, height, width):
        self.kernel = _array(layer.visible_kernel)  # (rows, columns, C, F)
        self.bias, self.activation = _array(layer.conv.bias), _activation(layer.conv)
        self.down, self.across = layer.conv.dilation_rate
        self.above, self.left = layer.reach
        self.width = width
        padded = (batch, height + self.above, width + 2 * self.left, self.kernel.shape[2])
        self.inputs = np.zeros(padded, np.float32)

    def remember(self, x, row):
        self.inputs[:, row + self.above, self.left : self.left + self.width] = x

    def output(self, row):
        rows, columns = self.kernel.shape[:2]
        total = self.bias
        for i in range(rows):
            line = self.inputs[:, row + i * self.down]  # (B, w + 2 left, C)
            for j in range(columns):
                start = j * self.across
                total = total + line[:, start : start + self.width] @ self.kernel[i, j]
        return self.activation(total)


class _PositionConvolution:
    """A `PixelConvLayer` of the horizontal stack at one position, over those it remembers."""

    def __init__(self, layer, batch, height, width):
        kernel = _array(layer.visible_kernel)  # (rows, columns, C, F)
        rows, columns, channels, filters = kernel.shape
        down, across = layer.conv.dilation_rate
        taps = np.argwhere(np.ones((rows, columns)))
        seen = layer.conv.kernel_size[1] // 2 + (layer.mask_type == "B")  # of the last row
        taps = taps[(taps[:, 0] < rows - 1) | (taps[:, 1] < seen)]  # (T, 2)
        self.kernel = kernel[taps[:, 0], taps[:, 1]].reshape(-1, filters)  # (T C, F)
        self.tap_rows, self.tap_columns = taps[:, 0] * down, taps[:, 1] * across
        self.bias, self.activation = _array(layer.conv.bias), _activation(layer.conv)
        self.above, self.left = layer.reach
        padded = (batch, height + self.above, width + 2 * self.left, channels)
        self.inputs = np.zeros(padded, np.float32)

    def remember(self, x, row, column):
        self.inputs[:, row + self.above, column + self.left] = x

    def output(self, row, column):
        seen = self.inputs[:, row + self.tap_rows, column + self.tap_columns]  # (B, T, C)
        return self.activation(seen.reshape(len(seen), -1) @ self.kernel + self.bias)


class _Attention:
    """What the three ways through an `AxialAttention` share."""

    def __init__(self, layer):
        self.project, self.combine = _array(layer.project.kernel), _dense(layer.combine)
        self.bias = _array(layer.bias)  # (heads, n, n)
        self.heads, self.size = layer.heads, layer.size

    def projected(self, x):
        """Queries, keys and values `(..., heads, d)` of inputs `(..., F)`."""
        parts = (x @ self.project).reshape(*x.shape[:-1], 3, self.heads, self.size)
        queries, keys, values = np.moveaxis(parts, -3, 0)
        return queries / np.float32(self.size**0.5), keys, values

    def combined(self, x, attended):
        return x + self.combine(attended.reshape(x.shape[:-1] + (-1,)))


class _RowAttention(_Attention):
    """Of a whole row to itself, `(B, w, F)`."""

    def __call__(self, x):
        queries, keys, values = self.projected(x)
        weights = _softmax(np.einsum("bqhd,bkhd->bhqk", queries, keys, optimize=True) + self.bias)
        return self.combined(x, np.einsum("bhqk,bkhd->bqhd", weights, values, optimize=True))


class _ColumnAttention(_Attention):
    """Of a row `(B, w, F)` to itself and the rows above, in each column."""

    def __init__(self, layer, batch, height, width):
        super().__init__(layer)
        self.keys = np.zeros((batch, width, self.heads, height, self.size), np.float32)
        self.values = np.zeros_like(self.keys)

    def __call__(self, x, row):
        queries, self.keys[..., row, :], self.values[..., row, :] = self.projected(x)
        keys, values = self.keys[..., : row + 1, :], self.values[..., : row + 1, :]
        logits = (keys @ queries[..., None])[..., 0]  # (B, w, heads, row + 1)
        weights = _softmax(logits + self.bias[:, row, : row + 1])
        return self.combined(x, (weights[..., None, :] @ values)[..., 0, :])


class _CausalRowAttention(_Attention):
    """Of a position `(B, F)` to itself and those before it in its row."""

    def __init__(self, layer, batch, width):
        super().__init__(layer)
        self.keys = np.zeros((batch, self.heads, width, self.size), np.float32)
        self.values = np.zeros_like(self.keys)

    def __call__(self, x, column):
        queries, self.keys[..., column, :], self.values[..., column, :] = self.projected(x)
        keys, values = self.keys[..., : column + 1, :], self.values[..., : column + 1, :]
        logits = (keys @ queries[..., None])[..., 0]  # (B, heads, column + 1)
        weights = _softmax(logits + self.bias[:, column, : column + 1])
        return self.combined(x, (weights[..., None, :] @ values)[..., 0, :])


def _bias(layer, condition, code_shape):
    """What a `PositionBias` adds at each position, `(B, h, w, F)`."""
    zeros = np.zeros((len(condition), *code_shape, layer.maps.shape[-1]), np.float32)
    return _array(layer(zeros, condition))


def _dense(layer):
    """A `Dense` or a 1x1 convolution as a function of `(..., C)`."""
    kernel, bias = _array(layer.kernel), _array(layer.bias)
    kernel, activation = kernel.reshape(kernel.shape[-2:]), _activation(layer)
    return lambda x: activation(x @ kernel + bias)


def _softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def _activation(layer):
    name = keras.activations.serialize(layer.activation)
    if name == "linear":
        return lambda x: x
    if name == "relu":
        return lambda x: np.maximum(x, 0)
    raise ValueError(f"the sampler does not know the activation {name} of {layer.name}")
