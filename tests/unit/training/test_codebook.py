"""How a codebook starts, and when it has collapsed."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from oasisvq.core.errors import TrainingError
from oasisvq.training.codebook import collapse_warning, start_codebook
from support.models import loop_of, small_vqvae


def test_the_codebook_starts_at_the_centres_of_the_encoders_output(brains):
    images = brains[:, ::4, ::4, None]
    loop = loop_of(small_vqvae((24, 20)), images, batch_size=4)
    start_codebook(loop, lambda rows: images[rows], warm_up_steps=3, seed=1)
    assert (loop.progress.ready, loop.progress.warmed) == (True, 3)
    quantizer = loop.model.quantizer
    latents = loop.model.encoder(images).numpy().reshape(-1, 3)
    inertia = KMeans(16, n_init=1, random_state=0).fit(latents).inertia_
    distances = ((latents[:, None] - quantizer.codebook.numpy()) ** 2).sum(-1).min(1)
    assert distances.sum() < 1.2 * inertia
    np.testing.assert_allclose(quantizer.ema_counts, 4 * 30 / 16)
    before = quantizer.codebook.numpy()
    start_codebook(loop, None, warm_up_steps=3, seed=1)  # it is done: nothing is read
    np.testing.assert_array_equal(quantizer.codebook, before)


def test_an_encoder_whose_output_is_not_finite_is_refused(brains):
    images = brains[:, ::4, ::4, None]
    loop = loop_of(small_vqvae((24, 20)), images)
    kernel = loop.model.encoder.weights[0]
    kernel.assign(kernel * np.nan)
    loop.save = lambda: None
    with pytest.raises(TrainingError, match="output is not finite"):
        start_codebook(loop, lambda rows: images[rows], warm_up_steps=0, seed=1)


def test_a_collapsed_codebook_is_warned_of_once():
    usages = [0.5, 0.09, 0.05, 0.08, 0.02, 0.3, 0.01]
    history = [{"val_codebook_usage": usage, "val_perplexity": 90} for usage in usages]
    warned = [bool(collapse_warning(history[: n + 1], 512)) for n in range(len(history))]
    assert warned == [False, False, False, True, False, False, False]
    assert "--fresh" in collapse_warning(history[:4], 512)


def test_a_small_codebook_of_which_one_code_is_left_has_collapsed():
    history = [{"val_codebook_usage": 1 / 8, "val_perplexity": 1.0}] * 3
    assert "a perplexity of 1.0" in collapse_warning(history, 8)
    healthy = [{"val_codebook_usage": 1.0, "val_perplexity": 2.5}] * 3
    assert collapse_warning(healthy, 8) is None
