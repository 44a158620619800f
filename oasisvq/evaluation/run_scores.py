"""Scores a run slice by slice: its reconstructions and its codes."""

import math

import numpy as np
import pandas

from oasisvq.core.arrays import array_on_disk
from oasisvq.core.checks import finite
from oasisvq.core.intensities import as_levels
from oasisvq.core.progress import Progress
from oasisvq.evaluation.code_scores import bits_by_position, cells_with_brain
from oasisvq.evaluation.image_scores import SCORE_NAMES, slice_scores
from oasisvq.evaluation.intervals import interval_by_subject
from oasisvq.nn.metrics import CodebookUse

BATCH_SIZE = 32
BASELINES = ("black", "mean_slice")
# A decoder needs four bytes besides the codes: the intensity of 1.0, the position of the slice, the
# age of the subject, and sex with CDR.
SIDE_INFORMATION_BITS = 32


def score_slices(vqvae, prior, slices, rows, conditions, mean_slices, frequencies):
    """Scores the reconstructions and the codes of slices.

    Args:
        vqvae, prior: `VQVAETrainer` and `PixelCNN`, trained.
        slices: `OASIS`.
        rows: Integer array `(n,)`, rows of the slices to score.
        conditions: Float array `(n, 4)`, the conditions for the prior.
        mean_slices: Dictionary, see `OASIS.mean_slices`.
        frequencies: Float array `(h, w, K)`, see `frequencies_by_position`.

    Returns:
        The report, a dictionary for JSON, and a table with one row per slice.
    """
    keys, batches = slices.position_keys(rows), []
    use, use_of_brain = CodebookUse(vqvae.num_embeddings), CodebookUse(vqvae.num_embeddings)
    for start in Progress(range(0, len(rows), BATCH_SIZE), desc="Scoring", unit="batch"):
        batch = slice(start, start + BATCH_SIZE)
        images = slices.images(rows[batch])  # (B, H, W, 1)
        codes = vqvae.encode(images).numpy()  # (B, h, w)
        use.update_state(codes)
        use_of_brain.update_state(codes, cells_with_brain(images, vqvae.config.downsample))
        means = [mean_slices.get(key, mean_slices["all"]) for key in keys[batch]]
        known = conditions[batch]
        scores = {
            "": slice_scores(images, finite(vqvae.decode(codes).numpy(), "pixels")),
            "black_": slice_scores(images, np.zeros_like(images)),
            "mean_slice_": slice_scores(images, np.stack(means)[..., None]),
            "prior_": {
                "bits_per_code": finite(prior.bits_per_code(codes, known).numpy(), "bits"),
                "bits_per_code_by_position": bits_by_position(frequencies, codes),
            },
        }
        columns = {a + b: values for a, group in scores.items() for b, values in group.items()}
        batches.append(pandas.DataFrame(columns))
    table = slices.table.iloc[rows][["subject", "session", "plane", "index"]]
    table = table.reset_index(drop=True).join(pandas.concat(batches, ignore_index=True))

    def intervals(prefix):
        return {
            name: interval_by_subject(table[prefix + name], table["subject"])
            for name in SCORE_NAMES
        }

    codes, pixels = math.prod(vqvae.code_shape), math.prod(vqvae.image_shape)
    bits = table["prior_bits_per_code"]
    whole, brain = use.result(), use_of_brain.result()
    report = {
        "subjects": int(table["subject"].nunique()),
        "slices": len(table),
        "reconstruction": intervals(""),
        "baselines": {name: intervals(f"{name}_") for name in BASELINES},
        "prior": {
            "bits_per_code": float(bits.mean()),
            "bits_per_pixel": (float(bits.mean()) * codes + SIDE_INFORMATION_BITS) / pixels,
            "bits_per_code_uniform": math.log2(vqvae.num_embeddings),
            "bits_per_code_by_position": float(table["prior_bits_per_code_by_position"].mean()),
            "bits_per_code_interval": interval_by_subject(bits, table["subject"]),
            "codes_per_slice": codes,
        },
        "codebook": {
            "size": vqvae.num_embeddings,
            "usage": float(whole["codebook_usage"]),
            "perplexity": float(whole["perplexity"]),
            "perplexity_brain": float(brain["perplexity"]),
        },
        "mean_slice_positions_known": float(np.mean([key in mean_slices for key in keys])),
        "refitted": slices.refitted(rows),
    }
    return report, table


def choose_extremes(table):
    """Returns nine rows of a table of scores, the best, median and worst, and their titles."""
    order = np.argsort(table["ssim"].to_numpy())
    middle = len(order) // 2
    chosen = np.resize(np.concatenate([order[::-1][:3], order[middle:][:3], order[:3]]), 9)
    kinds = np.repeat(["best", "median", "worst"], 3)
    titles = [
        f"{kind}: SSIM {table['ssim'][n]:.3f}\n{table['subject'][n]}"
        for kind, n in zip(kinds, chosen, strict=True)
    ]
    return chosen, titles


def decode(vqvae, codes, description):
    """Decodes code grids `(n, h, w)` to slices, uint8 `(n, H, W)` in a temporary file."""
    slices = array_on_disk((len(codes), *vqvae.image_shape))
    for start in Progress(range(0, len(codes), BATCH_SIZE), desc=description, unit="batch"):
        images = vqvae.decode(codes[start : start + BATCH_SIZE]).numpy()[..., 0]
        slices[start : start + BATCH_SIZE] = as_levels(finite(images, "pixels"))
    return slices


def bits_of(prior, codes, conditions):
    """Returns the bits per code of grids `(n, h, w)` under their conditions `(n, 4)`: `(n,)`."""
    starts = range(0, len(codes), BATCH_SIZE)
    parts = [slice(start, start + BATCH_SIZE) for start in starts]
    bits = [prior.bits_per_code(codes[part], conditions[part]).numpy() for part in parts]
    return finite(np.concatenate(bits), "bits")
