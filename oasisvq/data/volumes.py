"""Reads Analyze and NIfTI images as oriented volumes, and cuts slices from them."""

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from isal import igzip
from nibabel import affines, orientations
from nibabel.volumeutils import shape_zoom_affine
from PIL import Image

from oasisvq.core.errors import VolumeError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr")
LARGEST_VOLUME = 2**28  # voxels; a header of 10 KB can claim gigabytes
LARGEST_HEADER = 2**20  # bytes before the voxels, extensions included
PIECE = 2**24  # bytes read at a time
SINGLE_MAGIC = {b"n+1\0": nibabel.Nifti1Image, b"n+2\0": nibabel.Nifti2Image}
PAIR_MAGIC = {b"ni1\0": nibabel.Nifti1Pair, b"ni2\0": nibabel.Nifti2Pair}
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # errors here are our own
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A scan in RAS orientation: its axes run to the right, the front and the top.

    Attributes:
        voxels: Float32 array `(X, Y, Z)`, in the intensities of the file.
        voxel_size: `(3,)`, in mm.
        origin: `(3,)`, scanner coordinates of the centre of the first voxel, in mm.
    """

    voxels: np.ndarray
    voxel_size: tuple[float, ...]
    origin: tuple[float, ...]


def is_volume(path: str | Path) -> bool:
    """Returns whether a file is a volume by its name; the `.img` beside a `.hdr` is not."""
    return Path(path).name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(path: str | Path, axes: str = "") -> Volume:
    """Reads a `.nii`, `.nii.gz` or `.hdr`/`.img` file.

    Args:
        path: The file, or the `.hdr` of a pair.
        axes: The directions of the axes of an Analyze image, such as `"ASL"`, which its header does
            not contain. Default: `"LAS"`, as in nibabel. Ignored for NIfTI, whose header has them.

    Returns:
        A `Volume` whose voxels are all finite.

    Raises:
        VolumeError: If anything is wrong with the file.
    """
    path = Path(path)
    with guarded(path, "volume"):
        if path.suffix.lower() == ".hdr":
            image = path.with_suffix(".IMG" if path.suffix.isupper() else ".img")
            with path.open("rb") as header, image.open("rb") as data:
                return volume_from_pair(header, data, path, axes)
        packed = path.suffix.lower() == ".gz"
        with igzip.open(path) if packed else path.open("rb") as stream:
            return _volume_from_single(stream, path)


@contextlib.contextmanager
def guarded(name: object, kind: str) -> Iterator[None]:
    """Turns every exception in its block into a `VolumeError`, and hides warnings."""
    try:
        # Warnings are about harmless things, or about faults that raise an error here.
        with warnings.catch_warnings(action="ignore"):
            yield
    except VolumeError:
        raise
    # On damaged files nibabel, igzip and Pillow raise many kinds of exception.
    except Exception as error:
        raise VolumeError(
            f"{name}: cannot be read as a {kind} ({type(error).__name__}: {error}). "
            "Fetch the file again, or take it out of the folder"
        ) from error


def volume_from_pair(header: BinaryIO, data: BinaryIO, name: object, axes: str = "") -> Volume:
    """Reads an Analyze or NIfTI pair from two binary streams, see `read_volume`."""
    with guarded(name, "volume"):
        start = _read(header, LARGEST_HEADER)
        nifti = PAIR_MAGIC.get(start[344:348]) or PAIR_MAGIC.get(start[4:8])
        image_class = nifti or nibabel.Spm2AnalyzeImage
        voxels = _read_exactly(data, b"", _claimed_length(start, image_class, name), name)
        files = image_class.make_file_map()
        # The .mat file of SPM is ignored.
        for kind in files:
            files[kind].fileobj = io.BytesIO({"header": start, "image": voxels}.get(kind, b""))
        return _oriented(image_class.from_file_map(files), name, "" if nifti else axes)


def _volume_from_single(stream: Any, name: object) -> Volume:
    """Reads a `.nii` file, header and voxels, from a binary stream."""
    header = _read(stream, 540)  # as long as that of NIfTI-2
    image_class = SINGLE_MAGIC.get(header[344:348]) or SINGLE_MAGIC.get(header[4:8])
    if image_class is None:
        raise VolumeError(f"{name}: not a NIfTI file. Fetch it again, or take it out of the folder")
    length = _claimed_length(header, image_class, name)
    return _oriented(image_class.from_bytes(_read_exactly(stream, header, length, name)), name)


def _claimed_length(header: bytes, image_class: Any, name: object) -> int:
    """Returns the number of bytes up to the end of the voxels, after checks of the header."""
    claims = image_class.header_class.from_fileobj(io.BytesIO(header))
    shape, dtype = claims.get_data_shape(), claims.get_data_dtype()
    offset = claims.get_data_offset()
    if len(shape) < 3 or min(shape) < 1 or any(size != 1 for size in shape[3:]):
        raise VolumeError(
            f"{name}: expected one volume of three axes. Received: shape {shape}. "
            "Split a series into volumes, or take the file out of the folder"
        )
    if np.prod(shape, dtype=float) > LARGEST_VOLUME:
        raise VolumeError(
            f"{name}: its header claims {shape} voxels, more than {LARGEST_VOLUME:,}. "
            "Take the file out of the folder"
        )
    if dtype.kind not in "iuf":
        raise VolumeError(
            f"{name}: voxels of type {dtype}. Expected real numbers; take it out of the folder"
        )
    if not 0 <= offset <= LARGEST_HEADER:
        raise VolumeError(
            f"{name}: its header says that the voxels begin at byte {offset:,}. Fetch the file "
            "again, or take it out of the folder"
        )
    return int(offset) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _read_exactly(stream: Any, start: bytes, length: int, name: object) -> bytes:
    """Returns `start` and the rest of a stream, whose length must be right."""
    data = start + _read(stream, length + 1 - len(start))
    if len(data) != length:
        found = f"{len(data):,} bytes" if len(data) < length else "more bytes"
        raise VolumeError(
            f"{name}: its data are {found}, but the header claims {length:,}. "
            "Fetch the file again, or take it out of the folder"
        )
    return data


def _read(stream: Any, length: int) -> bytes:
    """Reads at most `length` bytes, in pieces: a header can claim more than the file has."""
    pieces = []
    while length > 0 and (piece := stream.read(min(length, PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _oriented(image: Any, name: object, axes: str = "") -> Volume:
    """Returns a nibabel image as a `Volume`, oriented by its affine or by its `axes`."""
    shape = image.shape[:3]
    turn = orientations.axcodes2ornt(axes) if axes else nibabel.io_orientation(image.affine)
    # Axes of length 1 after the third are dropped; flips and turns are views, not copies.
    voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(shape, order="F")
    voxels = nibabel.apply_orientation(voxels, turn)
    if axes:  # 0 mm is in the middle
        sizes = np.abs(image.header.get_zooms()[:3])[np.argsort(turn[:, 0])]
        affine = shape_zoom_affine(voxels.shape, sizes, x_flip=False)
    else:
        affine = image.affine @ orientations.inv_ornt_aff(turn, shape)
    voxel_size = tuple(float(size) for size in affines.voxel_sizes(affine))
    origin = tuple(float(x) for x in affine[:3, 3])
    if not all(0 < size < 100 for size in voxel_size) or not np.isfinite(origin).all():
        raise VolumeError(f"{name}: voxels of {voxel_size} mm. Expected sizes between 0 and 100 mm")
    if not np.isfinite([voxels.min(), voxels.max()]).all():  # NaN is the minimum of all
        raise VolumeError(
            f"{name}: holds NaN or infinite voxels. Repair the file, or take it out of the folder"
        )
    return Volume(voxels, voxel_size, origin)


def load_icbm() -> tuple[Any, Any]:
    """Returns the ICBM-152 T1 template and its brain mask that nilearn ships, nibabel images."""
    # Not at the top: nilearn takes two seconds and 90 MB, which most sources do not need.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    return load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)


def slice_indices(
    size: int, voxel_size: float, origin: float, slice_range: Sequence, slice_unit: str, count: int
) -> np.ndarray:
    """Returns the voxel indices of evenly spaced slices along an axis of `size` voxels.

    Args:
        size, voxel_size, origin: Those of the volume along the axis, in voxels, mm and mm.
        slice_range: First and last position.
        slice_unit: Their unit, `"fraction"` of the axis or `"mm"` of the volume's coordinates.
        count: Number of slices.

    Returns:
        Integer array of at most `count` different indices inside the volume.
    """
    ends = np.array(slice_range, dtype=float)
    ends = ends * (size - 1) if slice_unit == "fraction" else (ends - origin) / voxel_size
    if ends[1] < -0.5 or ends[0] > size - 0.5:
        return np.array([], dtype=int)
    ends = ends.clip(0, size - 1)
    middle = np.linspace(ends[0], ends[1], count) if count > 1 else [ends.mean()]
    return np.unique(np.round(middle).astype(int))


def cut_volume(volume: Volume, config: Any, name: object) -> tuple[list, list, list]:
    """Returns the slices that a `DataConfig` wants: pictures, indices, and positions in mm.

    Raises:
        VolumeError: If the range is outside of the volume.
    """
    axis = AXES[config.plane]
    size, spacing, origin = volume.voxels.shape[axis], volume.voxel_size[axis], volume.origin[axis]
    wanted = config.slice_range, config.slice_unit, config.slices_per_volume
    indices = slice_indices(size, spacing, origin, *wanted)
    if not len(indices):
        raise VolumeError(
            f"{name}: no slice is in --slice-range. Its {config.plane} slices are at "
            f"{origin:g} to {origin + (size - 1) * spacing:g} mm"
        )
    pictures = [cut_slice(volume, config.plane, index) for index in indices]
    return pictures, indices.tolist(), (origin + indices * spacing).tolist()


def cut_slice(volume: Volume, plane: str, index: int) -> np.ndarray:
    """Returns one slice as a picture: float `(H, W)` with the top or the front of the head up.

    Axial and coronal slices have the subject's left on the left; sagittal ones face right. Pixels
    are 1 mm wide and high, so that heads from all scanners keep their shape and size.
    """
    axis = AXES[plane]
    across, up = [other for other in range(3) if other != axis]
    picture = np.take(volume.voxels, index, axis=axis).T[::-1]  # rows from the top down
    height_mm, width_mm = volume.voxel_size[up], volume.voxel_size[across]
    height, width = round(picture.shape[0] * height_mm), round(picture.shape[1] * width_mm)
    if picture.shape != (height, width):
        return resized(picture, max(height, 1), max(width, 1))
    return picture


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a float picture `(H, W)` at another size, by bilinear interpolation."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
