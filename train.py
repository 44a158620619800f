"""Fits one run: the VQ-VAE, then the prior over its codes."""

import contextlib
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
    from replicas import is_chief, start_replicas, together
    from runs import Run

    strategy = start_replicas()  # before anything else is computed: TensorFlow asks for it
    dataset = OASIS(hyperparameters, arguments.data_dir)
    dataset.require(*SPLITS)
    print(f"{dataset.description['source']}: {describe(dataset)}")
    check_trainable(hyperparameters, dataset)
    folder = Path(arguments.run_dir or f"runs/{dataset.description['source']}")
    run = Run(folder, hyperparameters, dataset.image_shape, dataset.variance())
    if is_chief():
        start_run(run, dataset, arguments.fresh)
    print(f"Training on {device(strategy)}")
    with together(strategy):
        vqvae = train_vqvae(run, dataset)
    if is_chief():
        train_features(run, dataset)
    with together(strategy):
        train_prior(run, dataset, vqvae)
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


def device(strategy):
    """What TensorFlow computes on."""
    import tensorflow as tf

    from replicas import worker_addresses

    machines, count = len(worker_addresses()), strategy.num_replicas_in_sync
    gpus = len(tf.config.list_physical_devices("GPU"))
    here = f"{gpus} GPU" if gpus else f"the CPU ({os.cpu_count()} cores); no GPU was found"
    return f"{count} devices of {machines} machines, here {here}" if machines > 1 else here


def start_run(run, dataset, fresh):
    """Makes the run folder, with all that later scripts need beside the weights."""
    import numpy as np

    from runs import CONFIG, MEAN_SLICES, SPLIT, TEST_SLICES, read_config

    folder = run.folder
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
    run.save()
    subjects = dataset.table[["subject", "split"]].drop_duplicates().sort_values("subject")
    subjects.to_csv(folder / SPLIT, index=False)
    dataset.save_split("test", folder / TEST_SLICES)
    np.savez_compressed(folder / MEAN_SLICES, **dataset.mean_slices())


def train_vqvae(run, dataset):
    """First stage: the VQ-VAE, with the weights that are best on the validation subjects."""
    import keras

    from runs import VQVAE_WEIGHTS
    from training import Stage, build_optimizer

    chosen = run.hyperparameters
    training, validation = dataset.rows("train"), dataset.rows("validation")
    steps = chosen.epochs * max(len(training) // chosen.batch_size, 1) + chosen.warm_up_steps
    keras.utils.set_random_seed(chosen.seed)
    with precision(chosen):
        vqvae = run.build_vqvae()
        optimizer = build_optimizer(chosen.learning_rate, steps)
    stage = Stage(
        "vqvae", vqvae, optimizer, dataset.read, training, validation, chosen.batch_size,
        chosen.epochs, chosen.seed,
    )  # fmt: skip
    start_codebook(stage, dataset, chosen)
    stage.run(
        run.folder, VQVAE_WEIGHTS, "val_distortion",
        ("val_ssim", "val_perplexity", "val_codebook_usage"),
    )  # fmt: skip
    return vqvae


def start_codebook(stage, dataset, chosen):
    """A few steps without the quantiser, then k-means on what the encoder makes of the slices."""
    import numpy as np
    from sklearn.cluster import KMeans

    from replicas import from_chief

    vqvae, per_slice = stage.model, int(np.prod(stage.model.code_shape))
    stage.warm_up(chosen.warm_up_steps, quantize=False)
    wanted = max(KMEANS_LATENTS, 4 * chosen.num_embeddings)
    random = np.random.default_rng(chosen.seed)
    rows = random.permutation(dataset.rows("train"))[: max(128, -(-wanted // per_slice))]
    latents = np.concatenate(
        [
            vqvae.encoder(dataset.images(some)).numpy().reshape(-1, chosen.embedding_dim)
            for some in np.array_split(rows, -(-len(rows) // 16))
        ]
    ).astype(np.float32)
    if not np.isfinite(latents).all():
        raise TrainingError(
            "vqvae: the encoder's output is not finite after the warm-up. Lower --learning-rate "
            "and start again with --fresh"
        )
    drawn = random.permutation(len(latents))[:wanted]
    kmeans = KMeans(chosen.num_embeddings, n_init=1, max_iter=20, random_state=chosen.seed)
    kmeans.fit(latents[drawn])
    codebook = from_chief(kmeans.cluster_centers_.astype(np.float32))
    vqvae.quantizer.start(codebook, stage.batch_size * per_slice / chosen.num_embeddings)


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


def train_prior(run, dataset, vqvae):
    """Second stage: the prior over the finished VQ-VAE's codes."""
    import keras
    import numpy as np

    from replicas import is_chief
    from runs import PRIOR_WEIGHTS, TRAINING_CODES
    from scores import bits_by_position, choose_smoothing, count_codes, frequencies_by_position
    from training import Stage, build_optimizer

    chosen = run.hyperparameters
    rows = np.concatenate([dataset.rows("train"), dataset.rows("validation")])
    codes, conditions = encode(vqvae, dataset, rows), dataset.conditions(rows)
    first = len(dataset.rows("train"))  # of the validation slices
    training, validation = np.split(np.arange(len(rows)), [first])
    counts = count_codes(codes[:first], chosen.num_embeddings)
    smoothing = choose_smoothing(counts, codes[first:])
    if is_chief():
        np.savez_compressed(
            run.folder / TRAINING_CODES,
            codes=codes[:first],
            conditions=conditions[:first],
            smoothing=smoothing,
        )
    steps = chosen.prior_epochs * max(len(training) // chosen.prior_batch_size, 1)
    keras.utils.set_random_seed(chosen.seed)
    with precision(chosen):
        prior = run.build_prior()
        optimizer = build_optimizer(chosen.prior_learning_rate, steps, chosen.prior_average)
    prior.condition.adapt(conditions[:first])
    levels = {
        "uniform": math.log2(chosen.num_embeddings),
        "by position": bits_by_position(
            frequencies_by_position(counts, smoothing), codes[first:]
        ).mean(),
    }
    stage = Stage(
        "pixelcnn", prior, optimizer, code_reader(codes, conditions), training, validation,
        chosen.prior_batch_size, chosen.prior_epochs, chosen.seed,
    )  # fmt: skip
    stage.run(run.folder, PRIOR_WEIGHTS, "val_loss", (), levels, chosen.prior_patience)
    if is_chief():
        run.record_prior()


def encode(vqvae, dataset, rows, batch_size=16):
    """The codes of these slices, uint16 `(n, h, w)`: a code grid takes 8 kB at most."""
    import numpy as np

    codes = np.empty((len(rows), *vqvae.code_shape), np.uint16)
    for start in range(0, len(rows), batch_size):
        some = slice(start, start + batch_size)
        codes[some] = vqvae.encode(dataset.images(rows[some])).numpy()
    return codes


def code_reader(codes, conditions):
    """Reads code grids `(n, h, w)` and conditions `(n, 4)` as the prior takes them."""
    import numpy as np
    import tensorflow as tf

    def read(rows):
        grids, known = tf.numpy_function(
            lambda rows: (codes[rows].astype(np.int32), conditions[rows].astype(np.float32)),
            [rows],
            (tf.int32, tf.float32),
        )
        grids = tf.ensure_shape(grids, (None, *codes.shape[1:]))
        return grids, tf.ensure_shape(known, (None, conditions.shape[1]))

    return read


@contextlib.contextmanager
def precision(chosen):
    """Within it, layers are made to compute in bfloat16 if that is asked for. The quantiser, the
    losses and what leaves the decoder and the prior stay float32, as all weights do."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if chosen.mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


if __name__ == "__main__":
    run_script(main)
