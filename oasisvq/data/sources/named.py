"""The names of sources, and a first look at `--dataset` that loads nothing."""

from pathlib import Path

from oasisvq.core.errors import DatasetError

NAMES = ("oasis", "oasis1", "oasis2", "demo")  # all other values are paths of folders


def check_dataset(dataset: str) -> None:
    """Refuses a value of `--dataset` that is neither one of the names nor a folder.

    Raises:
        DatasetError: If so.
    """
    if dataset not in NAMES and not (dataset and Path(dataset).is_dir()):
        raise DatasetError(
            f"--dataset {dataset}: no such folder. Expected {', '.join(NAMES)}, or a folder of "
            "slices (.png, .jpg, .tif) or of volumes (.nii, .nii.gz, .mgz, .hdr with .img)"
        )
