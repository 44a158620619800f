"""One guarded reader: an Analyze or NIfTI image, a file or bytes, to an oriented float volume."""

import dataclasses
import io
import logging
import warnings
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from oasisvq.core.errors import VolumeError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr")
LARGEST_VOLUME = 2**28  # voxels; a header of 10 KB can claim gigabytes
LARGEST_HEADER = 2**20  # bytes before the voxels, extensions included
PIECE = 2**24  # bytes read at a time
SINGLE_MAGIC = {b"n+1\0": nibabel.Nifti1Image, b"n+2\0": nibabel.Nifti2Image}
PAIR_MAGIC = {b"ni1\0": nibabel.Nifti1Pair, b"ni2\0": nibabel.Nifti2Pair}
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


def read_volume(path, axes=None):
    """Reads a `.nii`, `.nii.gz` or `.hdr`/`.img` file.

    Args:
        path: The file; of a pair, the `.hdr`.
        axes: Where the axes of an Analyze image run to, as `"ASL"`; its header cannot say.
            Default: `"LAS"`, as nibabel takes it. NIfTI headers know better and are followed.

    Returns:
        A `Volume` whose voxels are all finite.

    Raises:
        VolumeError: Whatever is wrong with the file.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".hdr":
            image = path.with_suffix(".IMG" if path.suffix.isupper() else ".img")
            with path.open("rb") as header, image.open("rb") as data:
                return volume_from_pair(header, data, path, axes)
        packed = path.suffix.lower() == ".gz"
        with igzip.open(path) if packed else path.open("rb") as stream, _no_warnings():
            return _volume_from_single(stream, path)
    except VolumeError:
        raise
    # igzip has errors of its own for damaged streams, beside OSError and EOFError.
    except Exception as error:
        raise _unreadable(path, error) from error


def volume_from_pair(header, data, name, axes=None):
    """Reads an Analyze or NIfTI pair from two binary streams; see `read_volume`.

    Args:
        header, data: The streams of the `.hdr` and the `.img`.
        name: What errors call it.
        axes: As in `read_volume`.

    Raises:
        VolumeError: Whatever is wrong with the image.
    """
    try:
        header = _read(header, LARGEST_HEADER)
        nifti = PAIR_MAGIC.get(header[344:348]) or PAIR_MAGIC.get(header[4:8])
        image_class = nifti or nibabel.Spm2AnalyzeImage
        with _no_warnings():
            length = _claimed_length(header, image_class, name)
        holders = image_class.make_file_map()
        holders["header"].fileobj = io.BytesIO(header)
        holders["image"].fileobj = io.BytesIO(_read_exactly(data, b"", length, name))
        for extra in set(holders) - {"header", "image"}:
            holders[extra].fileobj = io.BytesIO()  # a .mat file, which is not looked for
        with _no_warnings():
            return _oriented(image_class.from_file_map(holders), name, None if nifti else axes)
    except VolumeError:
        raise
    # nibabel raises many kinds of exception on a damaged header, and promises none.
    except Exception as error:
        raise _unreadable(name, error) from error


def _volume_from_single(stream, name):
    """Reads a NIfTI file that holds header and voxels, `.nii`, from a binary stream."""
    header = _read(stream, 540)  # as long as that of NIfTI-2
    image_class = SINGLE_MAGIC.get(header[344:348]) or SINGLE_MAGIC.get(header[4:8])
    if image_class is None:
        raise VolumeError(f"{name}: not a NIfTI file. Fetch it again, or take it out of the folder")
    length = _claimed_length(header, image_class, name)
    return _oriented(image_class.from_bytes(_read_exactly(stream, header, length, name)), name)


def _claimed_length(header, image_class, name):
    """Bytes up to the end of the voxels, by a header that makes sense; the rest is not read yet."""
    header = image_class.header_class.from_fileobj(io.BytesIO(header))
    shape, dtype, offset = (
        header.get_data_shape(),
        header.get_data_dtype(),
        header.get_data_offset(),
    )
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


def _read_exactly(stream, already, length, name):
    """`already` and the rest of a stream that must be `length` bytes long, as its header says:
    another length would load as scrambled voxels."""
    data = already + _read(stream, length + 1 - len(already))
    if len(data) != length:
        found = f"{len(data):,} bytes" if len(data) < length else "more bytes"
        raise VolumeError(
            f"{name}: its data are {found}, where the header claims {length:,}. "
            "Fetch the file again, or take it out of the folder"
        )
    return data


def _read(stream, length):
    """At most `length` bytes, in pieces: memory grows with what is there, not with what a header
    claims."""
    pieces = []
    while length > 0 and (piece := stream.read(min(length, PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _oriented(image, name, axes=None):
    """A nibabel image as a `Volume`."""
    shape = image.shape[:3]
    affine = _affine_of_axes(axes, shape, image.header.get_zooms()[:3]) if axes else image.affine
    turn = nibabel.io_orientation(affine)
    # Lone axes behind the third are dropped; flips and turns are views, not copies.
    voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(shape, order="F")
    voxels = nibabel.apply_orientation(voxels, turn)
    affine = affine @ nibabel.orientations.inv_ornt_aff(turn, shape)
    voxel_size = tuple(float(size) for size in nibabel.affines.voxel_sizes(affine))
    origin = tuple(float(x) for x in affine[:3, 3])
    if not all(0 < size < 100 for size in voxel_size) or not np.isfinite(origin).all():
        raise VolumeError(f"{name}: voxels of {voxel_size} mm. Expected sizes between 0 and 100 mm")
    if not np.isfinite([voxels.min(), voxels.max()]).all():  # NaN is the minimum of all
        raise VolumeError(
            f"{name}: holds NaN or infinite voxels. Repair the file, or take it out of the folder"
        )
    return Volume(voxels, voxel_size, origin)


def _affine_of_axes(axes, shape, sizes):
    """The affine `(4, 4)` of a grid whose axes run as told, with 0 mm at its middle."""
    directions = np.zeros((3, 3))
    # For each axis of the file, which axis of the world it follows, and which way.
    for axis, (end, sign) in enumerate(nibabel.orientations.axcodes2ornt(axes)):
        directions[int(end), axis] = sign * abs(float(sizes[axis]))
    middle = (np.array(shape) - 1) / 2
    return nibabel.affines.from_matvec(directions, -directions @ middle)


def _no_warnings():
    """What nibabel and NumPy only warn of either makes no difference, or ends in our own error."""
    return warnings.catch_warnings(action="ignore")


def _unreadable(name, error):
    return VolumeError(
        f"{name}: cannot be read as a volume ({type(error).__name__}: {error}). "
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
