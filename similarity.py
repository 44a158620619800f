"""Scores a run: how close its reconstructions are to the originals, and how good its prior is."""

import argparse
import dataclasses
import functools
import math
import sys
from pathlib import Path

from hyperparameters import DrawConfig, Hyperparameters, add_data_dir
from oasisvq.core.configuration import Parser, add_run_dir, check_new_file
from oasisvq.core.errors import DatasetError, HyperparameterError
from oasisvq.core.files import write_text
from oasisvq.core.script import import_tensorflow_quietly, run_script
from oasisvq.data.sources.named import check_dataset
from oasisvq.runs.finished import find_run

# The flags of train.py that also apply to another source. Their default is the run's own value.
SOURCE_FLAGS = [
    *("plane", "slice_range", "slice_unit", "slices_per_volume", "subject_pattern"),
    *("demo_subjects", "oasis1_image", "discs", "max_bad_scans", "pixel_size"),
    *("include", "exclude", "suffix", "persons"),
]


def main():
    """Scores reconstructions and the prior, and compares new brains with real ones."""
    arguments = parse_flags()

    import_tensorflow_quietly()
    import numpy as np

    from dataset import OASIS, open_test_slices
    from modules import load_prior, load_vqvae
    from oasisvq.core.arrays import array_on_disk
    from oasisvq.core.checks import finite
    from oasisvq.core.tables import write_table
    from oasisvq.data.sides import common_sides
    from oasisvq.evaluation.code_scores import count_codes, frequencies_by_position
    from oasisvq.evaluation.features import build_feature_network
    from oasisvq.evaluation.run_scores import (
        MIXED_COLUMNS,
        choose_extremes,
        choose_whole_subjects,
        decode_into,
        score_new_brains,
        score_slices,
    )
    from oasisvq.evaluation.summary import print_panel, print_report
    from oasisvq.figures import (
        save_extremes,
        save_histogram,
        save_intensities,
        save_pairs,
        save_rows,
    )
    from oasisvq.runs.folder import locked_run
    from oasisvq.runs.model_card import write_model_card
    from oasisvq.sampling.incremental import sample_code_grids

    with locked_run(arguments.run_dir, Hyperparameters) as run:
        slices = kept = open_test_slices(run)
        own = "dataset" not in arguments and arguments.split == "test"
        if not own:
            # The globs of the run are about the files that it was trained on.
            chosen = run.hyperparameters.replace(include=(), exclude=()).with_flags(arguments)
            config = chosen.data
            if not config.pixel_size:  # as large as those of the run
                pixel_size = kept.description.get("pixel_size_mm") or 0.0
                config = dataclasses.replace(config, pixel_size=pixel_size)
            slices = OASIS(config, arguments.data_dir, run.image_shape)
            for note in slices.split.notes:
                print(note)
        rows = slices.rows(arguments.split)
        if not len(rows):
            raise DatasetError(
                f"{slices.folder}: no slice in split {arguments.split}. Give --split all"
            )
        warn_of_training_subjects(run, slices, rows)
        vqvae, prior = load_vqvae(run), load_prior(run)
        network = run.load_weights(build_feature_network(run.image_shape))
        codes = run.training_codes()  # (m, h, w)
        counts = count_codes(codes, vqvae.num_embeddings)
        frequencies = frequencies_by_position(counts, run.smoothing())
        mean_slices = run.mean_slices()
        conditions = known_conditions(slices, rows, kept)
        scores, table = score_slices(
            vqvae, prior, slices, rows, conditions, mean_slices, frequencies
        )
        source = slices.description["source"]
        report = {"source": source, "split": arguments.split, **scores}
        if own and not arguments.output and not arguments.panel_slices:
            # The panel of an earlier scoring of this run is still that of this run.
            report |= {name: earlier for name, earlier in run.report().items() if name == "panel"}

        name = "similarity.json" if own else f"similarity_{source}_{arguments.split}.json"
        output = Path(arguments.output or run.folder / name)
        folder = run.folder / "figures" if output.parent == run.folder else output.parent

        def figure(name):
            """Returns the path of a figure: in the run, or beside a report elsewhere."""
            return folder / f"{output.stem}_{name}.png"

        write_table(output.with_suffix(".csv"), table)
        levels = {
            name.replace("_", " "): scores["ssim"]["mean"]
            for name, scores in report["baselines"].items()
        }
        save_histogram(table["ssim"], levels, figure("histogram"))
        chosen, titles = choose_extremes(table)
        originals = slices.images(rows[chosen])
        decoded = vqvae.decode(vqvae.encode(originals)).numpy()
        extremes = figure("best_median_worst")
        save_extremes(
            originals[..., 0], decoded[..., 0], titles, extremes, slices.sides(rows[chosen])
        )
        write_text(output, report)
        print_report(report)

        if arguments.panel_slices:
            # A new brain for the conditions of each of these slices, and the slice reconstructed.
            owners = slices.table["subject"].iloc[rows].to_numpy()
            rows = rows[choose_whole_subjects(owners, arguments.panel_slices, arguments.seed)]
            real_codes = vqvae.encode_all(slices.images, rows)
            uniforms = np.random.default_rng(arguments.seed).random(real_codes.shape)
            conditions = known_conditions(slices, rows, kept)
            new_codes = sample_code_grids(prior, uniforms, DrawConfig(), conditions)
            generated = finite(vqvae.decode_all(new_codes), "pixels")
            train = array_on_disk((len(codes), *run.image_shape))
            decode_into(train, vqvae, codes)
            report["panel"], shown = score_new_brains(
                network,
                slices.images(rows),
                vqvae.decode_all(real_codes),
                generated,
                train,
                slices.labels(rows),
                slices.position_keys(rows),
                arguments.seed,
            )
            new_brains, nearest, distances = shown["closest"]
            names = [["generated"] * len(distances), [f"distance {d:.3f}" for d in distances]]
            closest = figure("closest")
            save_pairs(new_brains, names[0], nearest, names[1], closest, kept.common_sides)
            histograms = shown["real_histograms"], shown["generated_histograms"]
            save_intensities(*histograms, figure("intensities"))
            starts = range(0, len(shown["mixed"]), MIXED_COLUMNS)
            pictures, names = (
                [shown[key][start:][:MIXED_COLUMNS] for start in starts]
                for key in ("mixed", "mixed_names")
            )
            # Letters that differ would tell the real slices from the new ones.
            sides = common_sides([slices.common_sides, kept.common_sides])
            save_rows(pictures, names, figure("mixed"), sides)
            write_text(output, report)
            print_panel(report["panel"])
        write_model_card(run)
        print(f"\nReport: {output}; each slice's scores: {output.with_suffix('.csv')}")


def parse_flags():
    """Reads the flags, and refuses values out of range before any file is read."""
    parser = Parser(description=__doc__)
    add_run_dir(parser, "folder that train.py made (default: the newest in runs)")
    parser.add_argument(
        "--dataset",
        default=argparse.SUPPRESS,
        help="another source to score, as for train.py (default: the run's own)",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation", "train", "all"),
        default="test",
        help="subjects to score; scores of other splits than test are too good "
        "(default: %(default)s)",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--output",
        help="the report; the .csv and the figures go beside it (default: similarity.json in the "
        "run folder, or similarity_SOURCE_SPLIT.json for other slices)",
    )
    parser.add_argument(
        "--panel-slices",
        type=int,
        default=500,
        help="new brains are drawn for, and compared with, at least so many of the slices, all "
        "slices of a subject or none; 0 draws no brains (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other brains (default: %(default)s)"
    )
    Hyperparameters.add_flags(parser, SOURCE_FLAGS, default="the run's own")
    arguments = parser.parse_args()
    Hyperparameters().with_flags(arguments)  # refuses what is out of range
    ignored = [name for name in SOURCE_FLAGS if name in arguments and "dataset" not in arguments]
    if ignored:
        flag = "--" + ignored[0].replace("_", "-")
        raise HyperparameterError(f"{flag} applies to another source only: give --dataset too")
    for flag, value in (("--panel-slices", arguments.panel_slices), ("--seed", arguments.seed)):
        if value < 0:
            raise HyperparameterError(f"{flag} must be at least 0. Received: {value}")
    output = Path(arguments.output or "similarity.json")
    if output.suffix != ".json" or (arguments.output and output.is_dir()):
        raise HyperparameterError(f"--output must be the name of a .json file. Received: {output}")
    check_new_file("--output", arguments.output)
    if "dataset" in arguments:
        check_dataset(arguments.dataset)
    arguments.run_dir = find_run(arguments.run_dir)
    return arguments


def warn_of_training_subjects(run, slices, rows):
    """Warns on standard error if subjects were trained on, because their scores are too good."""

    def person(subject):
        return slices.people.get(subject, subject)

    known = {person(subject) for subject, split in run.split().items() if split != "test"}
    subjects = set(slices.table["subject"].iloc[rows])
    seen = [subject for subject in subjects if person(subject) in known]
    if seen:
        print(
            f"similarity.py: warning: {len(seen)} of these subjects were used in training; their "
            "scores are too good",
            file=sys.stderr,
        )


def known_conditions(slices, rows, kept):
    """Returns the conditions of slices as far as the prior can know them: float32 `(n, 4)`.

    A prior that learned from slice numbers knows nothing of positions in mm, and vice versa.

    Args:
        slices: `OASIS`.
        rows: Integer array `(n,)`, rows of these slices.
        kept: `OASIS`, the slices that the run keeps: their positions have the prior's unit.
    """
    conditions = slices.conditions(rows)
    if slices.position_column != kept.position_column:
        conditions[:, 0] = math.nan
    return conditions


run = functools.partial(run_script, main)  # the command oasisvq-similarity

if __name__ == "__main__":
    run()
