"""A head brought to the atlas that OASIS-1 lies in: repeats averaged, heads registered to T88."""

import functools

import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage

from errors import VolumeError
from volumes import Volume

# The grid of OASIS-1's T88 volumes as `read_volume` gives it: RAS, 1 mm, 0 mm at its centre.
ATLAS_SHAPE = (176, 208, 176)
ATLAS_ORIGIN = (-87.5, -103.5, -87.5)

ATLAS_TO_ICBM = np.array(
    [
        [1.045, 0.005, 0.025, -0.69],
        [-0.016, 1.031, 0.031, -16.06],
        [-0.028, -0.067, 1.046, 13.05],
        [0.000, 0.000, 0.000, 1.00],
    ]
)

LEVELS = (8, 4, 2)  # mm between the voxels compared, from coarse to fine
START_HEIGHTS = (-25, 0, 25)  # mm; how much neck the scan holds is unknown
START_PITCHES = (-15, 0, 15)  # degrees; heads nod more than they turn
MARGIN = 10  # mm around the brain that take part: the dark ring of fluid and bone


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
        moved = _moved_onto(volume, target) if _grid(volume) == _grid(target) else None
        if moved is None:
            left_out.append(name)
        else:
            kept.append(moved)
    if 2 * len(kept) <= len(volumes):
        raise VolumeError(
            f"{', '.join(names)}: expected repeats of one head. Received: {len(kept)} of "
            f"{len(volumes)} that agree. Take out the scans that do not belong to the session"
        )
    return Volume(np.mean(kept, axis=0, dtype=np.float32), *_grid(target)[1:]), left_out


REPEAT_CORRELATION = 0.9


def _grid(volume):
    """Shape, voxel size and origin: what two volumes share if their voxels lie alike."""
    return volume.voxels.shape, tuple(volume.voxel_size), tuple(volume.origin)


def _best_repeat(volumes):
    """Index of the repeat that correlates best with the others as they lie, at 8 mm."""
    coarse = [_voxels(_coarser(_image(volume), 8)).ravel() for volume in volumes]
    alike = [
        sum(_correlation(one, other) for other in coarse if other.shape == one.shape)
        for one in coarse
    ]
    return int(np.argmax(alike))


def _moved_onto(volume, target):
    """Voxels of `volume` moved rigidly onto `target`; None if the two do not match."""
    sitk = _simpleitk()
    fixed, moving = _image(target), _image(volume)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_head_centre(target))
    for level in LEVELS[1:]:
        small = _coarser(fixed, level)
        head = sitk.Cast(small > _threshold(_voxels(small)), sitk.sitkUInt8)
        _register(small, _coarser(moving, level), head, transform, "correlation", 30)
    voxels = _resampled(moving, transform, fixed)
    head = target.voxels > _threshold(target.voxels)
    if _correlation(voxels[head], target.voxels[head]) < REPEAT_CORRELATION:
        return None
    return voxels


def to_atlas(volume, name, scaling=True):
    """Registers a whole head to the ICBM brain, placed as the anatomy of OASIS-1 is.

    Args:
        volume: `Volume` of a head in RAS, with skull and neck or without.
        name: What to call it in messages.
        scaling: Whether the head is also brought to the atlas's size (12 parameters), as
            OASIS-1 did, or only moved (6 parameters).

    Returns:
        `Volume` of `ATLAS_SHAPE` and 1 mm with `ATLAS_ORIGIN`, in the input's own
        intensities, at least 0; 0 where the scan ends.

    Raises:
        VolumeError: If nothing like a head was found.
    """
    transform, image = atlas_transform(volume, name, scaling)
    voxels = _resampled(image, transform, _image(_template()))
    return Volume(voxels, (1.0, 1.0, 1.0), ATLAS_ORIGIN)


def atlas_transform(volume, name, scaling=True):
    sitk = _simpleitk()
    image = _image(volume)
    levels = [_coarser(_image(_template()), level) for level in LEVELS]
    masks = [_coarser_mask(level) for level in LEVELS]
    heads = [_coarser(image, level) for level in LEVELS]
    best = None
    for height in START_HEIGHTS:
        for pitch in START_PITCHES:
            start = sitk.Similarity3DTransform() if scaling else sitk.Euler3DTransform()
            start.SetCenter((0.0, 0.0, 0.0))
            centre = np.array(_head_centre(volume)) + (0, 0, height)
            start.SetTranslation(centre.tolist())
            if scaling:
                start.SetRotation((1.0, 0.0, 0.0), np.radians(pitch))
            else:
                start.SetRotation(np.radians(pitch), 0.0, 0.0)
            value = _register(levels[0], heads[0], masks[0], start, "information", 60)
            if best is None or value < best[0]:
                best = value, start
    transform = best[1]
    if scaling:
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(transform.GetMatrix())
        affine.SetTranslation(transform.GetTranslation())
        affine.SetCenter(transform.GetCenter())
        transform = affine
    for fixed, head, mask in list(zip(levels, heads, masks, strict=True))[1:]:
        _register(fixed, head, mask, transform, "information", 100)
    return transform, image


@functools.cache
def brain_mask():
    """The ICBM brain on the T88 grid: boolean `ATLAS_SHAPE`, to strip the skull with."""
    return _placed(load_mni152_brain_mask(resolution=1), order=0) > 0


@functools.cache
def _template():
    """The skull-stripped ICBM T1 on the T88 grid, voxels in [0, 1]."""
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
def _coarser_mask(level):
    """The brain and `MARGIN` mm around it, at `level` mm: the voxels to compare."""
    sitk = _simpleitk()
    near = ndimage.distance_transform_edt(~brain_mask()) <= MARGIN
    image = _image(Volume(near.astype(np.float32), (1.0, 1.0, 1.0), ATLAS_ORIGIN))
    return sitk.Cast(_coarser(image, level) > 0.5, sitk.sitkUInt8)


def _simpleitk():
    """SimpleITK, imported when it is needed, at one thread: with more, sums are added in
    an order that changes from run to run, and so do the results."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
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
    return _simpleitk().GetArrayViewFromImage(image).T


def _coarser(image, level):
    """The image at voxels of about `level` mm, each the mean of those it covers."""
    factors = [max(round(level / size), 1) for size in image.GetSpacing()]
    return _simpleitk().BinShrink(image, factors)


def _resampled(image, transform, grid):
    """Voxels of `image` where `transform` takes the points of `grid`, at least 0."""
    sitk = _simpleitk()
    moved = sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0)
    return np.ascontiguousarray(_voxels(moved)).clip(0)


def _register(fixed, moving, mask, transform, metric, iterations):
    """Moves `transform` until `moving` looks like `fixed` within `mask`; the metric's value."""
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
        learningRate=spacing, minStep=spacing / 200, numberOfIterations=iterations
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return method.GetMetricValue()


def _threshold(voxels):
    """The intensity above which there is tissue, not air."""
    return voxels.mean()


def _head_centre(volume):
    """Centre of mass in mm of the upper 120 mm of what is brighter than air: the neck, of
    which a scan holds more or less, does not count."""
    image = _coarser(_image(volume), 8)
    voxels = _voxels(image)
    tissue = voxels > _threshold(voxels)
    spacing = np.array(image.GetSpacing())
    areas = tissue.sum((0, 1)) * spacing[0] * spacing[1]
    top = np.flatnonzero(areas > 1000).max(initial=0)
    tissue[:, :, : max(top - round(120 / spacing[2]), 0)] = False
    index = np.argwhere(tissue).mean(axis=0) if tissue.any() else np.array(tissue.shape) / 2
    return tuple((np.array(image.GetOrigin()) + index * spacing).tolist())
