"""Python processes beside the tests, with the project and the tests' support at hand."""

import os
import subprocess
import sys
from pathlib import Path

HANG = 3600  # seconds: what takes longer hangs, on the busiest machine too
TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
    "CUDA_VISIBLE_DEVICES": "-1",
}


def start_python(*arguments, **environment):
    """Starts Python with these arguments; its output is piped as text."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(*arguments, **environment):
    """Runs Python to its end, which must be a good one, and returns its standard output."""
    process = start_python(*arguments, **environment)
    out, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    return out
