"""A linear code: principal components of training slices, whose quantised coefficients are priced.

codecs.py puts it beside the run's codes, because it learns from the same persons. A slice is what
it differs by from the mean training slice at its position, whole or in blocks; a block is its
coefficients; a coefficient is rounded towards 0, by a third of a step, as the reference encoders of
HEVC round. The price is that of an ideal arithmetic coder that knows, of each place and component,
how often the coefficient is 0 and how large the others are on average. Components come from the
training persons. These frequencies come from the validation persons, on whose slices the code did
not choose its components. How many components are kept, and the step, are chosen there too.
"""

import dataclasses

import numpy as np

STEPS = (3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 180)  # of 255 levels
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # of components; and all there are
# What a mean squared error of 1 is worth in bits per pixel: a choice of count and step for each.
WORTHS = np.geomspace(30, 100_000, 24)
ROUNDING = 1 / 3  # in place of 1/2
SMOOTHING = 10  # slices: the weight of a component's frequencies over all places


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a linear code is used with.

    Attributes:
        count: Integer, how many components are kept.
        step: Float, that of the quantiser, in [0, 1].
        prices: See `learn_prices`.
    """

    count: int
    step: float
    prices: tuple


class LinearCode:
    """Principal components of blocks of slices.

    Args:
        train: Float array `(n, H, W)`, training slices less the mean at their position.
        validation: The same of validation persons.
        side: Integer, pixels of a block along each axis; `None` takes the whole slice.
    """

    def __init__(self, train, validation, side=None):
        self.shape, self.side = train.shape[1:], side
        self.basis = principal_components(self.cut(train))  # (components, pixels of a block)
        self.settings = self._choose(validation)

    def cut(self, slices):
        """Returns slices `(n, H, W)` as blocks `(n, places, pixels)`, padded with 0."""
        if self.side is None:
            return slices.reshape(len(slices), 1, -1)
        side, count = self.side, len(slices)
        padded = np.pad(slices, ((0, 0), *((0, -size % side) for size in self.shape)))
        rows, columns = (size // side for size in padded.shape[1:])
        blocks = padded.reshape(count, rows, side, columns, side).swapaxes(2, 3)
        return blocks.reshape(count, rows * columns, side * side)

    def join(self, blocks):
        """Returns blocks as slices: the opposite of `cut`."""
        if self.side is None:
            return blocks.reshape(len(blocks), *self.shape)
        side, count = self.side, len(blocks)
        rows, columns = (-(-size // side) for size in self.shape)
        slices = blocks.reshape(count, rows, columns, side, side).swapaxes(2, 3)
        slices = slices.reshape(count, rows * side, columns * side)
        return slices[:, : self.shape[0], : self.shape[1]]

    def encode(self, slices, step):
        """Returns the quantised coefficients of slices `(n, H, W)`: int32 `(n, places, C)`."""
        return quantise(self.cut(slices) @ self.basis.T, step)

    def decode(self, levels, setting):
        """Returns slices `(n, H, W)` from levels `(n, places, C)`, of which `count` are kept."""
        kept = levels[..., : setting.count].astype(np.float32) * np.float32(setting.step)
        return self.join(kept @ self.basis[: setting.count])

    def bits(self, levels, setting):
        """Returns the bits of each slice, `(n,)`, see `price`."""
        return price(levels[..., : setting.count], setting.prices).sum(axis=(1, 2))

    def numbers(self, setting):
        """Returns how many numbers a decoder must have: components, and their frequencies."""
        return setting.count * self.basis.shape[1] + sum(part.size for part in setting.prices)

    def _choose(self, validation):
        """Returns the `Setting`s that are best on these slices `(n, H, W)`, cheapest first.

        The components are orthonormal: what is kept of a slice follows from its coefficients.
        """
        coefficients = self.cut(validation) @ self.basis.T  # (n, places, C)
        pixels, known = np.prod(validation.shape), len(self.basis)
        energy = np.square(validation, dtype=np.float64).sum()
        counts = sorted({min(count, known) for count in (*COUNTS, known)})
        tried = []
        for step in np.array(STEPS) / 255:
            levels = quantise(coefficients, step)
            prices = learn_prices(levels)
            bits = price(levels, prices).sum(axis=(0, 1)).cumsum()  # (C,)
            wrong = (coefficients - levels * np.float32(step)) ** 2 - coefficients**2
            errors = energy + wrong.sum(axis=(0, 1), dtype=np.float64).cumsum()
            for count in counts:
                kept = Setting(count, step, tuple(part[:, :count] for part in prices))
                tried.append((bits[count - 1] / pixels, errors[count - 1] / pixels, kept))
        rates, errors = (np.array([one[number] for one in tried]) for number in (0, 1))
        best = {int(np.argmin(rates + worth * errors)) for worth in WORTHS}
        return [tried[number][2] for number in sorted(best, key=lambda number: rates[number])]


def principal_components(blocks):
    """Returns the principal components of blocks `(n, places, pixels)`, strongest first.

    Their mean is taken as 0.

    Returns:
        float32 array `(components, pixels)` with orthonormal rows, at most as many as blocks.
    """
    flat = blocks.reshape(-1, blocks.shape[-1])
    if len(flat) > flat.shape[1]:
        _, vectors = np.linalg.eigh(flat.T @ flat)
        return np.ascontiguousarray(vectors.T[::-1], np.float32)
    values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    known = values > values[-1] * 1e-6  # the others are rounding
    components = (vectors[:, known].T[::-1].astype(np.float32)) @ flat
    return components / np.linalg.norm(components, axis=1, keepdims=True)


def quantise(coefficients, step):
    """Returns the level of each coefficient, rounded towards 0: int32."""
    sizes = np.floor(np.abs(coefficients) / step + ROUNDING)
    return (np.sign(coefficients) * sizes).astype(np.int32)


def learn_prices(levels):
    """Learns how levels `(n, places, C)` are distributed at each place.

    Returns:
        `(zeros, stops)`, two float arrays `(places, C)`: the probability that a level is 0, and
        that the size of another is not larger by one more. So sizes are geometric.
    """
    sizes = np.abs(levels)
    others = (sizes > 0).sum(axis=0)  # (places, C)
    total = sizes.sum(axis=0)
    # One slice more that has half a level other than 0, of size 2, keeps all from 0 and 1.
    mean_others, mean_total = (part.mean(axis=0) for part in (others, total))
    slices = len(levels)
    share = (mean_others + 0.5) / (slices + 1)  # (C,)
    stop = (mean_others + 0.5) / (mean_total + 1)
    zeros = 1 - (others + SMOOTHING * share) / (slices + SMOOTHING)
    stops = (others + SMOOTHING * share) / (total + SMOOTHING * share / stop)
    return zeros.astype(np.float32), stops.astype(np.float32)


def price(levels, prices):
    """Returns the bits of each level: `-log2` of its probability, the sign being one bit.

    Args:
        levels: Integer array `(n, places, C)`.
        prices: See `learn_prices`.
    """
    zeros, stops = prices
    of_zero, of_others = -np.log2(zeros), 1 - np.log2(1 - zeros) - np.log2(stops)
    of_more = -np.log2(np.maximum(1 - stops, 1e-9))
    sizes = np.abs(levels)
    return np.where(sizes > 0, of_others + (sizes - 1) * of_more, of_zero)
