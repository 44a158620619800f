"""train.py, with the stages' last checkpoints kept in the run folder for kills.py to look at."""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train  # noqa: E402
from oasisvq.core.script import import_tensorflow_quietly, run_script  # noqa: E402


def main():
    if "--help" not in sys.argv:
        import_tensorflow_quietly()
        from oasisvq.runs import folder as runs

        record = runs.Run.record_prior

        def keep_and_record(run):
            for stage in ("vqvae", "pixelcnn"):
                shutil.copy(run.checkpoint(stage), run.folder / f"kept_{stage}.npz")
            record(run)

        runs.Run.record_prior = keep_and_record
    train.main()


if __name__ == "__main__":
    run_script(main)
