"""Samples code grids fast: each layer of the prior keeps what it has computed.

The stream of `PixelCNN` that knows the rows above is computed a row at a time, the one that knows
its own row too a position at a time.
"""

import numpy as np

from oasisvq.core.checks import finite
from oasisvq.core.progress import Progress
from oasisvq.core.threads import one_blas_thread
from oasisvq.nn.conditioning import CONDITION_COUNT
from oasisvq.sampling.draw import draw_codes

GRIDS_AT_ONCE = 64  # what the layers keep of a 44x44 grid takes about 2 MB


def sample_code_grids(prior, uniforms, config, conditions=None, given=None):
    """Draws code grids from the prior, in reading order.

    A forward pass for each code computes every position anew, though only one changes. Here a grid
    costs as much as a few forward passes. The codes are the same for the same `uniforms`, unless
    one lies within rounding (1e-6) of the border between two codes.

    Args:
        prior: `PixelCNN`.
        uniforms: Float array `(B, h, w)` in [0, 1), the random number of each draw.
        config: `DrawConfig`, see `draw_codes`.
        conditions: Float array `(B, 4)`, see `OASIS.conditions`; NaN is unknown. Default: all are
            unknown.
        given: Integer array `(B, h, w)`, codes that are known already; -1 marks a code to draw.
            Each draw sees the given codes before it in reading order, and none after it. Default:
            all are drawn.

    Returns:
        int32 array `(B, h, w)`.

    Raises:
        ValueError: If the prior has another grid than `uniforms`, there are not as many conditions
            or given codes, or a given code is not from -1 to K - 1.
    """
    count = len(uniforms)
    if conditions is None:
        conditions = np.full((count, CONDITION_COUNT), np.nan, np.float32)
    if given is None:
        given = np.full(uniforms.shape, -1)
    _check(prior, uniforms, conditions, given)
    codes = np.zeros(uniforms.shape, np.int32)
    rows = -(-count // GRIDS_AT_ONCE) * prior.code_shape[0]
    with (
        one_blas_thread(),
        Progress(total=rows, desc="Sampling", unit="row", leave=False) as progress,
    ):
        for start in range(0, count, GRIDS_AT_ONCE):
            some = slice(start, start + GRIDS_AT_ONCE)
            arrays = (uniforms[some], conditions[some], given[some])
            codes[some] = _sample(prior, *arrays, config, progress)
    return codes


def _check(prior, uniforms, conditions, given):
    """Raises a `ValueError` about arguments of `sample_code_grids` that do not fit the prior."""
    count, grids = len(uniforms), (len(uniforms), *prior.code_shape)
    for name, array, shape in (
        ("uniforms", uniforms, grids),
        ("conditions", conditions, (count, CONDITION_COUNT)),
        ("given codes", given, grids),
    ):
        if array.shape != shape:
            raise ValueError(f"expected {name} of {shape}. Received: {array.shape}")
    outside = given[(given < -1) | (given >= prior.num_embeddings)]
    if outside.size:
        raise ValueError(
            f"expected given codes from -1 to {prior.num_embeddings - 1}. Received: {outside[0]}"
        )


def _sample(prior, uniforms, conditions, given, config, progress):
    """Draws as many grids as memory takes at once, see `sample_code_grids`."""
    # The grids' axis comes last, so that whatever lies at one position is one piece of memory.
    uniforms, codes = (np.moveaxis(x, 0, -1).copy() for x in (uniforms, given))  # (h, w, B)
    unknown = codes < 0
    condition = prior.condition(conditions)  # (B, F)
    above = _RowStream(prior, condition)
    here = _PositionStream(prior, condition)
    embeddings = np.asarray(prior.embedding.embeddings)  # (K, E)
    for row in range(len(codes)):
        # A row that is wholly known is started too: its sums must free their place in the ring.
        here.start_row(row, above.outputs(row))
        if unknown[row].any():
            for column in range(len(codes[row])):
                logits = finite(here.logits(column), "logits")
                drawn = draw_codes(logits, uniforms[row, column], config)
                np.copyto(codes[row, column], drawn, where=unknown[row, column])
                here.add_codes(codes[row, column], column)
        embedded = embeddings[codes[row].reshape(-1)]  # (w B, E)
        above.conv.add_row(row, embedded)
        here.conv.add_row(row, embedded)
        progress.update()
    return np.moveaxis(codes, -1, 0)


class _RowStream:
    """Computes the stream `above` of `PixelCNN`, which knows the rows above, a row at a time.

    Its arrays hold the positions of a row one after the other, at each position all grids:
    `(w B, F)`. So one product serves the row, and the next position is B further on.
    """

    def __init__(self, prior, condition):
        (height, width), batch = prior.code_shape, len(condition)
        kernel = np.asarray(prior.above_conv.visible_kernel)
        self.conv = _RowConvolution(kernel, prior.above_conv, batch, width)
        self.bias = _position_bias(prior.above_bias, prior.above_conv, condition)
        self.blocks = [_RowBlock(layer, batch, width) for layer in prior.above_blocks]
        self.attention_before = prior.attention_before
        self.row_attention = _RowAttention(prior.above_rows, batch, width)
        self.column_attention = _ColumnAttention(prior.above_columns, batch, height, width)

    def outputs(self, row):
        """Returns the output of each block at a row, arrays `(w B, F)`, from the rows above it."""
        x = self.conv.take_row(row, self.bias(row))
        outputs = []
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.column_attention(self.row_attention(x), row)
            x = block(x, row)
            outputs.append(x)
        return outputs


class _PositionStream:
    """Computes the stream `here` of `PixelCNN`, which knows its own row too, a position at a time.

    Its arrays are `(F, B)`, so that channels stacked are one piece of memory.
    """

    def __init__(self, prior, condition):
        (_, width), batch = prior.code_shape, len(condition)
        conv = prior.here_conv
        kernel, (_, left) = np.asarray(conv.visible_kernel), conv.reach
        self.conv = _RowConvolution(kernel[:-1], conv, batch, width)
        self.bias = _position_bias(prior.here_bias, conv, condition)
        # What a code adds to the 1st, the 2nd, ... position after it: (left, K, F).
        self.tables = np.asarray(prior.embedding.embeddings) @ kernel[-1, left - 1 :: -1]
        self.inputs = np.zeros((width + left, batch, kernel.shape[-1]), np.float32)
        self.blocks = [_PositionBlock(layer, batch, width) for layer in prior.here_blocks]
        self.attention_before = prior.attention_before
        self.attention = _CausalRowAttention(prior.here_rows, batch, width)
        self.hidden, self.last = _dense(prior.hidden.conv), _dense(prior.logits)

    def start_row(self, row, contexts):
        """Begins a row, given the other stream's outputs at it."""
        from_above = self.conv.take_row(row, self.bias(row))
        self.inputs[: -len(self.tables)] = from_above.reshape(-1, *self.inputs.shape[1:])
        for block, context in zip(self.blocks, contexts, strict=True):
            block.start_row(context)

    def add_codes(self, codes, column):
        """Adds the codes `(B,)` at a position to what the positions after it see."""
        self.inputs[column + 1 :][: len(self.tables)] += self.tables.take(codes, axis=1)

    def logits(self, column):
        """Returns the logits of the codes at a position, `(B, K)`."""
        x = self.inputs[column].T
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.attention(x, column)
            x = block(x, column)
        return self.last(_relu(self.hidden(x.T)))


class _RowBlock:
    """Computes a `ResidualBlock` of the vertical stack, a row at a time."""

    def __init__(self, layer, batch, width):
        self.first, self.last = _dense(layer.conv1), _dense(layer.conv2)
        conv = layer.pixel_conv
        self.middle = _RowConvolution(np.asarray(conv.visible_kernel), conv, batch, width)
        self.middle_bias = np.asarray(conv.conv.bias)

    def __call__(self, x, row):
        self.middle.add_row(row, _relu(self.first(x)))
        y = _relu(self.last(_relu(self.middle.take_row(row, self.middle_bias))))
        return np.add(x, y, out=y)


class _PositionBlock:
    """Computes a `ResidualBlock` of one row's height, a position at a time.

    The bias of a product is the weight of a channel of ones, which is faster than adding it.
    """

    def __init__(self, layer, batch, width):
        kernel, bias = np.asarray(layer.conv1.kernel)[0, 0].T, np.asarray(layer.conv1.bias)
        self.first_kernel = kernel[:, : layer.filters].copy()  # (inner, F)
        self.context_kernel, self.first_bias = kernel[:, layer.filters :].copy(), bias[:, None]
        inner = len(kernel)
        # What the masked convolution sees, (w + 1, inner + 1, B); the first is left of the grid.
        line = np.ones((width + 1, inner + 1, batch), np.float32)
        line[0, :-1] = 0
        self.places = [line[column + 1, :-1] for column in range(width)]
        self.pairs = [line[column : column + 2].reshape(-1, batch) for column in range(width)]
        before, current = np.asarray(layer.pixel_conv.visible_kernel)[0]
        bias = np.asarray(layer.pixel_conv.conv.bias)[None]
        self.middle_kernel = np.concatenate([before, bias, current, 0 * bias]).T.copy()
        self.middle = np.ones((inner + 1, batch), np.float32)
        kernel, bias = np.asarray(layer.conv2.kernel)[0, 0], np.asarray(layer.conv2.bias)[None]
        self.last_kernel = np.concatenate([kernel, bias]).T.copy()  # (F, inner + 1)

    def start_row(self, context):
        """Takes the context of a row, `(w B, F)`."""
        width, batch = len(self.pairs), self.middle.shape[-1]
        context = context.reshape(width, batch, -1).transpose(0, 2, 1)
        self.context = self.context_kernel @ context  # (w, inner, B)
        self.context += self.first_bias

    def __call__(self, x, column):
        first = self.first_kernel.dot(x, self.places[column])
        first += self.context[column]
        _relu(first)
        _relu(self.middle_kernel.dot(self.pairs[column], self.middle[:-1]))
        last = _relu(self.last_kernel.dot(self.middle))
        last += x
        return last


class _RowConvolution:
    """Computes a `PixelConvLayer` by adding each row to the sums of the rows that see it."""

    def __init__(self, kernel, layer, batch, width):
        rows, columns, channels, self.filters = kernel.shape
        (down, across), (above, left) = layer.conv.dilation_rate, layer.reach
        self.delays = [above - i * down for i in range(rows)]  # until a row is seen
        self.kernel = np.concatenate(kernel.reshape(rows, -1, self.filters), axis=1)
        padded = np.zeros(((width + 2 * left) * batch, channels), np.float32)
        self.shifted = [padded[j * across * batch :][: width * batch] for j in range(columns)]
        self.inputs = padded[left * batch :][: width * batch]
        # A ring: the sums of this row and of those ahead, each in the place of a finished row.
        self.sums = np.zeros((above + 1, width * batch, self.filters), np.float32)

    def add_row(self, row, x):
        """Adds a row's inputs `(w B, C)` to the sums of the rows that see it."""
        self.inputs[:] = x
        seen = np.concatenate(self.shifted, axis=1) @ self.kernel  # (w B, rows F)
        for i, delay in enumerate(self.delays):
            sums = self.sums[(row + delay) % len(self.sums)]
            sums += seen[:, i * self.filters :][:, : self.filters]

    def take_row(self, row, bias):
        """Returns a row's outputs `(w B, F)`, no activation, and frees its place in the ring."""
        sums = self.sums[row % len(self.sums)]
        outputs = sums + bias
        sums[:] = 0
        return outputs


class _Attention:
    """Holds what the three ways through an `AxialAttention` have in common."""

    def __init__(self, layer):
        self.project, self.combine = np.asarray(layer.project.kernel).copy(), _dense(layer.combine)
        self.bias = np.asarray(layer.bias)  # (heads, n, n)
        self.heads, self.size = layer.heads, layer.size
        self.project[:, : self.heads * self.size] /= np.float32(self.size**0.5)  # queries


class _RowAttention(_Attention):
    """Computes the attention of a whole row to itself."""

    def __init__(self, layer, batch, width):
        super().__init__(layer)
        self.shape = width, batch, 3, self.heads, self.size
        self.bias = np.ascontiguousarray(self.bias.transpose(2, 0, 1))[:, None]
        self.logits = np.empty((width, batch, self.heads, width), np.float32)

    def __call__(self, x):
        parts = (x @ self.project).reshape(self.shape)
        queries, keys, values = parts.transpose(2, 1, 3, 0, 4)  # (B, heads, w, d)
        # The keys' axis comes first, (w, B, heads, w): so sums over it are fast.
        np.matmul(keys, queries.swapaxes(2, 3), out=self.logits.transpose(1, 2, 0, 3))
        self.logits += self.bias
        weights, sums = _softmax(self.logits, axis=0)
        attended = weights.transpose(1, 2, 3, 0) @ values  # (B, heads, w, d)
        attended /= sums[0, ..., None]
        return x + self.combine(attended.transpose(2, 0, 1, 3).reshape(len(x), -1))


class _ColumnAttention(_Attention):
    """Computes the attention of a row to itself and the rows above, in each column."""

    def __init__(self, layer, batch, height, width):
        super().__init__(layer)
        self.bias = self.bias.transpose(1, 2, 0)[..., None].copy()  # (h, h, heads, 1)
        # With positions and grids last, products and sums over the others are fast.
        shape = height, 3, self.heads, self.size, width * batch
        self.parts = np.empty(shape, np.float32)

    def __call__(self, x, row):
        np.matmul(self.project.T, x.T, out=self.parts[row].reshape(-1, len(x)))
        queries, (keys, values) = self.parts[row, 0], self.parts[: row + 1, 1:].swapaxes(0, 1)
        logits = np.einsum("khdn,hdn->khn", keys, queries)
        logits += self.bias[row, : row + 1]
        weights, sums = _softmax(logits, axis=0)
        attended = np.einsum("khdn,khn->hdn", values, weights)
        attended /= sums.swapaxes(0, 1)
        return x + self.combine(attended.reshape(-1, len(x)).T)


class _CausalRowAttention(_Attention):
    """Computes the attention of a position to itself and those before it in its row, `(F, B)`."""

    def __init__(self, layer, batch, width):
        super().__init__(layer)
        self.keys = np.zeros((batch, self.heads, width, self.size), np.float32)
        self.values = np.zeros_like(self.keys)

    def __call__(self, x, column):
        parts = x.T.dot(self.project).reshape(len(self.keys), 3, self.heads, self.size)
        queries, self.keys[:, :, column], self.values[:, :, column] = parts.swapaxes(0, 1)
        logits = np.matvec(self.keys[:, :, : column + 1], queries)  # (B, heads, column + 1)
        logits += self.bias[:, column, : column + 1]
        weights, sums = _softmax(logits, axis=-1)
        attended = np.vecmat(weights, self.values[:, :, : column + 1])
        attended /= sums
        return x + self.combine(attended.reshape(len(self.keys), -1)).T


def _position_bias(layer, conv, condition):
    """Returns what a `PositionBias` and the convolution before it add at a row, `(w B, F)`."""
    weights = np.insert(np.asarray(layer.mix(condition)), 0, 1, axis=1)  # (B, maps)
    maps = np.moveaxis(np.asarray(layer.maps), 0, 2).copy()  # (h, w, maps, F)
    maps[:, :, 0] += np.asarray(conv.conv.bias)
    return lambda row: (weights @ maps[row]).reshape(-1, maps.shape[-1])


def _dense(layer):
    """Returns a `Dense` or 1x1 convolution, without activation, as a function of `(n, C)`."""
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    kernel = kernel.reshape(kernel.shape[-2:])
    return lambda x: x @ kernel + bias


def _softmax(logits, axis):
    """Returns weights that are not yet divided by their sums, and the sums; the logits are lost."""
    logits -= np.maximum.reduce(logits, axis, keepdims=True)
    weights = np.exp(logits, out=logits)
    return weights, np.add.reduce(weights, axis, keepdims=True)


def _relu(x):
    """Sets what is below 0 to 0, in place."""
    return np.maximum(x, 0, out=x)
