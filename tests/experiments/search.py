"""Compares configurations of the VQ-VAE: what a slice costs, and how much of it is kept.

    python tests/experiments/search.py --dataset path/to/oasis1_coronal [--epochs 3]

Each is trained as train.py does, for as many epochs, and judged on validation subjects; then a
small prior learns its codes, for as many epochs of its own. So short a training favours the small,
ends before the rate's weight has grown whole, and gives more bits than a whole run: it compares
configurations with one another, with nothing else.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from unittest import mock

import _project  # noqa: F401
import keras
import numpy as np
import variants

import modules
from dataset import OASIS
from hyperparameters import Hyperparameters
from oasisvq.core.script import run_script
from oasisvq.evaluation.run_scores import score_slices
from oasisvq.runs.folder import Run
from oasisvq.training.stages import save_slices, train_prior, train_vqvae

# Learning for an epoch only, it has no time to learn anything by heart, and an average of its
# weights would still hold those it began with.
SMALL_PRIOR = {
    "prior_filters": 32,
    "prior_residual_blocks": 3,
    "prior_dropout": 0.1,
    "prior_average": 0.0,
}
# Name: hyperparameters, and parts of modules.py that are something else.
CONFIGURATIONS = {
    "default": ({}, {}),
    "rate weight 0": ({"rate_weight": 0.0}, {}),
    "D = 4": ({"embedding_dim": 4}, {}),
    "D = 16": ({"embedding_dim": 16}, {}),
    "K = 256": ({"num_embeddings": 256}, {}),
    "K = 1024": ({"num_embeddings": 1024}, {}),
    "stride 8, D = 16, width 128": ({"downsample": 8, "embedding_dim": 16, "width": 128}, {}),
    "1 residual block": ({"residual_blocks": 1}, {}),
    "3 residual blocks": ({"residual_blocks": 3}, {}),
    "half as wide inside": ({}, {"_residual_blocks": variants.bottleneck_residual_blocks}),
    "group normalisation": ({}, {"_residual_blocks": variants.normalised_residual_blocks}),
    "no SSIM in the loss": ({"ssim_weight": 0.0}, {}),
    "MS-SSIM in the loss": ({}, {"ssim": variants.ms_ssim}),
    "edges in the loss": ({}, {"ssim": variants.ssim_and_edges}),
    "codebook by gradient": ({"codebook_update": "gradient"}, {}),
    "no warm-up": ({"warm_up_steps": 0}, {}),
    "rotation trick": ({}, {"VectorQuantizer": variants.RotationQuantizer}),
    "cosine codes": ({}, {"VectorQuantizer": variants.CosineQuantizer}),
    # These two choose codes by distance alone: they stand beside "rate weight 0".
    "rate weight 0, finite scalars, 8 x 8 x 8": (
        {"rate_weight": 0.0, "embedding_dim": 3},
        {"VectorQuantizer": variants.ScalarQuantizer},
    ),
    "rate weight 0, residual codes, 32 + 16": (
        {"rate_weight": 0.0},
        {"VectorQuantizer": variants.ResidualQuantizer},
    ),
}
HEADER = (
    *("configuration", "bits per pixel", "SSIM", "SSIM in the brain", "PSNR", "bits per code"),
    *("usage", "perplexity in the brain", "minutes"),
)


def main():
    """Prints a row of the table for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--prior-epochs", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=tuple(CONFIGURATIONS))
    arguments = parser.parse_args()

    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for name in arguments.only or CONFIGURATIONS:
        changes, parts = CONFIGURATIONS[name]
        chosen = Hyperparameters().replace(
            dataset=arguments.dataset,
            epochs=arguments.epochs,
            prior_epochs=arguments.prior_epochs,
            **SMALL_PRIOR,
            **changes,
        )
        dataset = OASIS(chosen.data, arguments.data_dir)
        dataset.require("train", "validation")
        replaced = mock.patch.multiple(modules, **parts) if parts else contextlib.nullcontext()
        with tempfile.TemporaryDirectory() as folder, replaced:
            row = measure(name, chosen, dataset, Path(folder) / "run")
        print("| " + " | ".join(row) + " |", flush=True)


def measure(name, chosen, dataset, folder):
    """Trains a configuration, and returns its row of the table."""
    began, seed = time.monotonic(), chosen.run.seed
    run = Run(folder, chosen, dataset.image_shape, dataset.variance)
    run.start(fresh=False)
    save_slices(dataset, run)
    keras.utils.set_random_seed(seed)
    vqvae = modules.build_vqvae(run)
    train_vqvae(vqvae, dataset, run)
    minutes = (time.monotonic() - began) / 60
    keras.utils.set_random_seed(seed)
    prior = modules.build_prior(run)
    train_prior(prior, vqvae, dataset, run)

    rows, size = dataset.rows("validation"), vqvae.num_embeddings
    known = dataset.conditions(rows), dataset.mean_slices()
    even = np.full((*vqvae.code_shape, size), 1 / size)  # frequencies, at which nothing here looks
    report, _ = score_slices(vqvae, prior, dataset, rows, *known, even)
    means = {key: scores["mean"] for key, scores in report["reconstruction"].items()}
    price, codebook = report["prior"], report["codebook"]
    return (
        name,
        f"{price['bits_per_pixel']:.3f}",
        f"{means['ssim']:.4f}",
        f"{means['ssim_brain']:.4f}",
        f"{means['psnr']:.1f}",
        f"{price['bits_per_code']:.2f}",
        f"{codebook['usage']:.0%}",
        f"{codebook['perplexity_brain']:.0f}",
        f"{minutes:.1f}",
    )


if __name__ == "__main__":
    run_script(main)
