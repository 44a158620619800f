"""Every picture: the one file that knows matplotlib."""

import math

import matplotlib
import numpy as np
import pandas
from PIL import Image

matplotlib.use("Agg")  # no window: runs on a cluster's node

from matplotlib import pyplot  # noqa: E402

CURVES = {
    "loss": "loss",
    "reconstruction_loss": "reconstruction loss (MSE / variance)",
    "commitment_loss": "commitment loss",
    "ssim": "SSIM",
    "perplexity": "codebook perplexity",
    "codebook_usage": "codebook usage",
}


def save_curves(history_csv, path, levels=None):
    """Training and validation curves of a stage, from its history file.

    Args:
        history_csv: The file that training wrote.
        path: Of the PNG.
        levels: Dictionary from a name to a value of the loss, drawn as dotted
            lines: what the loss would be without the model.
    """
    history = pandas.read_csv(history_csv)
    names = [name for name in CURVES if name in history]
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.5 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes.flat, names, strict=False):
        epochs = history["epoch"] + 1
        axis.plot(epochs, history[name], label="training")
        axis.plot(epochs, history["val_" + name], label="validation")
        alone = len(names) == 1  # the prior's loss is its bits per code
        for number, (label, value) in enumerate((levels or {}).items()):
            axis.axhline(value, color=f"C{number + 2}", linestyle=":", label=label)
        axis.set(xlabel="epoch", title="bits per code" if alone else CURVES[name])
        if name in ("reconstruction_loss", "commitment_loss", "loss") and not alone:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def save_reconstructions(originals, reconstructions, ssim, names, path):
    """Originals above their reconstructions, each pair with its SSIM.

    Args:
        originals, reconstructions: Arrays `(n, H, W)` in [0, 1].
        ssim: `(n,)`.
        names: Titles of the slices `(n,)`.
    """
    _save_pairs(originals, names, reconstructions, [f"SSIM {value:.3f}" for value in ssim], path)


def save_code_maps(originals, codes, num_embeddings, names, path):
    """Originals above their code grids `(n, h, w)`, a colour a code."""
    _save_pairs(originals, names, code_colours(codes, num_embeddings), [None] * len(codes), path)


def _save_pairs(above, titles_above, below, titles_below, path):
    """Rows of up to eight pictures, each with its partner below it."""
    columns = min(len(above), 8)
    figure, axes = _picture_axes(2 * math.ceil(len(above) / columns), columns, above.shape[1:])
    for number in range(len(above)):
        row, column = 2 * (number // columns), number % columns
        _show(axes[row, column], above[number], titles_above[number])
        _show(axes[row + 1, column], below[number], titles_below[number])
    _save(figure, path)


def code_colours(codes, num_embeddings):
    """Code grids as RGB in [0, 1], the same colour for a code in every picture."""
    colours = np.random.default_rng(0).uniform(0.15, 1, size=(num_embeddings, 3))
    return colours[codes]


def save_pictures(pictures, path, title=None):
    """Pictures `(n, H, W)` in [0, 1] as one grid."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    figure, axes = _picture_axes(rows, columns, pictures.shape[1:])
    for axis, picture in zip(axes.flat, pictures, strict=False):
        _show(axis, picture)
    if title:
        figure.suptitle(title, fontsize=10)
    _save(figure, path)


def save_rows(rows, titles, path):
    """Rows of pictures, each row `(n, H, W)` in [0, 1] with its titles `(n,)`."""
    figure, axes = _picture_axes(len(rows), max(map(len, rows)), rows[0].shape[1:])
    for number, (pictures, names) in enumerate(zip(rows, titles, strict=True)):
        for axis, picture, name in zip(axes[number], pictures, names, strict=False):
            _show(axis, picture, name)
    _save(figure, path)


def save_histogram(values, baselines, path):
    """How the slices' SSIM spreads, with a line for each baseline's mean.

    Args:
        values: `(n,)`.
        baselines: Dictionary from a name to its mean SSIM.
    """
    figure, axis = pyplot.subplots(figsize=(6.5, 3.8), layout="constrained")
    axis.hist(values, bins=40, label=f"reconstructions, n = {len(values):,} slices")
    for number, (name, value) in enumerate(baselines.items()):
        label = f"{name} (no model): {value:.3f}"
        axis.axvline(value, color=f"C{number + 1}", linestyle="--", label=label)
    axis.set(xlabel="SSIM, whole image", ylabel="slices")
    axis.legend(fontsize=8)
    _save(figure, path)


def save_extremes(originals, reconstructions, titles, path):
    """A row a pair: the original, its reconstruction, and their absolute difference.

    Args:
        originals, reconstructions: Arrays `(n, H, W)` in [0, 1].
        titles: `(n,)`.
    """
    columns = len(originals)
    figure, axes = _picture_axes(3, columns, originals.shape[1:])
    for column in range(columns):
        _show(axes[0, column], originals[column], titles[column])
        _show(axes[1, column], reconstructions[column], "reconstruction")
        difference = np.abs(originals[column] - reconstructions[column])
        _show(axes[2, column], (4 * difference).clip(0, 1), "4 x difference")
    _save(figure, path)


def save_picture(picture, path):
    """One picture as PNG at its own size: grey `(H, W)` or RGB `(H, W, 3)` in [0, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.round(np.asarray(picture, np.float64).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _picture_axes(rows, columns, shape):
    height = 1.7 * shape[0] / shape[1] + 0.18
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1.7 * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _show(axis, picture, title=None):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if title:
        axis.set_title(title, fontsize=7)


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
