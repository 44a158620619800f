"""Scores a run, its reconstructions and its prior, and judges new brains beside real ones."""

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
from oasisvq.runs.finished import DRAWN, REPORT, find_run

# The flags of train.py that also apply to another source. Their default is the run's own value.
SOURCE_FLAGS = [
    *("plane", "slice_range", "slice_unit", "slices_per_volume", "subject_pattern"),
    *("demo_subjects", "oasis1_image", "discs", "max_bad_scans", "pixel_size"),
    *("include", "exclude", "suffix", "persons"),
]
MOST_BRAINS = 100_000
# Each file of a folder of new brains is a brain; its path without the ending is also its name in a
# sheet of ages.
EACH_FILE = r"(?P<subject>.+?)(?:\.nii)?\.\w+$"


def main():
    """Scores a run's reconstructions and prior, and judges new brains beside real ones."""
    arguments = parse_flags()
    import_tensorflow_quietly()
    if arguments.generated is not None:
        judge_folder(arguments)
    else:
        score_run(arguments)


def score_run(arguments):
    """Scores the reconstructions and the prior of a run, and judges the brains that it draws."""
    from dataset import OASIS, open_test_slices
    from modules import load_prior, load_vqvae
    from oasisvq.core.tables import write_table
    from oasisvq.data.sides import common_sides
    from oasisvq.evaluation.code_scores import count_codes, frequencies_by_position
    from oasisvq.evaluation.judgement import judge_brains
    from oasisvq.evaluation.run_brains import draw_brains, tell_members, through_codes
    from oasisvq.evaluation.run_scores import choose_extremes, score_slices
    from oasisvq.evaluation.summary import print_judgement, print_report
    from oasisvq.figures import save_extremes, save_histogram
    from oasisvq.report.files import ReportFiles, pictures_of_brains, save_brains
    from oasisvq.report.page import write_page
    from oasisvq.runs.folder import locked_run
    from oasisvq.runs.model_card import write_model_card

    with locked_run(arguments.run_dir, Hyperparameters) as run:
        slices = kept = open_test_slices(run)
        own = "dataset" not in arguments and arguments.split == "test"
        if not own:
            # The globs of the run are about the files that it was trained on.
            settings = run.hyperparameters.replace(include=(), exclude=())
            config = settings.with_flags(arguments).data
            if not config.pixel_size:  # as large as those of the run
                config = dataclasses.replace(config, pixel_size=kept.pixel_size or 0.0)
            slices = OASIS(config, arguments.data_dir, run.image_shape)
            for note in slices.split.notes:
                print(note)
        rows = slices.rows(arguments.split)
        if not len(rows):
            raise DatasetError(
                f"{slices.folder}: no slice in split {arguments.split}. Give --split all"
            )
        trained_on = warn_of_training_subjects(run, slices, rows)
        anew = arguments.panel_slices and not trained_on
        # What an earlier scoring of this run said of its brains holds until it is said anew.
        earlier = {} if anew or not own or arguments.output else judged_earlier(run)
        vqvae, prior = load_vqvae(run), load_prior(run)
        counts = count_codes(run.training_codes(), vqvae.num_embeddings)
        frequencies = frequencies_by_position(counts, run.smoothing())
        mean_slices = run.mean_slices()
        conditions = known_conditions(slices, rows, kept)
        scores, table = score_slices(
            vqvae, prior, slices, rows, conditions, mean_slices, frequencies
        )
        source = slices.description["source"]
        report = {"source": source, "split": arguments.split, **scores, **earlier}

        own_name = REPORT if own else f"similarity_{source}_{arguments.split}.json"
        output = Path(arguments.output or run.folder / own_name)
        own_folder = output.parent == run.folder
        files = ReportFiles(output, run.folder / "figures" if own_folder else output.parent)
        write_table(files.slices, table)
        levels = {
            name.replace("_", " "): scores["ssim"]["mean"]
            for name, scores in report["baselines"].items()
        }
        save_histogram(table["ssim"], levels, files.figure("histogram"))
        chosen, titles = choose_extremes(table)
        originals = slices.images(rows[chosen])
        decoded = vqvae.decode(vqvae.encode(originals)).numpy()
        extremes = files.figure("best_median_worst")
        save_extremes(
            originals[..., 0], decoded[..., 0], titles, extremes, slices.sides(rows[chosen])
        )
        write_text(files.output, report)
        print_report(report)
        pictures = {
            "The best, the median and the worst reconstructions by SSIM": extremes,
            "SSIM of all reconstructions": files.figure("histogram"),
        }

        if arguments.panel_slices and not anew:
            print("\nNew brains are not judged beside persons that the run was trained on")
        elif anew:
            config = DrawConfig(num_samples=arguments.panel_slices, seed=arguments.seed)
            planes = set(kept.table["plane"])
            plane = planes.pop() if len(planes) == 1 else ""
            new, known = draw_brains(run, vqvae, prior, config, plane, arguments.quick)
            raw, test = through_codes(vqvae, slices, rows)
            report["judgement"], shown = judge_brains(
                new,
                test,
                known,
                raw=raw.images,
                pixel_size=kept.pixel_size or 1.0,
                steps=run.hyperparameters.run.feature_steps,
                seed=arguments.seed,
                quick=arguments.quick,
            )
            if own:
                bits, persons = table["prior_bits_per_code"], raw.table["subject"]
                members = tell_members(run, prior, bits, persons, arguments.seed)
                report["judgement"]["membership"] = members
            # Letters that differ would tell the real slices from the new ones.
            sides = common_sides([slices.common_sides, kept.common_sides])
            judged = report["judgement"], shown
            save_brains(*judged, new, test, known, files, sides, arguments.seed)
            write_text(files.output, report)
            print_judgement(report["judgement"])
        if "judgement" in report:
            pictures |= pictures_of_brains(report["judgement"], files)
        curves = sorted((run.folder / "figures").glob("*_curves.png"))
        pictures |= {f"Training: {path.stem.replace('_', ' ')}": path for path in curves}
        facts = {"Run": str(run.folder), "Real slices": f"{source}, split {arguments.split}"}
        write_page(
            files.page, f"New brains of {run.folder.resolve().name}", report, pictures, facts
        )
        write_model_card(run)
        print(f"\nPage to read: {files.page}; report: {output}; each slice: {files.slices}")


def judge_folder(arguments):
    """Judges brains that any program made, in the files of a folder, beside real ones."""
    import numpy as np

    from dataset import OASIS
    from oasisvq.data.sides import common_sides
    from oasisvq.evaluation.judgement import (
        QUICK_BRAINS,
        QUICK_SLICES,
        brains_of,
        judge_brains,
    )
    from oasisvq.evaluation.summary import print_judgement
    from oasisvq.report.files import (
        ReportFiles,
        pictures_of_brains,
        report_on,
        save_brains,
    )
    from oasisvq.report.page import write_page

    folder, config = Path(arguments.generated), Hyperparameters().with_flags(arguments).data
    real = OASIS(config, arguments.data_dir)
    config = dataclasses.replace(
        config,
        dataset=str(folder),
        subject_pattern=EACH_FILE,
        include=("brain_*.png",) if (folder / DRAWN).is_file() else (),  # beside other pictures
        exclude=(),
        suffix="",
        persons="by-name",
        pixel_size=real.pixel_size or 0.0,
    )
    made = OASIS(config, arguments.data_dir, real.image_shape)
    new = brains_of(made, made.rows("all"), made.table["subject"].to_numpy(str))
    known, splits = brains_of(real, real.rows("all")), real.table["split"]
    if arguments.split == "all":  # half of the persons, at random
        names = np.unique(known.table["subject"])
        half = np.random.default_rng(arguments.seed).permutation(names)[: len(names) // 2]
        compared = known.table["subject"].isin(half).to_numpy()
    else:
        compared = (splits == arguments.split).to_numpy()
    test, others = (known.part(np.flatnonzero(some)) for some in (compared, ~compared))
    if arguments.quick:
        random = np.random.default_rng(arguments.seed)
        new, known = new.at_most(QUICK_BRAINS, random), known.at_most(QUICK_SLICES, random)
    judgement, shown = judge_brains(
        new,
        test,
        others,
        known,
        pixel_size=real.pixel_size or 1.0,
        seed=arguments.seed,
        quick=arguments.quick,
    )
    report = {
        "generated": str(folder),
        "source": real.description["source"],
        "split": arguments.split,
        "refitted": made.refitted(made.rows("all")),
        "judgement": judgement,
    }
    output = Path(arguments.output or report_on(folder))
    files = ReportFiles(output, output.parent)
    sides = common_sides([made.common_sides, real.common_sides])
    save_brains(judgement, shown, new, test, known, files, sides, arguments.seed)
    pictures = pictures_of_brains(judgement, files)
    write_text(output, report)
    facts = {
        "New brains": str(folder),
        "Real slices": f"{report['source']}, "
        + ("half of the persons" if arguments.split == "all" else f"split {arguments.split}"),
        "Of another size, padded or shrunk": f"{report['refitted']:,} of {len(made.table):,} "
        "slices",
    }
    write_page(files.page, f"New brains in {folder.resolve().name}", report, pictures, facts)
    print_judgement(judgement)
    print(f"\nPage to read: {files.page}; report: {output}")


def parse_flags():
    """Reads the flags, and refuses values out of range before any file is read."""
    parser = Parser(description=__doc__)
    add_run_dir(parser, "folder that train.py made (default: the newest in runs)")
    parser.add_argument(
        "--generated",
        metavar="FOLDER",
        help="judge the brains in a folder, which any program made, beside those of --dataset: "
        "slices as pictures, or volumes, each file a brain, with a sheet of ages if there is one; "
        "no run is needed",
    )
    parser.add_argument(
        "--dataset",
        default=argparse.SUPPRESS,
        help="another source to score, as for train.py (default: the run's own)",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation", "train", "all"),
        help="subjects to score; scores of other splits than test are too good (default: test, "
        "and with --generated all: half of the subjects, at random, beside the other half)",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--output",
        help="the report; page, tables and figures go beside it (default: similarity.json in the "
        "run folder, similarity_SOURCE_SPLIT.json for other slices, or "
        "runs/judged_FOLDER/similarity.json)",
    )
    parser.add_argument(
        "--panel-slices",
        type=int,
        default=500,
        help="so many new brains are drawn and judged; 0 draws none (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a rough judgement of at most 100 new brains, with one feature network in place of "
        "five, without a classifier; copies are searched among 300 real slices",
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
    if arguments.panel_slices > MOST_BRAINS:
        raise HyperparameterError(
            f"--panel-slices must be at most {MOST_BRAINS}. Received: {arguments.panel_slices}"
        )
    output = Path(arguments.output or "similarity.json")
    if output.suffix != ".json" or (arguments.output and output.is_dir()):
        raise HyperparameterError(f"--output must be the name of a .json file. Received: {output}")
    check_new_file("--output", arguments.output)
    if "dataset" in arguments:
        check_dataset(arguments.dataset)
    if arguments.generated is None:
        arguments.split = arguments.split or "test"
        arguments.run_dir = find_run(arguments.run_dir)
        return arguments
    arguments.split = arguments.split or "all"
    if "dataset" not in arguments:
        raise HyperparameterError(
            "--generated: what are the brains compared with? Name real ones by --dataset"
        )
    if arguments.run_dir:
        raise HyperparameterError("--generated judges without a run: leave out --run-dir")
    if not arguments.generated or not Path(arguments.generated).is_dir():
        raise HyperparameterError(f"--generated {arguments.generated}: is no folder")
    return arguments


def warn_of_training_subjects(run, slices, rows):
    """Warns on standard error if subjects were used in training: their scores are too good.

    Returns:
        Whether some are training subjects, not only validation subjects.
    """

    def person(subject):
        return slices.people.get(subject, subject)

    splits = {person(subject): split for subject, split in run.split().items()}
    subjects = set(slices.table["subject"].iloc[rows])
    found = [splits.get(person(subject), "test") for subject in subjects]
    seen = [split for split in found if split != "test"]
    if seen:
        print(
            f"similarity.py: warning: {len(seen)} of these subjects were used in training; their "
            "scores are too good",
            file=sys.stderr,
        )
    return "train" in seen


def judged_earlier(run):
    """Returns what an earlier scoring of a run said of its brains, as a part of the report."""
    judgement = run.report().get("judgement")
    return {"judgement": judgement} if isinstance(judgement, dict) else {}


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
