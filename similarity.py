"""Scores a run: how like the originals its reconstructions are, and how good its prior is."""

import argparse
import json
import math
import sys
from pathlib import Path

from errors import DatasetError, HyperparameterError, import_tensorflow_quietly, run_script
from hyperparameters import Parser, add_data_dir, add_flags, hyperparameters_from_flags

BATCH_SIZE = 32
BASELINES = ("black", "mean_slice")
# Flags of train.py that also say how another source is read; the run's own are the default.
SOURCE_FLAGS = (
    "plane", "slice_range", "slice_unit", "slices_per_volume", "subject_pattern", "demo_subjects",
    "oasis1_image", "discs", "max_bad_scans",
)  # fmt: skip
INTERPRETATION = """SSIM            usual reading
0.70 and more   good
0.50 to 0.69    fair
below 0.50      poor
It means little here: black ground, and heads that lie alike, score without any model. The mean
training slice, which shows no subject at all, has {mean_slice:.3f}: "{verdict}". Judge a run by
its distance to the baselines, and inside the brain."""


def main():
    parser = Parser(description=__doc__)
    parser.add_argument("--run-dir", help="folder that train.py made (default: the newest in runs)")
    parser.add_argument(
        "--dataset",
        default=argparse.SUPPRESS,
        help="score another source, as train.py takes it (default: the run's own)",
    )
    parser.add_argument(
        "--split", choices=("test", "validation", "train", "all"), default="test",
        help="subjects to score; those of other splits than test flatter (default: test)",
    )  # fmt: skip
    add_data_dir(parser)
    parser.add_argument(
        "--output", help="the report; the .csv and the figures go beside it (default: "
        "similarity.json in the run folder, or similarity_SOURCE_SPLIT.json for other slices)"
    )  # fmt: skip
    add_flags(parser, SOURCE_FLAGS)
    arguments = parser.parse_args()
    hyperparameters_from_flags(arguments)  # refuses what is out of range, at once
    ignored = [name for name in SOURCE_FLAGS if name in arguments and "dataset" not in arguments]
    if ignored:
        flag = "--" + ignored[0].replace("_", "-")
        raise HyperparameterError(f"{flag} says how another source is read: give --dataset too")

    output = Path(arguments.output) if arguments.output else None
    if output and (output.suffix != ".json" or output.is_dir()):
        raise HyperparameterError(f"--output must be the name of a .json file. Received: {output}")

    import_tensorflow_quietly()
    from runs import open_run

    run = open_run(arguments.run_dir)
    slices = open_slices(run, arguments)
    rows = slices.rows(arguments.split)
    if not len(rows):
        raise DatasetError(
            f"{slices.folder}: no slice in split {arguments.split}. Give --split all"
        )
    warn_of_training_subjects(run, slices, rows)
    report, table, extremes = score(run, slices, rows)
    source = slices.description["source"]
    report = {"source": source, "split": arguments.split, **report}
    own = "dataset" not in arguments and arguments.split == "test"
    name = "similarity.json" if own else f"similarity_{source}_{arguments.split}.json"
    output = output or run.folder / name
    save(output, run, report, table, extremes)
    print_report(report)
    print(f"\nReport: {output}, a row a slice: {output.with_suffix('.csv')}")


def open_slices(run, arguments):
    """The slices to score: those the run keeps, or another source at the run's image size."""
    from dataset import OASIS

    if "dataset" not in arguments and arguments.split == "test":
        return run.test_slices()
    chosen = hyperparameters_from_flags(arguments, run.hyperparameters)
    return OASIS(chosen, arguments.data_dir, run.image_shape)


def warn_of_training_subjects(run, slices, rows):
    """Says so on standard error when a subject was trained on: its scores flatter."""
    from dataset import person

    known = {person(subject) for subject, split in run.split().items() if split != "test"}
    seen = known & {person(subject) for subject in slices.table["subject"].iloc[rows]}
    if seen:
        print(
            f"similarity.py: warning: {len(seen)} of these subjects were trained on or chosen by; "
            "scores on them flatter",
            file=sys.stderr,
        )


def score(run, slices, rows):
    """All scores of the chosen slices.

    Returns:
        The report (a dictionary), a table with a row a slice, and the best,
        median and worst pairs as `(titles, originals, reconstructions)`.
    """
    import numpy as np
    import pandas
    from tqdm import tqdm

    from modules import CodebookStatistics, code_bits
    from runs import CODE_COUNTS, MEAN_SLICES
    from scores import SCORE_NAMES, bits_by_position, slice_scores

    vqvae = run.load_vqvae()
    prior = run.load_prior(vqvae.code_shape)
    means = run.read_arrays(MEAN_SLICES, "all")
    counts = run.read_arrays(CODE_COUNTS, "counts", "smoothing")
    keys = slices.position_keys(rows)
    codebook = CodebookStatistics(vqvae.num_embeddings)
    columns = {}

    def add(prefix, scores):
        for name, values in scores.items():
            columns.setdefault(prefix + name, []).append(values)

    for start in tqdm(range(0, len(rows), BATCH_SIZE), desc="Scoring", unit="batch", disable=None):
        batch = rows[start : start + BATCH_SIZE]
        images = slices.images(batch)  # (B, H, W, 1)
        codes = vqvae.encode(images)  # (B, h, w)
        codebook.update_state(codes)
        mean_slices = np.stack([means.get(k, means["all"]) for k in keys[start:][: len(batch)]])
        add("", slice_scores(images, vqvae.decode(codes).numpy()))
        add("black_", slice_scores(images, np.zeros_like(images)))
        add("mean_slice_", slice_scores(images, mean_slices[..., None]))
        add("prior_", {"bits_per_code": code_bits(codes, prior(codes)).numpy().mean((1, 2))})
        by_position = bits_by_position(counts["counts"], counts["smoothing"], codes.numpy())
        add("prior_", {"bits_per_code_by_position": by_position})

    scores = pandas.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
    named = slices.table.iloc[rows].reset_index(drop=True)
    table = pandas.concat([named[["subject", "session", "plane", "index"]], scores], axis=1)
    report = summarise(table, SCORE_NAMES, codebook.result(), vqvae)
    report["mean_slice_positions_known"] = float(np.mean([key in means for key in keys]))
    report["refitted"] = slices.refitted(rows)

    order = np.argsort(table["ssim"].to_numpy())
    middle = len(order) // 2
    chosen = np.resize(np.concatenate([order[::-1][:3], order[middle:][:3], order[:3]]), 9)
    originals = slices.images(rows[chosen])
    reconstructions = vqvae.decode(vqvae.encode(originals)).numpy()
    kinds = ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    titles = [
        f"{kind}: SSIM {table['ssim'][n]:.3f}\n{table['subject'][n]}"
        for kind, n in zip(kinds, chosen, strict=True)
    ]
    return report, table, (titles, originals[..., 0], reconstructions[..., 0])


def summarise(table, score_names, codebook, vqvae):
    """The report: each score with its interval over subjects."""
    from scores import interval_by_subject

    def intervals(prefix, names):
        return {name: interval_by_subject(table[prefix + name], table["subject"]) for name in names}

    return {
        "subjects": int(table["subject"].nunique()),
        "slices": len(table),
        "reconstruction": intervals("", score_names),
        "baselines": {name: intervals(f"{name}_", score_names) for name in BASELINES},
        "codebook": {
            "size": vqvae.num_embeddings,
            "usage": float(codebook["codebook_usage"]),
            "perplexity": float(codebook["perplexity"]),
        },
        "prior": {
            "bits_per_code": float(table["prior_bits_per_code"].mean()),
            "bits_per_code_uniform": math.log2(vqvae.num_embeddings),
            "bits_per_code_by_position": float(table["prior_bits_per_code_by_position"].mean()),
            "bits_per_code_interval": interval_by_subject(
                table["prior_bits_per_code"], table["subject"]
            ),
            "codes_per_slice": math.prod(vqvae.code_shape),
        },
    }


def save(output, run, report, table, extremes):
    """Writes the report, the table and the figures."""
    from figures import save_extremes, save_histogram

    output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output.with_suffix(".csv"), index=False)
    inside = output.parent == run.folder
    figures = run.folder / "figures" if inside else output.parent
    baselines = {
        name.replace("_", " "): report["baselines"][name]["ssim"]["mean"] for name in BASELINES
    }
    save_histogram(table["ssim"], baselines, figures / f"{output.stem}_histogram.png")
    titles, originals, reconstructions = extremes
    save_extremes(
        originals, reconstructions, titles, figures / f"{output.stem}_best_median_worst.png"
    )
    output.write_text(json.dumps(report, indent=2) + "\n")


def print_report(report):
    """The report as a table, and how to read it."""
    print(
        f"{report['source']}, split {report['split']}: {report['subjects']} subjects, "
        f"{report['slices']:,} slices; mean [95% interval over subjects]"
    )
    rows = {"reconstruction": report["reconstruction"]}
    rows |= {name: report["baselines"][name] for name in BASELINES}
    names = list(report["reconstruction"])
    print(f"{'':16}" + "".join(f"{name:>26}" for name in names))
    for label, scores in rows.items():
        print(f"{label.replace('_', ' '):16}" + "".join(f"{_cell(scores[n]):>26}" for n in names))
    codebook, prior = report["codebook"], report["prior"]
    print(
        f"codebook: {codebook['size']} codes, {codebook['usage']:.1%} used, perplexity "
        f"{codebook['perplexity']:.1f}\nprior: {prior['bits_per_code']:.3f} bits per code; each "
        f"position's own frequencies {prior['bits_per_code_by_position']:.3f}, uniform "
        f"{prior['bits_per_code_uniform']:.3f}\n"
    )
    if report["refitted"]:
        print(f"{report['refitted']:,} slices had another size and stand on black, or shrunk\n")
    known = report["mean_slice_positions_known"]
    print(
        f"mean slice: the training slices' mean at the same position for {known:.0%} of the slices"
    )
    mean_slice = report["baselines"]["mean_slice"]["ssim"]["mean"]
    verdict = "good" if mean_slice >= 0.7 else "fair" if mean_slice >= 0.5 else "poor"
    print(INTERPRETATION.format(mean_slice=mean_slice, verdict=verdict))


def _cell(interval):
    if interval["mean"] is None:
        return "-"
    digits = 2 if interval["mean"] > 1 else 4
    if interval["low"] is None:
        return f"{interval['mean']:.{digits}f}"
    return (
        f"{interval['mean']:.{digits}f} [{interval['low']:.{digits}f}, "
        f"{interval['high']:.{digits}f}]"
    )


if __name__ == "__main__":
    run_script(main)
