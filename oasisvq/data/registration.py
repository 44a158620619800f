"""A head brought to the atlas that OASIS-1 lies in: repeats averaged, heads registered to T88."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage
from SimpleITK import Image

from oasisvq.core.errors import VolumeError
from oasisvq.data.volumes import Volume, load_icbm

# With more than one thread, sums are added in an order that changes from run to run, and so do the
# results.
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
sitk.ProcessObject.SetGlobalWarningDisplay(False)

# The grid of OASIS-1's T88 volumes as `read_volume` gives it: RAS, 1 mm, 0 mm at its centre.
ATLAS_SHAPE = (176, 208, 176)
ATLAS_ORIGIN = (-87.5, -103.5, -87.5)

# Millimetres of that grid to millimetres of the ICBM-152 template. Measured on four subjects
# of OASIS-1 (ages 55 to 80) of whom both a whole volume and T88 slices were at hand: `to_atlas`
# brought the volume to the grid, an affine fit moved it from there onto the subject's own T88
# slices (correlation 0.98), and the four corrections were averaged. One subject's lies 1.1 mm
# from their mean, which is therefore uncertain by 0.7 mm over the brain. The axes of the atlas
# are turned by about 2 degrees (roll) and 3 (pitch) against those of ICBM.
ATLAS_TO_ICBM = np.array(
    [
        [1.040, 0.007, 0.026, -0.62],
        [-0.018, 1.033, 0.026, -16.23],
        [-0.029, -0.062, 1.042, 13.07],
        [0.000, 0.000, 0.000, 1.00],
    ]
)

LEVELS = (8, 4, 2)  # mm between the voxels compared, from coarse to fine
START_HEIGHTS = (-25, 0, 25)  # mm: how much neck a scan holds is unknown
START_PITCHES = (-15, 0, 15)  # degrees: heads nod more than they turn
START_SCALES = (0.95, 1.1)  # a coarse head is better matched at few sizes than at any
BEST_STARTS = 3  # that are refined: one alone may run away into the scalp

# A head around the skull-stripped template, in mm from the brain: without it, the brain grows
# until it fills the scalp. Fluid and bone are dark in T1, scalp is bright.
BONE, SCALP = 9, 16
HEAD_MARGIN = 20  # mm around the brain that are compared, into the air
FACE_HEIGHT = -45  # mm on the atlas: below, face and neck differ too much to be compared
BRAIN_MARGIN = 5  # mm around the brain that are compared at last: the dark ring

# What a registration must reach. Of 80 heads moved, turned, scaled, shaded and made noisy, 79 were
# found, with a likeness of 0.50 and more (0.44 in one of extreme shading) and a stretch of 1.10
# and less. Missed heads and what was no upright head had a likeness of 0.42 and less.
# Repeats of one head reached 0.92 (0.86 after 8 mm of motion), mirrored 0.80, others' heads 0.50.
LEAST_LIKENESS = 0.45  # correlation with the template over the brain, at 4 mm
LARGEST_TURN = 40  # degrees
SCALES = (0.75, 1.35)  # of the atlas to the head, along any direction
LARGEST_STRETCH = 1.2  # of one direction against another: a voxel size that is wrong
LEAST_INSIDE = 0.9  # of the brain inside the scan
REPEAT_LIKENESS = 0.85  # correlation of two repeats over the head, at 2 mm


def average_repeats(volumes: Sequence[Volume], names: Sequence[str]) -> tuple[Volume, list[str]]:
    """Returns the mean of the repeats of one session, each moved onto the best of them.

    Args:
        volumes: The repeats, a list of `Volume`.
        names: Their names, for messages and for `left_out`.

    Returns:
        The mean as a `Volume` on the reference repeat's grid, and the names of the repeats that
        were left out, because their grid differs or they show something else.

    Raises:
        VolumeError: If no more than half of the repeats show the same head.
    """
    if len(volumes) == 1:
        return volumes[0], []
    target = _best_repeat(volumes)
    kept, left_out = [target.voxels], []
    for volume, name in zip(volumes, names, strict=True):
        if volume is target:
            continue
        voxels = _moved_onto(target, volume) if _grid(volume) == _grid(target) else None
        if voxels is None:
            left_out.append(name)
        else:
            kept.append(voxels)
    if 2 * len(kept) <= len(volumes):
        raise VolumeError(
            f"{', '.join(names)}: expected repeats of one head. Received: {len(kept)} of "
            f"{len(volumes)} that agree. Take out the scans that do not belong to the session"
        )
    mean = np.asarray(np.mean(kept, axis=0, dtype=np.float32))
    return Volume(mean, target.voxel_size, target.origin), left_out


def _grid(volume: Volume) -> tuple:
    """Returns what two repeats must share: not the origin, which scanners and heads move."""
    return volume.voxels.shape, tuple(volume.voxel_size)


def _best_repeat(volumes: Sequence[Volume]) -> Volume:
    """Returns the repeat that is most like the others at 8 mm, where their motion is small."""
    coarse = [(_grid(volume), _coarser(_image(volume), LEVELS[0])) for volume in volumes]
    alike = [
        sum(_correlation(one, other) for own, other in coarse if own == grid)
        for grid, one in coarse
    ]
    return volumes[int(np.argmax(alike))]


def _moved_onto(target: Volume, volume: Volume) -> np.ndarray | None:
    """Returns the voxels of `volume` moved rigidly onto `target`; `None` if they do not match."""
    fixed, moving = (_image(dataclasses.replace(v, origin=(0, 0, 0))) for v in (target, volume))
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_head_centre(_coarser(fixed, LEVELS[0])).tolist())
    for level in LEVELS[1:]:
        small = _coarser(fixed, level)
        head = _tissue(small)
        _register(small, head, _coarser(moving, level), transform, "correlation")
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    likeness = _correlation(_coarser(moved, level), small, head)
    return _voxels(moved) if likeness >= REPEAT_LIKENESS else None


def to_atlas(volume: Volume, name: str, scaling: bool = True) -> Volume:
    """Registers a whole head to the ICBM brain, placed as the anatomy of OASIS-1 is.

    Args:
        volume: `Volume` of a head, upright in RAS. A mirrored one is not recognised as such.
        name: What to call it in messages.
        scaling: Whether the head is also brought to the atlas's size (12 parameters), as OASIS-1
            did, or only moved (6 parameters).

    Returns:
        `Volume` of `ATLAS_SHAPE` and 1 mm with `ATLAS_ORIGIN`, in the input's own intensities, at
        least 0; 0 where the scan ends.

    Raises:
        VolumeError: If no such head was found, or not all of its brain.
    """
    image = _image(volume)
    transform = _atlas_transform(image, scaling)
    _check(image, transform, name)
    moved = sitk.Resample(image, _image(_template()), transform, sitk.sitkLinear, 0.0)
    return Volume(_voxels(moved).clip(0), (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def _atlas_transform(image: Image, scaling: bool) -> Any:
    """Returns the transform that takes points of the atlas (mm) to points of the head.

    Many starts are moved at a fixed scale, the best of them refined, and the best of these again.
    """
    coarse, middle, fine = (_coarser(image, level) for level in LEVELS)
    choices = itertools.product(START_HEIGHTS, START_PITCHES, START_SCALES if scaling else [None])
    starts = [_start(coarse, *choice) for choice in choices]
    for start in starts:
        _register(*_target("head", LEVELS[0]), coarse, start, rigid=True)
    starts.sort(key=lambda start: _likeness(coarse, start, LEVELS[0]))
    found = [_refined(middle, start) for start in starts[-BEST_STARTS:]]
    transform = max(found, key=lambda each: _likeness(middle, each, LEVELS[1]))
    _register(*_target("brain", LEVELS[2]), fine, transform)
    return transform


def _refined(middle: Image, start: Any) -> Any:
    """Returns a start moved, at a free scale if it has one, then by all 12 parameters.

    By correlation: mutual information let one head in twenty run away here, the brain into the
    scalp. It stays with the first level, blind to shading, and the last, more exact.
    """
    _register(*_target("head", LEVELS[1]), middle, start, "correlation")
    transform = start
    if isinstance(start, sitk.Similarity3DTransform):
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(start.GetMatrix())
        transform.SetTranslation(start.GetTranslation())
    _register(*_target("brain", LEVELS[1]), middle, transform, "correlation")
    return transform


def _start(coarse: Image, height: float, pitch: float, scale: float | None) -> Any:
    """Returns a transform from the atlas's centre to `height` mm above the head's, nodded."""
    transform = sitk.Similarity3DTransform() if scale else sitk.Euler3DTransform()
    angle = np.radians(pitch)
    transform.SetTranslation((_head_centre(coarse) + (0, 0, height)).tolist())
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    transform.SetMatrix(((scale or 1) * np.ravel(turn)).tolist())
    return transform


def _likeness(image: Image, transform: Any, level: float) -> float:
    """Returns the correlation of the head with the template over the brain, at `level` mm."""
    template, inside = _target("inside", level)
    return _correlation(sitk.Resample(image, template, transform), template, inside)


def _check(image: Image, transform: Any, name: str) -> None:
    """Raises `VolumeError` unless the transform has brought a head to the atlas."""
    likeness = _likeness(_coarser(image, LEVELS[1]), transform, LEVELS[1])
    matrix, offset = np.reshape(transform.GetMatrix(), (3, 3)), transform.GetTranslation()
    left, scales, right = np.linalg.svd(matrix)
    turn = np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1)))
    brain = np.argwhere(brain_mask())[::100] + ATLAS_ORIGIN
    index = (brain @ matrix.T + offset - image.GetOrigin()) / image.GetSpacing()
    inside = ((index > -1) & (index < image.GetSize())).all(axis=1).mean()
    found = (
        f"likeness {likeness:.2f}, turned by {turn:.0f} degrees, "
        f"scaled by {scales.min():.2f} to {scales.max():.2f}, {inside:.0%} inside the scan"
    )
    if (
        likeness < LEAST_LIKENESS
        or turn > LARGEST_TURN
        or scales.max() / scales.min() > LARGEST_STRETCH
        or not SCALES[0] < scales.min() <= scales.max() < SCALES[1]
        or inside < LEAST_INSIDE
    ):
        raise VolumeError(
            f"{name}: not brought to the atlas. Expected a whole head, T1-weighted and upright. "
            f"Received: {found}. Look at the scan; mend its orientation, or take it out"
        )


@functools.cache
def brain_mask() -> np.ndarray:
    """Returns the ICBM brain on the T88 grid: boolean `ATLAS_SHAPE`, to strip the skull with."""
    return _placed(load_icbm()[1], order=0) > 0


@functools.cache
def _template() -> Volume:
    """Returns the skull-stripped ICBM T1 on the T88 grid, voxels in [0, 1]."""
    voxels = _placed(load_icbm()[0], order=1) * brain_mask()
    return Volume(voxels, (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def _placed(picture: Any, order: int) -> np.ndarray:
    """Returns a nilearn image resampled onto the T88 grid: float32 `ATLAS_SHAPE`."""
    atlas = np.eye(4)
    atlas[:3, 3] = ATLAS_ORIGIN
    to_voxels = np.linalg.inv(picture.affine) @ ATLAS_TO_ICBM @ atlas
    voxels = picture.get_fdata(dtype=np.float32)
    return ndimage.affine_transform(voxels, to_voxels, output_shape=ATLAS_SHAPE, order=order)


@functools.cache
def _distance() -> Any:
    """Returns how far each voxel of the atlas lies from the brain, in mm: `ATLAS_SHAPE`."""
    return ndimage.distance_transform_edt(~brain_mask())


@functools.cache
def _target(kind: str, level: float) -> tuple[Image, Image]:
    """Returns image and mask, at `level` mm, to register a head to.

    Of the "head" with its scalp, or the "brain" and the dark ring around it ("inside": without).
    """
    distance = _distance()
    height = np.arange(ATLAS_SHAPE[2]) + ATLAS_ORIGIN[2]
    voxels = _template().voxels
    if kind == "head":
        around = np.select([distance <= BONE, distance <= SCALP], [0.15, 0.9], 0.0)
        voxels = np.where(distance > 0, around, voxels)
        mask = (distance <= HEAD_MARGIN) & ((height > FACE_HEIGHT) | (distance <= BRAIN_MARGIN))
    else:
        mask = distance <= (BRAIN_MARGIN if kind == "brain" else 0)
    picture, mask = (
        _coarser(_image(Volume(values.astype(np.float32), (1.0, 1.0, 1.0), ATLAS_ORIGIN)), level)
        for values in (voxels, mask)
    )
    return picture, sitk.Cast(mask > 0.5, sitk.sitkUInt8)


def _image(volume: Volume) -> Image:
    """Returns a `Volume` as a SimpleITK image, in RAS as it is: both sides of every match are."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T, dtype=np.float32))
    image.SetSpacing(tuple(volume.voxel_size))
    image.SetOrigin(tuple(volume.origin))
    return image


def _voxels(image: Image) -> np.ndarray:
    """Returns the voxels `(X, Y, Z)` of a SimpleITK image."""
    return sitk.GetArrayFromImage(image).T


def _coarser(image: Image, level: float) -> Image:
    """Returns the image at voxels of about `level` mm, each the mean of those it covers."""
    factors = [max(round(level / size), 1) for size in image.GetSpacing()]
    return sitk.BinShrink(image, factors)


def _register(
    fixed: Image, mask: Image, moving: Image, transform: Any, metric: str = "", rigid: bool = False
) -> None:
    """Moves `transform` until `moving` looks like `fixed` within `mask`; if `rigid`, unscaled."""
    method = sitk.ImageRegistrationMethod()
    if metric == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.NONE)  # every voxel: nothing random in the result
    method.SetInterpolator(sitk.sitkLinear)
    spacing = max(fixed.GetSpacing())
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=spacing, minStep=spacing / 50, numberOfIterations=100
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if rigid:
        method.SetOptimizerWeights([1.0] * 6 + [0.0] * (transform.GetNumberOfParameters() - 6))
    method.SetInitialTransform(transform, inPlace=True)
    # A scan without contrast, or a start outside it, is refused: the transform then stays where
    # it was, and the check of the result tells.
    with contextlib.suppress(RuntimeError):
        method.Execute(fixed, moving)


def _correlation(one: Image, other: Image, mask: Image | None = None) -> float:
    """Returns Pearson's correlation of two images on one grid; 0 where one is constant."""
    inside = slice(None) if mask is None else _voxels(mask) > 0
    a, b = (_voxels(image)[inside] for image in (one, other))
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    norm = np.sqrt(np.dot(a, a) * np.dot(b, b))
    return float(np.dot(a, b) / norm) if norm > 0 else 0.0


def _tissue(image: Image) -> Image:
    """Returns the mask of what is brighter than air."""
    return sitk.Cast(image > float(_voxels(image).mean()), sitk.sitkUInt8)


def _head_centre(image: Image) -> np.ndarray:
    """Returns the centre of mass `(3,)` in mm of a head's upper 120 mm, without the neck."""
    tissue, spacing = _voxels(_tissue(image)) > 0, np.array(image.GetSpacing())
    areas = tissue.sum((0, 1)) * spacing[0] * spacing[1]
    top = np.flatnonzero(areas > 1000).max(initial=0)
    tissue[:, :, : max(top - round(120 / spacing[2]), 0)] = False
    index = np.argwhere(tissue).mean(axis=0) if tissue.any() else np.array(tissue.shape) / 2
    return np.array(image.GetOrigin()) + index * spacing
