"""One stage of training, step by step: what both stages share."""

import contextlib
import functools
import math
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from oasisvq.core import signals as stopping
from oasisvq.core.errors import TrainingError
from oasisvq.core.files import save_weights
from oasisvq.core.script import peak_memory
from oasisvq.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from oasisvq.training.devices import is_chief, local_replicas, share_of_batch
from oasisvq.training.history import Journal, ProgressBar

__all__ = ["Stage", "build_optimizer", "feed"]

LEARNING_RATE_RISE = 50  # steps


def build_optimizer(learning_rate, steps, average=0.0):
    """Adam under a cosine schedule with a short rise. What is judged and kept is a moving average
    of the weights that reaches back `average` of the steps; for 0, the weights themselves."""
    rise = min(LEARNING_RATE_RISE, steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, steps - rise, alpha=0.01, warmup_target=learning_rate, warmup_steps=rise
    )
    reach = average * steps
    return keras.optimizers.Adam(
        schedule, beta_2=0.99, use_ema=reach > 1, ema_momentum=1 - 1 / max(reach, 1)
    )


def batches_in_order(rows, batch_size):
    """Rows `(n,)` as batches `(steps, B)`, and weights: 0 for what only fills the last one."""
    steps = math.ceil(len(rows) / batch_size)
    filled = np.resize(rows, (steps, batch_size))
    weights = (np.arange(filled.size) < len(rows)).reshape(filled.shape)
    return filled, weights


def batches_at_random(rows, batch_size, *seeds):
    """The batches `(steps, B)` of an epoch, a function of the seeds alone; without the last,
    incomplete one, unless it is the only one."""
    order = np.random.default_rng(seeds).permutation(rows)
    batch_size = min(batch_size, len(rows))
    steps = len(rows) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def feed(read, rows, weights=None):
    """What `read` makes of each batch's rows, and the rows' weights: each replica has its share.

    Args:
        read: Function from an int64 tensor of rows `(n,)` to a tensor, or a structure of them,
            each `(n, …)`. It runs beside the training.
        rows: Integer array `(steps, B)`.
        weights: Float array `(steps, B)`. Default: 1.
    """
    if not len(rows):  # all of them are done
        return
    strategy = tf.distribute.get_strategy()
    share = share_of_batch(rows.shape[1])
    numbers = local_replicas()

    def mine(array, dtype):  # what this process's replicas take, (steps, b)
        return array.reshape(len(rows), -1, share)[:, numbers].reshape(len(rows), -1).astype(dtype)

    weights = np.ones(rows.shape) if weights is None else weights
    batches = tf.data.Dataset.from_tensor_slices((mine(rows, np.int64), mine(weights, np.float32)))
    batches = batches.map(lambda some, weights: (read(some), weights), num_parallel_calls=2)
    for batch in batches.prefetch(2):

        def of_replica(context, batch=batch):
            first = numbers.index(context.replica_id_in_sync_group) * share
            return tf.nest.map_structure(lambda tensor: tensor[first : first + share], batch)

        alone = strategy.num_replicas_in_sync == 1
        yield batch if alone else strategy.experimental_distribute_values_from_function(of_replica)


class Stage:
    """Trains a model, and keeps the weights that are best on the validation subjects.

    The model has two methods: `losses(batch, training)` gives a dictionary of
    tensors `(B, …)`, a row a slice, among them `"loss"`, whose mean is lowered;
    `summarise(means)` makes of their means over an epoch, floats or arrays, the
    numbers of the history.

    What a stage has done so far is all in its `progress` and in the variables of
    model and optimizer: saved together after a step and put back, they go on to
    the same end, bit by bit where the device computes so.

    Args:
        name: Of the stage, its files and its bar.
        model: `keras.Model`, made under the current strategy, as was `optimizer`.
        optimizer: See `build_optimizer`.
        read: See `feed`.
        training, validation: Row numbers `(n,)`.
        batch_size: Integer, slices a step, over all replicas.
        epochs: Integer.
        seed: Integer, gives each epoch its order.
        checkpoint: Path of the file that `progress` is saved in, or `None`.
        checkpoint_minutes: Float, how often. It is saved at the end, and at a signal, too.
        max_bad_steps: Integer, how many steps may be undone because their loss or gradient was
            not finite. With 0, none is, and such a loss is an error.
    """

    def __init__(
        self, name, model, optimizer, read, training, validation, batch_size, epochs, seed,
        checkpoint=None, checkpoint_minutes=math.inf, max_bad_steps=0,
    ):  # fmt: skip
        self.name, self.model, self.optimizer, self.read = name, model, optimizer, read
        self.training, self.validation, self.seed = training, validation, seed
        self.batch_size, self.epochs = min(batch_size, len(training)), epochs
        self.checkpoint, self.checkpoint_seconds = checkpoint, 60 * checkpoint_minutes
        self.max_bad_steps = max_bad_steps
        self.strategy = tf.distribute.get_strategy()
        share_of_batch(self.batch_size)  # raises if it does not come out even
        optimizer.build(model.trainable_variables)
        self.compiled_train_step = tf.function(self.train_step)
        self.compiled_test_step = tf.function(self.test_step)
        self.progress, self.best_weights = Progress(), []
        self.began = self.saved = time.monotonic()
        if checkpoint:
            self._restore()

    @property
    def steps(self):
        """Of an epoch."""
        return len(self.training) // self.batch_size

    @property
    def variables(self):
        """All that training changes."""
        return [*self.model.variables, *self.optimizer.variables]

    def train_step(self, batch, **options):
        """One step on every replica's share; the sums over all slices of what it measured."""

        def replica_step(batch):
            before = [tf.identity(variable) for variable in self.variables] * self._may_undo
            with tf.GradientTape() as tape:
                measured = self.model.losses(batch, training=True, **options)
                loss = tf.reduce_sum(measured["loss"]) / self.batch_size
            variables = self.model.trainable_variables
            gradients = tape.gradient(loss, variables)
            known = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
            self.optimizer.apply(*zip(*known, strict=True))
            measured = tf.nest.map_structure(lambda value: tf.reduce_sum(value, axis=0), measured)
            if self._may_undo:
                measured["loss"] = self._undo_if_bad(before, measured["loss"], known)
            return measured

        return self._sum(self.strategy.run(replica_step, args=(batch,)))

    @property
    def _may_undo(self):
        return self.max_bad_steps > 0

    def _undo_if_bad(self, before, loss, pairs):
        """Puts the variables back if the loss or a gradient, of any replica, is not finite; the
        loss, or NaN if it did."""
        finite = [tf.math.is_finite(tf.reduce_sum(gradient)) for gradient, _ in pairs]
        good = tf.cast(tf.reduce_all([*finite, tf.math.is_finite(loss)]), tf.float32)
        context = tf.distribute.get_replica_context()
        bad = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - good) > 0

        def undo(strategy, bad, *before):
            for variable, old in zip(self.variables, before, strict=True):
                strategy.extended.update(
                    variable.value, lambda v, old, bad: v.assign(tf.where(bad, old, v)), (old, bad)
                )

        context.merge_call(undo, (bad, *before))
        return tf.where(bad, np.float32(np.nan), loss)

    def test_step(self, batch, weights):
        """The same sums without a step; rows of weight 0 do not count."""

        def replica_step(batch, weights):
            measured = self.model.losses(batch, training=False)
            return tf.nest.map_structure(lambda tensor: tf.tensordot(weights, tensor, 1), measured)

        return self._sum(self.strategy.run(replica_step, args=(batch, weights)))

    def _sum(self, values):
        reduce = self.strategy.reduce
        return {name: reduce("SUM", value, axis=None) for name, value in values.items()}

    def run(self, folder, weights_name, monitor, shown=(), levels=None, patience=0, trouble=None):
        """Trains to the end, or until so many epochs of `patience` (0: no end) do not better
        `monitor`. The model then has the best weights, which also lie in the folder, with the
        history and the curves.

        Args:
            trouble: Function from the history, a list of dictionaries, to a warning or `None`.

        Raises:
            TrainingError: If the loss is not finite, or a step takes more memory than there is.
            stopping.Stopped: If a signal asked for the end; the checkpoint has been saved.
        """
        progress = self.progress
        done = progress.epoch * self.steps + progress.step
        with contextlib.ExitStack() as stack:
            bar = ProgressBar(self.name, self.epochs * self.steps, shown, done)
            bar = stack.enter_context(bar)
            journal = Journal(folder, self.name, progress.history) if is_chief() else None
            if journal:
                stack.enter_context(journal)
            stack.enter_context(self._saved_at_a_signal())
            while progress.epoch < self.epochs and not 0 < patience <= progress.waited:
                means = self._finish_epoch(progress.epoch, bar)
                with self.averaged():
                    means |= {f"val_{k}": value for k, value in self.evaluate().items()}
                    if not np.isfinite(means[monitor]):
                        raise TrainingError(
                            f"{self.name}: {monitor} is {means[monitor]} after epoch "
                            f"{progress.epoch + 1}. {self._remedy}"
                        )
                    better = means[monitor] < progress.best
                    if better:
                        progress.best, self.best_weights = means[monitor], self.model.get_weights()
                        if journal:
                            save_weights(self.model, folder / weights_name)
                if journal:
                    journal.write(means)
                bar.epoch(progress.epoch, self.epochs, means)
                progress.end_epoch(means, better)
                warning = trouble(progress.history) if trouble else None
                if warning:
                    print(f"train.py: warning: {self.name}: {warning}", file=sys.stderr)
            self.save()
        self.model.set_weights(self.best_weights)
        if is_chief():
            from oasisvq.figures import (
                save_curves,
            )  # not at the top: matplotlib would delay the first step

            history = folder / f"{self.name}_history.csv"
            save_curves(history, folder / "figures" / f"{self.name}_curves.png", levels)
        print(f"{self.name}: {progress.epoch} epochs in {progress.seconds / 60:.1f} minutes")

    def warm_up(self, steps, **options):
        """So many steps before the first epoch, with `options` for the model's `losses`."""
        step, progress = tf.function(functools.partial(self.train_step, **options)), self.progress
        with self._saved_at_a_signal():
            for epoch in range(math.ceil(steps / self.steps)):
                rows = batches_at_random(self.training, self.batch_size, self.seed, epoch, 1)
                rows = rows[: steps - epoch * self.steps]
                for batch, _ in feed(
                    self.read, rows[max(progress.warmed - epoch * self.steps, 0) :]
                ):
                    self._try(step, batch)
                    progress.warmed += 1
                    self._save_if_due()

    def train_epoch(self, epoch, steps=None):
        """The means of an epoch's training steps, or of its first `steps`."""
        self.progress.begin_epoch()
        return self._finish_epoch(epoch, steps=steps)

    def _finish_epoch(self, epoch, bar=None, steps=None):
        """The same from where the epoch stands."""
        progress, last = self.progress, None
        rows = batches_at_random(self.training, self.batch_size, self.seed, epoch)[:steps]
        for batch, _ in feed(self.read, rows[progress.step :]):
            # The step before is read while this one is computed.
            self._add(last)
            last = self._try(self.compiled_train_step, batch)
            progress.step += 1
            if bar:
                bar.update()
            if self._due:
                self._add(last)
                last = None
                self._save_if_due()
        self._add(last)
        counted = rows.size - progress.bad_steps_of_epoch * self.batch_size
        return self.model.summarise({k: value / counted for k, value in progress.sums.items()})

    def _add(self, measured):
        if not measured:
            return
        progress = self.progress
        if np.isfinite(measured["loss"].numpy()):
            progress.add({k: tensor.numpy().astype(np.float64) for k, tensor in measured.items()})
            return
        progress.bad_steps += 1
        progress.bad_steps_of_epoch += 1
        if progress.bad_steps > self.max_bad_steps or progress.bad_steps_of_epoch >= self.steps:
            undone = f", after {progress.bad_steps - 1} that were undone" * self._may_undo
            raise TrainingError(
                f"{self.name}: the loss is {float(measured['loss'])} at epoch "
                f"{progress.epoch + 1}, step {progress.step}{undone}. {self._remedy}"
            )

    @property
    def _remedy(self):
        return (
            "Lower the learning rate and start again with --fresh, or go on from the last "
            "checkpoint with --max-bad-steps, which undoes such steps"
        )

    def _try(self, step, batch):
        """A step; if memory does not suffice for it, an error that names a batch that fits."""
        try:
            return step(batch)
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(self._out_of_memory(step, batch)) from error

    def _out_of_memory(self, step, batch):
        flag = "--prior-batch-size" if self.name == "pixelcnn" else "--batch-size"
        size, replicas = self.batch_size, self.strategy.num_replicas_in_sync
        while size > replicas:
            size = size // 2 // replicas * replicas or replicas
            if replicas > 1:
                return f"{self.name}: out of memory at {flag} {self.batch_size}. Try {size}"
            try:
                step(tf.nest.map_structure(lambda tensor, size=size: tensor[:size], batch))
            except tf.errors.ResourceExhaustedError:
                continue
            return (
                f"{self.name}: out of memory at {flag} {self.batch_size}. A step of {size} fits: "
                f"give {flag} {size} and --fresh"
            )
        return f"{self.name}: out of memory even at {flag} {replicas}. Take a smaller model"

    def evaluate(self):
        """The means over the validation subjects' slices."""
        sums = {}
        for batch, weights in feed(self.read, *batches_in_order(self.validation, self.batch_size)):
            for name, value in self.compiled_test_step(batch, weights).items():
                sums[name] = sums.get(name, 0.0) + value.numpy().astype(np.float64)
            stopping.check()
        count = len(self.validation)
        return self.model.summarise({name: value / count for name, value in sums.items()})

    @contextlib.contextmanager
    def averaged(self):
        """Within it, the model has the averages of its weights, if the optimizer keeps any."""
        if not self.optimizer.use_ema:
            yield
            return
        variables = self.model.trainable_variables
        own = [keras.ops.convert_to_numpy(variable) for variable in variables]
        self.optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    # Checkpoints

    @contextlib.contextmanager
    def _saved_at_a_signal(self):
        with stopping.deferred():
            try:
                yield
            except stopping.Stopped:
                self.save()
                raise

    @property
    def _due(self):
        return stopping.asked() or time.monotonic() - self.saved >= self.checkpoint_seconds

    def _save_if_due(self):
        stopping.check()  # raises, and the checkpoint is saved on the way out
        if self._due:
            self.save()

    def save(self):
        """Saves the checkpoint, if there is to be one.

        Raises:
            TrainingError: If a weight is not finite: the last checkpoint then stays.
        """
        self.saved = time.monotonic()
        self.progress.seconds += self.saved - self.began
        self.began = self.saved
        self.progress.peak_memory = max(self.progress.peak_memory, peak_memory())
        if not self.checkpoint or not is_chief():
            return
        values = [keras.ops.convert_to_numpy(variable) for variable in self.variables]
        for variable, value in zip(self.variables, values, strict=True):
            if not np.isfinite(value).all():
                raise TrainingError(
                    f"{self.name}: {variable.path} is not finite at epoch "
                    f"{self.progress.epoch + 1}, step {self.progress.step}. {self._remedy}"
                )
        write_checkpoint(self.checkpoint, self.progress, values, self.best_weights)

    def _restore(self):
        shapes = [tuple(variable.shape) for variable in self.variables]
        weights = [tuple(weight.shape) for weight in self.model.weights]
        found = read_checkpoint(self.checkpoint, shapes, weights)
        if found:
            self.progress, values, self.best_weights = found
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)
