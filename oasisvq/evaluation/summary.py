"""Prints the report of a run as tables."""

from oasisvq.core.words import counted
from oasisvq.evaluation.intervals import format_interval

DIVERSITY_TITLES = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", None: "similarity"}
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
        cells = (f"{_cell(scores[name]):>26}" for scores in columns.values())
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


def print_panel(panel):
    """Prints the measures of new brains, each with its floor."""
    diversity = DIVERSITY_TITLES[panel["diversity_score"]]
    print(
        f"\n{counted(panel['slices'], 'new brain')}, one for each slice of "
        f"{counted(panel['subjects'], 'subject')}; mean (standard deviation) over\n"
        f"{panel['halvings']} halvings of the subjects. The floor compares real subjects with "
        "other real subjects;\na value below it is not better (above it, for density and "
        "coverage). Glued are real heads\nwhose right half is of another head: the effect of wrong "
        f"anatomy. Diversity is the mean\n{diversity} of two subjects' slices: above the floor, "
        "they are too alike. In brackets: slices a side"
    )
    columns = ("floor", "reconstructed", "generated", "glued")
    print(f"{'':22}" + "".join(f"{name:>15}" for name in columns) + f"{'new / floor':>18}")
    for name, entry in panel.items():
        if not isinstance(entry, dict) or "floor" not in entry:
            continue
        if entry["reason"]:
            print(f"{name.replace('_', ' '):22}  {entry['reason']}")
            continue
        title = f"{name.replace('_', ' ')} ({entry['slices_a_side']:.0f})"
        cells = [f"{entry[c]['mean']:.3f} ({entry[c]['sd']:.3f})" for c in columns]
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}, "
        above = f"{ratio}above {entry['above_floor']:.0%}"
        print(f"{title:22}" + "".join(f"{cell:>15}" for cell in cells) + f"{above:>18}")
    skills = panel["network_skill"]
    print(
        "network: skill on these slices: "
        + ", ".join(
            f"{name} ({'unknown' if value is None else f'{value:.2f}'})"
            for name, value in skills.items()
        )
        + "; correlations for position and age, areas under the ROC curve for sex and mixed "
        "(glued) heads, where 0.5 is a guess"
    )
    found = panel["memorisation"]
    copies = (
        "copies cannot be recognised: these slices are as close to training slices as copies are"
    )
    if found["copies"] is not None:
        copies = f"{found['copies']} copies, closer than {found['copy_distance']:.4f}"
    print(
        f"memorisation: the median distance (root mean square) to the nearest of "
        f"{panel['training_slices']:,} training slices is {found['generated_median']:.4f} for new "
        f"brains, {found['test_median']:.4f} for test slices (one-sided Mann-Whitney test that new "
        f"brains are closer: p = {found['closer_p']:.2g}); {copies}"
    )


def _cell(interval):
    """Returns a mean with its interval, in fewer digits for decibels."""
    return format_interval(interval, ".2f" if (interval["mean"] or 0) > 1 else ".4f")
