"""Scores a run: how like the originals its reconstructions are, and how good its prior is."""

import argparse
import math
import sys
from pathlib import Path

from hyperparameters import Parser, add_data_dir, add_flags, hyperparameters_from_flags
from oasisvq.core.errors import DatasetError, HyperparameterError
from oasisvq.core.files import whole_file, write_text
from oasisvq.core.script import import_tensorflow_quietly, run_script

BATCH_SIZE = 32
CLOSEST_SHOWN = 8
MIXED_ROWS, MIXED_COLUMNS = 4, 8
# What a reader of a slice's codes needs beside them, a byte each: the intensity that 1.0 stands
# for, the slice's position, the subject's age, and sex with CDR.
SIDE_INFORMATION_BITS = 32
BASELINES = ("black", "mean_slice")
DIVERSITY_TITLES = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", None: "likeness"}
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
    arguments = parse_flags()
    import_tensorflow_quietly()
    from oasisvq.runs.folder import open_run
    from oasisvq.runs.model_card import write_model_card

    run = open_run(arguments.run_dir)
    slices = open_slices(run, arguments)
    rows = slices.rows(arguments.split)
    if not len(rows):
        raise DatasetError(
            f"{slices.folder}: no slice in split {arguments.split}. Give --split all"
        )
    warn_of_training_subjects(run, slices, rows)
    models = run.load_vqvae(), run.load_prior(), run.load_feature_network()
    report, table = score(run, slices, rows, *models[:2])
    source = slices.description["source"]
    report = {"source": source, "split": arguments.split, **report}
    own = "dataset" not in arguments and arguments.split == "test"
    name = "similarity.json" if own else f"similarity_{source}_{arguments.split}.json"
    output = Path(arguments.output or run.folder / name)
    with run.alone():
        save(output, run, report, table, extreme_pairs(slices, rows, table, models[0]))
        print_report(report)
        if arguments.panel_slices:
            rows = whole_subjects(slices, rows, arguments.panel_slices, arguments.seed)
            report["panel"], material = score_generated(run, slices, rows, *models, arguments.seed)
            save_panel(output, run, report, material)
            print_panel(report["panel"])
        write_model_card(run)
    print(f"\nReport: {output}, a row a slice: {output.with_suffix('.csv')}")


def parse_flags():
    """The flags, refused before anything is read if one is out of range."""
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
    parser.add_argument(
        "--panel-slices", type=int, default=500, help="how many of the slices new brains are drawn "
        "for and compared with, whole subjects together; 0: none (default: 500)"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed, other new brains")
    add_flags(parser, SOURCE_FLAGS, default="the run's own")
    arguments = parser.parse_args()
    hyperparameters_from_flags(arguments)  # refuses what is out of range
    ignored = [name for name in SOURCE_FLAGS if name in arguments and "dataset" not in arguments]
    if ignored:
        flag = "--" + ignored[0].replace("_", "-")
        raise HyperparameterError(f"{flag} says how another source is read: give --dataset too")
    for flag, value in (("--panel-slices", arguments.panel_slices), ("--seed", arguments.seed)):
        if value < 0:
            raise HyperparameterError(f"{flag} must be at least 0. Received: {value}")
    output = Path(arguments.output or "similarity.json")
    if output.suffix != ".json" or (arguments.output and output.is_dir()):
        raise HyperparameterError(f"--output must be the name of a .json file. Received: {output}")
    return arguments


def open_slices(run, arguments):
    """The slices to score: those the run keeps, or another source at the run's image size."""
    from dataset import OASIS

    if "dataset" not in arguments and arguments.split == "test":
        return run.test_slices()
    chosen = hyperparameters_from_flags(arguments, run.hyperparameters)
    return OASIS(chosen, arguments.data_dir, run.image_shape)


def warn_of_training_subjects(run, slices, rows):
    """Says so on standard error when a subject was trained on: its scores flatter."""

    def person(subject):
        return slices.people.get(subject, subject)

    known = {person(subject) for subject, split in run.split().items() if split != "test"}
    seen = known & {person(subject) for subject in slices.table["subject"].iloc[rows]}
    if seen:
        print(
            f"similarity.py: warning: {len(seen)} of these subjects were trained on or chosen by; "
            "scores on them flatter",
            file=sys.stderr,
        )


def score(run, slices, rows, vqvae, prior):
    """Scores of the chosen slices' reconstructions and codes.

    Returns:
        The report (a dictionary), and a table with a row a slice.
    """
    import numpy as np
    import pandas
    from tqdm import tqdm

    from modules import code_bits
    from oasisvq.evaluation.code_scores import (
        bits_by_position,
        cells_with_brain,
        count_codes,
        frequencies_by_position,
    )
    from oasisvq.evaluation.image_scores import SCORE_NAMES, slice_scores
    from oasisvq.nn.metrics import codebook_use
    from oasisvq.runs.folder import MEAN_SLICES, TRAINING_CODES

    means = run.read_arrays(MEAN_SLICES, "all", others=True)
    counts = count_codes(run.training_codes(), vqvae.num_embeddings)
    smoothing = run.read_arrays(TRAINING_CODES, "smoothing")["smoothing"]
    frequencies = frequencies_by_position(counts, smoothing)
    conditions = run.conditions(slices, rows)
    keys = slices.position_keys(rows)
    used = np.zeros((2, vqvae.num_embeddings), int)  # of all codes, and of those of the brain
    columns = {}

    def add(prefix, scores):
        for name, values in scores.items():
            columns.setdefault(prefix + name, []).append(values)

    for start in tqdm(range(0, len(rows), BATCH_SIZE), desc="Scoring", unit="batch", disable=None):
        batch = rows[start : start + BATCH_SIZE]
        images = slices.images(batch)  # (B, H, W, 1)
        codes = vqvae.encode(images).numpy()  # (B, h, w)
        of_brain = codes[cells_with_brain(images, run.hyperparameters.downsample)]
        used += [np.bincount(some.ravel(), minlength=used.shape[1]) for some in (codes, of_brain)]
        mean_slices = np.stack([means.get(k, means["all"]) for k in keys[start:][: len(batch)]])
        add("", slice_scores(images, vqvae.decode(codes).numpy()))
        add("black_", slice_scores(images, np.zeros_like(images)))
        add("mean_slice_", slice_scores(images, mean_slices[..., None]))
        bits = code_bits(codes, prior((codes, conditions[start:][: len(batch)])))
        add("prior_", {"bits_per_code": bits.numpy().mean((1, 2))})
        add("prior_", {"bits_per_code_by_position": bits_by_position(frequencies, codes)})

    scores = pandas.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
    named = slices.table.iloc[rows].reset_index(drop=True)
    table = pandas.concat([named[["subject", "session", "plane", "index"]], scores], axis=1)
    report = summarise(table, SCORE_NAMES, vqvae)
    whole, brain = (codebook_use(counts) for counts in used)
    report["codebook"] = {
        "size": vqvae.num_embeddings,
        "usage": whole["codebook_usage"],
        "perplexity": whole["perplexity"],
        "perplexity_brain": brain["perplexity"],
    }
    report["mean_slice_positions_known"] = float(np.mean([key in means for key in keys]))
    report["refitted"] = slices.refitted(rows)
    return report, table


def extreme_pairs(slices, rows, table, vqvae):
    """The best, median and worst slices: nine titles, originals and reconstructions."""
    import numpy as np

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
    return titles, originals[..., 0], reconstructions[..., 0]


def whole_subjects(slices, rows, count, seed):
    """Of these rows, those of subjects drawn at random until there are `count` or more."""
    import numpy as np

    owners = slices.table["subject"].iloc[rows].to_numpy()
    order = np.random.default_rng(seed).permutation(np.unique(owners))
    sizes = np.cumsum([(owners == subject).sum() for subject in order])
    return rows[np.isin(owners, order[: np.searchsorted(sizes, count) + 1])]


def score_generated(run, slices, rows, vqvae, prior, network, seed):
    """The panel: new brains, one for the conditions of each of these slices, beside them.

    Returns:
        The report (a dictionary) and what its figures need.
    """
    import numpy as np

    from oasisvq.evaluation.features import features, skill
    from oasisvq.evaluation.population import compare
    from oasisvq.sampling.incremental import sample_code_grids

    subjects, keys = slices.table["subject"].iloc[rows], slices.position_keys(rows)
    real = slices.images(rows)  # (n, H, W, 1)
    codes = np.concatenate(
        [vqvae.encode(real[start:][:BATCH_SIZE]) for start in range(0, len(real), BATCH_SIZE)]
    )
    reconstructed = vqvae.decode_all(codes)
    uniforms = np.random.default_rng(seed).random(codes.shape)
    generated = vqvae.decode_all(sample_code_grids(prior, uniforms, run.conditions(slices, rows)))
    # The training slices as their codes give them back: all of them that the run keeps.
    train = as_bytes(vqvae, run.training_codes())  # (m, H, W)
    report, material = compare(
        real, reconstructed, generated, subjects, keys, train,
        lambda images: features(network, images), seed,
    )  # fmt: skip
    report["training_slices"] = len(train)
    report["network_skill"] = skill(network, real, material["glued"], slices.labels(rows))

    order = np.argsort(material["distances"])[:CLOSEST_SHOWN]
    material["closest"] = (
        generated[order, ..., 0],
        train[material["rows"][order]] / 255,
        material["distances"][order],
    )
    # Half real, half generated for the conditions of others, and which is which.
    random = np.random.default_rng([seed, 2])
    drawn = random.permutation(len(real))[: MIXED_ROWS * MIXED_COLUMNS]
    is_real = random.permutation(np.arange(len(drawn)) % 2 == 0)
    material["mixed"] = np.where(
        is_real[:, None, None], real[drawn, ..., 0], generated[drawn, ..., 0]
    )
    names = [f"{chr(65 + n // MIXED_COLUMNS)}{n % MIXED_COLUMNS + 1}" for n in range(len(drawn))]
    material["mixed_names"] = names
    report["mixed_real"] = [name for name, shown in zip(names, is_real, strict=True) if shown]
    return report, material


def as_bytes(vqvae, codes):
    """Code grids `(n, h, w)` as uint8 slices `(n, H, W)`, on disk: there may be ten thousands."""
    import numpy as np
    from tqdm import tqdm

    from dataset import array_on_disk

    slices = array_on_disk((len(codes), *vqvae.image_shape))
    starts = range(0, len(codes), BATCH_SIZE)
    for start in tqdm(starts, desc="Training slices", unit="batch", leave=False, disable=None):
        images = vqvae.decode(codes[start:][:BATCH_SIZE]).numpy()[..., 0]
        slices[start:][: len(images)] = np.round(images * 255)
    return slices


def summarise(table, score_names, vqvae):
    """The report: each score with its interval over subjects."""
    from oasisvq.evaluation.intervals import interval_by_subject

    codes, pixels = math.prod(vqvae.code_shape), math.prod(vqvae.image_shape)
    bits_per_code = float(table["prior_bits_per_code"].mean())

    def intervals(prefix, names):
        return {name: interval_by_subject(table[prefix + name], table["subject"]) for name in names}

    return {
        "subjects": int(table["subject"].nunique()),
        "slices": len(table),
        "reconstruction": intervals("", score_names),
        "baselines": {name: intervals(f"{name}_", score_names) for name in BASELINES},
        "prior": {
            "bits_per_code": bits_per_code,
            "bits_per_pixel": (bits_per_code * codes + SIDE_INFORMATION_BITS) / pixels,
            "bits_per_code_uniform": math.log2(vqvae.num_embeddings),
            "bits_per_code_by_position": float(table["prior_bits_per_code_by_position"].mean()),
            "bits_per_code_interval": interval_by_subject(
                table["prior_bits_per_code"], table["subject"]
            ),
            "codes_per_slice": codes,
        },
    }


def save(output, run, report, table, extremes):
    """Writes the report, the table and the figures."""
    from oasisvq.figures import save_extremes, save_histogram

    with whole_file(output.with_suffix(".csv")) as partial:
        table.to_csv(partial, index=False)
    baselines = {
        name.replace("_", " "): report["baselines"][name]["ssim"]["mean"] for name in BASELINES
    }
    titles, originals, reconstructions = extremes
    save_histogram(table["ssim"], baselines, figure_path(output, run, "histogram"))
    save_extremes(originals, reconstructions, titles, figure_path(output, run, "best_median_worst"))
    write_text(output, report)


def save_panel(output, run, report, material):
    """Writes the report again, with the panel, and the panel's figures."""
    from oasisvq.figures import save_closest_pairs, save_intensities, save_rows

    save_closest_pairs(*material["closest"], figure_path(output, run, "closest"))
    histograms = (material[f"{name}_histograms"] for name in ("real", "generated"))
    save_intensities(*histograms, figure_path(output, run, "intensities"))
    pictures, names = material["mixed"], material["mixed_names"]
    starts = range(0, len(names), MIXED_COLUMNS)
    in_rows = ([some[n : n + MIXED_COLUMNS] for n in starts] for some in (pictures, names))
    save_rows(*in_rows, figure_path(output, run, "mixed"))
    write_text(output, report)


def figure_path(output, run, name):
    """Where a figure of a report goes: into the run's own folder for them, or beside the report."""
    folder = run.folder / "figures" if output.parent == run.folder else output.parent
    return folder / f"{output.stem}_{name}.png"


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
        f"{codebook['perplexity']:.1f}, over positions that touch the brain "
        f"{codebook['perplexity_brain']:.1f}\n"
        f"prior: {prior['bits_per_code']:.3f} bits per code, {prior['bits_per_pixel']:.4f} per "
        f"pixel with side information; each position's own frequencies "
        f"{prior['bits_per_code_by_position']:.3f}, uniform {prior['bits_per_code_uniform']:.3f}\n"
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


def print_panel(panel):
    """How like real brains the new ones are, each figure beside its floor."""
    diversity = DIVERSITY_TITLES[panel["diversity_score"]]
    print(
        f"\n{panel['slices']:,} new brains, one for each slice of {panel['subjects']} subjects; "
        f"mean (standard deviation) over {panel['halvings']} halvings of the subjects. The floor "
        "is real subjects against other real ones; below it is no merit, but for\ndensity and "
        "coverage. Glued are real heads whose right half is another's: what a measure makes of "
        f"wrong anatomy. Diversity is\nthe mean {diversity} of two "
        "subjects' slices: above the floor, they are too alike. In brackets, slices a side"
    )
    columns = ("floor", "reconstructed", "generated", "glued")
    print(f"{'':28}" + "".join(f"{name:>20}" for name in (*columns, "generated / floor")))
    for name, entry in panel.items():
        if not isinstance(entry, dict) or "floor" not in entry:
            continue
        if entry["reason"]:
            print(f"{name.replace('_', ' '):28}  {entry['reason']}")
            continue
        title = f"{name.replace('_', ' ')} ({entry['slices_a_side']:.0f})"
        cells = [f"{entry[c]['mean']:.4f} ({entry[c]['sd']:.4f})" for c in columns]
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}, "
        cells.append(f"{ratio}above in {entry['above_floor']:.0%}")
        print(f"{title:28}" + "".join(f"{cell:>20}" for cell in cells))
    skills = panel["network_skill"]
    print(
        "network: on these slices it tells "
        + ", ".join(
            f"{name} ({'unknown' if value is None else f'{value:.2f}'})"
            for name, value in skills.items()
        )
        + ": correlations of the first two; for sex, and mixed (glued) heads, 0.5 is chance"
    )
    found = panel["memorisation"]
    copies = "copies cannot be told: these slices are as near to training slices as copies are"
    if found["copies"] is not None:
        copies = f"{found['copies']} copies, closer than {found['copy_distance']:.4f}"
    print(
        f"memorisation: to the nearest of {panel['training_slices']:,} training slices new brains "
        f"have {found['generated_median']:.4f} (median; root mean square), test slices "
        f"{found['test_median']:.4f} (one-sided Mann-Whitney test, that new ones lie closer: p = "
        f"{found['closer_p']:.2g}); {copies}"
    )


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
