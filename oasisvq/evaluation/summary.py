"""Prints the report of a run as tables."""

import textwrap

from oasisvq.core.words import counted
from oasisvq.evaluation.copies import describe_search
from oasisvq.evaluation.intervals import format_score
from oasisvq.evaluation.judge import CAUGHT

INTERPRETATION = """SSIM            usual reading
0.70 and more   good
0.50 to 0.69    fair
below 0.50      poor
It means little here: with black background and aligned heads, scores are high without any model.
The mean training slice, which shows no subject at all, has {mean_slice:.3f}: "{verdict}". Judge a
run by its distance to the baselines, and by the scores inside the brain."""


def print_report(report):
    """Prints the scores of a report as a table, and an explanation."""
    print(
        f"{report['source']}, split {report['split']}: {counted(report['subjects'], 'subject')}, "
        f"{counted(report['slices'], 'slice')}; mean [95% interval over subjects]"
    )
    columns = {"reconstruction": report["reconstruction"], **report["baselines"]}
    print(f"{'':12}" + "".join(f"{label.replace('_', ' '):>26}" for label in columns))
    for name in report["reconstruction"]:
        cells = (f"{format_score(scores[name]):>26}" for scores in columns.values())
        print(f"{name.replace('_', ' '):12}" + "".join(cells))
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
        print(f"{counted(report['refitted'], 'slice')} of another size: padded or shrunk\n")
    known = report["mean_slice_positions_known"]
    print(
        f"mean slice: the training slices' mean at the same position for {known:.0%} of the slices"
    )
    mean_slice = report["baselines"]["mean_slice"]["ssim"]["mean"]
    verdict = "good" if mean_slice >= 0.7 else "fair" if mean_slice >= 0.5 else "poor"
    print(INTERPRETATION.format(mean_slice=mean_slice, verdict=verdict))


def print_judgement(judgement):
    """Prints what tells new brains from real ones, each measure with its floor and its power."""
    print()
    _say(
        f"{counted(judgement['brains'], 'new brain')} beside "
        f"{counted(judgement['persons'], 'real person')} ({counted(judgement['slices'], 'slice')})"
    )
    if "reason" in judgement:
        _say(f"Not judged: {judgement['reason']}")
        return
    _say(
        f"The floor compares real persons with {counted(judgement['other_persons'], 'other')}; p "
        "is the share of draws of real persons that are as far apart as the new brains are. Below "
        "each measure stand the planted failures that it misses."
    )
    _print_measures(judgement["measures"])
    _print_tissue(judgement["tissue"])
    _print_predictions(judgement["predictions"])
    if "classifier" in judgement:
        new, real = (judgement["classifier"][name] for name in ("new", "real"))
        _say(
            f"a network trained to tell them apart: area under the curve {new['area']:.3f} "
            f"(p = {new['p']:.2g}); for other real persons {real['area']:.3f}"
        )
    _print_copies(judgement["copies"], judgement["searched"])
    if judgement.get("membership") is not None:
        _say(
            "membership: bits per code tell training from test persons with an area under the "
            f"curve of {judgement['membership']:.3f}"
        )


def _say(text, indent=0):
    """Prints a text in lines of at most 100 characters."""
    space = " " * indent
    print(textwrap.fill(text, 100, initial_indent=space, subsequent_indent=space))


def _print_measures(measures):
    """Prints the measures that catch a planted failure, and names those that catch none."""
    print(f"{'':24}{'new':>10}{'floor (sd)':>20}{'new / floor':>13}{'p':>8}")
    seeing = {name: entry for name, entry in measures.items() if entry["caught"]}
    for name, entry in seeing.items():
        floor = f"{entry['floor']:.4g} ({entry['floor_sd']:.2g})"
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
        title = name.replace("_", " ")
        print(f"{title:24}{entry['value']:>10.4g}{floor:>20}{ratio:>13}{entry['p']:>8.2g}")
        _say(f"misses: {', '.join(entry['missed']) or 'none of the planted failures'}", 4)
    blind = {name: entry for name, entry in measures.items() if not entry["caught"]}
    titles = ", ".join(name.replace("_", " ") for name in blind)
    _say(f"left out, they catch no planted failure: {titles or 'none'}")
    further = [name.replace("_", " ") for name, entry in blind.items() if entry["p"] <= CAUGHT]
    if further:
        _say(f"yet by these the new brains are further than real persons are: {', '.join(further)}")
    planted = {name for entry in measures.values() for name in entry["planted"]}
    caught = {name for entry in measures.values() for name in entry["caught"]}
    _say(
        f"planted failures that no measure catches: {', '.join(sorted(planted - caught)) or 'none'}"
    )


def _print_tissue(tissue):
    """Prints how the tissue fraction goes with age."""
    if tissue is None:
        return
    _say(f"tissue fraction by age: {_describe_tissue(tissue)} times those of real brains")
    if tissue.get("real") is not None:
        real = _describe_tissue(tissue["real"])
        _say(f"the real persons in their place, beside the other ones: {real} times theirs", 4)


def _describe_tissue(tissue):
    """Returns a text on the differences at each age, and on the slope and the spread."""
    bands = ", ".join(
        f"{band['ages']}: " + ("too few" if band["d"] is None else f"{band['d']:+.2f}")
        for band in tissue["bands"]
    )
    slope = "unknown" if tissue["slope_ratio"] is None else f"{tissue['slope_ratio']:.2f}"
    return f"Cohen's d at {bands}; slope {slope} and spread {tissue['spread_ratio']:.2f}"


def _print_predictions(predictions):
    """Prints how well age, sex and CDR are told from new brains."""
    known = {target: entry for target, entry in predictions.items() if entry is not None}
    for target, entry in known.items():
        cells = {
            name: f"{score['error']:.1f} years, slope {score['slope']:.2f}"
            if target == "age"
            else f"{score:.3f}"
            for name, score in entry.items()
        }
        _say(
            f"{target} told from new brains: {cells['on_new']}; from real ones: "
            f"{cells['on_real']}; from real ones after learning from new brains: "
            f"{cells['trained_on_new']}"
        )


def _print_copies(copies, searched):
    """Prints how many new brains are copies, and what the search finds."""
    _say(
        f"copies among {counted(searched, 'known slice')}: "
        f"{counted(copies['copies'], 'new brain')} of a whole head, "
        f"{copies['half_copies']} of half a head; {describe_search(copies)}"
    )
