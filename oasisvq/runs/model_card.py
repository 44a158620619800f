"""What a run is, where it came from and what it is not for, in its folder."""

from oasisvq.core.files import write_text
from oasisvq.data.oasis import COLLECTIONS
from oasisvq.runs.folder import REPORT

__all__ = ["write_model_card"]

CARD = "model_card.md"
THANKS = "\n>\n".join(f"> {part.acknowledgement}." for part in COLLECTIONS["oasis"])
TERMS = f"""\
## Data, terms and thanks

The weights were learned from the slices named above, and the folder holds those of the test
subjects: the terms of the data hold for it too. If they are those of OASIS, these are the
[OASIS data use terms](https://sites.wustl.edu/oasisbrains/): no attempt to identify or contact a
participant, face reconstruction included, and an acknowledgement in every public result:

{THANKS}

## What it is not for

Not for diagnosis, nor for any decision about a patient. New brains are draws from a model of
these slices alone: of other ages, scanners, planes or illnesses it knows nothing, and fine anatomy
in them need not be possible. They must not stand in for people in a study without saying so. Scores
hold for the test subjects of this split, which come from the same source as those trained on.
"""


def write_model_card(run):
    """Writes `model_card.md`: data, flags, versions, commit, time, memory, and the scores if
    `similarity.json` is there.

    Args:
        run: `Run` whose stages are all done.
    """
    config, training = run.facts()
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


def _table(title, facts):
    rows = "\n".join(f"| {name} | {_shown(value)} |" for name, value in facts.items())
    return f"## {title}\n\n| | |\n|---|---|\n{rows}\n"


def _shown(value):
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("\n", " ") or "(none)"


def _scores(run):
    """The scores of the run's own test subjects."""
    if not (run.folder / REPORT).is_file():
        return "## Scores\n\nNone yet: similarity.py puts them here.\n"
    report = run.report()
    shown = {"of": f"{report['subjects']} test subjects, {report['slices']} slices"}
    for name in ("ssim", "ssim_brain", "psnr"):
        shown[name] = _interval(report["reconstruction"][name])
    shown["no model: the mean training slice, ssim"] = _interval(
        report["baselines"]["mean_slice"]["ssim"]
    )
    shown["prior, bits per code"] = _interval(report["prior"]["bits_per_code_interval"])
    shown["prior, bits per pixel"] = f"{report['prior']['bits_per_pixel']:.4g}"
    return _table("Scores (mean [95% interval over subjects])", shown)


def _interval(value):
    return f"{value['mean']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
