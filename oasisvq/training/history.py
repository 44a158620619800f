"""The history of a stage: a row an epoch, in a CSV file and as curves for TensorBoard."""

import contextlib
import csv
import re
import shutil

import tensorflow as tf

from oasisvq.core.errors import WriteError
from oasisvq.core.files import whole_file


class History:
    """Writes `STAGE_history.csv` and the curves of a stage, whole after every epoch.

    Args:
        folder: The run folder.
        stage: The name of the stage.
        rows: List of dictionaries, the numbers of the epochs so far. Their curves are drawn
            again: a process that was killed may have drawn further epochs.

    Raises:
        WriteError: If the disk is full, or a file cannot be written for another reason; so do the
            methods.
    """

    def __init__(self, folder, stage, rows=()):
        self.path, self.rows = folder / f"{stage}_history.csv", list(rows)
        self.curves = folder / "tensorboard" / stage
        shutil.rmtree(self.curves, ignore_errors=True)
        with self._curves_written():
            self.writers = {
                split: tf.summary.create_file_writer(str(self.curves / split))
                for split in ("train", "validation")
            }
        for row in self.rows:
            self._draw(row)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._curves_written():
            for writer in self.writers.values():
                writer.close()

    def write(self, means):
        """Adds the numbers of an epoch; the names of those on validation begin with `val_`."""
        self.rows.append({"epoch": len(self.rows), **means})
        with (
            whole_file(self.path) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        self._draw(self.rows[-1])

    def _draw(self, row):
        with self._curves_written():
            for name in row.keys() - {"epoch"}:
                split = "validation" if name.startswith("val_") else "train"
                with self.writers[split].as_default():
                    curve = f"epoch_{name.removeprefix('val_')}"
                    tf.summary.scalar(curve, row[name], step=row["epoch"])
            for writer in self.writers.values():
                writer.flush()

    @contextlib.contextmanager
    def _curves_written(self):
        """Turns TensorFlow's errors, which are classes for memory too, into one of the disk."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = re.search(r"; ([^;\[\n]*\w)|$", str(error))[1]  # after the path of the file
            raise WriteError(
                f"{self.curves}: the curves for TensorBoard cannot be written "
                f"({reason or type(error).__name__}). Make room on the disk, or change its "
                "permissions, and run the same command again"
            ) from error
