"""One guarded reader: an Analyze or NIfTI file to an oriented float volume."""

import dataclasses
import logging
import warnings
from pathlib import Path

import nibabel
import numpy as np

from errors import VolumeError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr")
LARGEST_VOLUME = 2**28  # voxels; a header of 10 KB can claim gigabytes
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what is wrong, we say ourselves
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A scan in RAS orientation: its axes run to the right, the front and the top.

    Attributes:
        voxels: Float32 array `(X, Y, Z)`, in the file's own intensities.
        voxel_size: `(3,)`, in mm.
        origin: `(3,)`, scanner coordinates of the first voxel's centre, in mm.
    """

    voxels: np.ndarray
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]


def is_volume(path):
    """Whether the file's name is that of a volume (the `.img` beside a `.hdr` is not)."""
    return Path(path).name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(path):
    """Reads a `.nii`, `.nii.gz` or `.hdr`/`.img` file.

    Returns:
        A `Volume` whose voxels are all finite.

    Raises:
        VolumeError: Whatever is wrong with the file.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            image = nibabel.load(path)
        shape = tuple(size for size in image.shape[3:] if size != 1)
        if len(image.shape) < 3 or shape or min(image.shape[:3]) < 1:
            raise VolumeError(
                f"{path}: expected one volume of three axes. Received: shape {image.shape}. "
                "Split a series into volumes, or take the file out of the folder"
            )
        if np.prod(image.shape, dtype=float) > LARGEST_VOLUME:
            raise VolumeError(
                f"{path}: its header claims {image.shape} voxels, more than {LARGEST_VOLUME:,}. "
                "Take the file out of the folder"
            )
        _check_length(path, image)
        image = nibabel.as_closest_canonical(image.slicer[(...,) + (0,) * (image.ndim - 3)])
        with warnings.catch_warnings(action="ignore"):
            voxels = np.asarray(image.dataobj, dtype=np.float32)
    except VolumeError:
        raise
    # nibabel raises many kinds of exception on a damaged file, and promises none.
    except Exception as error:
        raise VolumeError(
            f"{path}: cannot be read as a volume ({type(error).__name__}: {error}). "
            "Fetch the file again, or take it out of the folder"
        ) from error
    if not np.isfinite(voxels).all():
        raise VolumeError(
            f"{path}: holds NaN or infinite voxels. Repair the file, or take it out of the folder"
        )
    voxel_size = tuple(float(size) for size in nibabel.affines.voxel_sizes(image.affine))
    origin = tuple(float(x) for x in image.affine[:3, 3])
    if not all(0 < size < 100 for size in voxel_size) or not np.isfinite(origin).all():
        raise VolumeError(f"{path}: voxels of {voxel_size} mm. Expected sizes between 0 and 100 mm")
    return Volume(voxels, voxel_size, origin)


def _check_length(path, image):
    """Refuses a header that does not fit its data, which would load as scrambled voxels."""
    data = Path(path).with_suffix(".img") if Path(path).suffix.lower() == ".hdr" else Path(path)
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise VolumeError(
            f"{path}: voxels of type {dtype}. Expected real numbers; take it out of the folder"
        )
    if data.suffix.lower() == ".gz":
        return  # a wrong length ends the decompression in an error of its own
    claimed = image.dataobj.offset + np.prod(image.shape, dtype=float) * dtype.itemsize
    found = data.stat().st_size
    too_long = found > claimed and data.suffix.lower() == ".img"  # NIfTI may hold more
    if found < claimed or too_long:
        raise VolumeError(
            f"{data}: {found:,} bytes, where the header claims {claimed:,.0f} of type {dtype}. "
            "Fetch the file again, or take it out of the folder"
        )


def slice_indices(size, voxel_size, origin, slice_range, slice_unit, count):
    """Voxel indices of `count` evenly spaced slices along an axis of `size` voxels.

    Returns:
        Integer array of at most `count` indices, each once, inside the volume.
    """
    ends = np.array(slice_range, dtype=float)
    ends = ends * (size - 1) if slice_unit == "fraction" else (ends - origin) / voxel_size
    if ends[1] < -0.5 or ends[0] > size - 0.5:
        return np.array([], dtype=int)
    ends = ends.clip(0, size - 1)
    middle = np.linspace(*ends, count) if count > 1 else [ends.mean()]
    return np.unique(np.round(middle).astype(int))


def cut_slice(volume, plane, index):
    """One slice as a picture: float `(H, W)`, the top or the front up, the left on the left.

    Axial and coronal slices have the subject's left on the left; sagittal
    ones face right. Pixels are 1 mm wide and high, so that nothing looks
    squashed and heads from different scanners keep their sizes.
    """
    axis = AXES[plane]
    across, up = [other for other in range(3) if other != axis]
    picture = np.take(volume.voxels, index, axis=axis).T[::-1]  # rows from the top down
    height_mm, width_mm = volume.voxel_size[up], volume.voxel_size[across]
    height, width = round(picture.shape[0] * height_mm), round(picture.shape[1] * width_mm)
    if picture.shape != (height, width):
        picture = resized(picture, max(height, 1), max(width, 1))
    return picture


def resized(picture, height, width):
    """A float picture `(H, W)` at another size, by bilinear interpolation over the area."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
