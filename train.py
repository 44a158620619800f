"""Fits one run: the VQ-VAE, then the prior over its codes."""

import math
import os
import shutil
import time
from pathlib import Path

from errors import (
    DatasetError,
    HyperparameterError,
    RunFolderError,
    TrainingError,
    import_tensorflow_quietly,
    run_script,
)
from hyperparameters import (
    PRESETS,
    Hyperparameters,
    Parser,
    add_data_dir,
    add_flags,
    hyperparameters_from_flags,
)

# TensorFlow and all that needs it are imported where they are used, after the flags are parsed:
# `--help` and a wrong flag are answered at once.

KMEANS_LATENTS = 50_000
LEARNING_RATE_WARM_UP_STEPS = 50


def main():
    parser = Parser(description=__doc__, epilog="Then run predict.py and similarity.py.")
    add_data_dir(parser)
    parser.add_argument("--run-dir", help="where the run goes (default: runs/DATASET)")
    parser.add_argument(
        "--fresh", action="store_true", help="delete what an earlier run left in the run folder"
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="default", help="quality: a larger prior, and "
        "longer training (default: default)"
    )  # fmt: skip
    add_flags(parser)
    arguments = parser.parse_args()
    base = Hyperparameters(**PRESETS[arguments.preset])
    hyperparameters = hyperparameters_from_flags(arguments, base)

    import_tensorflow_quietly()
    from dataset import OASIS, SPLITS, describe

    dataset = OASIS(hyperparameters, arguments.data_dir)
    dataset.require(*SPLITS)
    print(f"{dataset.description['source']}: {describe(dataset)}")
    check_trainable(hyperparameters, dataset)
    folder = Path(arguments.run_dir or f"runs/{dataset.description['source']}")
    run = start_run(folder, hyperparameters, dataset, arguments.fresh)
    print(f"Training on {device()}")
    train_vqvae(run, dataset)
    train_features(run, dataset)
    train_prior(run, dataset)
    print(
        f"\nThe run lies in {folder}: weights, history, figures and the test subjects' slices.\n"
        f"New brains:  python predict.py --run-dir {folder}\n"
        f"Scores:      python similarity.py --run-dir {folder}\n"
        f"Curves:      {folder / 'figures'}, or tensorboard --logdir {folder / 'tensorboard'}"
    )


def check_trainable(hyperparameters, dataset):
    """Refuses what could not be trained, before any folder is made or emptied."""
    from scores import WINDOW_SIZE

    height, width = dataset.image_shape
    if min(height, width) < WINDOW_SIZE:
        raise DatasetError(
            f"{dataset.folder}: slices of {height}x{width}. Expected sides of at least "
            f"{WINDOW_SIZE} pixels, the window of SSIM"
        )
    if not 1e-4 < dataset.variance() <= 0.25:
        raise DatasetError(
            f"{dataset.folder}: the training pixels hardly differ from one another (variance "
            f"{dataset.variance():.2g}). Expected brains"
        )
    stride = hyperparameters.downsample
    latents = math.ceil(height / stride) * math.ceil(width / stride) * len(dataset.rows("train"))
    if latents < hyperparameters.num_embeddings:
        raise HyperparameterError(
            f"--num-embeddings {hyperparameters.num_embeddings}: the training slices have "
            f"{latents} latents only. Lower it, or --downsample"
        )


def device():
    """What TensorFlow computes on."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return f"{len(gpus)} GPU" if gpus else f"the CPU ({os.cpu_count()} cores); no GPU was found"


def start_run(folder, hyperparameters, dataset, fresh):
    """Makes the run folder, with all that later scripts need beside the weights."""
    import numpy as np

    from runs import CONFIG, MEAN_SLICES, SPLIT, TEST_SLICES, Run, read_config

    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}: is a file. Give another --run-dir")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / CONFIG).is_file():
            raise RunFolderError(
                f"{folder}: holds other files than a run's. Give another --run-dir"
            )
        if not fresh:
            raise RunFolderError(
                f"{folder}: holds a run already. Give another --run-dir, or --fresh to delete it"
            )
        read_config(folder)  # raises if another program's config.json lies there
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, hyperparameters, dataset.image_shape, dataset.variance())
    run.save()
    subjects = dataset.table[["subject", "split"]].drop_duplicates().sort_values("subject")
    subjects.to_csv(folder / SPLIT, index=False)
    dataset.save_split("test", folder / TEST_SLICES)
    np.savez_compressed(folder / MEAN_SLICES, **dataset.mean_slices())
    return run


def train_vqvae(run, dataset):
    """First stage: the VQ-VAE, its best weights on the validation subjects kept."""
    import keras

    from runs import VQVAE_WEIGHTS

    chosen = run.hyperparameters
    training = dataset.batches("train", chosen.batch_size, shuffle_seed=chosen.seed)
    validation = dataset.batches("validation", chosen.batch_size)
    steps = len(training) * chosen.epochs
    keras.utils.set_random_seed(chosen.seed)
    vqvae = run.build_vqvae()
    compile_for(vqvae, chosen.learning_rate, steps + chosen.warm_up_steps)
    start_codebook(vqvae, training, chosen)
    fit(
        vqvae, training, validation, chosen.epochs, run.folder, "vqvae", VQVAE_WEIGHTS,
        ("val_ssim", "val_perplexity", "val_codebook_usage"), monitor="val_distortion",
    )  # fmt: skip


def start_codebook(vqvae, training, chosen):
    """A few steps without the quantiser, then k-means on what the encoder makes of the slices."""
    import numpy as np
    import tensorflow as tf
    from sklearn.cluster import KMeans

    vqvae.optimizer.build(vqvae.trainable_variables)
    warm_up_step = tf.function(vqvae.warm_up_step)
    for images in training.repeat().take(chosen.warm_up_steps):
        warm_up_step(images)
    per_batch = chosen.batch_size * int(np.prod(vqvae.code_shape))
    wanted = max(KMEANS_LATENTS, 4 * chosen.num_embeddings)
    latents = np.concatenate(
        [
            vqvae.encoder(images).numpy().reshape(-1, chosen.embedding_dim)
            for images in training.repeat().take(max(8, -(-wanted // per_batch)))
        ]
    ).astype(np.float32)
    if not np.isfinite(latents).all():
        raise TrainingError(
            "vqvae: the encoder's output is not finite after the warm-up. Lower --learning-rate "
            "and start again with --fresh"
        )
    drawn = np.random.default_rng(chosen.seed).permutation(len(latents))[:wanted]
    kmeans = KMeans(chosen.num_embeddings, n_init=1, max_iter=20, random_state=chosen.seed)
    kmeans.fit(latents[drawn])
    codebook = kmeans.cluster_centers_.astype(np.float32)
    vqvae.quantizer.start(codebook, per_batch / chosen.num_embeddings)


def train_features(run, dataset):
    """Between the two: the small network with which similarity.py looks at new brains."""
    from features import train_feature_network
    from runs import FEATURE_WEIGHTS

    began = time.monotonic()
    rows, chosen = dataset.rows("train"), run.hyperparameters
    network = train_feature_network(
        dataset.slices, rows, dataset.labels(rows), chosen.seed, chosen.feature_steps
    )
    network.save_weights(run.folder / FEATURE_WEIGHTS)
    print(f"features: {(time.monotonic() - began) / 60:.1f} minutes")


def train_prior(run, dataset):
    """Second stage: the prior over the finished VQ-VAE's codes."""
    import keras
    import numpy as np

    from prior import code_bits
    from runs import PRIOR_WEIGHTS, TRAINING_CODES
    from scores import bits_by_position, choose_smoothing, count_codes

    chosen = run.hyperparameters
    vqvae = run.load_vqvae()
    codes, conditions = {}, {}
    for split in ("train", "validation"):
        batches = dataset.batches(split, chosen.batch_size)
        codes[split] = np.concatenate([vqvae.encode(images).numpy() for images in batches])
        conditions[split] = dataset.conditions(dataset.rows(split))
    counts = count_codes(codes["train"], chosen.num_embeddings)
    smoothing = choose_smoothing(counts, codes["validation"])
    np.savez_compressed(
        run.folder / TRAINING_CODES,
        codes=codes["train"].astype(np.uint16),
        conditions=conditions["train"],
        smoothing=smoothing,
    )
    training, validation = (
        prior_batches(codes[split], conditions[split], chosen, split == "train")
        for split in ("train", "validation")
    )
    keras.utils.set_random_seed(chosen.seed)
    prior = run.build_prior()
    prior.condition.adapt(conditions["train"])
    steps = len(training) * chosen.prior_epochs
    compile_for(prior, chosen.prior_learning_rate, steps, code_bits, chosen.prior_average)
    levels = {
        "uniform": math.log2(chosen.num_embeddings),
        "by position": bits_by_position(counts, smoothing, codes["validation"]).mean(),
    }
    fit(
        prior, training, validation, chosen.prior_epochs, run.folder, "pixelcnn", PRIOR_WEIGHTS,
        ("val_loss",), levels, patience=chosen.prior_patience,
    )  # fmt: skip
    run.record_prior()


def prior_batches(codes, conditions, chosen, shuffle):
    """Code grids `(n, h, w)` and conditions `(n, 4)` as batches of inputs and targets."""
    import numpy as np
    import tensorflow as tf

    def read(batch):
        grids, known = tf.numpy_function(
            lambda rows: (codes[rows].astype(np.int32), conditions[rows].astype(np.float32)),
            [batch],
            (tf.int32, tf.float32),
        )
        grids = tf.ensure_shape(grids, (None, *codes.shape[1:]))
        return (grids, tf.ensure_shape(known, (None, conditions.shape[1]))), grids

    rows = tf.data.Dataset.range(len(codes))
    rows = rows.shuffle(len(codes), seed=chosen.seed) if shuffle else rows
    drop = shuffle and len(codes) >= chosen.prior_batch_size
    return rows.batch(chosen.prior_batch_size, drop_remainder=drop).map(read).prefetch(2)


def compile_for(model, learning_rate, steps, loss=None, average=0.0):
    """Adam under a cosine schedule with a short rise. What is judged and kept is a moving average
    of the weights that reaches back `average` of the steps; for 0, the weights themselves."""
    import keras
    import tensorflow as tf

    rise = min(LEARNING_RATE_WARM_UP_STEPS, steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, steps - rise, alpha=0.01, warmup_target=learning_rate, warmup_steps=rise
    )
    reach = average * steps
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    model.compile(
        optimizer=keras.optimizers.Adam(
            schedule, beta_2=0.99, use_ema=reach > 1, ema_momentum=1 - 1 / max(reach, 1)
        ),
        loss=loss,
        jit_compile="auto" if on_gpu else False,  # on a CPU, XLA halves the convolutions' speed
    )


def fit(
    model, training, validation, epochs, folder, stage, weights_name, shown, levels=None,
    monitor="val_loss", patience=None,
):  # fmt: skip
    """Trains a model, keeps its weights where `monitor` is least, and draws its curves; with
    `patience`, no more than so many epochs that do not better them."""
    import keras

    from figures import save_curves
    from progress import ProgressBar, StopIfNotFinite

    began = time.monotonic()
    history = folder / f"{stage}_history.csv"
    average = (
        [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if model.optimizer.use_ema else []
    )
    stop = (
        [keras.callbacks.EarlyStopping(monitor, patience=patience, mode="min")] if patience else []
    )
    trained = model.fit(
        training,
        validation_data=validation,
        epochs=epochs,
        shuffle=False,  # the data come shuffled
        verbose=0,
        callbacks=[
            *average,  # before those that look at the weights
            StopIfNotFinite(stage),
            ProgressBar(stage, epochs * len(training), shown),
            keras.callbacks.CSVLogger(str(history)),
            keras.callbacks.TensorBoard(folder / "tensorboard" / stage, write_graph=False),
            keras.callbacks.ModelCheckpoint(
                str(folder / weights_name),
                monitor=monitor,
                mode="min",
                save_best_only=True,
                save_weights_only=True,
            ),
            *stop,
        ],
    )
    save_curves(history, folder / "figures" / f"{stage}_curves.png", levels)
    print(f"{stage}: {len(trained.epoch)} epochs in {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    run_script(main)
