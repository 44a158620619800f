"""What a slice costs and how much of it is kept, for several configurations of the VQ-VAE.

    python tests/benchmarks/search.py --dataset path/to/oasis1_coronal [--epochs 3]

Each is trained as train.py does, for as many epochs, and judged on validation subjects; then a
small prior learns its codes, for as many epochs of its own. So short a training favours the small,
ends before the rate's weight has grown whole, and gives more bits than a whole run: it compares
configurations with one another, with nothing else.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hyperparameters import Hyperparameters  # noqa: E402
from oasisvq.core.script import import_tensorflow_quietly, run_script  # noqa: E402

import_tensorflow_quietly()

import variants  # noqa: E402

import modules  # noqa: E402
from dataset import OASIS  # noqa: E402
from oasisvq.evaluation.code_scores import cells_with_brain
from oasisvq.evaluation.image_scores import slice_scores  # noqa: E402
from oasisvq.nn.metrics import codebook_use
from oasisvq.runs.folder import Run  # noqa: E402
from similarity import SIDE_INFORMATION_BITS  # noqa: E402
from train import start_run, train_features, train_prior, train_vqvae  # noqa: E402

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
    "configuration", "bits per pixel", "SSIM", "SSIM in the brain", "PSNR", "bits per code",
    "usage", "perplexity in the brain", "minutes",
)  # fmt: skip


def main():
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
        chosen = Hyperparameters(
            dataset=arguments.dataset,
            epochs=arguments.epochs,
            prior_epochs=arguments.prior_epochs,
            feature_steps=1,  # nothing here looks at features
            **SMALL_PRIOR,
            **changes,
        )
        dataset = OASIS(chosen, arguments.data_dir)
        replaced = mock.patch.multiple(modules, **parts) if parts else contextlib.nullcontext()
        with tempfile.TemporaryDirectory() as folder, replaced:
            row = measure(name, chosen, dataset, Path(folder) / "run")
        print("| " + " | ".join(row) + " |", flush=True)


def measure(name, chosen, dataset, folder):
    """A row of the table."""
    began = time.monotonic()
    run = Run(folder, chosen, dataset.image_shape, dataset.variance())
    start_run(run, dataset, fresh=False)
    vqvae = train_vqvae(run, dataset)
    minutes = (time.monotonic() - began) / 60
    train_features(run, dataset)
    train_prior(run, dataset, vqvae)
    bits = pandas.read_csv(folder / "pixelcnn_history.csv")["val_loss"].min()

    scores, used = [], np.zeros((2, chosen.num_embeddings), int)
    for images in dataset.batches("validation", chosen.batch_size):
        codes = vqvae.encode(images).numpy()
        of_brain = codes[cells_with_brain(images.numpy(), chosen.downsample)]
        used += [np.bincount(some.ravel(), minlength=used.shape[1]) for some in (codes, of_brain)]
        scores.append(slice_scores(images, vqvae.decode(codes).numpy()))
    whole, brain = (codebook_use(counts) for counts in used)
    means = {key: np.concatenate([part[key] for part in scores]).mean() for key in scores[0]}
    price = bits * np.prod(vqvae.code_shape) + SIDE_INFORMATION_BITS
    price /= np.prod(dataset.image_shape)
    return (
        name, f"{price:.3f}", f"{means['ssim']:.4f}", f"{means['ssim_brain']:.4f}",
        f"{means['psnr']:.1f}", f"{bits:.2f}", f"{whole['codebook_usage']:.0%}",
        f"{brain['perplexity']:.0f}", f"{minutes:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
