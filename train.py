"""Fits one run: the VQ-VAE, then the prior over its codes."""

import contextlib
import math
import os
import shutil
import time
from pathlib import Path

from hyperparameters import (
    PRESETS,
    Hyperparameters,
    Parser,
    add_data_dir,
    add_flags,
    hyperparameters_from_flags,
)
from oasisvq.core.errors import DatasetError, HyperparameterError, RunFolderError, TrainingError
from oasisvq.core.script import import_tensorflow_quietly, peak_memory, run_script

# TensorFlow and all that needs it are imported where they are used, after the flags are parsed:
# `--help` and a wrong flag are answered at once.

KMEANS_LATENTS = 50_000
COLLAPSED_USAGE = 0.1


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
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=10.0, metavar="MINUTES", help="how often the "
        "state of training is saved; killed at any moment, the same command goes on from the last "
        "(default: 10)"
    )  # fmt: skip
    parser.add_argument(
        "--max-bad-steps", type=int, default=0, metavar="STEPS", help="steps of a stage that may "
        "be undone because their loss or gradient is not finite (default: 0)"
    )  # fmt: skip
    add_flags(parser)
    arguments = parser.parse_args()
    base = Hyperparameters(**PRESETS[arguments.preset])
    hyperparameters = hyperparameters_from_flags(arguments, base)
    if arguments.checkpoint_minutes < 0 or arguments.max_bad_steps < 0:
        raise HyperparameterError("--checkpoint-minutes and --max-bad-steps must be at least 0")

    import_tensorflow_quietly()
    import numpy as np
    import tensorflow as tf

    from dataset import OASIS, SPLITS, describe
    from oasisvq.runs.folder import Run, alone
    from oasisvq.training.devices import from_chief, is_chief, start_replicas, together

    if hyperparameters.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = start_replicas()  # before anything else is computed: TensorFlow asks for it
    dataset = OASIS(hyperparameters, arguments.data_dir)
    dataset.require(*SPLITS)
    print(f"{dataset.description['source']}: {describe(dataset)}")
    check_trainable(hyperparameters, dataset)
    folder = Path(arguments.run_dir or f"runs/{dataset.description['source']}")
    run = Run(folder, hyperparameters, dataset.image_shape, dataset.variance(), dataset.identity())
    with contextlib.ExitStack() as stack:
        finished = False
        if is_chief():
            stack.enter_context(alone(folder))
            finished = start_run(run, dataset, arguments.fresh)
        with together(strategy):
            finished = bool(from_chief(np.array([finished], np.int32))[0])
        if finished:
            print(f"{folder}: this run is finished. --fresh deletes it and trains anew")
        else:
            print(f"Training on {device(strategy)}")
            options = {
                "checkpoint_minutes": arguments.checkpoint_minutes,
                "max_bad_steps": arguments.max_bad_steps,
            }
            train(run, dataset, strategy, options)
    print(
        f"\nThe run lies in {folder}: weights, history, figures and the test subjects' slices.\n"
        f"New brains:  python predict.py --run-dir {folder}\n"
        f"Scores:      python similarity.py --run-dir {folder}\n"
        f"Curves:      {folder / 'figures'}, or tensorboard --logdir {folder / 'tensorboard'}"
    )


def train(run, dataset, strategy, options):
    """All stages, each from where an earlier process stopped."""
    from oasisvq.runs.model_card import write_model_card
    from oasisvq.training.devices import is_chief, together

    with together(strategy):
        vqvae = train_vqvae(run, dataset, **options)
    if is_chief():
        train_features(run, dataset)
    with together(strategy):
        train_prior(run, dataset, vqvae, **options)
    if is_chief():
        write_model_card(run)
        run.record_prior()  # from here on, the run is finished
        for stage in ("vqvae", "pixelcnn"):
            run.checkpoint(stage).unlink(missing_ok=True)


def check_trainable(hyperparameters, dataset):
    """Refuses what could not be trained, before any folder is made or emptied."""
    from oasisvq.evaluation.image_scores import WINDOW_SIZE

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

    from oasisvq.training.devices import worker_addresses

    machines, count = len(worker_addresses()), strategy.num_replicas_in_sync
    gpus = len(tf.config.list_physical_devices("GPU"))
    here = f"{gpus} GPU" if gpus else f"the CPU ({os.cpu_count()} cores); no GPU was found"
    return f"{count} devices of {machines} machines, here {here}" if machines > 1 else here


def start_run(run, dataset, fresh):
    """Makes the run folder, with all that later scripts need beside the weights, or finds it.

    Returns:
        Whether the run in it is finished.

    Raises:
        RunFolderError: If it holds anything else than this run.
    """
    import numpy as np

    from oasisvq.core.files import PARTIAL, sweep, whole_file
    from oasisvq.runs.folder import (
        CONFIG,
        MEAN_SLICES,
        PRIOR_FACTS,
        SPLIT,
        TEST_SLICES,
        read_config,
    )

    folder = run.folder.resolve()
    discarded = folder.with_name(f".{folder.name}.deleted")
    shutil.rmtree(discarded, ignore_errors=True)  # which a killed process had begun
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{run.folder}: is a file. Give another --run-dir")
    config = folder / CONFIG
    if config.is_file():
        before = read_config(folder)  # raises if another program's config.json lies there
        different = run.differences(before)
        if fresh:
            folder.rename(discarded)  # at once: a folder that is deleted in part is no run
            shutil.rmtree(discarded)
        elif different:
            raise RunFolderError(
                f"{run.folder}: holds a run with other settings: {'; '.join(different)}. Give "
                "these, another --run-dir, or --fresh to delete it"
            )
    elif folder.is_dir() and any(PARTIAL not in path.name for path in folder.iterdir()):
        raise RunFolderError(
            f"{run.folder}: holds other files than a run's. Give another --run-dir"
        )
    if folder.is_dir():
        sweep(folder)
    if not config.is_file():
        run.save()
    if (folder / PRIOR_FACTS).is_file():
        return True
    with whole_file(folder / SPLIT) as partial:
        dataset.subject_splits().to_csv(partial, index=False)
    dataset.save_split("test", folder / TEST_SLICES)
    with whole_file(folder / MEAN_SLICES) as partial:
        np.savez_compressed(partial, **dataset.mean_slices())
    return False


def train_vqvae(run, dataset, **options):
    """First stage: the VQ-VAE, with the weights that are best on the validation subjects.

    Args:
        options: `checkpoint_minutes` and `max_bad_steps` of `Stage`.
    """
    import keras

    from oasisvq.runs.folder import VQVAE_WEIGHTS
    from oasisvq.training.loop import Stage, build_optimizer

    chosen = run.hyperparameters
    training, validation = dataset.rows("train"), dataset.rows("validation")
    steps = chosen.epochs * max(len(training) // chosen.batch_size, 1) + chosen.warm_up_steps
    keras.utils.set_random_seed(chosen.seed)
    with precision(chosen):
        vqvae = run.build_vqvae()
        optimizer = build_optimizer(chosen.learning_rate, steps)
    stage = Stage(
        "vqvae", vqvae, optimizer, dataset.read, training, validation, chosen.batch_size,
        chosen.epochs, chosen.seed, run.checkpoint("vqvae"), **options,
    )  # fmt: skip
    if not stage.progress.ready:
        start_codebook(stage, dataset, chosen)
        stage.progress.ready = True
        stage.save()
    stage.run(
        run.folder, VQVAE_WEIGHTS, "val_distortion",
        ("val_ssim", "val_perplexity", "val_codebook_usage"), trouble=collapsed,
    )  # fmt: skip
    record(run, stage)
    return vqvae


def collapsed(history):
    """A warning when the third epoch in a row has used hardly any codes."""
    few = [row["val_codebook_usage"] < COLLAPSED_USAGE for row in history[-4:]]
    if few[-3:] != [True] * 3 or len(few) == 4 and few[0]:
        return None  # or said before
    return (
        f"only {history[-1]['val_codebook_usage']:.0%} of the codes are in use for three epochs: "
        "the codebook has collapsed. Start again with --fresh and a lower --rate-weight, a higher "
        "--revive-below or a lower --learning-rate"
    )


def record(run, stage):
    """Notes what a stage took."""
    from oasisvq.training.devices import is_chief

    progress = stage.progress
    if is_chief():
        run.record_stage(
            stage.name, progress.seconds / 60, progress.peak_memory, epochs=progress.epoch
        )


def start_codebook(stage, dataset, chosen):
    """A few steps without the quantiser, then k-means on what the encoder makes of the slices."""
    import numpy as np
    from sklearn.cluster import KMeans

    from oasisvq.training.devices import from_chief

    vqvae, per_slice = stage.model, int(np.prod(stage.model.code_shape))
    stage.warm_up(chosen.warm_up_steps, quantize=False)
    stage.save()
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
    from oasisvq.core.files import save_weights
    from oasisvq.evaluation.features import train_feature_network
    from oasisvq.runs.folder import FEATURE_WEIGHTS

    if (run.folder / FEATURE_WEIGHTS).is_file():
        return  # an earlier process of this run has trained it
    began = time.monotonic()
    rows, chosen = dataset.rows("train"), run.hyperparameters
    network = train_feature_network(
        dataset.slices, rows, dataset.labels(rows), chosen.seed, chosen.feature_steps
    )
    save_weights(network, run.folder / FEATURE_WEIGHTS)
    minutes = (time.monotonic() - began) / 60
    run.record_stage("features", minutes, peak_memory(), steps=chosen.feature_steps)
    print(f"features: {minutes:.1f} minutes")


def train_prior(run, dataset, vqvae, **options):
    """Second stage: the prior over the finished VQ-VAE's codes; `options` as for the first."""
    import keras
    import numpy as np

    from oasisvq.core.files import whole_file
    from oasisvq.evaluation.code_scores import (
        bits_by_position,
        choose_smoothing,
        count_codes,
        frequencies_by_position,
    )
    from oasisvq.runs.folder import PRIOR_WEIGHTS, TRAINING_CODES
    from oasisvq.training.devices import is_chief
    from oasisvq.training.loop import Stage, build_optimizer

    chosen = run.hyperparameters
    rows = np.concatenate([dataset.rows("train"), dataset.rows("validation")])
    codes, conditions = encode(vqvae, dataset, rows), dataset.conditions(rows)
    count = len(dataset.rows("train"))  # the training slices come first
    training, validation = np.split(np.arange(len(rows)), [count])
    counts = count_codes(codes[:count], chosen.num_embeddings)
    smoothing = choose_smoothing(counts, codes[count:])
    if is_chief():
        learned = {"codes": codes[:count], "conditions": conditions[:count]}
        with whole_file(run.folder / TRAINING_CODES) as partial:
            np.savez_compressed(partial, **learned, smoothing=smoothing)
    steps = chosen.prior_epochs * max(len(training) // chosen.prior_batch_size, 1)
    keras.utils.set_random_seed(chosen.seed)
    with precision(chosen):
        prior = run.build_prior()
        optimizer = build_optimizer(chosen.prior_learning_rate, steps, chosen.prior_average)
    prior.condition.adapt(conditions[:count])
    levels = {
        "uniform": math.log2(chosen.num_embeddings),
        "by position": bits_by_position(
            frequencies_by_position(counts, smoothing), codes[count:]
        ).mean(),
    }
    stage = Stage(
        "pixelcnn", prior, optimizer, code_reader(codes, conditions), training, validation,
        chosen.prior_batch_size, chosen.prior_epochs, chosen.seed, run.checkpoint("pixelcnn"),
        **options,
    )  # fmt: skip
    stage.run(run.folder, PRIOR_WEIGHTS, "val_loss", (), levels, chosen.prior_patience)
    record(run, stage)


def encode(vqvae, dataset, rows, batch_size=16):
    """The codes of these slices, uint16 `(n, h, w)`: of 256x256 pixels a grid takes 8 kB."""
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
