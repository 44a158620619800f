"""Averages the repeats of a session, and registers heads to T88, the atlas of OASIS-1."""

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

# With several threads, the order of additions and so the results change from run to run.
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
sitk.ProcessObject.SetGlobalWarningDisplay(False)

# The grid of OASIS-1's T88 volumes as `read_volume` gives it: RAS, 1 mm, 0 mm at its centre.
ATLAS_SHAPE = (176, 208, 176)
ATLAS_ORIGIN = (-87.5, -103.5, -87.5)

# Millimetres of that grid to millimetres of the ICBM-152 template. Measured on four subjects of
# OASIS-1 (ages 55 to 80) with a whole volume and T88 slices: `to_atlas` moved the volume to this
# grid, an affine fit moved it on to the subject's own T88 slices (correlation 0.98), and the four
# corrections were averaged. One subject's correction is 1.1 mm from the mean, which is therefore
# uncertain by 0.7 mm over the brain. The axes of the atlas are turned by about 2 degrees (roll) and
# 3 degrees (pitch) against those of ICBM.
ATLAS_TO_ICBM = np.array(
    [
        [1.040, 0.007, 0.026, -0.62],
        [-0.018, 1.033, 0.026, -16.23],
        [-0.029, -0.062, 1.042, 13.07],
        [0.000, 0.000, 0.000, 1.00],
    ]
)

LEVELS = (8, 4, 2)  # mm between the compared voxels, from coarse to fine
START_HEIGHTS = (-25, 0, 25)  # mm, because scans show more or less of the neck
START_PITCHES = (-15, 0, 15)  # degrees: heads nod more than they turn
START_SCALES = (0.95, 1.1)  # a free scale would not help at the coarse level
BEST_STARTS = 3  # to refine: a single one may end in the scalp

# A head is drawn around the skull-stripped template, in mm from the brain, or the brain would grow
# until it fills the scalp. Fluid and bone are dark in T1, and the scalp is bright.
BONE, SCALP = 9, 16
HEAD_MARGIN = 20  # mm around the brain that are compared; it reaches into the air
FACE_HEIGHT = -45  # mm on the atlas: face and neck below it differ too much to be compared
BRAIN_MARGIN = 5  # mm around the brain that are compared in the last step: the dark ring

# Limits of a good registration. Of 80 heads that were moved, turned, scaled, shaded and made noisy,
# 79 were registered, with a likeness of at least 0.50 (0.44 for one with extreme shading) and a
# stretch of at most 1.10. Failures and scans without an upright head had at most 0.42.
# Repeats of a head have 0.92 (0.86 after 8 mm of motion), mirrored ones 0.80, other heads 0.50.
LEAST_LIKENESS = 0.45  # correlation with the template over the brain, at 4 mm
LARGEST_TURN = 40  # degrees
SCALES = (0.75, 1.35)  # of the atlas to the head, along any direction
LARGEST_STRETCH = 1.2  # of one direction against another; more means a wrong voxel size
LEAST_INSIDE = 0.9  # share of the brain inside the scan
REPEAT_LIKENESS = 0.85  # correlation of two repeats over the head, at 2 mm


def average_repeats(volumes: Sequence[Volume], names: Sequence[str]) -> tuple[Volume, list[str]]:
    """Returns the mean of the repeats of a session, registered to the best repeat.

    Args:
        volumes: The repeats, a list of `Volume`.
        names: Their names, for messages and for `left_out`.

    Returns:
        The mean as a `Volume` on the grid of the best repeat, and the names of the repeats that
        were left out, because their grid differs or they show another head.

    Raises:
        VolumeError: If at most half of the repeats show the same head.
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
            f"{len(volumes)} that agree. Take out the scans of other sessions"
        )
    mean = np.asarray(np.mean(kept, axis=0, dtype=np.float32))
    return Volume(mean, target.voxel_size, target.origin), left_out


def _grid(volume: Volume) -> tuple:
    """Returns what two repeats must share: shape and voxel size, but not the origin."""
    return volume.voxels.shape, tuple(volume.voxel_size)


def _best_repeat(volumes: Sequence[Volume]) -> Volume:
    """Returns the repeat that is most similar to the others at 8 mm, where motion is small."""
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
    """Registers a whole head to the ICBM brain on the grid of OASIS-1's atlas.

    Args:
        volume: `Volume` of a head, upright in RAS. A mirrored head is not detected.
        name: Its name in messages.
        scaling: Whether the head is also scaled to the atlas (12 parameters), as in OASIS-1, or
            only moved (6 parameters).

    Returns:
        `Volume` of `ATLAS_SHAPE` and 1 mm with `ATLAS_ORIGIN`, in the intensities of the input, at
        least 0, and 0 outside of the scan.

    Raises:
        VolumeError: If no head was found, or the scan does not show the whole brain.
    """
    image = _image(volume)
    transform = _atlas_transform(image, scaling)
    _check(image, transform, name)
    moved = sitk.Resample(image, _image(_template()), transform, sitk.sitkLinear, 0.0)
    return Volume(_voxels(moved).clip(0), (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def _atlas_transform(image: Image, scaling: bool) -> Any:
    """Returns the transform from points of the atlas (mm) to points of the head.

    Many starts are moved at a fixed scale, the best of them are refined, and then the best one.
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
    """Returns a start after registration at a free scale, if it has one, and by all 12 parameters.

    The metric is correlation: with mutual information, the brain of one head in twenty ended in the
    scalp here. The first level uses mutual information because shading does not change it, the last
    level because it is more exact.
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
    """Returns a transform from the atlas's centre to `height` mm above the head's, with a pitch."""
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
    """Raises `VolumeError` unless the transform maps the atlas to a head."""
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
            f"{name}: cannot be registered to the atlas. Expected a whole head, T1-weighted and "
            f"upright. Received: {found}. Look at the scan; correct its orientation, or take it out"
        )


@functools.cache
def brain_mask() -> np.ndarray:
    """Returns the mask of the ICBM brain on the T88 grid, boolean `ATLAS_SHAPE`."""
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
    """Returns the distance of each voxel of the atlas from the brain, in mm: `ATLAS_SHAPE`."""
    return ndimage.distance_transform_edt(~brain_mask())


@functools.cache
def _target(kind: str, level: float) -> tuple[Image, Image]:
    """Returns the image and the mask, at `level` mm, to which a head is registered.

    The kind is "head" (with the scalp), "brain" (with the dark ring around it) or "inside" (only
    the brain).
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
    """Returns a `Volume` as a SimpleITK image, still in RAS as all images here are."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T, dtype=np.float32))
    image.SetSpacing(tuple(volume.voxel_size))
    image.SetOrigin(tuple(volume.origin))
    return image


def _voxels(image: Image) -> np.ndarray:
    """Returns the voxels `(X, Y, Z)` of a SimpleITK image."""
    return sitk.GetArrayFromImage(image).T


def _coarser(image: Image, level: float) -> Image:
    """Returns the image with voxels of about `level` mm, the means of the voxels in them."""
    factors = [max(round(level / size), 1) for size in image.GetSpacing()]
    return sitk.BinShrink(image, factors)


def _register(
    fixed: Image, mask: Image, moving: Image, transform: Any, metric: str = "", rigid: bool = False
) -> None:
    """Optimises `transform` so that `moving` looks like `fixed` within `mask`.

    If `rigid`, the scale is not changed.
    """
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
    # SimpleITK refuses a scan without contrast and a start outside of it. The transform then stays
    # the same, and the check of the result fails.
    with contextlib.suppress(RuntimeError):
        method.Execute(fixed, moving)


def _correlation(one: Image, other: Image, mask: Image | None = None) -> float:
    """Returns Pearson's correlation of two images on the same grid; 0 if one is constant."""
    inside = slice(None) if mask is None else _voxels(mask) > 0
    a, b = (_voxels(image)[inside] for image in (one, other))
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    norm = np.sqrt(np.dot(a, a) * np.dot(b, b))
    return float(np.dot(a, b) / norm) if norm > 0 else 0.0


def _tissue(image: Image) -> Image:
    """Returns the mask of the voxels that are brighter than air."""
    return sitk.Cast(image > float(_voxels(image).mean()), sitk.sitkUInt8)


def _head_centre(image: Image) -> np.ndarray:
    """Returns the centre of mass of the upper 120 mm of a head, without the neck: `(3,)` in mm."""
    tissue, spacing = _voxels(_tissue(image)) > 0, np.array(image.GetSpacing())
    areas = tissue.sum((0, 1)) * spacing[0] * spacing[1]
    top = np.flatnonzero(areas > 1000).max(initial=0)
    tissue[:, :, : max(top - round(120 / spacing[2]), 0)] = False
    index = np.argwhere(tissue).mean(axis=0) if tissue.any() else np.array(tissue.shape) / 2
    return np.array(image.GetOrigin()) + index * spacing
