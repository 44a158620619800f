"""Compares a run with codecs: what a slice costs, and how much of it is kept.

    python tests/experiments/codecs.py --run-dir RUN [RUN ...] [--dataset SLICES] [--clean-ground]

The runs must keep the same test slices. Each is encoded and decoded at a ladder of settings by

- JPEG 2000, WebP and AVIF;
- HEVC and AV1, of all slices of a person as a video (`pip install av`; left out without it);
- linear codes, learned from the slices of the persons that the run was trained on, which
  `--dataset` names (left out without it): see linear_code.py;

and scored as similarity.py scores reconstructions. A run's price is that of its codes under its
prior. Codecs pay for a file's container too, so their bits are given twice: of the whole file, and
less the same codec's file of a black picture at the same setting, which favours them: that file
holds some coding as well. Every codec works at its greatest effort, on grey pictures (WebP and AV1
have none: their colour is even). `--clean-ground` favours them once more: what they show where the
original is black is set to black, at no charge. The videos are favoured by what they use of the
other slices of a person; all others code a slice by itself.

A run and a linear code are worth nothing without their own weights, which each decoder must have
once. Their bytes are those of float32 numbers: for a run the decoder, the codebook and the prior;
for a linear code its components, frequencies and mean slices. The break-even is how many slices
must be stored until a run that needs fewer bits than a codec, at equal quality, has paid for its
weights. What a codec needs for that quality lies between two of its settings, in the logarithm of
bits.

At AVIF's speed 0, the default, a slice takes 0.4 to 1.6 s a setting on one core.
"""

import argparse
import dataclasses
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _project  # noqa: F401
import linear_code
import numpy as np
import pandas
import video_codes
from matplotlib.figure import Figure
from PIL import Image

from dataset import OASIS, open_test_slices
from hyperparameters import Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.core.errors import HyperparameterError
from oasisvq.core.script import run_script
from oasisvq.evaluation.code_scores import count_codes, frequencies_by_position
from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.evaluation.intervals import BOOTSTRAPS, interval_by_subject
from oasisvq.evaluation.run_scores import SIDE_INFORMATION_BITS, score_slices
from oasisvq.runs.folder import open_run

PANELS = {"ssim": "SSIM, whole image", "ssim_brain": "SSIM in the brain", "psnr": "PSNR in dB"}
SCORES = ("bits", "file_bits", *PANELS)
LIMITS = {"ssim": (0.5, 1.01), "ssim_brain": (0.3, 1.01), "psnr": (18, 50)}
DIGITS = {"bits": 3, "file_bits": 3, "ssim": 4, "ssim_brain": 4, "psnr": 2}
# Of 20 subjects, coronal slices 90 to 99 of OASIS-1.
SCANNED_AGAIN = {"ssim": 0.946, "ssim_brain": 0.894}
COLUMNS = {"bits": "without container", "file_bits": "whole file"}
BLOCKS = {"PCA, slices": None, "PCA, 16x16": 16}  # sides of the linear codes' blocks
STORED = (1_000, 10_000, 100_000)  # slices over which the weights are spread


@dataclasses.dataclass
class Point:
    """A run, or a codec at one setting.

    Attributes:
        codec: Its name.
        values: Dictionary from each of `SCORES` to an array `(n,)`, a value for each slice; the
            bits are per pixel.
        own_bytes: What a decoder must have once.
    """

    codec: str
    values: dict
    own_bytes: int = 0

    def mean(self, name):
        """Returns the mean of a score over the slices."""
        return float(np.mean(self.values[name]))


def ladder(avif_speed):
    """Returns the settings of each codec of pictures: from their names to options of Pillow."""
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


def encode_and_decode_videos(slices, scans, codec, options):
    """Does the same with a video of each scan, whose bits are shared by its slices.

    Args:
        slices: uint8 array `(n, H, W)`, the slices of a scan in the order of their positions.
        scans: Array `(n,)`, the name of each slice's scan.
        codec, options: See video_codes.py.
    """
    parts = [np.flatnonzero(scans == name) for name in pandas.unique(scans)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = threads.map(
            lambda rows: video_codes.encode_and_decode(slices[rows], codec, options), parts
        )
        made = list(made)
    lengths = {len(rows) for rows in parts}
    # A black video of each length is taken off.
    dark = {
        length: video_codes.encode_and_decode(np.zeros_like(slices[:length]), codec, options)[0]
        for length in lengths
    }
    bits, black, decoded = np.empty(len(slices)), np.empty(len(slices)), np.empty_like(slices)
    for rows, (length, shown) in zip(parts, made, strict=True):
        bits[rows] = 8 * length / slices[rows].size
        black[rows] = 8 * dark[len(rows)] / slices[rows].size
        decoded[rows] = shown
    return bits, black, decoded


def score(slices, decoded, clean_ground):
    """Returns the scores of decoded slices, uint8 `(n, H, W)`: arrays `(n,)` by their names."""
    if clean_ground:
        decoded = decoded * (slices > 0)
    originals, others = (x[..., None] / np.float32(255) for x in (slices, decoded))
    starts = range(0, len(slices), 32)
    parts = [slice_scores(originals[n : n + 32], others[n : n + 32]) for n in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in PANELS}


def codec_points(kept, avif_speed, clean_ground):
    """Yields the name of each setting and its `Point`, for all codecs that learn nothing here."""
    slices = np.asarray(kept.slices)
    scans = kept.table["subject"].astype(str) + " " + kept.table["session"].astype(str)
    makers = {
        (codec, setting): lambda options=options: encode_and_decode(slices, options)
        for codec, settings in ladder(avif_speed).items()
        for setting, options in settings.items()
    }
    if video_codes.av:
        makers |= {
            (codec, setting): lambda codec=codec, options=options: encode_and_decode_videos(
                slices, scans.to_numpy(), codec, options
            )
            for codec, settings in video_codes.ladder().items()
            for setting, options in settings.items()
        }
    for (codec, setting), make in makers.items():
        bits, black, decoded = make()
        codec += " video" if codec in video_codes.RATES else ""
        prices = {"file_bits": bits, "bits": np.maximum(bits - black, 0)}
        yield setting, Point(codec, prices | score(slices, decoded, clean_ground))


def linear_points(run, kept, dataset, data_dir, clean_ground):
    """Yields the same for the linear codes, learned from the persons of the run's training.

    Args:
        run: The run, whose split and mean slices are used.
        kept: `OASIS`, the slices to code.
        dataset: The source with the slices of all persons, see `--dataset`.
        data_dir: Folder of prepared slices.
        clean_ground: See `score`.
    """
    config = dataclasses.replace(run.hyperparameters.data, dataset=dataset)
    every = OASIS(config, data_dir, run.image_shape)
    splits, means = every.table["subject"].map(run.split()), run.mean_slices()

    def known(slices, rows):
        """Returns the mean training slices at the positions of rows `(n, H, W)`."""
        return np.stack([means.get(key, means["all"]) for key in slices.position_keys(rows)])

    parts = {name: np.flatnonzero(splits == name) for name in ("train", "validation")}
    counts = {name: every.table["subject"].iloc[rows].nunique() for name, rows in parts.items()}
    print(f"linear codes: persons they are learned from, and chosen on: {counts}", flush=True)
    train, validation = (every.images(rows)[..., 0] - known(every, rows) for rows in parts.values())
    slices = np.asarray(kept.slices)
    base = known(kept, np.arange(len(slices)))
    for codec, side in BLOCKS.items():
        code = linear_code.LinearCode(train, validation, side)
        for setting in code.settings:
            levels = code.encode(slices / np.float32(255) - base, setting.step)
            decoded = (base + code.decode(levels, setting)).clip(0, 1)
            bits = (code.bits(levels, setting) + SIDE_INFORMATION_BITS) / slices[0].size
            own = 4 * (code.numbers(setting) + sum(mean.size for mean in means.values()))
            scores = score(slices, np.round(decoded * 255).astype(np.uint8), clean_ground)
            name = f"{setting.count}, {255 * setting.step:.0f}/255"
            yield name, Point(codec, {"bits": bits, "file_bits": bits} | scores, own)


def read_point(run, kept):
    """Returns a run as a `Point`, and the means of its baseline: no model, the mean slice."""
    vqvae, prior = load_vqvae(run), load_prior(run)
    rows = np.arange(len(kept.table))
    counts = count_codes(run.training_codes(), vqvae.num_embeddings)
    frequencies = frequencies_by_position(counts, run.smoothing())
    known = run.mean_slices(), frequencies
    report, table = score_slices(vqvae, prior, kept, rows, kept.conditions(rows), *known)
    values = {name: table[name].to_numpy(float) for name in PANELS}
    codes, pixels = np.prod(vqvae.code_shape), np.prod(run.image_shape)
    bits = table["prior_bits_per_code"].to_numpy(float) * codes + SIDE_INFORMATION_BITS
    values |= {"bits": bits / pixels, "file_bits": bits / pixels}
    weights = [*vqvae.decoder.weights, vqvae.quantizer.codebook, *prior.weights]
    own_bytes = 4 * sum(int(np.prod(weight.shape)) for weight in weights)
    baseline = report["baselines"]["mean_slice"]
    point = Point(run.folder.resolve().name, values, own_bytes)
    return point, {name: float(baseline[name]["mean"]) for name in PANELS}


def read_runs(folders):
    """Returns runs, and the test slices that they all keep."""
    runs = [open_run(folder, Hyperparameters) for folder in folders]
    kept = [open_test_slices(run) for run in runs]
    for run, slices in zip(runs, kept, strict=True):
        if not np.array_equal(slices.slices, kept[0].slices):
            raise HyperparameterError(
                f"{run.folder}: keeps other test slices than {runs[0].folder}. Give it alone"
            )
    return runs, kept[0]


def keep_subjects(kept, count):
    """Keeps the slices of so many subjects, evenly chosen."""
    names = np.array(kept.subjects("all"))
    chosen = np.linspace(0, len(names) - 1, min(count or len(names), len(names)))
    rows = np.flatnonzero(kept.table["subject"].isin(names[chosen.round().astype(int)]))
    kept.slices = np.asarray(kept.slices[rows])
    kept.table = kept.table.iloc[rows].reset_index(drop=True)


class Comparison:
    """Compares points at equal quality, with 95% intervals over subjects.

    Args:
        points: List of `Point`.
        subjects: Array `(n,)`, the subject of each slice.
        pixels: Integer, of a slice.
    """

    def __init__(self, points, subjects, pixels, seed=0):
        names, owners = np.unique(subjects, return_inverse=True)
        drawn = np.random.default_rng(seed).integers(len(names), size=(BOOTSTRAPS, len(names)))
        times = np.stack([np.bincount(one, minlength=len(names)) for one in drawn])
        times = np.concatenate([np.ones((1, len(names))), times])[:, owners]  # (1 + B, n)
        self.times, self.pixels = times / times.sum(axis=1, keepdims=True), pixels
        self.points = points

    def means(self, values):
        """Returns the mean of values `(n,)`, then those of the bootstrap samples: `(1 + B,)`."""
        return self.times @ values

    def prices(self, codec, run, name, column):
        """Returns what a codec needs to score as a run does, in bits per pixel: `(1 + B,)`.

        It is NaN where no two settings of the codec lie about that score.
        """
        points = [point for point in self.points if point.codec == codec]
        scores, bits = (
            np.stack([self.means(point.values[part]) for point in points], axis=1)
            for part in (name, column)
        )
        targets = self.means(run.values[name])
        order = np.argsort(scores, axis=1)
        scores, bits = (np.take_along_axis(part, order, axis=1) for part in (scores, bits))
        logs = np.log(np.maximum(bits, 1e-6))
        rows = zip(targets, scores, logs, strict=True)
        return np.exp([np.interp(*row, left=np.nan, right=np.nan) for row in rows])

    def own_bytes(self, codec, run, name):
        """Returns the own bytes of a codec at the setting nearest to a run's score."""
        points = [point for point in self.points if point.codec == codec]
        nearest = min(points, key=lambda point: abs(point.mean(name) - run.mean(name)))
        return nearest.own_bytes

    def break_even(self, codec, run, name, prices):
        """Returns after how many slices a run is cheaper than a codec in all: `(1 + B,)`.

        It is infinite where the codec needs fewer bits for a slice, and 0 where its own bytes are
        more than the run's.
        """
        saved = (prices - self.means(run.values["bits"])) * self.pixels / 8  # bytes a slice
        more = max(run.own_bytes - self.own_bytes(codec, run, name), 0)
        with np.errstate(divide="ignore"):
            slices = np.where(saved > 0, more / np.where(saved > 0, saved, 1), np.inf)
        return np.where(np.isnan(prices), np.nan, slices)

    def at_price(self, codec, run, column, name):
        """Returns a codec's mean score at the price of a run, between two settings."""
        points = [point for point in self.points if point.codec == codec]
        points = sorted(points, key=lambda point: point.mean(column))
        bits = np.maximum([point.mean(column) for point in points], 1e-6)
        scores = [point.mean(name) for point in points]
        return np.interp(np.log(run.mean("bits")), np.log(bits), scores, np.nan, np.nan)


def cell(samples, form):
    """Returns the first of samples `(1 + B,)` and the 95% interval of the others, as text."""
    if np.isnan(samples[0]):
        return "-"  # no two settings lie about it
    mean, low, high = (
        "never" if np.isinf(value) else f"{value:{form}}"
        for value in (
            samples[0],
            *np.quantile(samples[1:], [0.025, 0.975], method="closest_observation"),
        )
    )
    if np.isnan(samples).any() or mean == low == high:
        return mean
    return f"{mean} [{low}, {high}]"


def print_row(codec, setting, point, subjects):
    """Prints the means of one setting, with their intervals where these are known."""
    cells = []
    for name in SCORES:
        interval, digits = interval_by_subject(point.values[name], subjects), DIGITS[name]
        text = f"{interval['mean']:8.{digits}f}"
        if interval["low"] is not None:
            text += f" [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"
        cells.append(text)
    row = f"{codec:12} {setting:14}" + "".join(f"{text:>26}" for text in cells)
    print(f"{row} {point.own_bytes / 1e6:8.1f}", flush=True)


def print_comparison(comparison, run, codecs):
    """Prints a run with its own weights counted, and beside the codecs at equal price, quality."""
    bits, count = run.mean("bits"), comparison.times.shape[1]
    print(f"\n{run.codec}: {bits:.3f} bits per pixel, " + _scores(run.mean))
    spread = {
        stored: bits + 8 * run.own_bytes / (stored * comparison.pixels)
        for stored in sorted({count, *STORED})
    }
    print(
        f"  its own weights are {run.own_bytes / 1e6:.1f} MB; with them, bits per pixel of "
        + ", ".join(f"{stored:,} slices {price:.3f}" for stored, price in spread.items())
    )
    for codec in codecs:
        for column, kind in COLUMNS.items():
            there = _scores(lambda name: comparison.at_price(codec, run, column, name))  # noqa: B023
            print(f"  {codec} at that price, {kind}: {there}")
    for name in PANELS:
        print_equal_quality(comparison, run, codecs, name)


def print_equal_quality(comparison, run, codecs, name):
    """Prints what codecs need to score as a run does by one score, the cheapest first."""
    prices = {
        codec: [comparison.prices(codec, run, name, column) for column in COLUMNS]
        for codec in codecs
    }
    print(f"  codecs at its {PANELS[name]}, {run.mean(name):.{DIGITS[name]}f}:")
    heads = [f"{text}, {kind}" for kind in COLUMNS.values() for text in ("bits", "break-even")]
    print(f"    {'':12}" + "".join(f"{head:>30}" for head in heads))
    for codec in sorted(codecs, key=lambda codec: np.nan_to_num(prices[codec][0][0], nan=np.inf)):
        cells = []
        for some in prices[codec]:
            slices = comparison.break_even(codec, run, name, some)
            cells += [cell(some, ".3f"), cell(slices, ",.0f")]
        print(f"    {codec:12}" + "".join(f"{text:>30}" for text in cells))


def _scores(value):
    """Returns the scores that `value` gives for their names, as text; "-" for NaN."""
    values = {PANELS[name]: format(value(name), f".{DIGITS[name]}f") for name in PANELS}
    return "; ".join(f"{title} {text.replace('nan', '-')}" for title, text in values.items())


def save_prices(points, runs, levels, path):
    """Draws the scores against bits per pixel: codecs as lines, runs as stars.

    Args:
        points: List of `Point`, the codecs at their settings, those of one after the other. The
            price with the container is a dotted line.
        runs: List of `Point`.
        levels: Dictionary from a name to scores without a price, drawn dashed.
        path: The PNG to write.
    """
    figure = Figure(figsize=(16, 4.8), layout="constrained")
    rows = [{"codec": p.codec} | {name: p.mean(name) for name in SCORES} for p in points]
    codecs = pandas.DataFrame(rows)
    for axis, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for number, (codec, line) in enumerate(codecs.groupby("codec", sort=False)):
            line, colour = line.sort_values("bits"), f"C{number}"
            axis.plot(line["bits"], line[name], f"{colour}-", marker=".", label=codec)
            if not line["bits"].equals(line["file_bits"]):
                whole = f"{codec}, whole file"
                axis.plot(line["file_bits"], line[name], f"{colour}:", label=whole)
        small = {"textcoords": "offset points", "ha": "right"}
        for number, (level, scores) in enumerate(levels.items()):
            if name not in scores:
                continue
            axis.axhline(scores[name], color=str(0.3 * number), linestyle="--", linewidth=1)
            place = (1, scores[name])
            axis.annotate(level, place, (-3, 2), ("axes fraction", "data"), fontsize=7, **small)
        for run in runs:
            axis.plot(run.mean("bits"), run.mean(name), "k*", markersize=10, zorder=3)
            axis.annotate(run.codec, (run.mean("bits"), run.mean(name)), (-7, 5), **small)
        axis.set(xscale="log", xlim=(0.015, 4), ylim=LIMITS[name])
        axis.set(xlabel="bits per pixel", title=title)
        axis.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize=7, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def describe(runs, kept):
    """Prints what is compared, and what each side has learned from."""
    subjects = kept.table["subject"]
    print(f"{len(subjects):,} slices of {subjects.nunique()} subjects; mean [95% over subjects]")
    for run in runs:
        source, count = run.data.get("source"), run.data.get("train subjects")
        print(
            f"{run.folder.resolve().name} was trained on {count} other persons of this very "
            f"population ({source}); a linear code, if there is one, learned from the same. Codecs "
            "learned nothing of it."
        )
    if not video_codes.av:
        print("HEVC and AV1 are left out: they need PyAV (pip install av)")


def main():
    """Scores all codecs on the slices of the runs, and prints and draws both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", nargs="+", required=True)
    parser.add_argument("--output", type=Path, help="default: figures/codecs.png of the first run")
    parser.add_argument("--dataset", help="all persons' slices, for the linear codes")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--avif-speed", type=int, choices=range(11), default=0)
    parser.add_argument(
        "--clean-ground",
        action="store_true",
        help="set to black what codecs show outside the brain",
    )
    parser.add_argument("--subjects", type=int, help="so many, evenly chosen (default: all)")
    arguments = parser.parse_args()
    folders, kept = read_runs(arguments.run_dir)
    keep_subjects(kept, arguments.subjects)
    subjects = kept.table["subject"].to_numpy()
    describe(folders, kept)
    runs, baselines = zip(*(read_point(run, kept) for run in folders), strict=True)
    heads = "".join(f"{name:>26}" for name in SCORES)
    print(f"{'codec':12} {'setting':14}{heads}   own MB")
    for run in runs:
        print_row(run.codec, "codes", run, subjects)
    points = []
    makers = [codec_points(kept, arguments.avif_speed, arguments.clean_ground)]
    if arguments.dataset:
        source = arguments.dataset, arguments.data_dir, arguments.clean_ground
        makers.append(linear_points(folders[0], kept, *source))
    for setting, point in (pair for maker in makers for pair in maker):
        print_row(point.codec, setting, point, subjects)
        points.append(point)
    codecs = list(dict.fromkeys(point.codec for point in points))
    comparison = Comparison(points, subjects, int(np.prod(kept.image_shape)))
    for run in runs:
        print_comparison(comparison, run, codecs)
    output = arguments.output or Path(arguments.run_dir[0]) / "figures/codecs.png"
    levels = {"mean slice": baselines[0]}
    if set(kept.table["index"]) <= set(range(90, 100)) and kept.image_shape == (176, 176):
        levels["the same person scanned again"] = SCANNED_AGAIN
    save_prices(points, runs, levels, output)
    print(f"\nFigure: {output}")


if __name__ == "__main__":
    run_script(main)
