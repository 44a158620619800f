"""Every picture: the one file that knows matplotlib."""

import math

import matplotlib
import numpy as np
import pandas
from PIL import Image

matplotlib.use("Agg")  # no window: runs on a cluster's node

from matplotlib import pyplot  # noqa: E402

from oasisvq.core.files import whole_file  # noqa: E402

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
    """A column a pair: the original, its reconstruction, and their absolute difference.

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


def save_prices(codecs, runs, levels, path):
    """SSIM against bits per pixel: codecs as lines, dotted with their containers, runs as points.

    Args:
        codecs: A row a setting: codec, bits and file_bits per pixel, ssim, ssim_brain.
        runs: Dictionary from a name to a run's bits, ssim and ssim_brain.
        levels: Dictionary from a name to ssim and ssim_brain without a price, drawn dashed.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    titles = {"ssim": "SSIM, whole image", "ssim_brain": "SSIM in the brain"}
    for axis, (score, title) in zip(axes, titles.items(), strict=True):
        for number, (codec, rows) in enumerate(codecs.groupby("codec", sort=False)):
            axis.plot(rows["bits"], rows[score], f"C{number}-", marker=".", label=codec)
            axis.plot(rows["file_bits"], rows[score], f"C{number}:", label=f"{codec}, whole file")
        for number, (name, level) in enumerate(levels.items()):
            axis.axhline(level[score], color=str(0.3 * number), linestyle="--", linewidth=1)
            axis.annotate(name, (1, level[score]), (-3, 2), ("axes fraction", "data"),
                          "offset points", ha="right", fontsize=7)  # fmt: skip
        for name, run in runs.items():
            axis.plot(run["bits"], run[score], "k*", markersize=10)
            axis.annotate(name, (run["bits"], run[score]), (-7, 5), textcoords="offset points",
                          ha="right")  # fmt: skip
        axis.set(xscale="log", xlim=(0.04, 4), xlabel="bits per pixel", title=title)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=7)
    _save(figure, path)


def save_closest_pairs(generated, references, distances, path):
    """Generated slices above the nearest training slice of each.

    Args:
        generated, references: Arrays `(n, H, W)` in [0, 1].
        distances: `(n,)`, root mean squared differences.
    """
    titles = [f"distance {value:.3f}" for value in distances]
    _save_pairs(generated, ["generated"] * len(generated), references, titles, path)


def save_intensities(real_histograms, generated_histograms, path):
    """How the brain's intensities are distributed: median of the slices, and where 90% lie.

    Args:
        real_histograms, generated_histograms: Counts `(n, 256)` and `(m, 256)`
            of each slice's pixels at each level.
    """
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    bins = 64  # of four levels each: scaling leaves some levels empty
    centres = (np.arange(bins) + 0.5) / bins
    for name, counts in (("real", real_histograms), ("generated", generated_histograms)):
        counts = np.reshape(counts, (len(counts), bins, -1)).sum(axis=2)
        counts = counts[counts.sum(axis=1) > 0]  # a slice without brain has no distribution
        if not len(counts):
            continue
        densities = bins * counts / counts.sum(axis=1, keepdims=True)
        low, middle, high = np.percentile(densities, [5, 50, 95], axis=0)
        (line,) = axis.plot(centres, middle, label=name)
        axis.fill_between(centres, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    axis.set(xlabel="intensity inside the brain", ylabel="density", ylim=(0, None))
    axis.legend()
    _save(figure, path)


def save_picture(picture, path):
    """One picture as PNG at its own size: grey `(H, W)` or RGB `(H, W, 3)` in [0, 1]."""
    pixels = np.round(np.asarray(picture, np.float64).clip(0, 1) * 255).astype(np.uint8)
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)


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
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
    pyplot.close(figure)
