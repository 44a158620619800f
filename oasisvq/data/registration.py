"""A head brought to the atlas that OASIS-1 lies in: repeats averaged, heads registered to T88."""

import contextlib
import functools
import itertools

import numpy as np
from scipy import ndimage

from oasisvq.core.errors import VolumeError
from oasisvq.data.volumes import Volume

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


def average_repeats(volumes, names):
    """The mean of the repeats of one session, each moved onto the best of them.

    Args:
        volumes: The repeats, a list of `Volume`.
        names: Their names, for messages and for `left_out`.

    Returns:
        The mean as a `Volume` on the reference repeat's grid, and the names of the repeats
        that were left out, because their grid differs or they show something else.

    Raises:
        VolumeError: If no more than half of the repeats show the same head.
    """
    if len(volumes) == 1:
        return volumes[0], []
    reference = _best_repeat(volumes)
    target = volumes[reference]
    kept, left_out = [target.voxels], []
    for index, (volume, name) in enumerate(zip(volumes, names, strict=True)):
        if index == reference:
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
    mean = np.mean(kept, axis=0, dtype=np.float32)
    return Volume(mean, target.voxel_size, target.origin), left_out


def _grid(volume):
    """What two repeats must share. Not the origin: scanners move it, and heads move in it."""
    return volume.voxels.shape, tuple(volume.voxel_size)


def _best_repeat(volumes):
    """Index of the repeat that is most like the others, as they lie, at 8 mm: there the small
    motion between repeats hardly counts."""
    coarse = [_voxels(_coarser(_image(volume), LEVELS[0])) for volume in volumes]
    alike = [
        sum(
            _correlation(coarse[one], coarse[other])
            for other in range(len(volumes))
            if _grid(volumes[other]) == _grid(volumes[one])
        )
        for one in range(len(volumes))
    ]
    return int(np.argmax(alike))


def _moved_onto(target, volume):
    """Voxels of `volume` moved rigidly onto `target`; None if the two do not match."""
    sitk = _simpleitk()
    fixed, moving = (
        _image(Volume(v.voxels, *_grid(target)[1:], (0, 0, 0))) for v in (target, volume)
    )
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_head_centre(_coarser(fixed, LEVELS[0])).tolist())
    for level in LEVELS[1:]:
        small = _coarser(fixed, level)
        head = _voxels(small) > _threshold(_voxels(small))
        mask = sitk.Cast(small > _threshold(_voxels(small)), sitk.sitkUInt8)
        _register(small, mask, _coarser(moving, level), transform, "correlation")
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    likeness = _correlation(_voxels(_coarser(moved, level))[head], _voxels(small)[head])
    return _voxels(moved) if likeness >= REPEAT_LIKENESS else None


def to_atlas(volume, name, scaling=True):
    """Registers a whole head to the ICBM brain, placed as the anatomy of OASIS-1 is.

    Args:
        volume: `Volume` of a head, upright in RAS. A mirrored one is not recognised as such.
        name: What to call it in messages.
        scaling: Whether the head is also brought to the atlas's size (12 parameters), as
            OASIS-1 did, or only moved (6 parameters).

    Returns:
        `Volume` of `ATLAS_SHAPE` and 1 mm with `ATLAS_ORIGIN`, in the input's own
        intensities, at least 0; 0 where the scan ends.

    Raises:
        VolumeError: If no such head was found, or not all of its brain.
    """
    sitk = _simpleitk()
    image = _image(volume)
    transform = _atlas_transform(image, scaling)
    _check(image, transform, name)
    moved = sitk.Resample(image, _image(_template()), transform, sitk.sitkLinear, 0.0)
    return Volume(_voxels(moved).clip(0), (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def _atlas_transform(image, scaling):
    """The transform that takes points of the atlas (mm) to points of the head: many starts
    moved at a fixed scale, the best of them refined, and the best of those refined again."""
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


def _refined(middle, start):
    """A start moved, at a free scale if it has one, then by all 12 parameters.

    By correlation: mutual information let one head in twenty run away here, the brain into
    the scalp. It stays with the first level, blind to shading, and the last, more exact.
    """
    sitk = _simpleitk()
    _register(*_target("head", LEVELS[1]), middle, start, "correlation")
    transform = start
    if isinstance(start, sitk.Similarity3DTransform):
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(start.GetMatrix())
        transform.SetTranslation(start.GetTranslation())
    _register(*_target("brain", LEVELS[1]), middle, transform, "correlation")
    return transform


def _start(coarse, height, pitch, scale):
    """A transform that takes the atlas's centre to `height` mm above the head's and nods it by
    `pitch` degrees; with no `scale`, of the kind that keeps sizes."""
    sitk = _simpleitk()
    transform = sitk.Similarity3DTransform() if scale else sitk.Euler3DTransform()
    angle = np.radians(pitch)
    transform.SetTranslation((_head_centre(coarse) + (0, 0, height)).tolist())
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    transform.SetMatrix(((scale or 1) * np.ravel(turn)).tolist())
    return transform


def _likeness(image, transform, level):
    """Correlation of the head with the template over the brain, at `level` mm."""
    sitk = _simpleitk()
    template = _target("brain", level)[0]
    inside = _voxels(_target("inside", level)[1]) > 0
    moved = _voxels(sitk.Resample(image, template, transform))
    return _correlation(moved[inside], _voxels(template)[inside])


def _check(image, transform, name):
    """Raises `VolumeError` unless the transform has brought a head to the atlas."""
    likeness = _likeness(_coarser(image, LEVELS[1]), transform, LEVELS[1])
    matrix, offset = _matrix(transform)
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


def _matrix(transform):
    """A linear transform as matrix (3, 3) and offset (3,) in mm."""
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    ends = [transform.TransformPoint(axis) for axis in np.eye(3).tolist()]
    return np.transpose(ends) - offset[:, None], offset


@functools.cache
def brain_mask():
    """The ICBM brain on the T88 grid: boolean `ATLAS_SHAPE`, to strip the skull with."""
    from nilearn.datasets import load_mni152_brain_mask  # not at the top: it takes a second

    return _placed(load_mni152_brain_mask(resolution=1), order=0) > 0


@functools.cache
def _template():
    """The skull-stripped ICBM T1 on the T88 grid, voxels in [0, 1]."""
    from nilearn.datasets import load_mni152_template

    voxels = _placed(load_mni152_template(resolution=1), order=1) * brain_mask()
    return Volume(voxels, (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def _placed(picture, order):
    """A nilearn image resampled onto the T88 grid: float32 `ATLAS_SHAPE`."""
    atlas = np.eye(4)
    atlas[:3, 3] = ATLAS_ORIGIN
    to_voxels = np.linalg.inv(picture.affine) @ ATLAS_TO_ICBM @ atlas
    voxels = picture.get_fdata(dtype=np.float32)
    return ndimage.affine_transform(voxels, to_voxels, output_shape=ATLAS_SHAPE, order=order)


@functools.cache
def _distance():
    """How far each voxel of the atlas lies from the brain, in mm: `ATLAS_SHAPE`."""
    return ndimage.distance_transform_edt(~brain_mask())


@functools.cache
def _target(kind, level):
    """Image and mask, at `level` mm, to register a head to: the "head" with its scalp, or the
    "brain" and the dark ring around it ("inside": without)."""
    sitk = _simpleitk()
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


def _simpleitk():
    """SimpleITK, imported when it is needed, at one thread: with more, sums are added in
    an order that changes from run to run, and so do the results."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _image(volume):
    """A `Volume` as a SimpleITK image in the same mm coordinates (no flip to its LPS: both
    sides of every registration are RAS)."""
    image = _simpleitk().GetImageFromArray(np.ascontiguousarray(volume.voxels.T, dtype=np.float32))
    image.SetSpacing(tuple(volume.voxel_size))
    image.SetOrigin(tuple(volume.origin))
    return image


def _voxels(image):
    """The voxels `(X, Y, Z)` of a SimpleITK image."""
    return _simpleitk().GetArrayFromImage(image).T


def _coarser(image, level):
    """The image at voxels of about `level` mm, each the mean of those it covers."""
    factors = [max(round(level / size), 1) for size in image.GetSpacing()]
    return _simpleitk().BinShrink(image, factors)


def _register(fixed, mask, moving, transform, metric="information", rigid=False):
    """Moves `transform` until `moving` looks like `fixed` within `mask`; if `rigid`, without its
    scale."""
    sitk = _simpleitk()
    method = sitk.ImageRegistrationMethod()
    if metric == "information":
        method.SetMetricAsMattesMutualInformation(32)
    else:
        method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.NONE)  # every voxel: no chance in the result
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


def _correlation(one, other):
    """Pearson's correlation of two arrays of one shape; 0 where one is constant."""
    one, other = one.ravel() - one.mean(), other.ravel() - other.mean()
    norm = np.sqrt(np.dot(one, one) * np.dot(other, other))
    return float(np.dot(one, other) / norm) if norm > 0 else 0.0


def _threshold(voxels):
    """The intensity above which there is tissue, not air."""
    return float(voxels.mean())


def _head_centre(image):
    """Centre of mass (3,) in mm of the upper 120 mm of what is brighter than air: the neck,
    of which a scan holds more or less, does not count."""
    voxels, spacing = _voxels(image), np.array(image.GetSpacing())
    tissue = voxels > _threshold(voxels)
    areas = tissue.sum((0, 1)) * spacing[0] * spacing[1]
    top = np.flatnonzero(areas > 1000).max(initial=0)
    tissue[:, :, : max(top - round(120 / spacing[2]), 0)] = False
    index = np.argwhere(tissue).mean(axis=0) if tissue.any() else np.array(tissue.shape) / 2
    return np.array(image.GetOrigin()) + index * spacing
