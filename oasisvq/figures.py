"""Draws every picture: no other file uses matplotlib."""

import math

import numpy as np
import pandas
from matplotlib.figure import Figure
from PIL import Image

from oasisvq.core.files import whole_file
from oasisvq.core.intensities import as_levels

CURVES = {
    "loss": "loss",
    "reconstruction_loss": "reconstruction loss (MSE / variance)",
    "commitment_loss": "commitment loss",
    "ssim": "SSIM",
    "perplexity": "codebook perplexity",
    "codebook_usage": "codebook usage",
}
PAIRS_PER_ROW = 8
UNKNOWN_SIDES = ("", "")


def save_curves(history_csv, path, levels=None):
    """Draws the training and validation curves of a stage, from its history file.

    Args:
        history_csv: The file that training wrote.
        path: The PNG to write.
        levels: Dictionary from a name to what the loss would be without the model, drawn as dotted
            lines.
    """
    history = pandas.read_csv(history_csv)
    epochs, names = history["epoch"] + 1, [name for name in CURVES if name in history]
    # Only the prior has no other curve than its loss, which is its bits per code.
    titles = CURVES if len(names) > 1 else {"loss": "bits per code"}
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(epochs, history[name], label="training")
        axis.plot(epochs, history["val_" + name], label="validation")
        for number, (label, value) in enumerate((levels or {}).items()):
            axis.axhline(value, color=f"C{number + 2}", linestyle=":", label=label)
        axis.set(xlabel="epoch", title=titles[name])
        if name.endswith("loss") and len(names) > 1:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def code_colours(codes, num_embeddings):
    """Returns code grids as RGB in [0, 1]; a code has the same colour in every picture."""
    colours = np.random.default_rng(0).uniform(0.15, 1, size=(num_embeddings, 3))
    return colours[codes]


def save_rows(rows, titles, path, sides=UNKNOWN_SIDES):
    """Draws rows of pictures.

    Args:
        rows: The pictures of each row in [0, 1]: grey `(n, H, W)` or RGB `(n, H, W, 3)`.
        titles: The titles of the pictures of each row `(n,)`, or `None`.
        path: The PNG to write.
        sides: The letters beside the left and the right edge of all pictures, such as
            `("L", "R")`, or a list of such pairs for each row. If any is unknown, `("", "")`, a
            line below says so.
    """
    columns, (height, width) = max(map(len, rows)), rows[0].shape[1:3]
    sides = [[sides] * len(pictures) for pictures in rows] if isinstance(sides, tuple) else sides
    pairs = {tuple(pair) for row in sides for pair in row}
    letters = pairs - {UNKNOWN_SIDES}
    column_width = 1.9 if letters else 1.7  # inches
    named = [title for row in titles if row is not None for title in row]
    lines = 1 + max((title.count("\n") for title in named), default=0)
    row_height = 1.7 * height / width + (0.12 if letters else 0.06) + 0.12 * lines
    size = column_width * columns, row_height * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.06)  # inches; less cuts titles at the upper edge
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            axis = axes[number, column]
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if titles[number] is not None:
                axis.set_title(titles[number][column], fontsize=7)
            _letter(axis, sides[number][column])
    if UNKNOWN_SIDES in pairs:
        text = "no letters: side unknown" if letters else "side unknown"
        figure.supxlabel(text, fontsize=6)
    _save(figure, path)


def _letter(axis, sides):
    """Writes the letters of the sides beside the lower corners of a picture, outside of it."""
    left, right = sides
    style = {"transform": axis.transAxes, "fontsize": 6, "va": "bottom"}
    if left:
        axis.text(-0.01, 0, left, ha="right", **style)
        axis.text(1.01, 0, right, ha="left", **style)


def save_pictures(pictures, path, sides=UNKNOWN_SIDES):
    """Draws pictures `(n, H, W)` in [0, 1] in a grid with about as many rows as columns.

    All have the same `sides`, see `save_rows`.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    save_rows(rows, [None] * len(rows), path, sides)


def save_pairs(above, titles_above, below, titles_below, path, sides=UNKNOWN_SIDES):
    """Draws pictures in rows of up to eight, each with its partner below it; see `save_rows`.

    `sides` are those of all pictures, or a list of those of each pair.
    """
    starts = range(0, len(above), PAIRS_PER_ROW)
    sides = [sides] * len(above) if isinstance(sides, tuple) else sides
    rows, titles, letters = [], [], []
    for some in (slice(start, start + PAIRS_PER_ROW) for start in starts):
        rows += [above[some], below[some]]
        titles += [titles_above[some], titles_below and titles_below[some]]
        letters += [sides[some], sides[some]]
    save_rows(rows, titles, path, letters)


def save_extremes(originals, reconstructions, titles, path, sides=UNKNOWN_SIDES):
    """Draws originals above their reconstructions and the absolute differences.

    Args:
        originals, reconstructions: Arrays `(n, H, W)` in [0, 1].
        titles: The titles of the originals `(n,)`.
        path: The PNG to write.
        sides: The letters of all pictures, or a list of those of each original; see `save_rows`.
    """
    differences = (4 * np.abs(originals - reconstructions)).clip(0, 1)
    names = [[name] * len(originals) for name in ("reconstruction", "4 x difference")]
    rows = [originals, reconstructions, differences]
    save_rows(rows, [titles, *names], path, sides if isinstance(sides, tuple) else [sides] * 3)


def save_histogram(values, baselines, path):
    """Draws the distribution of the slices' SSIM, with a line for the mean of each baseline.

    Args:
        values: SSIM of each slice `(n,)`.
        baselines: Dictionary from a name to its mean SSIM.
        path: The PNG to write.
    """
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.hist(values, bins=40, label=f"reconstructions, n = {len(values):,} slices")
    for number, (name, value) in enumerate(baselines.items(), start=1):
        label = f"{name} (no model): {value:.3f}"
        axis.axvline(value, color=f"C{number}", linestyle="--", label=label)
    axis.set(xlabel="SSIM, whole image", ylabel="slices")
    axis.legend(fontsize=8)
    _save(figure, path)


def save_picture(picture, path):
    """Saves one picture as PNG at its own size: grey `(H, W)` or RGB `(H, W, 3)` in [0, 1]."""
    pixels = as_levels(np.asarray(picture, np.float64))
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)


def save_each(folder, name, arrays, pictures=None):
    """Saves arrays as `name_0000.npy`, ..., each with its picture, in place of earlier ones.

    Args:
        folder: The folder to write to.
        name: The first part of the files' names.
        arrays: Arrays `(n, ...)`.
        pictures: A picture of each, see `save_picture`. Default: the array itself.
    """
    for number, array in enumerate(arrays):
        path = folder / f"{name}_{number:04d}.npy"
        with whole_file(path) as partial:
            np.save(partial, array)
        save_picture(array if pictures is None else pictures[number], path.with_suffix(".png"))
    for old in folder.glob(f"{name}_[0-9][0-9][0-9][0-9]*.*"):
        number = old.stem.rpartition("_")[2]
        if old.suffix in (".npy", ".png") and number.isdigit() and int(number) >= len(arrays):
            old.unlink()


def _save(figure, path):
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
