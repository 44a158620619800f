"""What is seen of a stage while it trains: a bar with the time left, and its history."""

import csv
import shutil

import tensorflow as tf
from tqdm import tqdm

from oasisvq.core.files import whole_file

__all__ = ["Journal", "ProgressBar"]


class ProgressBar:
    """A bar over all steps of all epochs, and a line an epoch.

    Args:
        stage: Name at the bar's left.
        steps: Integer, number of steps in all.
        shown: Names of the numbers in an epoch's line, beside the losses.
        done: Integer, how many steps were done before.
    """

    def __init__(self, stage, steps, shown, done=0):
        self.stage, self.shown = stage, shown
        self.bar = tqdm(total=steps, initial=done, desc=stage, unit="step", disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def update(self):
        self.bar.update()

    def epoch(self, epoch, epochs, values):
        """Writes the epoch's line."""
        names = dict.fromkeys(("loss", "val_loss", *self.shown))
        line = "  ".join(f"{name} {values[name]:.4g}" for name in names)
        tqdm.write(f"{self.stage} epoch {epoch + 1}/{epochs}  {line}")


class Journal:
    """A stage's history: a row an epoch in `STAGE_history.csv`, and curves for TensorBoard.

    Args:
        folder: The run's.
        stage: Name of the stage.
        history: List of dictionaries, the numbers of the epochs so far; their curves are drawn
            anew, for a process that was killed may have drawn others after them.
    """

    def __init__(self, folder, stage, history=()):
        self.path, self.rows = folder / f"{stage}_history.csv", list(history)
        curves = folder / "tensorboard" / stage
        shutil.rmtree(curves, ignore_errors=True)
        self.writers = {
            split: tf.summary.create_file_writer(str(curves / split))
            for split in ("train", "validation")
        }
        for row in self.rows:
            self._draw(row)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for writer in self.writers.values():
            writer.close()

    def write(self, values):
        """Adds the next epoch's numbers; the names of those on validation begin with `val_`."""
        self.rows.append({"epoch": len(self.rows), **values})
        with whole_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        self._draw(self.rows[-1])

    def _draw(self, row):
        for name, value in row.items():
            if name == "epoch":
                continue
            split = "validation" if name.startswith("val_") else "train"
            with self.writers[split].as_default():
                short = name.removeprefix("val_")
                tf.summary.scalar(f"epoch_{short}", value, step=row["epoch"])
        for writer in self.writers.values():
            writer.flush()
