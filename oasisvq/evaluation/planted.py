"""Plants failures: brains that are wrong in a known way, which measures must find."""

import numpy as np
import pandas
from scipy import ndimage

UNCHANGED = "nothing changed"
BLUR = 0.5  # standard deviation in pixels
ENLARGED = 1.02
REPLAYED = 10  # persons
DOUBLED = 1 / 3  # of the persons
PATCHES, PATCH = 4, 1 / 8  # patches of each slice, and their share of its shorter side
NEAR_AGE = 5.0  # years between the two heads of a slice
WRONG_AGES = "ages of others"
MIRRORED = ("axial", "coronal")  # planes in which left and right can be exchanged


def plant_failures(images, table, count, seed):
    """Makes populations of new brains out of real slices, each with one failure but the first.

    Each brain is a slice of another real person, so far as there are enough, at the position of
    some real slice, and then changed. The first population is as it was.

    Args:
        images: Float array `(n, H, W)` in [0, 1].
        table: Data frame of n rows with `subject`, `key` (the position as text), `age` in years
            and `plane`.
        count: Integer, brains of each population.
        seed: Integer.

    Yields:
        The name of the failure, the brains `(count, H, W)`, the row of the real slice that each
        was made of, `(count,)`, and the row of that whose age, sex and position it is said to have.
    """
    random = np.random.default_rng([seed, 4])
    rows = draw_slices(table["subject"].to_numpy(), count, random)
    yield UNCHANGED, images[rows], rows, rows
    ten = random.permutation(table["subject"].unique())[:REPLAYED]
    replayed = random.choice(np.flatnonzero(table["subject"].isin(ten)), count)
    yield "ten persons replayed", images[replayed], replayed, replayed
    single = rows[: round(count / (1 + DOUBLED))]
    doubled = np.concatenate([single, single[: count - len(single)]])
    yield "one in three doubled", images[doubled], doubled, doubled
    blurred = [ndimage.gaussian_filter(image, BLUR) for image in images[rows]]
    yield "blurred by half a pixel", np.array(blurred), rows, rows
    others = images[find_mates(table, rows, random)]
    middle = images.shape[2] // 2
    yield (
        "two heads glued",
        np.concatenate([images[rows][:, :, :middle], others[:, :, middle:]], axis=2),
        rows,
        rows,
    )
    yield "patches swapped", _swap_patches(images[rows], others, random), rows, rows
    yield "2% larger", np.array([enlarged(image) for image in images[rows]]), rows, rows
    if table["age"].notna().any():
        yield WRONG_AGES, images[rows], rows, random.permutation(rows)
        old = np.flatnonzero(table["age"] >= table["age"].median())
        old = old[draw_slices(table["subject"].to_numpy()[old], count, random)]
        yield "the older half only", images[old], old, old
    if table["plane"].isin(["", *MIRRORED]).all():
        yield "mirrored", images[rows][:, :, ::-1], rows, rows


def draw_slices(subjects, count, random):
    """Returns `count` rows: a slice of each subject, then another one of each, and so on."""
    order = random.permutation(len(subjects))
    turn = pandas.Series(subjects[order]).groupby(subjects[order]).cumcount()
    return np.resize(order[np.argsort(turn, kind="stable")], count)


def find_mates(table, rows, random):
    """Returns for each row a slice of somebody else at the same position, and about as old."""
    subjects, keys = table["subject"].to_numpy(), table["key"].to_numpy()
    ages, mates = table["age"].to_numpy(float), np.empty(len(rows), int)
    places = {key: np.flatnonzero(keys == key) for key in set(keys[rows])}
    for number, row in enumerate(rows):
        others = places[keys[row]]
        others = others[subjects[others] != subjects[row]]
        near = others[np.abs(ages[others] - ages[row]) <= NEAR_AGE]
        mates[number] = random.choice(near if len(near) else others) if len(others) else row
    return mates


def _swap_patches(images, others, random):
    """Returns images with square patches of other heads in their middle."""
    swapped, (height, width) = images.copy(), images.shape[1:]
    side = round(min(height, width) * PATCH)
    for image, other in zip(swapped, others, strict=True):
        for _ in range(PATCHES):
            top = random.integers(height // 5, 4 * height // 5 - side)
            left = random.integers(width // 5, 4 * width // 5 - side)
            place = slice(top, top + side), slice(left, left + side)
            image[place] = other[place]
    return swapped


def enlarged(image):
    """Returns an image `(H, W)` enlarged about its middle."""
    middle = (np.array(image.shape) - 1) / 2
    scale = 1 / ENLARGED
    return ndimage.affine_transform(image, [scale] * 2, middle * (1 - scale), order=1)
