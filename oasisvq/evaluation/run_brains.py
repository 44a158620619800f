"""Draws the brains of a run that are judged, and decodes the real ones that it has learned from."""

import dataclasses

import numpy as np

from oasisvq.evaluation.judgement import (
    QUICK_BRAINS,
    QUICK_SLICES,
    Brains,
    brains_of,
    membership,
    new_brains,
    training_table,
)
from oasisvq.evaluation.planted import draw_slices
from oasisvq.evaluation.run_scores import bits_of, decode
from oasisvq.sampling.incremental import sample_code_grids


def draw_brains(run, vqvae, prior, config, plane="", quick=False):
    """Draws new brains under the conditions of training slices, and decodes those.

    Args:
        run: `Run`.
        vqvae, prior: Its trained models.
        config: `DrawConfig`.
        plane: Text, that of the run's slices, if they have one.
        quick: Whether fewer brains are drawn, and not all training slices decoded.

    Returns:
        `Brains` of the new ones, and of the training slices through the codes.
    """
    codes, conditions, persons = (
        run.training_codes(),
        run.training_conditions(),
        run.training_persons(),
    )
    table, random = training_table(conditions, persons, plane), np.random.default_rng(config.seed)
    count = min(config.num_samples, QUICK_BRAINS) if quick else config.num_samples
    rows = random.integers(len(codes), size=count)
    uniforms = random.random((count, *vqvae.code_shape))
    drawn = sample_code_grids(prior, uniforms, config, conditions[rows])
    new = new_brains(decode(vqvae, drawn, "New brains"), table.iloc[rows])
    rows = np.arange(len(codes))
    if quick:
        rows = np.sort(draw_slices(persons, min(len(codes), QUICK_SLICES), random))
    images = decode(vqvae, codes[rows], "Training slices")
    return new, Brains(images, table.iloc[rows].reset_index(drop=True))


def through_codes(vqvae, slices, rows):
    """Returns slices of an `OASIS` as `Brains`, as they are and through the codes of a run."""
    raw = brains_of(slices, rows)
    codes = vqvae.encode_all(slices.images, rows)
    return raw, dataclasses.replace(raw, images=decode(vqvae, codes, "Real slices"))


def tell_members(run, prior, test_bits, test_persons, seed):
    """Returns how well bits per code tell training from test persons: an area under the curve.

    As many training persons as test persons are drawn.

    Args:
        run: `Run`.
        prior: Its trained prior.
        test_bits: Bits per code of the test slices, `(n,)`.
        test_persons: Sequence `(n,)`, whom each shows.
        seed: Integer.
    """
    persons = run.training_persons()
    names = np.random.default_rng(seed).permutation(np.unique(persons))
    some = np.isin(persons, names[: len(set(test_persons))])
    bits = bits_of(prior, run.training_codes()[some], run.training_conditions()[some])
    return membership(bits, persons[some], test_bits, test_persons)
