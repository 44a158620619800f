"""The start of the codebook, by a warm-up and k-means, and the warning of its collapse."""

import functools

import numpy as np
from sklearn.cluster import KMeans

from oasisvq.core.errors import TrainingError
from oasisvq.training.devices import from_chief

KMEANS_LATENTS = 50_000
COLLAPSED_USAGE = 0.1


def start_codebook(loop, read_images, warm_up_steps, seed):
    """Takes some steps without the quantiser, then starts the codebook by k-means on latents.

    Args:
        loop: `Loop` of a `VQVAETrainer`, at the step where an earlier process stopped.
        read_images: Function from row numbers `(n,)` to images `(n, H, W, 1)` in [0, 1].
        warm_up_steps: Integer.
        seed: Integer, draws the slices and latents for k-means.

    Raises:
        TrainingError: If the encoder's output is not finite.
    """
    if loop.progress.ready:
        return
    model = loop.model
    loop.warm_up(warm_up_steps, functools.partial(model.train_step, quantize=False))
    loop.save()
    size, per_slice = model.num_embeddings, int(np.prod(model.code_shape))
    wanted, random = max(KMEANS_LATENTS, 4 * size), np.random.default_rng(seed)
    rows = random.permutation(loop.training.rows)[: max(128, -(-wanted // per_slice))]
    parts = np.array_split(rows, -(-len(rows) // 16))
    latents = np.concatenate([model.encoder(read_images(part)).numpy() for part in parts])
    latents = latents.reshape(-1, latents.shape[-1]).astype(np.float32)  # (N, D)
    if not np.isfinite(latents).all():
        raise TrainingError(
            f"{loop.name}: the encoder's output is not finite after the warm-up. Lower "
            "--learning-rate and start again with --fresh"
        )
    drawn = random.permutation(len(latents))[:wanted]
    print(f"{loop.name}: k-means of {min(wanted, len(latents)):,} latents for {size} codes")
    kmeans = KMeans(size, n_init=1, max_iter=20, random_state=seed).fit(latents[drawn])
    codebook = from_chief(kmeans.cluster_centers_.astype(np.float32))
    model.quantizer.start(codebook, loop.training.step_size * per_slice / size)
    loop.progress.ready = True
    loop.save()


def collapse_warning(history, num_embeddings):
    """Returns a warning if the last three epochs have used hardly any codes, else `None`.

    A codebook of few codes uses more than a tenth of them as soon as it uses one: so the perplexity
    counts too, which must not be below the cube root of K (8 of 512 codes, 2 of 8).

    Args:
        history: List of dictionaries with `val_codebook_usage` and `val_perplexity`, one an epoch.
        num_embeddings: Integer, the number of codes K.
    """
    few = [
        row["val_codebook_usage"] < COLLAPSED_USAGE
        or row["val_perplexity"] < num_embeddings ** (1 / 3)
        for row in history[-4:]
    ]
    if few[-3:] != [True] * 3 or (len(few) == 4 and few[0]):
        return None  # not collapsed, or the warning was given before
    last = history[-1]
    return (
        f"only {last['val_codebook_usage']:.0%} of the codes are in use for three epochs, at a "
        f"perplexity of {last['val_perplexity']:.1f}: the codebook has "
        "collapsed. Start again with --fresh and a lower --rate-weight, a higher "
        "--revive-below or a lower --learning-rate"
    )
