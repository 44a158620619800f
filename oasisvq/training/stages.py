"""The two stages of a training, each from where an earlier process has left it."""

import contextlib
import functools
import hashlib
import math
import sys

import keras
import numpy as np
import tensorflow as tf

from oasisvq.core.arrays import write_array
from oasisvq.core.errors import DatasetError, HyperparameterError
from oasisvq.core.files import whole_file, write_text
from oasisvq.core.tables import write_table
from oasisvq.data.splits import TEST_SLICES
from oasisvq.evaluation.code_scores import (
    bits_by_position,
    choose_smoothing,
    count_codes,
    frequencies_by_position,
)
from oasisvq.figures import save_curves
from oasisvq.nn.losses import LEAST_VARIANCE, MOST_VARIANCE, WINDOW_SIZE
from oasisvq.runs.folder import MEAN_SLICES, SPLIT, TRAINING_CODES
from oasisvq.training.batches import Batches
from oasisvq.training.checkpoint import Checkpoint
from oasisvq.training.codebook import collapse_warning, start_codebook
from oasisvq.training.devices import is_chief
from oasisvq.training.loop import Loop, build_optimizer


def check_trainable(config, dataset):
    """Refuses slices that cannot be trained on, before any folder is made or emptied."""
    height, width = dataset.image_shape
    if min(height, width) < WINDOW_SIZE:
        raise DatasetError(
            f"{dataset.folder}: slices of {height}x{width}. Expected sides of at least "
            f"{WINDOW_SIZE} pixels, the window of SSIM"
        )
    if not LEAST_VARIANCE < dataset.variance <= MOST_VARIANCE:
        raise DatasetError(
            f"{dataset.folder}: the training pixels hardly differ from one another (variance "
            f"{dataset.variance:.2g}). Expected brains"
        )
    stride = config.downsample
    latents = math.ceil(height / stride) * math.ceil(width / stride) * len(dataset.rows("train"))
    if latents < config.num_embeddings:
        raise HyperparameterError(
            f"--num-embeddings {config.num_embeddings}: the training slices have {latents} latents "
            "only. Lower it, or --downsample"
        )


def save_slices(dataset, run):
    """Saves what later scripts need of the slices: the split, the test slices, the mean slices."""
    write_table(run.folder / SPLIT, dataset.subject_splits())
    save_split(dataset, "test", run.folder / TEST_SLICES)
    with whole_file(run.folder / MEAN_SLICES) as partial:
        np.savez_compressed(partial, **dataset.mean_slices())


def save_split(dataset, split, folder):
    """Copies the slices of a split of `OASIS` to a folder that `--dataset` can name."""
    rows = dataset.rows(split)
    shape = len(rows), *dataset.image_shape
    write_array(folder / "slices.npy", shape, dataset.blocks(rows))
    write_table(folder / "slices.csv", dataset.table.iloc[rows])
    write_text(folder / "dataset.json", dataset.description)


@contextlib.contextmanager
def layer_precision(mixed):
    """Makes the layers built within it compute in bfloat16, if that is wanted.

    The quantiser, the losses, and what leaves the decoder and the prior stay float32, as all
    weights do.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def train_vqvae(vqvae, dataset, run, checkpoint_minutes=math.inf, max_bad_steps=0):
    """Trains the VQ-VAE; its best weights on the validation subjects are kept.

    Args:
        vqvae: `VQVAETrainer`, untrained.
        dataset: `OASIS`, split into `"train"` and `"validation"`.
        run: `Run`.
        checkpoint_minutes: Float, how often the stage is saved.
        max_bad_steps: Integer, see `Loop`.
    """
    config, seed = run.hyperparameters.vqvae, run.hyperparameters.run.seed

    def read(rows):
        images = dataset.read(rows)
        return images, images  # the target of a VQ-VAE is its input

    flag = config.flag("batch_size")
    training = Batches(read, dataset.rows("train"), config.batch_size, seed, flag)
    validation = Batches(read, dataset.rows("validation"), training.step_size)
    steps = config.epochs * training.steps + config.warm_up_steps
    vqvae.compile(build_optimizer(config.learning_rate, steps))
    checkpoint = Checkpoint(run.checkpoint_path(vqvae.name), checkpoint_minutes)
    loop = Loop(vqvae, training, validation, checkpoint, max_bad_steps)
    start_codebook(loop, dataset.images, config.warm_up_steps, seed)
    columns = ("val_ssim", "val_perplexity", "val_codebook_usage")
    warning = functools.partial(collapse_warning, num_embeddings=config.num_embeddings)
    loop.run(run.folder, config.epochs, "val_distortion", columns=columns, warning=warning)
    warn_of_failure(
        loop, "val_reconstruction_loss", 1.0, "reconstructions are no better than an even grey"
    )
    record(loop, run)


def train_prior(prior, vqvae, dataset, run, checkpoint_minutes=math.inf, max_bad_steps=0):
    """Trains the prior over the codes of the finished VQ-VAE.

    Args:
        prior: `PixelCNN`, untrained.
        vqvae: `VQVAETrainer`, trained.
        dataset, run, checkpoint_minutes, max_bad_steps: See `train_vqvae`.
    """
    config, seed = run.hyperparameters.prior, run.hyperparameters.run.seed
    rows = np.concatenate([dataset.rows("train"), dataset.rows("validation")])
    codes, conditions = vqvae.encode_all(dataset.images, rows), dataset.conditions(rows)
    count = len(dataset.rows("train"))  # the training slices come first
    counts = count_codes(codes[:count], prior.num_embeddings)
    smoothing = choose_smoothing(counts, codes[count:])
    if is_chief():
        learned = {"codes": codes[:count], "conditions": conditions[:count]}
        learned["persons"] = np.unique(dataset.persons(rows[:count]), return_inverse=True)[1]
        with whole_file(run.folder / TRAINING_CODES) as partial:
            np.savez_compressed(partial, **learned, smoothing=smoothing)
    prior.condition.adapt(conditions[:count])
    read = code_reader(codes, conditions)
    rows, flag = np.arange(len(rows)), config.flag("batch_size")
    training = Batches(read, rows[:count], config.batch_size, seed, flag)
    validation = Batches(read, rows[count:], training.step_size)
    steps = config.epochs * training.steps
    prior.compile(build_optimizer(config.learning_rate, steps, config.average))
    # A prior that has learned the codes of another VQ-VAE must not go on with those of this one.
    source = hashlib.sha256(b"".join(weights.tobytes() for weights in vqvae.get_weights()))
    path = run.checkpoint_path(prior.name)
    checkpoint = Checkpoint(path, checkpoint_minutes, source.hexdigest())
    loop = Loop(prior, training, validation, checkpoint, max_bad_steps)
    loop.run(run.folder, config.epochs, "val_loss", config.patience)
    frequencies = frequencies_by_position(counts, smoothing)
    levels = {
        "uniform": math.log2(prior.num_embeddings),
        "by position": bits_by_position(frequencies, codes[count:]).mean(),
    }
    warn_of_failure(loop, "val_loss", levels["uniform"], "codes are drawn as if by a die")
    record(loop, run, levels)


def warn_of_failure(loop, name, level, meaning):
    """Warns on standard error if no epoch has brought a number below what no training gives.

    Args:
        loop: `Loop` of a finished stage.
        name: The number's name in the history.
        level: Float, what the number is without any training.
        meaning: Text on what that means.
    """
    least = min(row[name] for row in loop.progress.history)
    if least >= level:
        print(
            f"train.py: warning: {loop.name}: {name} is {least:.4g} at its best, not below "
            f"{level:.4g}: {meaning}. Train longer, or start again with --fresh and a lower "
            "--learning-rate",
            file=sys.stderr,
        )


def record(loop, run, levels=None):
    """Draws the curves of a finished stage, and notes what it took.

    Args:
        loop: `Loop`.
        run: `Run`.
        levels: Dictionary from a name to what the loss would be without the model.
    """
    if not is_chief():
        return
    progress, folder = loop.progress, run.folder
    history = folder / f"{loop.name}_history.csv"
    save_curves(history, folder / "figures" / f"{loop.name}_curves.png", levels)
    minutes, memory = progress.seconds / 60, progress.peak_memory
    run.record_stage(loop.name, minutes, memory, epochs=progress.epoch)


def code_reader(codes, conditions):
    """Returns a function that reads grids `(n, h, w)` and conditions `(n, 4)` as tensors."""

    def read_rows(rows):
        return codes[rows].astype(np.int32), conditions[rows].astype(np.float32)

    def read(rows):
        grids, known = tf.numpy_function(read_rows, [rows], (tf.int32, tf.float32))
        grids = tf.ensure_shape(grids, (None, *codes.shape[1:]))
        return grids, tf.ensure_shape(known, (None, conditions.shape[1]))

    return read
