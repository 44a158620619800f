"""All the heavy proofs, one after the other, in bounded time.

    pip install "cosmic-ray>=8.7"
    python -m tests.stress.run_all [--hours 3]

Kills in write loops, small disks, kills of training, changed files, hostile inputs, broken code.
What has not ended after so many hours is stopped, with its children, and counts as failed. At the
end stands a table: the rows are proofs, with the number of their tries and their seed, and the
columns are what must not happen, all of which must be 0, and the highest peak memory of a process,
which must be below 2 GB.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.stress import kills, verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=3.0)
    arguments = parser.parse_args()
    end = time.monotonic() + 3600 * arguments.hours
    verdicts, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        if kills.start(Path(folder), "run").wait(kills.LONGEST):
            sys.exit((Path(folder) / "run.log").read_text())
        for proof in (
            ["write_loops"],
            ["small_disk"],
            ["kills"],
            ["kills", "--signal", "TERM", "--kills", "10"],
            ["hostile", "--run-dir", str(Path(folder) / "run")],
            ["inputs"],
            ["mutants", "--each", "24"],
        ):
            print(f"\n{' '.join(proof)}", flush=True)
            report = Path(folder) / "report.json"
            report.unlink(missing_ok=True)
            counted = [] if proof[0] == "mutants" else ["--report", str(report)]
            if not passes([*proof, *counted], end - time.monotonic()):
                failed.append(proof[0])
            if report.exists():
                verdicts.append(verdict.read(report))
    print("", *verdict.table(verdicts), sep="\n")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def passes(proof, seconds):
    """Tells whether a script ends well, and in time."""
    command = [sys.executable, "-m", f"tests.stress.{proof[0]}", *proof[1:]]
    process = subprocess.Popen(command, cwd=kills.ROOT, start_new_session=True)  # a group
    try:
        return process.wait(max(seconds, 0)) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print("not done in time", flush=True)
        return False


if __name__ == "__main__":
    main()
