"""How a script ends: what it says, where, and with which status."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from oasisvq.core import script
from oasisvq.core.errors import DatasetError, DownloadError
from oasisvq.core.script import peak_memory, print_peak_memory, run_script

ROOT = Path(script.__file__).parents[2]


def raising(error):
    def main():
        raise error

    return main


def test_a_script_ends_with_its_peak_memory(capsys):
    def main():
        print("done", np.ones(2**25).sum())  # 0.27 GB, given back before the end

    run_script(main)
    done, last = capsys.readouterr().out.splitlines()
    gigabytes = float(re.fullmatch(r"Peak memory: (\d+\.\d) GB", last)[1])
    assert done.startswith("done")
    assert 0.3 <= gigabytes < 200  # kilobytes taken for bytes would give 0.0


@pytest.mark.parametrize("error", [DatasetError("wrong"), KeyboardInterrupt(), OSError("full")])
def test_a_script_that_failed_says_why_and_no_more(error, capsys):
    with pytest.raises(SystemExit):
        run_script(raising(error))
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (DatasetError("no slices\n in data"), 2, "no slices in data"),
        (DownloadError("no answer"), 1, "no answer"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError("no space"), 1, "no space"),
        (MemoryError(), 1, "out of memory"),
        (tf.errors.ResourceExhaustedError(None, None, "0x7f"), 1, "out of memory: lower --batch"),
    ],
)
def test_the_status_and_one_line_tell_the_kind_of_failure(
    error, status, reason, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["somewhere/train.py"])
    with pytest.raises(SystemExit) as ended:
        run_script(raising(error))
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(f"train.py: error: {reason}")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()))


def test_help_says_nothing_of_memory():
    for name in ("dataset", "train", "predict", "similarity"):
        command = [sys.executable, ROOT / f"{name}.py", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Peak memory" not in done.stdout + done.stderr


def test_on_macos_the_unit_is_the_byte(monkeypatch, capsys):
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "darwin")
    print_peak_memory()
    assert capsys.readouterr().out == f"Peak memory: {kilobytes / 1e9:.1f} GB\n"


def test_where_the_system_does_not_tell_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(script, "resource", None)
    print_peak_memory()
    assert capsys.readouterr().out == ""
    assert peak_memory() == 0


@pytest.mark.slow
def test_tensorflow_is_imported_without_its_lines_on_standard_error():
    code = (
        "import sys; from oasisvq.core.script import import_tensorflow_quietly as load\n"
        "load(); print('tensorflow' in sys.modules); print('ours', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "ours\n")
