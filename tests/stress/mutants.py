"""Breaks the code in one place at a time, and counts which breaks the tests notice.

    pip install "cosmic-ray>=8.7"
    python -m tests.stress.mutants [--each 40] [--seed 0] [--processes 2] [--only NAME ...]

Of what must not break silently (the split, the masks, the quantiser, the sampler, SSIM, downloads)
so many mutants each are drawn from all that Cosmic Ray makes, and each is given to the tests of its
file, in a copy of the project. A mutant survives if they pass all the same; a test that hangs has
noticed it. The survivors are printed as differences.
"""

import argparse
import ast
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
MODEL_TESTS = "tests/scripts/test_modules.py"
# Name: file, its parts that are mutated (none: all), the tests that must notice.
TARGETS = {
    "split": ("oasisvq/data/splits.py", (), "tests/unit/data/test_splits.py"),
    "masks": ("modules.py", ("PixelConvLayer", "ResidualBlock"), MODEL_TESTS),
    "quantiser": ("modules.py", ("VectorQuantizer",), MODEL_TESTS),
    "draw": ("oasisvq/sampling/draw.py", (), "tests/unit/sampling"),
    "sampler": ("oasisvq/sampling/incremental.py", (), "tests/unit/sampling"),
    "SSIM of the loss": ("oasisvq/nn/losses.py", (), "tests/unit/nn/test_losses.py"),
    "SSIM": (
        "oasisvq/evaluation/image_scores.py",
        (),
        "tests/unit/evaluation/test_image_scores.py",
    ),
    "download": ("oasisvq/data/download.py", (), "tests/unit/data/test_download.py"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=40, help="mutants of each (default: 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=tuple(TARGETS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = {name: examine(Path(folder), name, arguments) for name in arguments.only}
    killed, total = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    print(f"\nall: {killed} of {total} killed, {killed / total:.0%}")
    sys.exit(killed < 0.85 * total)


def examine(folder, name, arguments):
    """Returns how many of a target's mutants were killed, and of how many."""
    file, parts, tests = TARGETS[name]
    copies = [copied(folder / f"{name}-{number}") for number in range(arguments.processes)]
    began = time.monotonic()
    if not passes(copies[0], tests):
        sys.exit(f"{tests} fail without any mutant")
    longest = 60 + 4 * (time.monotonic() - began)
    mutants = drawn(folder, copies[0] / file, parts, arguments)
    killed, survivors = 0, []
    queue = multiprocessing.get_context("spawn").Manager().Queue()
    for copy in copies:
        queue.put(copy)
    tasks = [(queue, file, mutant, tests, longest) for mutant in mutants]
    with (
        multiprocessing.get_context("spawn").Pool(arguments.processes) as pool,
        tqdm(total=len(tasks), desc=name, unit="mutant", disable=None) as bar,
    ):
        for difference in pool.imap_unordered(tried, tasks):
            killed += difference is None
            survivors += [difference] * (difference is not None)
            bar.update()
    print(f"{name}: {killed} of {len(mutants)} killed", flush=True)
    for difference in survivors:
        print(difference, flush=True)
    return killed, len(mutants)


def copied(folder):
    """Copies the project's files to a folder, and returns it."""
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def command(tests):
    return f"{sys.executable} -m pytest -x -q -n 0 -p no:cacheprovider {tests}"


def passes(copy, tests):
    return not subprocess.run(command(tests).split(), cwd=copy, capture_output=True).returncode


def drawn(folder, path, parts, arguments):
    """Draws some of all the mutations that there are of a file's parts."""
    with use_db(str(folder / "work.sqlite"), WorkDB.Mode.create) as database:
        init([path], database, {})
        items = [item.mutations[0] for item in database.work_items]
    tree = ast.parse(path.read_text())
    ranges = [(n.lineno, n.end_lineno) for n in tree.body if getattr(n, "name", None) in parts]
    chosen = [
        item
        for item in items
        if not parts or any(low <= item.start_pos[0] <= high for low, high in ranges)
    ]
    chosen.sort(key=lambda item: (item.operator_name, item.occurrence))
    return random.Random(arguments.seed).sample(chosen, min(arguments.each, len(chosen)))


def tried(task):
    """Returns the difference that a mutant is if it survives, or `None`."""
    queue, file, mutant, tests, longest = task
    copy = queue.get()
    try:
        os.chdir(copy)
        where = mutant.occurrence, mutant.start_pos, mutant.end_pos
        mutation = type(mutant)(file, mutant.operator_name, *where, mutant.operator_args)
        result = mutate_and_test([mutation], command(tests), longest)
        return result.diff if result.test_outcome == TestOutcome.SURVIVED else None
    finally:
        queue.put(copy)


if __name__ == "__main__":
    main()
