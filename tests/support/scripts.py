"""The scripts, run in this process, and what they say when they refuse."""

import sys

from oasisvq.core.script import run_script

TINY = {
    "--epochs": 1,
    "--prior-epochs": 1,
    "--num-embeddings": 16,
    "--width": 8,
    "--residual-blocks": 1,
    "--prior-filters": 8,
    "--prior-residual-blocks": 1,
    "--batch-size": 4,
    "--warm-up-steps": 2,
    "--feature-steps": 2,
    "--test-fraction": 0.25,
    "--validation-fraction": 0.25,
}


def run_main(module, *flags):
    """Runs a script's `main` in this process, and returns its exit status."""
    sys.argv = [f"{module.__name__}.py", *map(str, flags)]
    try:
        run_script(module.main)
    except SystemExit as end:
        return end.code
    return 0


def refusal(capfd, module, *flags):
    """Returns the one line that a script says before it exits with status 2."""
    capfd.readouterr()
    assert run_main(module, *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{module.__name__}.py: error: ")
    return line


def train_flags(place):
    """Returns the flags of a small training on the slices of the fixture `place`."""
    tiny = [part for flag in TINY.items() for part in flag]
    return ["--dataset", place / "slices", "--data-dir", place / "data", *tiny]
