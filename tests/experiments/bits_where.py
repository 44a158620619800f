"""Measures where the bits of a slice go, and what the decoder leaves on the black ground.

    python tests/experiments/bits_where.py --run-dir RUN [--dataset SLICES]

Bits. The mean over all positions of the grid is the price of a slice, but about half of them are
black and cost almost nothing. So the bits are also given of the positions that touch the brain
alone, beside what a code costs there without a network: by how frequent it is at its position, by
how frequent it is at such positions of these slices (the entropy), and by its number alone.

Faint pixels. In a skull-stripped slice a pixel is 0 or brain. Of reconstructions and new brains,
rounded to 8 bits as in a PNG, the pixels above 0 outside the head are counted: outside the head of
the real slice, of reconstructions, and outside their own, of all. A head is the largest piece of
pixels from `DARKEST` up, without its holes. Also counted are pixels from 1 to `DARKEST` - 1
anywhere: no real brain is so dark.

Mending. With `--dataset`, pixels below a threshold are set to 0. The threshold is the one with the
fewest wrong pixels in the validation persons' reconstructions: above 0 where the real slice is
black, or black where it is brain. What it does is printed for them and for the test persons.
"""

import argparse
import dataclasses

import _project  # noqa: F401
import numpy as np
from scipy import ndimage

from dataset import OASIS, open_test_slices
from hyperparameters import DrawConfig, Hyperparameters
from modules import load_prior, load_vqvae
from oasisvq.core.intensities import as_levels
from oasisvq.core.script import run_script
from oasisvq.evaluation.code_scores import cells_with_brain, count_codes, frequencies_by_position
from oasisvq.evaluation.image_scores import slice_scores
from oasisvq.evaluation.intervals import format_interval, interval_by_subject
from oasisvq.runs.folder import open_run
from oasisvq.sampling.incremental import sample_code_grids

BATCH_SIZE = 16
DARKEST = 12  # of 255 levels
THRESHOLDS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20)  # of 255 levels
EIGHT = np.ones((3, 3))  # a pixel's neighbours in a piece
SCORES = {"ssim": ".4f", "ssim_brain": ".4f", "psnr": ".2f"}


def main():
    """Prints bits, faint pixels, and what a threshold does about these."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--dataset", help="all persons' slices, to choose a threshold")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = open_run(arguments.run_dir, Hyperparameters)
    kept, vqvae, prior = open_test_slices(run), load_vqvae(run), load_prior(run)
    rows, subjects = np.arange(len(kept.table)), kept.table["subject"].to_numpy()
    conditions, codes = kept.conditions(rows), vqvae.encode_all(kept.images, rows)
    print(f"{len(rows):,} test slices of {len(set(subjects))} subjects; mean [95% over subjects]")
    print_bits(run, prior, codes, conditions, brain_cells(kept, rows, vqvae), subjects)

    uniforms = np.random.default_rng(arguments.seed).random(codes.shape)
    drawn = sample_code_grids(prior, uniforms, DrawConfig(), conditions)
    real, shown, new = (
        np.asarray(kept.slices),
        *(vqvae.decode_all(grids)[..., 0] for grids in (codes, drawn)),
    )
    print_faint({"real": real, "codes": shown, "new": new}, subjects)
    if not arguments.dataset:
        return
    config = dataclasses.replace(run.hyperparameters.data, dataset=arguments.dataset)
    every = OASIS(config, arguments.data_dir, run.image_shape)
    known = np.flatnonzero(every.table["subject"].map(run.split()) == "validation")
    decoded = vqvae.decode_all(vqvae.encode_all(every.images, known))[..., 0]
    owners = every.table["subject"].iloc[known].to_numpy()
    print(f"\nvalidation, {len(known)} slices of {len(set(owners))} subjects")
    best = choose_threshold(np.asarray(every.slices[known]), decoded, owners)
    print("test")
    for threshold in (0, best):
        print_threshold(threshold, real, shown, subjects)
    made = {"codes": mended(shown, best), "new": mended(new, best)}
    print_faint({"real": real} | made, subjects)


def brain_cells(slices, rows, vqvae):
    """Returns which positions of the code grids of rows touch the brain, boolean `(n, h, w)`."""
    starts = range(0, len(rows), BATCH_SIZE)
    images = (slices.images(rows[start : start + BATCH_SIZE]) for start in starts)
    return np.concatenate([cells_with_brain(some, vqvae.config.downsample) for some in images])


def print_bits(run, prior, codes, conditions, brain, subjects):
    """Prints the bits per code of all positions, and of those in the brain and on the ground.

    Args:
        run: The run, from whose training codes the frequencies come.
        prior: `PixelCNN`.
        codes: Integer array `(n, h, w)`.
        conditions: Float array `(n, 4)`.
        brain: Boolean array `(n, h, w)`, see `brain_cells`.
        subjects: Array `(n,)`.
    """
    counts = count_codes(run.training_codes(), prior.num_embeddings)
    frequencies = frequencies_by_position(counts, run.smoothing())
    grid_rows, columns = np.indices(codes.shape[1:])
    bits = {
        "prior": bits_of_codes(prior, codes, conditions),
        "by position": -np.log2(frequencies[grid_rows, columns, codes]),
    }
    places = {"all positions": np.ones_like(brain), "in the brain": brain, "on the ground": ~brain}
    for place, chosen in places.items():
        cells = [
            f"{name} {format_interval(mean_where(values, chosen, subjects), '.2f')}"
            for name, values in bits.items()
        ]
        counts = np.bincount(codes[chosen], minlength=prior.num_embeddings)
        shares = counts[counts > 0] / counts.sum()
        cells.append(f"by frequency {-(shares * np.log2(shares)).sum():.2f}")
        cells.append(f"by number {np.log2(prior.num_embeddings):.2f}")
        spent = bits["prior"][chosen].sum() / bits["prior"].sum()
        print(
            f"{place}, {chosen.mean():.0%} of the positions, {spent:.0%} of the prior's bits: "
            f"bits per code {'; '.join(cells)}"
        )


def bits_of_codes(prior, codes, conditions):
    """Returns `-log2` of the probability of each code under a prior, `(n, h, w)`."""
    parts = []
    for start in range(0, len(codes), BATCH_SIZE):
        some = codes[start : start + BATCH_SIZE].astype(np.int32)
        grids = prior.distribution(some, conditions[start : start + BATCH_SIZE])
        parts.append(grids.distribution.log_prob(some).numpy() / -np.log(2))
    return np.concatenate(parts)


def mean_where(values, chosen, subjects):
    """Returns the mean of chosen values `(n, h, w)`, with an interval over subjects."""
    owners = np.broadcast_to(np.reshape(subjects, (-1, 1, 1)), values.shape)
    return interval_by_subject(values[chosen], owners[chosen])


def print_faint(pictures, subjects):
    """Prints how many faint pixels slices have.

    Args:
        pictures: Dictionary from `"real"`, `"codes"` (their reconstructions) and `"new"` (new
            brains that were drawn for their conditions) to arrays `(n, H, W)`: uint8, or floats in
            [0, 1].
        subjects: Array `(n,)`.
    """
    heads = np.stack([head_of(picture) for picture in pictures["real"]])
    print("  pixels above 0 of a slice")
    for name, slices in pictures.items():
        levels = slices if slices.dtype == np.uint8 else as_levels(slices)
        own = np.stack([head_of(picture) for picture in levels])
        places = {"outside its own head": ~own, "outside the real head": ~heads}
        places[f"from 1 to {DARKEST - 1}"] = levels < DARKEST
        if name == "new":  # a new brain has no real head
            del places["outside the real head"]
        for place, there in places.items():
            counts = ((levels > 0) & there).sum(axis=(1, 2))
            mean = format_interval(interval_by_subject(counts, subjects), ".1f")
            print(
                f"    {name:5} {place:22} {mean}, median {np.median(counts):.0f}, most "
                f"{counts.max()}"
            )


def head_of(picture):
    """Returns the largest piece of a uint8 picture `(H, W)` that is not dark, without holes."""
    pieces, count = ndimage.label(picture >= DARKEST, EIGHT)
    if not count:
        return np.zeros(picture.shape, bool)
    largest = 1 + np.bincount(pieces.ravel())[1:].argmax()
    return ndimage.binary_fill_holes(pieces == largest)


def mended(images, threshold):
    """Returns images in [0, 1] with what is below a threshold, of 255 levels, set to 0."""
    return np.where(images < (threshold - 0.5) / 255, 0, images)


def choose_threshold(real, shown, subjects):
    """Prints what each threshold does, and returns the one with the fewest wrong pixels."""
    wrong = {one: print_threshold(one, real, shown, subjects) for one in THRESHOLDS}
    return min(wrong, key=wrong.get)


def print_threshold(threshold, real, shown, subjects):
    """Prints scores and wrong pixels of reconstructions; returns how many are wrong in a slice."""
    images = mended(shown, threshold)
    parts = [
        slice_scores(real[some, ..., None] / np.float32(255), images[some, ..., None])
        for some in np.array_split(np.arange(len(real)), -(-len(real) // BATCH_SIZE))
    ]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in SCORES}
    cells = [
        f"{name} {format_interval(interval_by_subject(scores[name], subjects), form)}"
        for name, form in SCORES.items()
    ]
    wrong = {
        "ground not black": ((as_levels(images) > 0) & (real == 0)).sum(axis=(1, 2)).mean(),
        "brain made black": ((as_levels(images) == 0) & (real > 0)).sum(axis=(1, 2)).mean(),
    }
    cells += [f"{name} {count:.1f} pixels" for name, count in wrong.items()]
    print(f"  below {threshold:2}/255 black: {'; '.join(cells)}")
    return sum(wrong.values())


if __name__ == "__main__":
    run_script(main)
