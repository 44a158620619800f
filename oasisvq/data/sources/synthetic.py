"""Invented subjects: the ICBM-152 T1 template, deformed. Real anatomy, no real person."""

import numpy as np
from scipy import ndimage

from oasisvq.data.volumes import AXES, Volume, slice_indices


def load_template():
    """The skull-stripped ICBM-152 template that nilearn ships, as a `Volume` of 1 mm.

    Cropped to the brain and a margin; voxels in [0, 1], float32.
    """
    # Not at the top: it takes a second, and `--help` should not.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    template, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    voxels = template.get_fdata(dtype=np.float32) * (mask.get_fdata() > 0)
    box = ndimage.find_objects((voxels > 0).astype(int))[0]
    box = tuple(slice(max(side.start - 12, 0), side.stop + 12) for side in box)
    origin = template.affine[:3, 3] + [side.start for side in box]
    return Volume(voxels[box], (1.0, 1.0, 1.0), tuple(float(x) for x in origin))


def invent_slices(template, number, plane, slice_range, slice_unit, count):
    """Slices of invented subject `number`, the same at every call.

    A smooth random warp moves the anatomy, then contrast, a bias field and
    noise make it another scan.

    Returns:
        Float32 pictures `(count, H, W)` of at least 0, their indices `(count,)`
        and positions `(count,)` in mm.
    """
    random = np.random.default_rng([number, 152])
    voxels, axis = template.voxels, AXES[plane]
    shape = voxels.shape
    size, origin = shape[axis], template.origin[axis]
    indices = slice_indices(size, 1.0, origin, slice_range, slice_unit, count)

    # Coordinates (3, X, Y, Z) of the wanted slices only, then displaced.
    grids = [np.arange(length, dtype=np.float32) for length in shape]
    grids[axis] = indices.astype(np.float32)
    coordinates = np.stack(np.meshgrid(*grids, indexing="ij"))
    centre = np.array(shape, dtype=np.float32).reshape(3, 1, 1, 1) / 2
    scale = random.normal(1.0, 0.03, size=(3, 1, 1, 1)).astype(np.float32)
    displaced = (coordinates - centre) * scale + centre
    for along in range(3):
        displaced[along] += _smooth_field(random, waves=10, spread=4.0, grids=grids, shape=shape)
    pictures = ndimage.map_coordinates(voxels, displaced, order=1)

    brain = pictures > 0.05
    contrast = random.uniform(0.7, 1.4)
    bias = _smooth_field(random, waves=3, spread=0.1, grids=grids, shape=shape)
    pictures = pictures**contrast * np.exp(bias)
    pictures += random.normal(0, random.uniform(0.01, 0.03), size=pictures.shape)
    pictures = np.where(brain, pictures.clip(1e-3), 0).astype(np.float32)
    pictures = np.moveaxis(pictures, axis, 0).transpose(0, 2, 1)[:, ::-1]
    return pictures, indices, origin + indices


def _smooth_field(random, waves, spread, grids, shape):
    """A sum of cosine waves of random heights, longer ones higher, of standard deviation
    `spread` over the volume; `grids` are the wanted coordinates along each axis."""
    frequencies = np.arange(waves)
    heights = random.normal(size=(waves,) * 3)
    heights /= 1 + sum(np.meshgrid(*[frequencies**2] * 3, indexing="ij"))
    heights *= spread / np.sqrt((heights**2).sum() / 4)
    bases = [
        np.cos(np.pi * (grid[:, None] + 0.5) * frequencies / length)  # (n, waves)
        for grid, length in zip(grids, shape, strict=True)
    ]
    return np.einsum("abc,xa,yb,zc->xyz", heights, *bases, optimize=True)
