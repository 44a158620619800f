"""Writes `report.html`: what was judged, each measure in plain words, and pictures, in one file."""

import base64
import dataclasses
import math
from importlib import resources
from pathlib import Path

import jinja2

from oasisvq.core.files import write_text
from oasisvq.core.words import counted
from oasisvq.evaluation.anatomy import QUANTITIES
from oasisvq.evaluation.intervals import format_score
from oasisvq.evaluation.judge import CAUGHT

# What each measure looks at.
MEANINGS = {
    "feature_distance": "What small networks see in the slices: the Fréchet distance of their "
    "outputs.",
    "spectrum": "Blur, grain and size: the power at each spatial frequency, where it differs most.",
    "twins": "Brains that are as like another new brain as hardly any real person is like another.",
    "brain_area": "The area of the brain in its slice.",
    "tissue_fraction": "Grey and white matter over the brain, a share that falls with age.",
    "ventricles": "Fluid deep inside the brain, a share that grows with age.",
    "ventricle_asymmetry": "The difference between the left and the right ventricle.",
    "mirror_correlation": "How like the brain is to its mirror image.",
    "islands": "Small pieces of white matter that are joined to nothing.",
    "holes": "Small holes in the white matter.",
    "ribbon": "How much of the outline of the tissue is grey matter, as the cortex is.",
    "sharpness": "How steep the edges are.",
    "fine_detail": "Fine detail beside coarse edges.",
    "tissue_by_age": "How far apart the lines are that grey and white matter follow with age.",
    "age_error": "How much further the ages asked for are from those that a model sees, than in "
    "real brains.",
    "left_against_right": "How well the differences between left and right tell new brains from "
    "real ones.",
    "form_of_white_matter": "How well islands, holes and ribbon, taken together, tell new brains "
    "from real ones.",
}
DEVIATIONS = "standard deviations of real slices"
AREA = "areas under the ROC curve, 0.5 for a guess"
UNITS = {
    **dict.fromkeys(("spectrum", *QUANTITIES), DEVIATIONS),
    **dict.fromkeys(("left_against_right", "form_of_white_matter"), AREA),
    "twins": "shares of the brains",
    "tissue_by_age": "standard deviations from the line",
    "age_error": "years",
}
SCORES = {
    "ssim": "SSIM",
    "ssim_brain": "SSIM inside the brain",
    "ms_ssim": "MS-SSIM",
    "psnr": "PSNR (dB)",
}
# The limits of success.
MOST_TOLD = 0.60  # area under the ROC curve of what tells new brains from real ones
MOST_EFFECT = 0.2  # Cohen's d
SLOPES = 0.9, 1.1  # of new brains to real ones
SPREADS = 0.8, 1.25
MOST_ERROR = 1.15  # of who learned from new brains to who learned from real ones
MOST_FALSE, FEWEST_FOUND = 1, 95  # percent: false alarms, and planted copies that are found
FEWEST_BRAINS = 500  # that p means something for

# The drawings: standard deviations of the floor's draws, from which the middle is at 0.
AXIS = -3, 300
TICKS = {0: "floor", 2: "2 SD", 10: "10", 100: "100"}


@dataclasses.dataclass(frozen=True)
class Limit:
    """A number beside the limits within which it is a success.

    Attributes:
        what: What the number is, a short text.
        value: The number, `None` if it is not known.
        least, most: Floats.
        unit: Text after the numbers.
        note: What it was computed from, a text.
    """

    what: str
    value: float | None
    least: float = -math.inf
    most: float = math.inf
    unit: str = ""
    note: str = ""

    @property
    def kept(self):
        """Whether the number lies within its limits, `None` if it is not known."""
        known = self.value is not None and not math.isnan(self.value)
        return self.least <= self.value <= self.most if known else None

    @property
    def text(self):
        """The limits in words."""
        least, most = (f"{end:g}".replace("-", "\N{MINUS SIGN}") for end in (self.least, self.most))
        if math.isinf(self.least):
            return f"at most {most}{self.unit}"
        return f"at least {least}{self.unit}" if math.isinf(self.most) else f"{least} to {most}"


def write_page(path, title, report, pictures, facts):
    """Writes the page of a report. It loads nothing from elsewhere, and holds no program.

    Args:
        path: The file to write, `.html`.
        title: Text.
        report: The report of `similarity.py`. Its part `judgement` is that of `judge_brains`, or
            holds the `reason` why there is none; it may have `membership` too. What is not there
            is left out.
        pictures: Dictionary from a caption to the path of a PNG.
        facts: Dictionary of texts about what was judged.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "number": format_number,
        "interval": format_score,
        "heading": _heading,
        "counted": counted,
    }
    template = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    html = environment.from_string(template).render(
        title=title,
        report=report,
        facts=facts,
        pictures={caption: embed(file) for caption, file in pictures.items()},
        scores=SCORES,
        level=CAUGHT,
        fewest_brains=FEWEST_BRAINS,
        most_false=MOST_FALSE,
        ticks={text: place(deviations) for deviations, text in TICKS.items()},
        band=(place(-2), place(2) - place(-2)),
        **describe_judgement(report.get("judgement") or {}),
    )
    write_text(path, html)


def describe_judgement(judgement):
    """Returns what the template shows of a judgement, in the order of the page."""
    judgement = {name: part for name, part in judgement.items() if part is not None}
    measures = [describe_measure(*item) for item in judgement.get("measures", {}).items()]
    seeing = [one for one in measures if one["caught"]]
    failures = dict.fromkeys(name for one in measures for name in one["planted"])
    return {
        "judgement": judgement,
        "further": [one for one in seeing if one["further"]],
        "near": [one for one in seeing if not one["further"]],
        "blind": [one for one in measures if not one["caught"]],
        "catchers": {
            name: [one["title"] for one in seeing if name in one["caught"]] for name in failures
        },
        "tissue": limits_of_tissue(judgement.get("tissue")),
        "predictions": limits_of_predictions(judgement.get("predictions")),
        "classifier": limits_of_classifier(judgement.get("classifier")),
        "copies": limits_of_copies(judgement.get("copies")),
    }


def describe_measure(name, entry):
    """Returns what the template shows of a measure, whose `entry` is that of `judge.judge`."""
    failures = sorted(entry["planted"], key=lambda one: -entry["planted"][one]["value"])
    told = UNITS.get(name) == AREA
    return {
        **entry,
        "name": name,
        "title": _heading(name),
        "meaning": MEANINGS.get(name, ""),
        "unit": UNITS.get(name, ""),
        "further": entry["p"] <= CAUGHT,
        "limit": Limit(_heading(name), entry["value"], most=MOST_TOLD) if told else None,
        "place": place(_deviations(entry, entry["value"])),
        "marks": [
            {
                "failure": failure,
                "value": entry["planted"][failure]["value"],
                "caught": failure in entry["caught"],
                "place": place(_deviations(entry, entry["planted"][failure]["value"])),
            }
            for failure in failures
        ],
    }


def _deviations(entry, value):
    """Returns how many standard deviations of the floor's draws a value lies above the floor."""
    apart = value - entry["floor"]
    return apart / entry["floor_sd"] if entry["floor_sd"] else math.copysign(math.inf, apart)


def place(deviations):
    """Returns where so many standard deviations lie in a drawing, in percent of its width.

    Near the floor the scale is even, far from it logarithmic. What lies outside is at an end.
    """
    low, high, x = (math.asinh(n) for n in (*AXIS, min(max(AXIS[0], deviations), AXIS[1])))
    return round(2 + 96 * (x - low) / (high - low), 1)


def limits_of_tissue(tissue):
    """Returns the `Limit`s of tissue by age, from what `compare_tissue` returned."""
    if not tissue:
        return []
    real = tissue.get("real") or {"slope_ratio": None, "spread_ratio": None}
    of_real = {band["ages"]: band["d"] for band in real.get("bands", [])}
    bands = [
        Limit(
            f"Cohen's d at {band['ages']} years",
            band["d"],
            -MOST_EFFECT,
            MOST_EFFECT,
            note=f"{band['new']:,} new and {counted(band['real'], 'real slice')}; "
            + _of_real(of_real.get(band["ages"])),
        )
        for band in tissue["bands"]
    ]
    slopes, spreads = (_of_real(real[name]) for name in ("slope_ratio", "spread_ratio"))
    return [
        *bands,
        Limit("Slope against age, new to real", tissue["slope_ratio"], *SLOPES, note=slopes),
        Limit(
            "Spread about that line, new to real", tissue["spread_ratio"], *SPREADS, note=spreads
        ),
    ]


def _of_real(value):
    """Returns a text on what real persons have in the place of new brains."""
    return (
        f"of real persons beside others: {'not known' if value is None else format_number(value)}"
    )


def limits_of_predictions(predictions):
    """Returns the `Limit`s of age, sex and CDR, from what `compare_predictions` returned."""
    limits = []
    for name, entry in (predictions or {}).items():
        title = name.upper() if name == "cdr" else _heading(name)
        if entry is None:
            limits.append(Limit(title, None, note="Known of too few brains."))
        else:
            limits += _limits_of_age(entry) if name == "age" else [_limit_of_area(title, entry)]
    return limits


def _limits_of_age(entry):
    new, real, learned = (entry[name] for name in ("on_new", "on_real", "trained_on_new"))
    slopes, errors = ([format_number(x[n]) for x in (new, real)] for n in ("slope", "error"))
    return [
        Limit(
            "Age told from new brains: slope, new to real",
            _ratio(new["slope"], real["slope"]),
            *SLOPES,
            note=f"A regression that learned from real slices has a slope of {slopes[0]} on new "
            f"brains, and errs by {errors[0]} years; on real persons {slopes[1]} and {errors[1]} "
            "years.",
        ),
        Limit(
            "Age learned from new brains: error, to that learned from real ones",
            _ratio(learned["error"], real["error"]),
            most=MOST_ERROR,
            note=f"On real persons, a regression errs by {format_number(learned['error'])} years "
            f"if it learned from new brains, by {errors[1]} years if from real ones.",
        ),
    ]


def _limit_of_area(title, entry):
    new, real, learned = (entry[name] for name in ("on_new", "on_real", "trained_on_new"))
    return Limit(
        f"{title} learned from new brains: error, to that learned from real ones",
        _ratio(1 - learned, 1 - real),
        most=MOST_ERROR,
        note="The error is 1 minus the area under the ROC curve. On real persons, a "
        f"classifier has an area of {format_number(learned)} if it learned from new brains, of "
        f"{format_number(real)} if from real ones; the latter has {format_number(new)} on new "
        "brains.",
    )


def limits_of_classifier(classifier):
    """Returns the `Limit` of a small network that tells new brains from real ones, in a list."""
    if not classifier:
        return []
    new, real = classifier["new"], classifier["real"]
    note = (
        f"p = {format_number(new['p'], 2)}. For other real persons in place of the new brains the "
        f"area is {format_number(real['area'])}, p = {format_number(real['p'], 2)}."
    )
    return [Limit("Area under the ROC curve", new["area"], most=MOST_TOLD, note=note)]


def limits_of_copies(copies):
    """Returns the `Limit`s of the test for copies, from what `find_copies` returned."""
    if not copies:
        return []
    note = "Real slices of other persons that are taken for copies."
    false = Limit(
        "False alarms", 100 * copies["false_alarms"], most=MOST_FALSE, unit="%", note=note
    )
    found = [
        Limit(f"Found: {kind}", 100 * share, FEWEST_FOUND, unit="%")
        for kind, share in copies["found"].items()
    ]
    return [false, *found]


def embed(path):
    """Returns a PNG as the source of an image within the page, `None` if there is no such file."""
    path = Path(path)
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def format_number(value, digits=3):
    """Returns a number with so many significant digits, or a dash if it is not known."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    text = (
        f"{value:,.0f}" if value == 0 or 1000 <= abs(value) < math.inf else f"{value:#.{digits}g}"
    )
    return text.removesuffix(".").replace("-", "\N{MINUS SIGN}")


def _ratio(value, other):
    return value / other if other else None


def _heading(name):
    """Returns the name of a measure as a heading."""
    return name[:1].upper() + name[1:].replace("_", " ")
