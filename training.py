"""One stage of training, step by step: what both stages share."""

import contextlib
import functools
import math
import time

import keras
import numpy as np
import tensorflow as tf

from errors import TrainingError
from progress import Journal, ProgressBar
from replicas import is_chief, local_replicas, share_of_batch

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

    Args:
        name: Of the stage, its files and its bar.
        model: `keras.Model`, made under the current strategy, as was `optimizer`.
        optimizer: See `build_optimizer`.
        read: See `feed`.
        training, validation: Row numbers `(n,)`.
        batch_size: Integer, slices a step, over all replicas.
        epochs: Integer.
        seed: Integer, gives each epoch its order.
    """

    def __init__(
        self, name, model, optimizer, read, training, validation, batch_size, epochs, seed
    ):
        self.name, self.model, self.optimizer, self.read = name, model, optimizer, read
        self.training, self.validation, self.seed = training, validation, seed
        self.batch_size, self.epochs = min(batch_size, len(training)), epochs
        self.strategy = tf.distribute.get_strategy()
        share_of_batch(self.batch_size)  # raises if it does not come out even
        optimizer.build(model.trainable_variables)
        self.compiled_train_step = tf.function(self.train_step)
        self.compiled_test_step = tf.function(self.test_step)

    @property
    def steps(self):
        """Of an epoch."""
        return len(self.training) // self.batch_size

    def train_step(self, batch, **options):
        """One step on every replica's share; the sums over all slices of what it measured."""

        def replica_step(batch):
            with tf.GradientTape() as tape:
                measured = self.model.losses(batch, training=True, **options)
                loss = tf.reduce_sum(measured["loss"]) / self.batch_size
            variables = self.model.trainable_variables
            gradients = tape.gradient(loss, variables)
            known = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
            self.optimizer.apply(*zip(*known, strict=True))
            return tf.nest.map_structure(lambda tensor: tf.reduce_sum(tensor, axis=0), measured)

        return self._sum(self.strategy.run(replica_step, args=(batch,)))

    def test_step(self, batch, weights):
        """The same sums without a step; rows of weight 0 do not count."""

        def replica_step(batch, weights):
            measured = self.model.losses(batch, training=False)
            return tf.nest.map_structure(lambda tensor: tf.tensordot(weights, tensor, 1), measured)

        return self._sum(self.strategy.run(replica_step, args=(batch, weights)))

    def _sum(self, values):
        reduce = self.strategy.reduce
        return {name: reduce("SUM", value, axis=None) for name, value in values.items()}

    def run(self, folder, weights_name, monitor, shown=(), levels=None, patience=0):
        """Trains to the end, or until so many epochs of `patience` (0: no end) do not better
        `monitor`. The model then has the best weights, which also lie in the folder, with the
        history and the curves.

        Raises:
            TrainingError: If the loss is not finite.
        """
        began, best, best_weights, waited = time.monotonic(), math.inf, None, 0
        with contextlib.ExitStack() as stack:
            bar = stack.enter_context(ProgressBar(self.name, self.epochs * self.steps, shown))
            journal = stack.enter_context(Journal(folder, self.name)) if is_chief() else None
            for epoch in range(self.epochs):
                means = self.train_epoch(epoch, bar)
                with self.averaged():
                    means |= {f"val_{k}": value for k, value in self.evaluate().items()}
                    if not np.isfinite(means[monitor]):
                        raise TrainingError(
                            f"{self.name}: {monitor} is {means[monitor]} after epoch {epoch + 1}. "
                            "Lower the learning rate and start again with --fresh"
                        )
                    better = means[monitor] < best
                    if better:
                        best, best_weights = means[monitor], self.model.get_weights()
                        if journal:
                            self.model.save_weights(folder / weights_name)
                if journal:
                    journal.write(epoch, means)
                bar.epoch(epoch, self.epochs, means)
                waited = 0 if better else waited + 1
                if patience and waited >= patience:
                    break
        self.model.set_weights(best_weights)
        if is_chief():
            from figures import save_curves  # not at the top: matplotlib would delay the first step

            history = folder / f"{self.name}_history.csv"
            save_curves(history, folder / "figures" / f"{self.name}_curves.png", levels)
        minutes = (time.monotonic() - began) / 60
        print(f"{self.name}: {epoch + 1} epochs in {minutes:.1f} minutes")

    def warm_up(self, steps, **options):
        """So many steps before the first epoch, with `options` for the model's `losses`."""
        step = tf.function(functools.partial(self.train_step, **options))
        for epoch in range(math.ceil(steps / self.steps)):
            rows = batches_at_random(self.training, self.batch_size, self.seed, epoch, 1)
            for batch, _ in feed(self.read, rows[: steps - epoch * self.steps]):
                step(batch)

    def train_epoch(self, epoch, bar=None, steps=None):
        """The means of an epoch's training steps, or of its first `steps`."""
        rows = batches_at_random(self.training, self.batch_size, self.seed, epoch)[:steps]
        sums, last = {}, None
        for step, (batch, _) in enumerate(feed(self.read, rows)):
            # The step before is read while this one is computed.
            self._add(sums, last, epoch, step)
            last = self.compiled_train_step(batch)
            if bar:
                bar.update()
        self._add(sums, last, epoch, len(rows))
        return self.model.summarise({name: value / rows.size for name, value in sums.items()})

    def _add(self, sums, measured, epoch, step):
        for name, tensor in (measured or {}).items():
            sums[name] = sums.get(name, 0.0) + tensor.numpy().astype(np.float64)
        if measured and not np.isfinite(measured["loss"].numpy()):
            raise TrainingError(
                f"{self.name}: the loss is {float(measured['loss'])} at epoch {epoch + 1}, step "
                f"{step}. Lower the learning rate and start again with --fresh"
            )

    def evaluate(self):
        """The means over the validation subjects' slices."""
        sums = {}
        for batch, weights in feed(self.read, *batches_in_order(self.validation, self.batch_size)):
            for name, value in self.compiled_test_step(batch, weights).items():
                sums[name] = sums.get(name, 0.0) + value.numpy().astype(np.float64)
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
        yield
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
