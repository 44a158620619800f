"""A progress bar over a whole stage of training, with the time left."""

import keras
from tqdm import tqdm


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
