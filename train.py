"""Fits one run: the VQ-VAE, then the prior over its codes."""

import contextlib
import functools
from pathlib import Path

from hyperparameters import PRESETS, Hyperparameters, add_data_dir
from oasisvq.core.configuration import Parser, add_run_dir
from oasisvq.core.errors import HyperparameterError
from oasisvq.core.script import import_tensorflow_quietly, run_script
from oasisvq.data.sources.named import check_dataset


def main():
    """Trains all stages of a run, each from where an earlier process has left it."""
    arguments = parse_flags()
    hyperparameters = Hyperparameters().replace(**PRESETS[arguments.preset]).with_flags(arguments)
    check_dataset(hyperparameters.data.dataset)

    import_tensorflow_quietly()
    import keras
    import numpy as np
    import tensorflow as tf

    from dataset import OASIS, SPLITS, describe
    from modules import build_prior, build_vqvae
    from oasisvq.runs.folder import Run, alone
    from oasisvq.runs.model_card import write_model_card
    from oasisvq.training.devices import (
        describe_devices,
        devices_of,
        from_chief,
        is_chief,
        start_strategy,
    )
    from oasisvq.training.stages import (
        check_trainable,
        layer_precision,
        save_slices,
        train_prior,
        train_vqvae,
    )

    settings = hyperparameters.run
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = start_strategy()  # TensorFlow wants it before anything else is computed
    dataset = OASIS(hyperparameters.data, arguments.data_dir)
    dataset.require(*SPLITS)
    source = dataset.description["source"]
    print(f"{source}: {describe(dataset)}")
    check_trainable(hyperparameters.vqvae, dataset)
    folder = Path(arguments.run_dir or f"runs/{source}")
    run = Run(folder, hyperparameters, dataset.image_shape, dataset.variance, dataset.identity())
    options = {
        "checkpoint_minutes": arguments.checkpoint_minutes,
        "max_bad_steps": arguments.max_bad_steps,
    }

    with contextlib.ExitStack() as stack:
        finished = False
        if is_chief():
            run.refuse_another(arguments.fresh)  # at once, before waiting for who works in it
            stack.enter_context(alone(folder))
            finished = run.start(arguments.fresh)
            if not finished:
                save_slices(dataset, run)
        with devices_of(strategy):
            finished = bool(from_chief(np.array([finished], np.int32))[0])
        if finished:
            print(f"{folder}: this run is finished. --fresh deletes it and trains anew")
        else:
            print(f"Training on {describe_devices(strategy)}")
            with devices_of(strategy):
                keras.utils.set_random_seed(settings.seed)
                with layer_precision(settings.mixed_precision):
                    vqvae = build_vqvae(run)
                train_vqvae(vqvae, dataset, run, **options)
            with devices_of(strategy):
                keras.utils.set_random_seed(settings.seed)
                with layer_precision(settings.mixed_precision):
                    prior = build_prior(run)
                train_prior(prior, vqvae, dataset, run, **options)
            if is_chief():
                write_model_card(run)
                run.record_prior()  # from here on, the run is finished
                run.sweep()
    print(
        f"\nThe run lies in {folder}: weights, history, figures and the test subjects' slices.\n"
        f"New brains:  python predict.py --run-dir {folder}\n"
        f"Scores:      python similarity.py --run-dir {folder}\n"
        f"Curves:      {folder / 'figures'}, or tensorboard --logdir {folder / 'tensorboard'}"
    )


def parse_flags():
    """Returns the flags, after refusing values that no training can use."""
    parser = Parser(description=__doc__, epilog="Then run predict.py and similarity.py.")
    add_data_dir(parser)
    add_run_dir(parser, "where the run goes (default: runs/DATASET)")
    parser.add_argument(
        "--fresh", action="store_true", help="delete what an earlier run left in the run folder"
    )
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="default",
        help="quality: a larger prior, and longer training (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="how often the state of training is saved; after a kill at any moment, the same "
        "command goes on from the last save (default: %(default)g)",
    )
    parser.add_argument(
        "--max-bad-steps",
        type=int,
        default=0,
        metavar="STEPS",
        help="how many steps of a stage may be undone because they led to numbers that are not "
        "finite (default: %(default)s)",
    )
    Hyperparameters.add_flags(parser)
    arguments = parser.parse_args()
    if arguments.checkpoint_minutes < 0 or arguments.max_bad_steps < 0:
        raise HyperparameterError("--checkpoint-minutes and --max-bad-steps must be at least 0")
    return arguments


run = functools.partial(run_script, main)


if __name__ == "__main__":
    run()
