"""Finds the folder of a finished run, without TensorFlow: so a wrong path is refused at once."""

from pathlib import Path

from oasisvq.core.errors import RunFolderError

CONFIG = "config.json"
PRIOR_FACTS = "pixelcnn.json"
REPORT = "similarity.json"  # of the run's own test subjects
DRAWN = "brains.json"  # how predict.py drew the brains of a folder


def find_run(folder: str | Path | None) -> Path:
    """Returns the folder of a finished run: this one, or the newest below `runs` for `None`.

    Raises:
        RunFolderError: If there is none.
    """
    folder = _newest_run() if folder is None else Path(folder)
    if not (folder / CONFIG).is_file():
        raise RunFolderError(
            f"{folder}: not a run folder, it has no {CONFIG}. Give one that train.py made as "
            "--run-dir"
        )
    if not (folder / PRIOR_FACTS).is_file():
        raise RunFolderError(
            f"{folder}: has no {PRIOR_FACTS}: its training did not finish. Run the same train.py "
            "command again, which resumes it"
        )
    return folder


def _newest_run() -> Path:
    # Hidden folders are what killed processes had begun to delete.
    paths = Path("runs").glob(f"[!.]*/{PRIOR_FACTS}")
    finished = sorted(paths, key=lambda path: path.stat().st_mtime)
    if not finished:
        raise RunFolderError("runs: holds no finished run. Run train.py first, or give --run-dir")
    return finished[-1].parent
