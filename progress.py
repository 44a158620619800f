"""What is seen of a stage while it trains: a bar with the time left, and its history."""

import csv

import tensorflow as tf
from tqdm import tqdm

__all__ = ["Journal", "ProgressBar"]


class ProgressBar:
    """A bar over all steps of all epochs, and a line an epoch.

    Args:
        stage: Name at the bar's left.
        steps: Integer, number of steps in all.
        shown: Names of the numbers in an epoch's line, beside the losses.
    """

    def __init__(self, stage, steps, shown):
        self.stage, self.shown = stage, shown
        self.bar = tqdm(total=steps, desc=stage, unit="step", disable=None)

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
    """

    def __init__(self, folder, stage):
        self.path, self.stage = folder / f"{stage}_history.csv", stage
        self.writers = {
            split: tf.summary.create_file_writer(str(folder / "tensorboard" / stage / split))
            for split in ("train", "validation")
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for writer in self.writers.values():
            writer.close()

    def write(self, epoch, values):
        """Adds an epoch's numbers; the names of those on validation begin with `val_`."""
        row = {"epoch": epoch, **values}
        with self.path.open("a" if epoch else "w", newline="") as file:
            writer = csv.DictWriter(file, row)
            if not epoch:
                writer.writeheader()
            writer.writerow(row)
        for name, value in values.items():
            split = "validation" if name.startswith("val_") else "train"
            with self.writers[split].as_default():
                tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)
        for writer in self.writers.values():
            writer.flush()
