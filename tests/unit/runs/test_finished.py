"""The folder of a finished run is found by its files, without opening them."""

from pathlib import Path

import pytest

from oasisvq.core.errors import RunFolderError
from oasisvq.runs.finished import CONFIG, PRIOR_FACTS, find_run


def write(folder, *names):
    """Writes empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=f"not a run folder, it has no {CONFIG}"):
        find_run(tmp_path)
    write(tmp_path, CONFIG)
    with pytest.raises(RunFolderError, match="its training did not finish. Run the same train.py"):
        find_run(tmp_path)
    write(tmp_path, PRIOR_FACTS)
    assert find_run(str(tmp_path)) == tmp_path


def test_the_newest_run_is_none_that_was_being_deleted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("runs/.demo.deleted"), CONFIG, PRIOR_FACTS)
    with pytest.raises(RunFolderError, match="holds no finished run"):
        find_run(None)
    write(Path("runs/demo"), CONFIG, PRIOR_FACTS)
    assert find_run(None) == Path("runs/demo")
