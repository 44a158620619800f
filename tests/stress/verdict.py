"""Counts what goes wrong in the heavy proofs, alike for all of them."""

import argparse
import collections
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from oasisvq.core.files import PARTIAL

COUNTS = ("tracebacks", "hangs", "signals", "outside", "half-written", "other")
MOST_MEMORY = 2e9  # bytes
ROW = "{:<24} {:>6} {:>4}" + " {:>{}}" * len(COUNTS) + " {:>9}"


@dataclasses.dataclass
class Verdict:
    """What one proof has found.

    Attributes:
        proof: The name of the proof.
        seed: The seed of what it draws, or `"-"` if it draws nothing.
        tries: How often the product was tried.
        counts: How often each of `COUNTS` was seen. Signals are those that end a process, such as
            SIGBUS and SIGSEGV; outside are files where none may be written.
        memory: The highest peak memory of a process in bytes.
        problems: A sentence for each thing that was counted.
    """

    proof: str
    seed: int | str = "-"
    tries: int = 0
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    memory: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, kind, problem):
        """Counts a problem of a kind in `COUNTS`, and prints it."""
        if kind not in COUNTS:
            raise ValueError(f"{kind} is not one of {COUNTS}")
        self.counts[kind] += 1
        self.problems.append(problem)
        print(f"{kind}: {problem}", flush=True)

    @property
    def passed(self):
        """Whether something was tried, nothing was counted, and the memory stayed in its bound."""
        return bool(self.tries) and not self.counts.total() and self.memory < MOST_MEMORY

    def end(self, report=None):
        """Prints the table of this proof, writes it to a file if one is given, and exits."""
        # The peak of all processes that this one has started and waited for.
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        self.memory = max(self.memory, children)
        print("\n".join(table([self])), flush=True)
        if report:
            report.write_text(json.dumps(dataclasses.asdict(self)))
        sys.exit(not self.passed)


def read(report):
    """Returns the `Verdict` that `Verdict.end` wrote to a file."""
    facts = json.loads(report.read_text())
    return Verdict(**facts | {"counts": collections.Counter(facts["counts"])})


def table(verdicts):
    """Returns the lines of a table with a row for each verdict, at most 100 columns wide."""
    names = [argument for name in COUNTS for argument in (name, len(name))]
    lines = [ROW.format("proof", "tries", "seed", *names, "memory")]
    for one in verdicts:
        counts = [argument for name in COUNTS for argument in (one.counts[name], len(name))]
        memory = f"{one.memory / 1e9:.2f} GB"
        lines.append(ROW.format(one.proof, one.tries, one.seed, *counts, memory))
    return lines


def parser(text, seed=True):
    """Returns a parser with the flags that all proofs have."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--report", type=Path, help="a file for the counts, as JSON")
    if seed:
        made.add_argument("--seed", type=int, default=0)
    return made


@dataclasses.dataclass
class Ended:
    """How a process has ended: its status, `None` if it hung, its errors, its peak memory."""

    status: int | None
    errors: str
    memory: int = 0


def run(command, seconds, **options):
    """Runs a command, and ends it with its children if it takes longer than so many seconds."""
    with tempfile.TemporaryFile() as errors:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **options}
        process = subprocess.Popen(command, stderr=errors, start_new_session=True, **options)
        end, hung, pid = time.monotonic() + seconds, False, 0
        while not pid:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not pid and not hung and time.monotonic() > end:
                hung = True
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0 if pid else 0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    return Ended(None if hung else process.returncode, text, usage.ru_maxrss * 1024)


def trouble(ended, script, statuses):
    """Returns which of `COUNTS` a process belongs to that may end with these statuses, or `""`.

    With another status than 0 it must have written one line, which names the script.
    """
    if ended.status is None:
        return "hangs"
    if ended.status < 0:
        return "signals"
    if "Traceback (most recent call last)" in ended.errors:
        return "tracebacks"
    lines = errors_of(ended)
    one = len(lines) == 1 and lines[0].startswith(f"{script}.py: error: ")
    fine = ended.status == 0 or one
    return "" if fine and ended.status in statuses else "other"


def errors_of(ended):
    """Returns the lines of a process on standard error without warnings and progress."""
    lines = ended.errors.replace("\r", "\n").splitlines()
    aside = re.compile(r"warning: |\[\d\d:\d\d")  # the second one begins the times of a bar
    return [line for line in lines if line.strip() and not aside.search(line)]


def half_written(path):
    """Tells whether a path is a file that no script would leave."""
    readers = {
        ".json": lambda path: json.loads(path.read_text()),
        ".npy": np.load,
        ".npz": lambda path: dict(np.load(path)),
        ".h5": lambda path: h5py.File(path).close(),
    }
    try:
        if path.is_file():
            readers.get(path.suffix, Path.read_bytes)(path)
        return path.name.startswith(PARTIAL)
    except Exception:  # each reader has errors of its own
        return True
