"""Compares a run with JPEG 2000, WebP and AVIF: what a slice costs, and how much of it is kept.

    python tests/experiments/codecs.py --run-dir RUN [RUN ...] [--output figure.png]

The runs must keep the same test slices; each is encoded and decoded by every codec at a ladder of
settings, and scored as similarity.py scores reconstructions. A run's price is that of its codes
under its prior. Codecs pay for a file's container too, so their bits are given twice: of the whole
file, and less the same codec's file of a black picture at the same setting, which favours them:
that file holds some coding as well. Every codec works at its greatest effort, on grey pictures
(WebP has none: its colour is even). `--clean-ground` favours them once more: what they show where
the original is black is set to black, at no charge. At AVIF's speed 0 a slice takes 0.4 to 1.6 s a
setting on one core.
"""

import argparse
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _project  # noqa: F401
import numpy as np
import pandas
from matplotlib.figure import Figure
from PIL import Image

from dataset import open_test_slices
from hyperparameters import Hyperparameters
from oasisvq.core.errors import HyperparameterError, RunFolderError
from oasisvq.core.script import run_script
from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.evaluation.intervals import interval_by_subject
from oasisvq.runs.folder import open_run

SCORES = ("bits", "file_bits", "ssim", "ssim_brain", "psnr")
PANELS = ("ssim", "ssim_brain")
# Of 20 subjects, coronal slices 90 to 99 of OASIS-1.
SCANNED_AGAIN = {"ssim": 0.946, "ssim_brain": 0.894}


def ladder(avif_speed):
    """Returns the settings of each codec: from their names to the options of Pillow."""
    avif = {"format": "AVIF", "speed": avif_speed, "subsampling": "4:0:0", "max_threads": 1}
    ssim_avif = avif | {"advanced": {"tune": "ssim"}}  # at equal bits above `iq`, the default
    webp = {"format": "WEBP", "method": 6}
    jpeg = {"format": "JPEG2000", "no_jp2": True}  # the codestream alone
    rates = (0.08, 0.1, 0.13, 0.18, 0.25, 0.35, 0.5, 0.7, 0.95, 1.25)  # bits per pixel
    lossy_jpeg = {
        f"{rate} bits": jpeg | {"irreversible": True, "quality_layers": [8 / rate]}
        for rate in rates
    }
    lossy_webp = _by_quality(webp, (0, 2, 5, 10, 20, 35, 50, 70, 80, 90))
    lossy_avif = _by_quality(ssim_avif, (0, 5, 10, 18, 26, 36, 48, 60, 75))
    return {
        "JPEG 2000": lossy_jpeg | {"lossless": jpeg},
        "WebP": lossy_webp | {"lossless": webp | {"lossless": True, "quality": 100}},
        "AVIF": lossy_avif | {"lossless": avif | {"quality": 100}},
    }


def _by_quality(options, qualities):
    return {f"quality {quality}": options | {"quality": quality} for quality in qualities}


def encode(picture, options):
    """Returns a uint8 picture `(H, W)` as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return file.getvalue()


def encode_and_decode(slices, options):
    """Encodes and decodes slices, uint8 `(n, H, W)`.

    Returns:
        The bits per pixel of each file `(n,)`, those of a black one, and the decoded slices.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        files = list(threads.map(lambda picture: encode(picture, options), slices))
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("L")) for file in files]
    bits = 8 * np.array([len(file) for file in files]) / slices[0].size
    black = 8 * len(encode(np.zeros_like(slices[0]), options)) / slices[0].size
    return bits, black, np.stack(decoded)


def measure(slices, subjects, options, clean_ground):
    """Returns the means of `SCORES` over slices at one setting, with intervals over subjects."""
    bits, black, decoded = encode_and_decode(slices, options)
    if clean_ground:
        decoded = decoded * (slices > 0)
    originals, others = (x[..., None].astype(np.float32) / 255 for x in (slices, decoded))
    parts = [
        slice_scores(originals[start : start + 32], others[start : start + 32])
        for start in range(0, len(slices), 32)
    ]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    values |= {"file_bits": bits, "bits": np.maximum(bits - black, 0)}
    return {name: interval_by_subject(values[name], subjects) for name in SCORES}


def read_point(run):
    """Returns a run's bits per pixel and scores, and its baseline's, from its report."""
    path = run.folder / "similarity.json"
    try:
        report = json.loads(path.read_text())
        scores, baseline = report["reconstruction"], report["baselines"]["mean_slice"]
        point = {name: float(scores[name]["mean"]) for name in PANELS}
        point["bits"] = float(report["prior"]["bits_per_pixel"])
        return point, {name: float(baseline[name]["mean"]) for name in PANELS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path}: not a report with prior.bits_per_pixel ({error!r}). Run similarity.py "
            f"--run-dir {run.folder} again"
        ) from error


def read_runs(folders):
    """Returns the points of runs, the baseline, and the test slices that they all keep."""
    runs = [open_run(folder, Hyperparameters) for folder in folders]
    points, baselines = zip(*map(read_point, runs), strict=True)
    kept = [open_test_slices(run) for run in runs]
    for run, slices in zip(runs, kept, strict=True):
        if not np.array_equal(slices.slices, kept[0].slices):
            raise HyperparameterError(
                f"{run.folder}: keeps other test slices than {runs[0].folder}. Give it alone"
            )
    names = [run.folder.resolve().name for run in runs]
    return dict(zip(names, points, strict=True)), baselines[0], kept[0]


def at_price(table, codec, bits, column, score):
    """Returns a codec's score at a price, between two settings, in the logarithm of bits."""
    rows = table[(table["codec"] == codec) & (table[column] > 0)].sort_values(column)
    return np.interp(np.log(bits), np.log(rows[column]), rows[score], np.nan, np.nan)


def print_row(codec, setting, scores):
    """Prints the means of one setting, with their intervals where these are known."""
    cells = [
        f"{scores[name]['mean']:8.{digits}f} [{scores[name]['low']:.{digits}f}, "
        f"{scores[name]['high']:.{digits}f}]"
        if scores[name]["low"] is not None
        else f"{scores[name]['mean']:8.{digits}f}"
        for name, digits in zip(SCORES, (3, 3, 4, 4, 2), strict=True)
    ]
    print(f"{codec:10} {setting:12}" + "".join(f"{cell:>26}" for cell in cells), flush=True)


def save_prices(codecs, runs, levels, path):
    """Draws SSIM against bits per pixel: codecs as lines, runs as points.

    Args:
        codecs: A row a setting: codec, bits and file_bits per pixel, ssim, ssim_brain. The price
            with the container is a dotted line.
        runs: Dictionary from a name to a run's bits, ssim and ssim_brain.
        levels: Dictionary from a name to ssim and ssim_brain without a price, drawn dashed.
        path: The PNG to write.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    titles = {"ssim": "SSIM, whole image", "ssim_brain": "SSIM in the brain"}
    for axis, (score, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for number, (codec, rows) in enumerate(codecs.groupby("codec", sort=False)):
            axis.plot(rows["bits"], rows[score], f"C{number}-", marker=".", label=codec)
            axis.plot(rows["file_bits"], rows[score], f"C{number}:", label=f"{codec}, whole file")
        small = {"textcoords": "offset points", "ha": "right"}
        for number, (name, level) in enumerate(levels.items()):
            axis.axhline(level[score], color=str(0.3 * number), linestyle="--", linewidth=1)
            place = (1, level[score])
            axis.annotate(name, place, (-3, 2), ("axes fraction", "data"), fontsize=7, **small)
        for name, run in runs.items():
            axis.plot(run["bits"], run[score], "k*", markersize=10)
            axis.annotate(name, (run["bits"], run[score]), (-7, 5), **small)
        axis.set(xscale="log", xlim=(0.04, 4), xlabel="bits per pixel", title=title)
        axis.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main():
    """Scores all codecs on the slices of the runs, and prints and draws both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", nargs="+", required=True)
    parser.add_argument("--output", type=Path, help="default: figures/codecs.png of the first run")
    parser.add_argument("--avif-speed", type=int, choices=range(11), default=0)
    parser.add_argument(
        "--clean-ground",
        action="store_true",
        help="set to black what codecs show outside the brain",
    )
    parser.add_argument("--slices", type=int, help="so many, evenly chosen (default: all)")
    arguments = parser.parse_args()
    points, mean_slice, kept = read_runs(arguments.run_dir)
    count = min(arguments.slices or len(kept.table), len(kept.table))
    rows = np.linspace(0, len(kept.table) - 1, count).round().astype(int)
    slices, subjects = np.asarray(kept.slices[rows]), kept.table["subject"].iloc[rows]
    print(f"{count:,} slices of {subjects.nunique()} subjects; mean [95% interval over subjects]")
    print(f"{'codec':10} {'setting':12}" + "".join(f"{name:>26}" for name in SCORES))
    means = []
    for codec, settings in ladder(arguments.avif_speed).items():
        for setting, options in settings.items():
            scores = measure(slices, subjects, options, arguments.clean_ground)
            print_row(codec, setting, scores)
            means.append({"codec": codec} | {name: scores[name]["mean"] for name in SCORES})
    table = pandas.DataFrame(means)
    for name, point in points.items():
        print(f"\n{name}: {point['bits']:.3f} bits per pixel, " + _scores(point))
        for codec in table["codec"].unique():
            for column, kind in (("bits", "without container"), ("file_bits", "whole file")):
                there = {s: at_price(table, codec, point["bits"], column, s) for s in PANELS}
                print(f"  {codec} at that price, {kind}: {_scores(there)}")
    output = arguments.output or Path(arguments.run_dir[0]) / "figures/codecs.png"
    levels = {"mean slice": mean_slice}
    if set(kept.table["index"]) <= set(range(90, 100)) and kept.image_shape == (176, 176):
        levels["the same person scanned again"] = SCANNED_AGAIN
    save_prices(table, points, levels, output)
    print(f"\nFigure: {output}")


def _scores(point):
    return f"SSIM {point['ssim']:.4f}, in the brain {point['ssim_brain']:.4f}"


if __name__ == "__main__":
    run_script(main)
