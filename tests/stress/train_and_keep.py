"""Runs train.py, and keeps the last checkpoint of each stage for kills.py to compare."""

import shutil

import train
from oasisvq.core.script import import_tensorflow_quietly, run_script


def main():
    """Trains as train.py does; its flags are the same."""
    import_tensorflow_quietly()
    from oasisvq.runs.folder import Run

    record = Run.record_prior

    def keep_and_record(run):
        for stage in ("vqvae", "pixelcnn"):
            shutil.copy(run.checkpoint_path(stage), run.folder / f"kept_{stage}.npz")
        record(run)

    Run.record_prior = keep_and_record
    train.main()


if __name__ == "__main__":
    run_script(main)
