"""Compares scoring slices, by `image_scores.slice_scores`, with scikit-image.

    python tests/benchmarks/similarity_speed.py [--dataset PATH] [--data-dir DIR] [--count 3000]

SSIM over the whole image and inside the brain, and PSNR, of slices and what is left of them after
a blur and noise, in batches of 32 as `similarity.py` takes them. scikit-image has no MS-SSIM, so
its side goes without; ours is timed with it and without. scikit-image is timed in a plain loop,
and with the loop's slices dealt out to as many threads as ours takes.
"""

import concurrent.futures
import math
import os
import statistics
from unittest import mock

import _project  # noqa: F401
import numpy as np
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from timing import alternate, ratio_text

from dataset import OASIS
from hyperparameters import Hyperparameters, add_data_dir
from oasisvq.core.configuration import Parser
from oasisvq.core.script import run_script
from oasisvq.evaluation import image_scores

BATCH_SIZE = 32


def read_pairs(dataset, count):
    """Returns slices and what is like reconstructions of them: float32 `(n, H, W, 1)` in [0, 1].

    If there are fewer than `count`, they come over and over.
    """
    random = np.random.default_rng(0)
    images = dataset.images(np.resize(dataset.rows("all"), count))
    others = ndimage.gaussian_filter(images, (0, 0.7, 0.7, 0))
    others += random.normal(0, 0.01, images.shape).astype(np.float32)
    return images, others.clip(0, 1)


def ours(images, others):
    """Returns SSIM, SSIM inside the brain and PSNR of all pairs, `(n, 3)`; MS-SSIM is dropped."""
    found = [
        image_scores.slice_scores(images[start:][:BATCH_SIZE], others[start:][:BATCH_SIZE])
        for start in range(0, len(images), BATCH_SIZE)
    ]
    names = ("ssim", "ssim_brain", "psnr")
    return np.stack([np.concatenate([part[name] for part in found]) for name in names], axis=1)


def ours_without_multiscale(images, others):
    """Returns the same, without taking MS-SSIM."""
    with mock.patch.object(image_scores, "SMALLEST_FOR_MULTISCALE", math.inf):
        return ours(images, others)


def scikit_scores(image, other):
    """Returns SSIM, SSIM inside the brain and PSNR of a pair `(H, W, 1)`."""
    image, other = image[..., 0], other[..., 0]
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim, full = structural_similarity(image, other, data_range=1.0, full=True, **window)
    inside = full[5:-5, 5:-5]  # where the window fits, over which `ssim` is the mean too
    psnr = peak_signal_noise_ratio(image, other, data_range=1.0)
    return ssim, inside[image[5:-5, 5:-5] > 0].mean(), psnr


def theirs(images, others):
    """Returns scikit-image's scores of all pairs, `(n, 3)`, in a loop."""
    return np.array([scikit_scores(*pair) for pair in zip(images, others, strict=True)])


def theirs_in_threads(images, others):
    """Returns the same, the slices dealt out to as many threads as there are cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(scikit_scores, images, others)))


def main():
    """Times all four in turns, and prints their ratios."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="slices (default: 3000)")
    parser.add_argument("--rounds", type=int, default=7)
    add_data_dir(parser)
    Hyperparameters.add_flags(parser)
    parser.set_defaults(dataset="demo")
    arguments = parser.parse_args()
    dataset = OASIS(Hyperparameters().with_flags(arguments).data, arguments.data_dir)
    pairs = read_pairs(dataset, arguments.count)
    difference = np.abs(ours(*pairs) - theirs(*pairs)).max(axis=0)
    functions = (ours, ours_without_multiscale, theirs, theirs_in_threads)
    seconds = alternate(
        {function.__name__: lambda f=function: f(*pairs) for function in functions},
        arguments.rounds,
    )
    print(
        f"{arguments.count:,} slices of {dataset.image_shape}, {os.cpu_count()} cores; largest "
        "difference of an SSIM {:.1e}, inside the brain {:.1e}, of a PSNR {:.1e} dB".format(
            *difference
        )
    )
    for name, times in seconds.items():
        each = 1000 * statistics.median(times) / arguments.count
        print(f"{name.replace('_', ' '):24}{each:6.2f} ms a slice")
    for slow in ("theirs", "theirs_in_threads"):
        for fast in ("ours", "ours_without_multiscale"):
            ratio = ratio_text(seconds[slow], seconds[fast])
            print(f"{slow} takes {ratio} as long as {fast}".replace("_", " "))


if __name__ == "__main__":
    run_script(main)
