"""Compares slices made by the steps of OASIS-2 with the same subjects' slices of OASIS-1's atlas.

    python tests/experiments/atlas.py --slices path/to/oasis1_coronal --volumes path/to/volumes

SLICES holds coronal slices of OASIS-1's T88 volumes (`OAS1_xxxx_MR1.{90..99}.png`), VOLUMES
skull-stripped scans of some of the same subjects, outside of the atlas. Each scan gets an
invented skull, is packed as a session of OASIS-2 with three noisy repeats, moved by a millimetre,
and goes through `dataset.py --dataset oasis2`. Its slice 95 is then compared with slice 95 of all
subjects: the most alike, and how much more than the second. Draws them to Images/atlas.png.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from _project import ROOT
from PIL import Image
from scipy import ndimage

from dataset import OASIS
from hyperparameters import DataConfig
from oasisvq.data.volumes import read_volume
from oasisvq.figures import save_rows
from support.archive_builder import oasis2_session, write_archive

SLICE = 95  # of 208, from the back
RAW_SHAPE = (128, 256, 256)
PICTURE = ROOT / "Images" / "atlas.png"


def with_skull(brain):
    """Returns a skull-stripped brain amid fluid, bone and scalp, intensities in [0, 1]."""
    brain = np.pad(brain, 30)
    mask = ndimage.binary_closing(brain > 0, iterations=4)
    distance = ndimage.distance_transform_edt(~mask)
    around = np.select([distance < 3, distance < 9, distance < 16], [0.2, 0.05, 0.9], 0.0)
    return np.where(mask, brain, around)


def raw_scan(head, random):
    """Returns a head as in a raw scan: 1.25 mm from left to right, a little moved, noisy."""
    step = np.diag([1.25, 1, 1])
    middle = (np.array(head.shape) - 1) / 2 + random.normal(0, 0.7, 3)
    offset = middle - step @ ((np.array(RAW_SHAPE) - 1) / 2)
    moved = ndimage.affine_transform(head, step, offset, RAW_SHAPE, order=1)
    return np.abs(2500 * moved + random.normal(0, 25, RAW_SHAPE))


def slice_like_oasis2(volumes, folder):
    """Returns slices `(n, 176, 176)` in [0, 1] of scans that went through the steps of OASIS-2."""
    random = np.random.default_rng(0)
    sessions = {}
    for number, path in enumerate(volumes, 1):
        head = with_skull(read_volume(path).voxels)
        repeats = [raw_scan(head, random) for _ in range(3)]
        sessions[f"OAS2_{number:04d}_MR1"] = oasis2_session(repeats)
    write_archive(folder / "OAS2_RAW_PART1.tar.gz", "OAS2_RAW_PART1", sessions)
    (folder / "oasis_longitudinal.csv").write_text("MRI ID,Age\n")
    at = SLICE / 207
    cut = {"plane": "coronal", "slice_range": (at, at), "slices_per_volume": 1}
    dataset = OASIS(DataConfig("oasis2", discs="1", **cut), folder)
    return dataset.images(dataset.rows("all"))[..., 0]


def read_slice(path):
    """Reads a slice of OASIS-1 in [0, 1], mirrored: its columns run to the subject's left."""
    pixels = np.asarray(Image.open(path), np.float32)[:, ::-1]
    return (pixels / np.percentile(pixels[pixels > 0], 99.8)).clip(0, 1)


def main():
    """Finds the most similar subject of each slice, and draws them beside one another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=Path, required=True)
    parser.add_argument("--volumes", type=Path, required=True)
    arguments = parser.parse_args()
    paths = sorted(arguments.slices.glob(f"*/*.{SLICE}.png"))
    atlas = np.stack([read_slice(path) for path in paths])
    volumes = sorted(arguments.volumes.glob("*.nii.gz"))
    with tempfile.TemporaryDirectory() as folder:
        slices = slice_like_oasis2(volumes, Path(folder))
    brain = (atlas > 0).mean(axis=0) > 0.5
    found = []
    for path, picture in zip(volumes, slices, strict=True):
        alike = np.array([np.corrcoef(picture[brain], one[brain])[0, 1] for one in atlas])
        mirrored = np.corrcoef(picture[:, ::-1][brain], atlas[alike.argmax()][brain])[0, 1]
        best, second = np.argsort(-alike)[:2]
        found.append(best)
        print(
            f"{path.name}: {paths[best].parent.name} {alike[best]:.3f}, mirrored {mirrored:.3f}; "
            f"next {alike[second]:.3f}, median {np.median(alike):.3f} of {len(paths)} subjects"
        )
    titles = [
        [f"{paths[n].parent.name[:9]}: T88" for n in found],
        ["by the road of OASIS-2"] * len(found),
    ]
    save_rows([atlas[found], slices], titles, PICTURE, ("L", "R"))


if __name__ == "__main__":
    main()
