"""Code grids drawn from the prior, one code at a time, each layer keeping what it has computed."""

import functools
import math

import keras
import numpy as np
from tqdm import tqdm

from oasisvq.evaluation.image_scores import one_blas_thread
from oasisvq.nn.conditioning import CONDITION_COUNT

__all__ = ["draw_codes", "sample_code_grids"]

GRIDS_AT_ONCE = 64  # a 44x44 grid's caches take about 2 MB


def sample_code_grids(
    prior, uniforms, conditions=None, temperature=1.0, top_k=0, top_p=1.0, given=None
):
    """Draws code grids from the prior, in reading order.

    A forward pass for each code computes every position anew, though only
    one changes. Here each layer keeps what it has computed: the stream that
    knows the rows above is computed once a row, the other once a position, so
    a grid costs a few forward passes. The codes are those that the
    plain loop draws from the same `uniforms`, unless one lies within rounding
    (1e-6) of the border between two codes.

    Args:
        prior: `PixelCNN`.
        uniforms: Float array `(B, h, w)` in [0, 1), the chance in each draw.
        conditions: Float array `(B, 4)`, see `OASIS.conditions`; NaN is
            unknown. Default: all unknown.
        temperature, top_k, top_p: See `draw_codes`.
        given: Integer array `(B, h, w)`, codes that are known already; -1
            where one is to be drawn. Each draw sees the given codes before it in
            reading order, and none after it. Default: all are drawn.

    Returns:
        int32 array `(B, h, w)`.

    Raises:
        ValueError: If the prior has another grid than `uniforms`, there are
            not as many conditions or given codes, or a given code is not from
            -1 to K - 1.
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
    if given is None:
        given = np.full(uniforms.shape, -1)
    _check_given(given, uniforms.shape, prior.num_embeddings)
    codes = np.zeros(uniforms.shape, np.int32)
    options = (temperature, top_k, top_p)
    rows = -(-count // GRIDS_AT_ONCE) * code_shape[0]
    with (
        one_blas_thread(),
        tqdm(total=rows, desc="Sampling", unit="row", leave=False, disable=None) as bar,
    ):
        for start in range(0, count, GRIDS_AT_ONCE):
            some = slice(start, start + GRIDS_AT_ONCE)
            arguments = (uniforms[some], conditions[some], given[some])
            codes[some] = _sample(prior, *arguments, options, bar)
    return codes


def _check_given(given, shape, num_embeddings):
    if given.shape != shape:
        raise ValueError(f"expected given codes of {shape}. Received: {given.shape}")
    outside = given[(given < -1) | (given >= num_embeddings)]
    if outside.size:
        raise ValueError(
            f"expected given codes from -1 to {num_embeddings - 1}. Received: {outside[0]}"
        )


def _sample(prior, uniforms, conditions, given, options, bar):
    """`sample_code_grids` for as many grids as memory takes at once."""
    # The grids' axis comes last, so that whatever lies at one position is one piece of memory.
    uniforms, codes = (np.moveaxis(x, 0, -1).copy() for x in (uniforms, given))  # (h, w, B)
    height, width, batch = codes.shape
    drawn = codes < 0
    condition = prior.condition(conditions)  # (B, F)
    above = _Above(prior, condition)
    here = _Here(prior, condition)
    table = _array(prior.embedding.embeddings)  # (K, E)

    for row in range(height):
        # Also a row that is wholly known: what is summed up for it leaves its place to a later row.
        here.start_row(row, above.row(row))
        if drawn[row].any():
            for column in range(width):
                new = draw_codes(here.logits(column), uniforms[row, column], *options)
                np.copyto(codes[row, column], new, where=drawn[row, column])
                here.remember(codes[row, column], column)
        embedded = table[codes[row].reshape(-1)]  # (w B, E)
        above.remember(embedded, row)
        here.remember_row(embedded, row)
        bar.update()
    return np.moveaxis(codes, -1, 0)


def draw_codes(logits, uniforms, temperature=1.0, top_k=0, top_p=1.0):
    """Draws a code from each row of logits by inverting its cumulative distribution.

    Args:
        logits: Float array `(B, K)`.
        uniforms: Float array `(B,)` in [0, 1).
        temperature: Float above 0 that divides the logits; below 1 likely codes
            become likelier.
        top_k: Integer, keeps the k likeliest codes, and those as likely as the last of
            them; 0 keeps all.
        top_p: Float in (0, 1], keeps the likeliest codes that together reach
            this probability (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751).

    Returns:
        int64 array `(B,)`.
    """
    logits = logits - logits.max(axis=1, keepdims=True)
    if temperature != 1:
        logits /= temperature
    probabilities = np.exp(logits, out=logits)
    if 0 < top_k < logits.shape[1]:
        kth = np.partition(probabilities, -top_k, axis=1)[:, [-top_k]]
        probabilities = np.where(probabilities >= kth, probabilities, 0)
    if top_p < 1:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        descending = np.take_along_axis(probabilities, order, axis=1)
        before = descending.cumsum(axis=1) - descending
        descending[before >= top_p * descending.sum(axis=1, keepdims=True)] = 0
        np.put_along_axis(probabilities, order, descending, axis=1)
    return _codes_at(probabilities, uniforms)


def _codes_at(probabilities, uniforms):
    """The code at which the running sum of each row `(B, K)` passes that share of the whole.

    Found in two steps, the group of codes and then the code in it: a running sum
    over all of them would take longer than their logits.
    """
    batch, count = probabilities.shape
    size = _group_size(count)
    groups = probabilities.reshape(-1, size)  # (B K / size, size)
    sums = groups.dot(np.ones(size, groups.dtype)).reshape(batch, -1)
    ends = sums.cumsum(axis=1)
    targets = uniforms * ends[:, -1]  # below the end, for uniforms are below 1
    group = (ends > targets[:, None]).argmax(axis=1)
    group += np.arange(0, sums.size, sums.shape[1])  # of all grids' groups
    within = groups.take(group, axis=0).cumsum(axis=1)  # (B, size)
    rest = targets - (ends - sums).take(group)
    # Rounding must lead neither before nor past the group's codes that have any probability.
    rest = np.clip(rest, 0, within[:, -1] * (1 - 1e-6))
    return (group * size + (within > rest[:, None]).argmax(axis=1)) % count


@functools.cache
def _group_size(count):
    """The largest divisor of a count up to its square root."""
    return max(size for size in range(1, math.isqrt(count) + 1) if count % size == 0)


class _Above:
    """The stream of `PixelCNN` that knows the rows above, a row at a time.

    Its arrays hold the positions of a row one after the other, at each position all
    grids: `(w B, F)`. So one product serves the row, and moving to the next
    position is moving by B.
    """

    def __init__(self, prior, condition):
        (height, width), batch = prior.code_shape, len(condition)
        kernel = _array(prior.above_conv.visible_kernel)
        self.conv = _RowConvolution(kernel, prior.above_conv, batch, width)
        self.bias = _PositionBias(prior.above_bias, prior.above_conv, condition)
        self.blocks = [_AboveBlock(layer, batch, width) for layer in prior.above_blocks]
        self.attention_before = prior.attention_before
        self.rows = _RowAttention(prior.above_rows, batch, width)
        self.columns = _ColumnAttention(prior.above_columns, batch, height, width)

    def remember(self, x, row):
        """Takes the embedded codes `(w B, E)` of a finished row."""
        self.conv.inputs[:] = x
        self.conv.remember(row)

    def row(self, row):
        """What each block of the other stream sees at this row: arrays `(w B, F)`."""
        x = self.conv.output(row, self.bias.row(row))
        outputs = []
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.columns(self.rows(x), row)
            x = block(x, row)
            outputs.append(x)
        return outputs


class _Here:
    """The stream of `PixelCNN` that knows its own row too, a position at a time.

    Its arrays are `(F, B)`, so that channels stacked are one piece of memory. Where
    a product has a bias, its inputs have a last channel of ones.
    """

    def __init__(self, prior, condition):
        (_, width), batch = prior.code_shape, len(condition)
        conv = prior.here_conv
        kernel, (_, left) = _array(conv.visible_kernel), conv.reach
        self.conv = _RowConvolution(kernel[:-1], conv, batch, width)
        self.bias = _PositionBias(prior.here_bias, conv, condition)
        # What a code adds to the 1st, the 2nd, ... position after it: (left, K, F).
        self.tables = _array(prior.embedding.embeddings) @ kernel[-1, left - 1 :: -1]
        self.inputs = np.zeros((width + left, batch, kernel.shape[-1]), np.float32)
        self.blocks = [_HereBlock(layer, batch, width) for layer in prior.here_blocks]
        self.attention_before = prior.attention_before
        self.rows = _CausalRowAttention(prior.here_rows, batch, width)
        hidden = prior.hidden.conv
        self.hidden_kernel = _array(hidden.kernel)[0, 0].T.copy()
        self.hidden_bias = _array(hidden.bias)[:, None]
        self.hidden = np.ones((len(self.hidden_bias) + 1, batch), np.float32)
        self.last = _with_bias(prior.logits)

    def remember_row(self, x, row):
        """Takes the embedded codes `(w B, E)` of a finished row."""
        self.conv.inputs[:] = x
        self.conv.remember(row)

    def start_row(self, row, contexts):
        """Begins a row, given what the other stream knows of it."""
        seen = self.conv.output(row, self.bias.row(row))
        self.inputs[: -len(self.tables)] = seen.reshape(-1, *self.inputs.shape[1:])
        for block, context in zip(self.blocks, contexts, strict=True):
            block.start_row(context)

    def remember(self, codes, column):
        """Takes the codes `(B,)` at a position."""
        self.inputs[column + 1 :][: len(self.tables)] += self.tables.take(codes, axis=1)

    def logits(self, column):
        """Of the codes at a position: `(B, K)`."""
        x = self.inputs[column].T
        for number, block in enumerate(self.blocks):
            if number == self.attention_before:
                x = self.rows(x, column)
            x = block(x, column)
        hidden = self.hidden_kernel.dot(x, self.hidden[:-1])
        hidden += self.hidden_bias
        np.maximum(hidden, 0, out=hidden)
        return self.hidden.T.dot(self.last)


class _AboveBlock:
    """A `ResidualBlock` of the vertical stack, a row at a time."""

    def __init__(self, layer, batch, width):
        self.first, self.last = _dense(layer.conv1), _dense(layer.conv2)
        conv = layer.pixel_conv
        self.middle = _RowConvolution(_array(conv.visible_kernel), conv, batch, width)
        self.bias = _array(conv.conv.bias)

    def __call__(self, x, row):
        np.maximum(self.first(x), 0, out=self.middle.inputs)
        self.middle.remember(row)
        y = self.last(_relu(self.middle.output(row, self.bias)))
        return np.add(x, _relu(y), out=y)


class _HereBlock:
    """A `ResidualBlock` of one row's height, a position at a time."""

    def __init__(self, layer, batch, width):
        kernel, bias = _array(layer.conv1.kernel)[0, 0].T, _array(layer.conv1.bias)
        self.kernel = kernel[:, : layer.filters].copy()  # (inner, F)
        self.context_kernel, self.first_bias = kernel[:, layer.filters :].copy(), bias[:, None]
        inner = len(kernel)
        self.line = np.ones((width + 1, inner + 1, batch), np.float32)
        self.line[0, :-1] = 0  # left of the grid
        self.places = [self.line[c + 1, :-1] for c in range(width)]
        self.pairs = [self.line[c : c + 2].reshape(-1, batch) for c in range(width)]
        before, current = _array(layer.pixel_conv.visible_kernel)[0]
        bias = _array(layer.pixel_conv.conv.bias)[None]
        self.middle_kernel = np.concatenate([before, bias, current, 0 * bias]).T.copy()
        self.middle = np.ones((inner + 1, batch), np.float32)
        self.last_kernel = _with_bias(layer.conv2).T.copy()

    def start_row(self, context):
        width, batch = len(self.pairs), self.line.shape[-1]
        context = context.reshape(width, batch, -1).transpose(0, 2, 1)
        self.context = self.context_kernel @ context  # (w, inner, B)
        self.context += self.first_bias

    def __call__(self, x, column):
        inner = self.kernel.dot(x, self.places[column])
        inner += self.context[column]
        np.maximum(inner, 0, out=inner)
        middle = self.middle_kernel.dot(self.pairs[column], self.middle[:-1])
        np.maximum(middle, 0, out=middle)
        last = self.last_kernel.dot(self.middle)
        np.maximum(last, 0, out=last)
        last += x
        return last


class _RowConvolution:
    """A `PixelConvLayer` of the vertical stack: a row it is given adds to those that see it."""

    def __init__(self, kernel, layer, batch, width):
        rows, columns, channels, self.filters = kernel.shape
        (down, across), (above, left) = layer.conv.dilation_rate, layer.reach
        self.delays = [above - i * down for i in range(rows)]  # until a row is seen
        self.kernel = np.concatenate(kernel.reshape(rows, -1, self.filters), axis=1)
        padded = np.zeros(((width + 2 * left) * batch, channels), np.float32)
        self.shifted = [padded[j * across * batch :][: width * batch] for j in range(columns)]
        self.inputs = padded[left * batch :][: width * batch]
        self.sums = np.zeros((above + 1, width * batch, self.filters), np.float32)  # of rows ahead

    def remember(self, row):
        """Takes the row that lies in `inputs`."""
        seen = np.concatenate(self.shifted, axis=1) @ self.kernel  # (w B, rows F)
        for i, delay in enumerate(self.delays):
            sums = self.sums[(row + delay) % len(self.sums)]
            sums += seen[:, i * self.filters :][:, : self.filters]

    def output(self, row, bias):
        """Of a row, without activation: `(w B, F)`. Then its place is free for a later row."""
        sums = self.sums[row % len(self.sums)]
        output = sums + bias
        sums[:] = 0
        return output


class _PositionBias:
    """What a `PositionBias` adds, and the convolution's bias before it."""

    def __init__(self, layer, conv, condition):
        weights = _array(layer.mix(condition))
        self.weights = np.insert(weights, 0, 1, axis=1)  # (B, maps)
        maps = _array(layer.maps).copy()
        maps[0] += _array(conv.conv.bias)
        self.maps = np.moveaxis(maps, 0, 2).copy()  # (h, w, maps, F)

    def row(self, row):
        """`(w B, F)`."""
        return (self.weights @ self.maps[row]).reshape(-1, self.maps.shape[-1])


class _Attention:
    """What the three ways through an `AxialAttention` share."""

    def __init__(self, layer):
        self.project, self.combine = _array(layer.project.kernel).copy(), _dense(layer.combine)
        self.bias = _array(layer.bias)  # (heads, n, n)
        self.heads, self.size = layer.heads, layer.size
        self.project[:, : self.heads * self.size] /= np.float32(self.size**0.5)  # queries


class _RowAttention(_Attention):
    """Of a whole row to itself."""

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
    """Of a row to itself and the rows above, in each column."""

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
    """Of a position to itself and those before it in its row, `(F, B)`."""

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


def _dense(layer):
    """A `Dense` or a 1x1 convolution, without its activation, as a function of `(n, C)`."""
    kernel, bias = _array(layer.kernel), _array(layer.bias)
    kernel = kernel.reshape(kernel.shape[-2:])

    def dense(x):
        y = x @ kernel
        y += bias
        return y

    return dense


def _with_bias(layer):
    """The kernel of a 1x1 convolution, its bias as a last row: `(C + 1, F)`."""
    return np.concatenate([_array(layer.kernel)[0, 0], _array(layer.bias)[None]])


def _softmax(logits, axis):
    """Weights that are yet to be divided by their sums, in the place of the logits; the sums."""
    logits -= np.maximum.reduce(logits, axis, keepdims=True)
    weights = np.exp(logits, out=logits)
    return weights, np.add.reduce(weights, axis, keepdims=True)


def _relu(x):
    return np.maximum(x, 0, out=x)


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)
