"""Writes the model card of a run: what it is, where it came from and what it is not for."""

from typing import Any

from oasisvq.core.errors import RunFolderError
from oasisvq.core.files import write_text
from oasisvq.core.words import counted
from oasisvq.data.oasis import COLLECTIONS
from oasisvq.evaluation.copies import describe_search
from oasisvq.evaluation.intervals import format_interval
from oasisvq.runs.finished import CONFIG, REPORT
from oasisvq.runs.folder import Run, read_facts

CARD = "model_card.md"
THANKS = "\n>\n".join(f"> {part.acknowledgement}." for part in COLLECTIONS["oasis"])
TERMS = f"""\
## Data, terms and thanks

The weights were learned from the slices named above, and this folder holds the slices of the test
subjects: the terms of the data apply to it too. For slices of OASIS these are the
[OASIS data use terms](https://sites.wustl.edu/oasisbrains/): no attempt to identify or contact a
participant, face reconstruction included, and an acknowledgement in every public result:

{THANKS}

## What it is not for

Not for diagnosis, nor for any decision about a patient. New brains are draws from a model of
these slices alone: it knows nothing of other ages, scanners, planes or illnesses, and the fine
anatomy of a new brain may be impossible. A study that uses new brains in place of people must say
so. Scores hold for the test subjects of this split, who come from the same source as the training
subjects.
"""


def write_model_card(run: Run) -> None:
    """Writes `model_card.md` into a run folder whose stages are all done.

    It holds data, flags, versions, commit, time and memory, and the scores of `similarity.json`
    if that exists.
    """
    config, training = read_facts(run.folder / CONFIG), run.training_facts()
    flags = config["hyperparameters"]
    versions = {**config["versions"], "commit of OASISVQ": config["commit"] or "unknown"}
    took = {
        name: ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in facts.items())
        for name, facts in training.items()
    }
    parts = [
        f"# {config['data'].get('source', run.folder.name)}: VQ-VAE and prior by OASISVQ\n",
        "A VQ-VAE that writes a brain slice of "
        f"{run.image_shape[0]}x{run.image_shape[1]} pixels as a grid of codes, and an "
        f"autoregressive prior over the grids. Seed {flags['seed']}.\n",
        _table("What it learned from", config["data"]),
        _table("What it took", took),
        _scores(run),
        _table("Versions", versions),
        _table("Flags", {f"--{k.replace('_', '-')}": value for k, value in flags.items()}),
        TERMS,
    ]
    write_text(run.folder / CARD, "\n".join(parts))


def _table(title: str, facts: dict[str, Any]) -> str:
    """Returns a heading and a Markdown table with one row per fact."""
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    return f"## {title}\n\n| | |\n|---|---|\n{rows}\n"


def _cell(value: Any) -> str:
    """Returns a value as the text of a cell, without bars and line breaks."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("\n", " ") or "(none)"


def _scores(run: Run) -> str:
    """Returns the table of the scores of the run's own test subjects."""
    if not (run.folder / REPORT).is_file():
        return "## Scores\n\nNone yet: similarity.py adds them.\n"
    try:
        scores = _chosen_scores(run.report())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(
            f"{run.folder / REPORT}: not a report of similarity.py ({error}). Delete it"
        ) from error
    return _table("Scores (mean [95% interval over subjects])", scores)


def _chosen_scores(report: dict[str, Any]) -> dict[str, str]:
    """Returns the rows of the table of scores."""
    reconstruction, prior = report["reconstruction"], report["prior"]
    intervals = {name: reconstruction[name] for name in ("ssim", "ssim_brain", "psnr")}
    intervals["no model: the mean training slice, ssim"] = report["baselines"]["mean_slice"]["ssim"]
    intervals["prior, bits per code"] = prior["bits_per_code_interval"]
    card = {
        "of": f"{counted(report['subjects'], 'test subject')}, "
        f"{counted(report['slices'], 'slice')}",
        **{name: format_interval(interval, ".4g") for name, interval in intervals.items()},
        "prior, bits per pixel": f"{prior['bits_per_pixel']:.4g}",
    }
    judgement = report.get("judgement", {})
    if "copies" in judgement:
        card |= _privacy(judgement)
    return card


def _privacy(judgement: dict[str, Any]) -> dict[str, str]:
    """Returns the rows on what the model may give away of the persons that it learned from."""
    copies = judgement["copies"]
    facts = {
        "copies of training slices": f"{copies['copies']} whole, {copies['half_copies']} by half, "
        f"of {counted(judgement['brains'], 'new brain')}, searched among "
        f"{counted(judgement['searched'], 'training slice')}; {describe_search(copies)}"
    }
    if "membership" in judgement:
        facts["membership"] = (
            "bits per code tell training from test persons with an area under the ROC curve of "
            f"{judgement['membership']:.3f} (0.5: not at all)"
        )
    return facts
