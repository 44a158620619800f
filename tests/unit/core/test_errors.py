"""How a script ends: what it says, where, and with which status."""

import builtins
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.core.script import print_peak_memory, run_script

ROOT = Path(__file__).parents[1]


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
    def main():
        raise error

    with pytest.raises(SystemExit):
        run_script(main)
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1


def test_help_says_nothing_of_memory():
    for script in ("dataset", "train", "predict", "similarity"):
        command = [sys.executable, ROOT / f"{script}.py", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Peak memory" not in done.stdout + done.stderr


def test_on_macos_the_unit_is_the_byte(monkeypatch, capsys):
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "darwin")
    print_peak_memory()
    assert capsys.readouterr().out == f"Peak memory: {kilobytes / 1e9:.1f} GB\n"


def test_where_the_system_does_not_tell_nothing_is_said(monkeypatch, capsys):
    load = builtins.__import__

    def without_resource(name, *arguments):
        if name == "resource":
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_resource)
    print_peak_memory()
    assert capsys.readouterr().out == ""


def test_tensorflow_comes_without_what_only_wrappers_of_keras_need():
    code = (
        "import sys; from errors import import_tensorflow_quietly as load; load()\n"
        "print(*{'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules))\n"
        "import matplotlib.pyplot, sklearn.cluster, keras\n"  # whoever needs them has them
        "load(); print(*{'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, later = done.stdout.splitlines()
    assert set(first.split()) == {"tensorflow", "keras"}
    assert set(later.split()) == {"sklearn", "matplotlib"}
