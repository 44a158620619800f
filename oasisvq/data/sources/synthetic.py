"""Invents subjects by deforming the ICBM-152 T1 template: real anatomy, but no real person."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from scipy import ndimage

from oasisvq.core.errors import DatasetError
from oasisvq.data.filenames import is_wanted
from oasisvq.data.sources.base import WHOLE, Scan, Shard, Source
from oasisvq.data.volumes import AXES, Volume, brain_slices, load_icbm, slice_indices


class Demo(Source):
    """The invented subjects of `--dataset demo`."""

    def __init__(self, config: Any):
        self.name, self.config = "demo", config
        names = [f"invented_{number:04d}" for number in range(config.demo_subjects)]
        self.subjects = [n for n, name in enumerate(names) if is_wanted(PurePath(name), config)]
        self.count = len(self.subjects)
        self.fingerprint = ["demo 1"]  # raise the number when the invention changes

    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Scan]:
        config, template = self.config, load_template()
        cut = (config.plane, config.slice_range, config.slice_unit, config.slices_per_volume)
        for key, number in self._missing(self.subjects, store, shard):
            pictures, indices, positions = invent_slices(template, number, *cut)
            if not len(indices):
                raise DatasetError("--dataset demo: no slice of the template is in --slice-range")
            who = key, f"invented_{number:04d}", "", "", config.plane
            yield Scan(*who, list(pictures), indices.tolist(), positions.tolist())


def load_template() -> Volume:
    """Returns the skull-stripped ICBM-152 template that nilearn ships, as a `Volume` of 1 mm.

    It is cropped to the brain and a margin; voxels are float32 in [0, 1].
    """
    template, mask = load_icbm()
    voxels = template.get_fdata(dtype=np.float32) * (mask.get_fdata() > 0)
    box = ndimage.find_objects((voxels > 0).astype(int))[0]
    box = tuple(slice(max(side.start - 12, 0), side.stop + 12) for side in box)
    origin = template.affine[:3, 3] + [side.start for side in box]
    return Volume(voxels[box], (1.0, 1.0, 1.0), tuple(origin.tolist()))


def invent_slices(
    template: Volume, number: int, plane: str, slice_range: Sequence, slice_unit: str, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns slices of invented subject `number`, the same at every call.

    A smooth random warp moves the anatomy; then contrast, a bias field and noise are changed.

    Args:
        template: From `load_template`.
        number: The number of the subject, from 0.
        plane: `"axial"`, `"coronal"` or `"sagittal"`.
        slice_range, slice_unit, count: As in `slice_indices`.

    Returns:
        Float32 pictures `(count, H, W)` of at least 0, their indices `(count,)` and positions
        `(count,)` in mm.
    """
    random = np.random.default_rng([number, 152])
    voxels, axis = template.voxels, AXES[plane]
    shape = voxels.shape
    size, origin = shape[axis], template.origin[axis]
    indices = slice_indices(size, 1.0, origin, slice_range, slice_unit, count)
    indices = indices if count else brain_slices(voxels, axis, indices)

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


def _smooth_field(
    random: np.random.Generator, waves: int, spread: float, grids: Sequence, shape: Sequence
) -> np.ndarray:
    """Returns a smooth random field, a sum of cosine waves, at the coordinates in `grids`.

    Longer waves are higher. The standard deviation over the volume is `spread`.
    """
    frequencies = np.arange(waves)
    heights = random.normal(size=(waves,) * 3)
    heights /= 1 + sum(np.meshgrid(*[frequencies**2] * 3, indexing="ij"))
    heights *= spread / np.sqrt((heights**2).sum() / 4)
    bases = [
        np.cos(np.pi * (grid[:, None] + 0.5) * frequencies / length)  # (n, waves)
        for grid, length in zip(grids, shape, strict=True)
    ]
    return np.einsum("abc,xa,yb,zc->xyz", heights, *bases, optimize=True)
