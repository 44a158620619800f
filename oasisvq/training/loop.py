"""The training loop of both stages; it resumes after any step, bit for bit."""

import contextlib
import functools
import math
import sys

import keras
import numpy as np
import tensorflow as tf

from oasisvq.core import signals
from oasisvq.core.errors import TrainingError
from oasisvq.core.files import save_weights
from oasisvq.core.progress import Progress
from oasisvq.training.checkpoint import REMEDY, Checkpoint
from oasisvq.training.devices import from_chief, is_chief, share_of_batch
from oasisvq.training.history import History

LEARNING_RATE_RISE = 50  # steps


def build_optimizer(learning_rate, steps, average=0.0):
    """Returns Adam under a cosine schedule with a short rise.

    Args:
        learning_rate: Float, the highest rate.
        steps: Integer, all steps of the stage.
        average: Float, how far the moving average of the weights, which is what is judged and
            kept, reaches back, as a share of the steps. 0 keeps the weights themselves.
    """
    rise = min(LEARNING_RATE_RISE, steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, steps - rise, alpha=0.01, warmup_target=learning_rate, warmup_steps=rise
    )
    reach = average * steps
    return keras.optimizers.Adam(
        schedule, beta_2=0.99, use_ema=reach > 1, ema_momentum=1 - 1 / max(reach, 1)
    )


class Loop:
    """Trains a compiled model, and keeps the weights that are best on the validation subjects.

    The whole state is `progress` and the variables of the model, its metrics and its optimizer.
    Saved after a step and restored, training goes on to the same end: bit for bit, if the device
    computes the same bits twice. (`keras.Model.fit` with `BackupAndRestore` resumes whole epochs
    only.)

    Args:
        model: `keras.Model`, made and compiled under the current strategy. Its name is that of
            the stage and of its files.
        training, validation: `Batches`.
        checkpoint: `Checkpoint`.
        max_bad_steps: Integer, how many steps may be undone because they led to numbers that are
            not finite. With 0, a loss that is not finite is an error.

    Attributes:
        progress: `Progress`.
        best_weights: List of arrays; `[]` before the first epoch.
    """

    def __init__(self, model, training, validation, checkpoint=None, max_bad_steps=0):
        self.model, self.name = model, model.name
        self.training, self.validation = training, validation
        self.checkpoint, self.max_bad_steps = checkpoint or Checkpoint(), max_bad_steps
        self.strategy = tf.distribute.get_strategy()
        share_of_batch(
            training.step_size
        )  # raises an error if the devices cannot share a batch evenly
        model.optimizer.build(model.trainable_variables)
        self.variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
        self.train_step = self.compile_step(self._undoable(model.train_step))
        self.test_step = self.compile_step(model.test_step)
        self.progress, self.best_weights = self.checkpoint.restore(
            self.variables, model.weights, training.steps, model.get_metrics_result()
        )

    def compile_step(self, step):
        """Returns a compiled step, a function of a batch of which every device takes a share.

        The metrics that it returns are those of the whole batch: any device's will do.
        """

        # Of one closure made several times, TensorFlow would say that it is traced too often.
        return tf.function(functools.partial(self._run_on_every_device, step))

    def _run_on_every_device(self, step, batch):
        found = self.strategy.run(step, args=(batch,))
        return tf.nest.map_structure(
            lambda value: self.strategy.experimental_local_results(value)[0], found
        )

    def _undoable(self, step):
        """Returns the step with a guard that undoes it if it leads to numbers that are not finite.

        Every device has seen the whole batch, so all of them decide alike.
        """
        if not self.max_bad_steps:
            return step

        def guarded_step(batch):
            before = [tf.identity(variable) for variable in self.variables]
            found = step(batch)
            finite = [
                tf.reduce_all(tf.math.is_finite(variable))
                for variable in map(tf.convert_to_tensor, self.variables)
                if variable.dtype.is_floating
            ]
            bad = ~tf.reduce_all(finite)

            def undo(strategy, bad, *before):
                for variable, old in zip(self.variables, before, strict=True):
                    strategy.extended.update(
                        variable.value,
                        lambda v, old, bad: v.assign(tf.where(bad, old, v)),
                        (old, bad),
                    )

            tf.distribute.get_replica_context().merge_call(undo, (bad, *before))
            return {**found, "loss": tf.where(bad, np.float32(np.nan), found["loss"])}

        return guarded_step

    def run(self, folder, epochs, monitor, patience=0, columns=(), warning=None):
        """Trains to the end. The model then has the best weights, which are also in the folder.

        Args:
            folder: Path of the run folder, for weights and history.
            epochs: Integer, the most epochs.
            monitor: The number that is lowest in the best epoch, as `"val_loss"`.
            patience: Integer, epochs without a better one before training ends; 0 for no such end.
            columns: Names of the numbers in an epoch's line, beside the losses.
            warning: Function from the history, a list of dictionaries, to a warning or `None`.

        Raises:
            TrainingError: If the loss is not finite, or a step takes more memory than there is.
            signals.Stopped: If a signal requested a stop; the checkpoint has been saved.
        """
        progress, steps = self.progress, self.training.steps
        total, done = epochs * steps, progress.epoch * steps + progress.step
        with contextlib.ExitStack() as stack:
            bar = Progress(total=total, initial=done, desc=self.name, unit="step")
            stack.enter_context(bar)
            history = History(folder, self.name, progress.history) if is_chief() else None
            stack.enter_context(history or contextlib.nullcontext())
            stack.enter_context(self._saved_at_a_signal())
            while progress.epoch < epochs and not 0 < patience <= progress.waited:
                self.finish_epoch(bar)
                with self._averaged_weights():
                    means = {**progress.means, **self.evaluate()}
                    better = self._is_better(means, monitor)
                    if better:
                        progress.best = means[monitor]
                        self.best_weights = self.model.get_weights()
                        if history:
                            save_weights(self.model, folder / f"{self.name}.weights.h5")
                if history:
                    history.write(means)
                numbers = dict.fromkeys(("loss", "val_loss", *columns))
                line = "  ".join(f"{number} {means[number]:.4g}" for number in numbers)
                Progress.write(f"{self.name} epoch {progress.epoch + 1}/{epochs}  {line}")
                progress.end_epoch(means, better)
                problem = warning(progress.history) if warning else None
                if problem:
                    print(f"train.py: warning: {self.name}: {problem}", file=sys.stderr)
            self.save()
        self.model.set_weights(self.best_weights)
        print(f"{self.name}: {progress.epoch} epochs in {progress.seconds / 60:.1f} minutes")

    def _is_better(self, means, monitor):
        # All machines must agree on the best epoch, and so on the last one.
        means[monitor] = float(from_chief(np.array([means[monitor]]))[0])
        if not np.isfinite(means[monitor]):
            raise TrainingError(
                f"{self.name}: {monitor} is {means[monitor]} after epoch "
                f"{self.progress.epoch + 1}. {REMEDY}"
            )
        return means[monitor] < self.progress.best

    def warm_up(self, steps, step):
        """Takes some steps before the first epoch.

        Args:
            steps: Integer.
            step: The training step of the model to take, as `model.train_step` is.
        """
        compiled, progress = self.compile_step(self._undoable(step)), self.progress
        bar = Progress(
            total=steps,
            initial=progress.warmed,
            desc=f"{self.name}, warm-up",
            unit="step",
            leave=False,
        )
        with bar, self._saved_at_a_signal():
            for epoch in range(math.ceil(steps / self.training.steps)):
                end = steps - epoch * self.training.steps
                first = max(progress.warmed - epoch * self.training.steps, 0)
                for batch in self.training.shuffled(epoch, first, last=end, stream=(1,)):
                    self._try(compiled, batch)
                    progress.warmed += 1
                    bar.update()
                    self._save_if_due()

    def finish_epoch(self, bar=None, steps=None):
        """Takes the remaining steps of the current epoch, or those up to `steps`.

        The means over all its steps are then in `progress.means`.
        """
        progress, last = self.progress, None
        if progress.means:  # a signal came after the last step
            return
        if not progress.step:
            self.model.reset_metrics()
        for batch in self.training.shuffled(progress.epoch, progress.step, last=steps):
            # The loss of the step before is read while this one is computed.
            self._check(last)
            last = self._try(self.train_step, batch)
            progress.step += 1
            if bar is not None:
                bar.update()
            if self.checkpoint.due:
                self._check(last)
                last = None
                self._save_if_due()
        self._check(last)
        progress.means = self._means()

    def _means(self):
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def _check(self, found):
        """Counts a step that was undone, and refuses a loss that is not finite."""
        progress = self.progress
        if found is None or np.isfinite(found["loss"].numpy()):
            return
        progress.bad_steps += 1
        progress.bad_steps_of_epoch += 1
        too_many = progress.bad_steps_of_epoch >= self.training.steps
        if too_many or progress.bad_steps > self.max_bad_steps:
            undone = progress.bad_steps - 1
            after = f", after {undone} that were undone" if undone else ""
            raise TrainingError(
                f"{self.name}: the loss is {float(found['loss'])} at epoch {progress.epoch + 1}, "
                f"step {progress.step}{after}. {REMEDY}"
            )

    def _try(self, step, batch):
        """Takes a step; if memory is short, the error names a batch size that fits."""
        try:
            return step(batch)
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(self._out_of_memory(step, batch)) from error

    def _out_of_memory(self, step, batch):
        size, replicas = self.training.step_size, self.strategy.num_replicas_in_sync
        flag, given = self.training.size_flag, size
        while size > replicas:
            size = size // 2 // replicas * replicas or replicas
            if replicas > 1:
                return f"{self.name}: out of memory at {flag} {given}. Try {size}"
            try:
                step(tf.nest.map_structure(lambda tensor, size=size: tensor[:size], batch))
            except tf.errors.ResourceExhaustedError:
                continue
            return (
                f"{self.name}: out of memory at {flag} {given}. A step of {size} fits: give {flag} "
                f"{size} and --fresh"
            )
        return f"{self.name}: out of memory even at {flag} {replicas}. Take a smaller model"

    def evaluate(self):
        """Returns the means over the slices of the validation subjects, as `val_…`."""
        self.model.reset_metrics()
        try:
            for batch in self.validation.in_order():
                self.test_step(batch)
                signals.raise_if_requested()
            return {f"val_{name}": value for name, value in self._means().items()}
        finally:
            self.model.reset_metrics()  # a checkpoint does not need these sums

    @contextlib.contextmanager
    def _averaged_weights(self):
        """Gives the model the moving averages of its weights, if the optimizer keeps them."""
        optimizer, variables = self.model.optimizer, self.model.trainable_variables
        if not optimizer.use_ema:
            yield
            return
        own = [keras.ops.convert_to_numpy(variable) for variable in variables]
        optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def _saved_at_a_signal(self):
        try:
            with signals.deferred():
                yield
        except signals.Stopped as stopped:
            self.save()
            progress = self.progress
            place = f"in epoch {progress.epoch + 1}, after {progress.step} of its steps"
            stopped.args = (
                f"{stopped}: {self.name} is saved {place if progress.ready else 'in the warm-up'}. "
                "The same command goes on from there",
            )
            raise

    def _save_if_due(self):
        signals.raise_if_requested()  # the checkpoint is saved on the way out
        if self.checkpoint.due:
            self.save()

    def save(self):
        """Saves the checkpoint, if it has a path."""
        self.checkpoint.save(self.name, self.progress, self.variables, self.best_weights)
