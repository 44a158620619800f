"""What is watched while a stage trains: a bar with the time left, and the loss."""

import keras
import numpy as np
from tqdm import tqdm

from errors import TrainingError


class ProgressBar(keras.callbacks.Callback):
    """A bar over all steps of all epochs, and a line an epoch.

    Args:
        stage: Name at the bar's left.
        steps: Integer, number of steps in all.
        shown: Names of the metrics in an epoch's line, beside the losses.
    """

    def __init__(self, stage, steps, shown):
        super().__init__()
        self.stage, self.steps, self.shown = stage, steps, shown

    def on_train_begin(self, logs=None):
        self.bar = tqdm(total=self.steps, desc=self.stage, unit="step", disable=None)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        names = dict.fromkeys(("loss", "val_loss", *self.shown))
        values = "  ".join(f"{name} {float(logs[name]):.4g}" for name in names)
        tqdm.write(f"{self.stage} epoch {epoch + 1}/{self.params['epochs']}  {values}")

    def on_train_end(self, logs=None):
        self.bar.close()


class StopIfNotFinite(keras.callbacks.Callback):
    """Ends training at the first batch whose loss is no number.

    Raises:
        TrainingError: It names the stage, the epoch and the step.
    """

    def __init__(self, stage):
        super().__init__()
        self.stage, self.epoch = stage, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            raise TrainingError(
                f"{self.stage}: the loss is {float(logs['loss'])} at epoch {self.epoch + 1}, step "
                f"{batch + 1}. Lower the learning rate and start again with --fresh"
            )
