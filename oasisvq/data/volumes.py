"""Reads Analyze, NIfTI and FreeSurfer images as oriented volumes, and cuts slices from them."""

import collections
import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from isal import igzip
from nibabel import affines, orientations
from nibabel.volumeutils import shape_zoom_affine
from PIL import Image

from oasisvq.core.errors import VolumeError
from oasisvq.data.intensities import ground_at_zero

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".mgz", ".mgh")
LARGEST_VOLUME = 2**28  # voxels; a header of 10 KB can claim gigabytes
LARGEST_PACKED = 2**26  # voxels of up to 8 bytes in a packed file; more need bytes in the file
LEAST_PACKED = 1 / 3  # bytes in the file per voxel above that
LARGEST_SCAN = 2**26  # pixels of all slices, or voxels of all files, of a scan; more need bytes too
LARGEST_SIDE = 4096  # pixels of a slice
LARGEST_HEADER = 2**20  # bytes before the voxels, extensions included
PIECE = 2**24  # bytes read at a time
VOXEL_SIZES = (0.05, 20.0)  # mm; no scan of a head has smaller or larger voxels
SINGLE_MAGIC = {b"n+1\0": nibabel.Nifti1Image, b"n+2\0": nibabel.Nifti2Image}
PAIR_MAGIC = {b"ni1\0": nibabel.Nifti1Pair, b"ni2\0": nibabel.Nifti2Pair}
MGH_VERSION = b"\0\0\0\1"  # what a FreeSurfer volume begins with
GZIP_MAGIC = b"\x1f\x8b"
# What a file that stands for another begins with, and how that one is fetched.
POINTERS = {b"version https://git-lfs": "git lfs pull", b"/annex/objects": "datalad get"}
UNITS = {"meter": 1000.0, "micron": 0.001}  # in mm
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # errors here are our own
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
BRIGHT = 0.1  # share of the full scale above which a pixel shows head, and not noise
BRAIN = 0.1  # a slice shows brain if it has this share of the bright pixels of the fullest one


@dataclasses.dataclass(frozen=True)
class Header:
    """The form of a scan in RAS orientation, without its voxels.

    Attributes:
        shape: `(X, Y, Z)`; a single slice has one axis of length 1.
        voxel_size: `(3,)`, in mm.
        thin: The plane of a single slice, `""` if its header does not tell it, or of a volume.
        origin: `(3,)`, scanner coordinates of the centre of the first voxel, in mm.
        placed: Whether the header says where in the head a single slice is.
        oriented: Whether the header, or who knows the file, says which side is left.
        notes: Texts on what was not believed of the header.
    """

    shape: tuple[int, ...]
    voxel_size: tuple[float, ...]
    thin: str = ""
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    placed: bool = True
    oriented: bool = True
    notes: tuple[str, ...] = ()

    @property
    def is_slice(self) -> bool:
        """Whether it is a single slice."""
        return 1 in self.shape


@dataclasses.dataclass(frozen=True)
class Volume:
    """A scan in RAS orientation: its axes run to the right, the front and the top.

    Attributes:
        voxels: Float32 array `(X, Y, Z)`, in the intensities of the file, or raised so that they
            are at least 0 and the ground is 0.
        voxel_size: `(3,)`, in mm.
        origin: `(3,)`, scanner coordinates of the centre of the first voxel, in mm.
        header: What else its header says; `None` if it was made from other volumes.
        notes: Texts on what was changed.
    """

    voxels: np.ndarray
    voxel_size: tuple[float, ...]
    origin: tuple[float, ...]
    header: Header | None = None
    notes: tuple[str, ...] = ()

    @property
    def plane(self) -> str:
        """The plane of a single slice, `""` if unknown, or of a volume."""
        return self.header.thin if self.header else ""


def is_volume(path: str | Path) -> bool:
    """Returns whether a file is a volume by its name; the `.img` beside a `.hdr` is not."""
    return Path(path).name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(path: str | Path, axes: str = "", plane: str = "") -> Volume:
    """Reads a `.nii`, `.nii.gz`, `.mgz`, `.mgh` or `.hdr`/`.img` file.

    Args:
        path: The file, or the `.hdr` of a pair.
        axes: The directions of the axes of an Analyze image, such as `"ASL"`, which its header does
            not contain. Default: `"LAS"`, as in nibabel. Ignored for NIfTI, whose header has them.
        plane: The plane of a single slice whose header does not tell it. Its axes then run to the
            right, the front or the top.

    Returns:
        A `Volume` whose voxels are all finite and at least 0.

    Raises:
        VolumeError: If anything is wrong with the file.
    """
    path = Path(path)
    refuse_pointer(path)
    with guarded(path, "volume"):
        if path.suffix.lower() == ".hdr":
            image = _image_beside(path)
            refuse_pointer(image)
            with path.open("rb") as header, image.open("rb") as data:
                return volume_from_pair(header, data, path, axes, plane)
        with _unpacked(path) as stream:
            start = _read(stream, 540)  # as long as that of NIfTI-2
            image_class, header, length = _parse(start, path)
            if isinstance(stream, igzip.IGzipFile):
                _check_packed(header, path)
            is_mgh = image_class is nibabel.MGHImage
            data = [_read_exactly(stream, start, length, path, is_mgh)]
            # The bytes are given away, so that they do not stay in memory beside the voxels.
            return _oriented(image_class.from_bytes(data.pop()), path, "", plane)


def read_header(path: str | Path, axes: str = "", plane: str = "") -> Header:
    """Reads what `read_volume` would, with the same arguments and errors, but the voxels."""
    path = Path(path)
    refuse_pointer(path)
    with guarded(path, "volume"):
        if path.suffix.lower() == ".hdr":
            _, header, length = _parse(path.read_bytes()[:LARGEST_HEADER], path, pair=True)
            size, axes = _image_beside(path).stat().st_size, _axes_of(header, axes)
        else:
            with _unpacked(path) as stream:
                image_class, header, length = _parse(_read(stream, 540), path)
            packed = isinstance(stream, igzip.IGzipFile)
            if packed:
                _check_packed(header, path)
            # The footer of MGH need not be there, and is of any length.
            size = length if packed or image_class is nibabel.MGHImage else path.stat().st_size
            axes = ""
        _check_length(size, length, path)
        return _placed(header, path, axes, plane)[0]


def bytes_of(path: Path) -> int:
    """Returns the size of a file, or of the voxels beside a `.hdr` file; 0 if it is not there."""
    with contextlib.suppress(OSError):
        return (_image_beside(path) if path.suffix.lower() == ".hdr" else path).stat().st_size
    return 0


def _image_beside(path: Path) -> Path:
    """Returns the path of the voxels that belong to a `.hdr` file."""
    paths = [path.with_suffix(suffix) for suffix in (".img", ".IMG", ".Img")]
    if path.suffix.isupper():
        paths.insert(0, paths.pop(1))
    return next(filter(Path.exists, paths), paths[0])


def _unpacked(path: Path) -> Any:
    """Opens a file to be read, unpacked if it is packed, whatever its name says."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    return igzip.open(path) if packed else path.open("rb")


def refuse_pointer(path: Path) -> None:
    """Raises a `VolumeError` if a file only stands for another that was not fetched."""
    if path.exists() and not path.is_file():  # a pipe would never end
        raise VolumeError(f"{path}: not a regular file. Take it out of the folder")
    if path.is_symlink() and not path.exists():
        raise VolumeError(
            f"{path}: a link to a file that is not there. Fetch it (datalad get, git annex get), "
            "or take the link out of the folder"
        )
    with guarded(path, "file"), path.open("rb") as stream:
        start = stream.read(32)
    for beginning, remedy in POINTERS.items():
        if start.startswith(beginning):
            raise VolumeError(
                f"{path}: a pointer to a file that was not fetched. Fetch it: {remedy}"
            )


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


def volume_from_pair(
    header: BinaryIO, data: BinaryIO, name: object, axes: str = "", plane: str = ""
) -> Volume:
    """Reads an Analyze or NIfTI pair from two binary streams, see `read_volume`."""
    with guarded(name, "volume"):
        start = _read(header, LARGEST_HEADER)
        image_class, claims, length = _parse(start, name, pair=True)
        voxels = _read_exactly(data, b"", length, name)
        files = image_class.make_file_map()
        # The .mat file of SPM is ignored.
        for kind in files:
            files[kind].fileobj = io.BytesIO({"header": start, "image": voxels}.get(kind, b""))
        return _oriented(image_class.from_file_map(files), name, _axes_of(claims, axes), plane)


def _axes_of(header: Any, axes: str) -> str:
    """Returns the axes to go by: none for NIfTI, whose header has them."""
    return "" if _is_nifti(header) else axes


def _is_nifti(header: object) -> bool:
    return isinstance(header, nibabel.Nifti1Header)


def _parse(start: bytes, name: object, pair: bool = False) -> tuple[Any, Any, int]:
    """Reads and checks the header in the first bytes of a file.

    Returns:
        nibabel's class of image, its header, and the number of bytes up to the end of the voxels.
    """
    magic = PAIR_MAGIC if pair else SINGLE_MAGIC
    image_class: Any = magic.get(start[344:348]) or magic.get(start[4:8])
    if image_class is None and pair:
        image_class = nibabel.Spm2AnalyzeImage
    if image_class is None and start.startswith(MGH_VERSION):
        image_class = nibabel.MGHImage
        header = image_class.header_class(start[:90])  # what stands before the voxels
    elif image_class is None:
        raise VolumeError(
            f"{name}: not a NIfTI or FreeSurfer file. Fetch it again, or take it out of the folder"
        )
    else:
        header = image_class.header_class.from_fileobj(io.BytesIO(start))
    return image_class, header, _claimed_length(header, name)


def _claimed_length(header: Any, name: object) -> int:
    """Returns the number of bytes up to the end of the voxels, after checks of the header."""
    shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
    offset = header.get_data_offset()
    _three_axes(shape, name)
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


def _check_packed(header: Any, path: Path) -> None:
    """Raises a `VolumeError` if a packed file would unpack to more than any scan does."""
    shape, size = header.get_data_shape(), header.get_data_dtype().itemsize
    voxels = np.prod(shape, dtype=float) * max(size / 8, 1)
    if voxels > max(LARGEST_PACKED, path.stat().st_size / LEAST_PACKED):
        raise VolumeError(
            f"{path}: its header claims {tuple(map(int, shape))} voxels, too many for a packed "
            f"file of {path.stat().st_size:,} bytes. Unpack it, or take it out of the folder"
        )


def _three_axes(shape: Sequence[int], name: object) -> tuple[int, ...]:
    """Returns the shape `(3,)` of a volume or slice, without what a file's axes have too much.

    These are axes of length 1 at the end, and one before three others, of channels. A file of two
    axes gets a third one of length 1.
    """
    sizes = [int(size) for size in shape]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == 4 and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) == 2:
        sizes.append(1)
    if len(sizes) != 3 or min(sizes) < 1 or sizes.count(1) > 1:
        raise VolumeError(
            f"{name}: expected one volume of three axes, or one slice. Received: shape "
            f"{shape}. Split a series into volumes, or take the file out of the folder"
        )
    return tuple(sizes)


def _read_exactly(
    stream: Any, start: bytes, length: int, name: object, footer: bool = False
) -> bytes:
    """Returns `start` and the rest of a stream, whose length must be right but for a footer."""
    more = LARGEST_HEADER if footer else 1
    data = start + _read(stream, length + more - len(start))
    _check_length(min(len(data), length) if footer else len(data), length, name)
    return data


def _check_length(found: int, claimed: int, name: object) -> None:
    """Raises a `VolumeError` if a file has not as many bytes as its header claims."""
    if found != claimed:
        size = f"{found:,} bytes" if found < claimed else "more bytes"
        raise VolumeError(
            f"{name}: its data are {size}, but the header claims {claimed:,}. "
            "Fetch the file again, or take it out of the folder"
        )


def _read(stream: Any, length: int) -> bytes:
    """Reads at most `length` bytes, in pieces: a header can claim more than the file has."""
    pieces = []
    while length > 0 and (piece := stream.read(min(length, PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _oriented(image: Any, name: object, axes: str, plane: str) -> Volume:
    """Returns a nibabel image as a `Volume`, oriented by its affine or by its `axes`."""
    header, turn = _placed(image.header, name, axes, plane)
    # Axes of length 1 beyond the three are dropped; flips and turns are views, not copies.
    shape = _three_axes(image.shape, name)
    voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(shape, order="F")
    del image
    voxels, note = ground_at_zero(nibabel.apply_orientation(voxels, turn), name)
    notes = (*header.notes, note) if note else header.notes
    return Volume(voxels, header.voxel_size, header.origin, header, notes)


def _placed(header: Any, name: object, axes: str, plane: str) -> tuple[Header, np.ndarray]:
    """Returns the form of a scan, and the turn `(3, 2)` that brings its axes into RAS order.

    Args:
        header: nibabel's.
        name: What messages call the file.
        axes, plane: See `read_volume`.
    """
    shape = _three_axes(header.get_data_shape(), name)
    affine, known = _affine(header, shape), bool(axes)
    bare = not axes and _is_bare(header, shape, affine)
    if not axes and 1 in shape:
        known = not bare
        affine = affine if known else _affine_in_plane(affine, plane or "axial")
    turn = orientations.axcodes2ornt(axes) if axes else nibabel.io_orientation(affine)
    turned = tuple(int(size) for size in np.array(shape)[np.argsort(turn[:, 0])])
    if axes:  # 0 mm is in the middle
        sizes = np.abs(header.get_zooms()[:3])[np.argsort(turn[:, 0])]
        affine = shape_zoom_affine(turned, sizes, x_flip=False)
    else:
        affine = affine @ orientations.inv_ornt_aff(turn, shape)
    affine, notes = _in_mm(header, affine, turned, name)
    if bare:
        notes += (f"{name}: its header has no orientation, so which side is left is not known",)
    elif _sides_differ(header):
        notes += (f"{name}: its sform and qform disagree on which side is left. The sform counts",)
    thin = list(AXES)[turned.index(1)] if 1 in turned and (known or plane) else ""
    voxel_size = tuple(float(size) for size in affines.voxel_sizes(affine))
    origin = tuple(float(x) for x in affine[:3, 3])
    return Header(turned, voxel_size, thin, origin, known, not bare, notes), turn


def _affine(header: Any, shape: Sequence[int]) -> np.ndarray:
    """Returns the affine of a header; the axis across a single slice may lack its direction."""
    affine = np.array(header.get_best_affine(), dtype=float)
    if 1 in shape:
        across = shape.index(1)
        length = np.linalg.norm(affine[:3, across])
        if not 0 < length < np.inf:
            normal = np.cross(affine[:3, across - 2], affine[:3, across - 1])
            affine[:3, across] = normal / np.linalg.norm(normal)
    return affine


def _is_bare(header: Any, shape: Sequence[int], affine: np.ndarray) -> bool:
    """Returns whether a header has no orientation; that of a single slice then has no plane.

    It tells nothing if no orientation was written; and of a picture of two axes, the identity says
    only that there was no better affine at hand.
    """
    if _is_nifti(header):
        written = header["qform_code"] > 0 or header["sform_code"] > 0
    else:
        written = header.get("goodRASFlag", 0) > 0  # of FreeSurfer
    if not written:
        return True
    matrix = affine[:3, :3]
    diagonal = np.count_nonzero(matrix) == 3 and np.diag(matrix).all()
    if len(header.get_data_shape()) == 2:
        return bool(diagonal)
    return shape[2] == 1 and bool(diagonal and (matrix >= 0).all() and not affine[:3, 3].any())


def _sides_differ(header: Any) -> bool:
    """Returns whether the two affines of a NIfTI header disagree on which side is left."""
    if not _is_nifti(header) or min(header["sform_code"], header["qform_code"]) <= 0:
        return False
    try:
        turns = [nibabel.io_orientation(form) for form in (header.get_sform(), header.get_qform())]
    except Exception:  # nibabel raises many kinds on a damaged one, which does not count then
        return False
    first, second = (turn[turn[:, 0] == AXES["sagittal"]] for turn in turns)
    return not np.array_equal(first, second)


def _affine_in_plane(affine: np.ndarray, plane: str) -> np.ndarray:
    """Returns the affine `(4, 4)` of a slice `(A, B, 1)` in a plane that its header does not tell.

    Its axes run to the right, the front or the top. The affine that the header has instead only
    gives the pixels' sizes: nibabel's default, which flips the first axis, is wrong for the slices
    of OASIS-2, whose asymmetry is that of OASIS-1 without the flip.
    """
    across, up = _axes_in_plane(plane)
    placed = np.zeros((4, 4))
    sizes = affines.voxel_sizes(affine)
    for axis, world in enumerate((across, up, AXES[plane])):
        placed[world, axis] = sizes[axis]
    placed[3, 3] = 1
    return placed


def _in_mm(
    header: Any, affine: np.ndarray, shape: Sequence[int], name: object
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the affine `(4, 4)` in mm, and notes, after a check of the voxels' sizes.

    Metres and micrometres are converted where the header names them, unless the sizes are
    plausible only as mm.
    """
    unit = header.get_xyzt_units()[0] if _is_nifti(header) else "mm"
    scale = np.diag([UNITS.get(unit, 1.0)] * 3 + [1.0])
    # The size across a single slice is its thickness, or nothing.
    wanted = [axis for axis in range(3) if shape[axis] > 1]
    sizes = affines.voxel_sizes(affine)[wanted]
    low, high = VOXEL_SIZES
    for factor in (scale, np.eye(4)):
        converted = factor @ affine
        within = all(low <= size * factor[0, 0] <= high for size in sizes)
        if within and np.isfinite(converted).all():
            believed = factor is scale
            note = f"{name}: its header says {unit}, but voxels of {sizes.max():g} are in mm"
            return converted, () if believed else (note,)
    found = " x ".join(f"{size:.4g}" for size in affines.voxel_sizes(scale @ affine))
    raise VolumeError(
        f"{name}: voxels of {found} mm. Expected sizes from {low:g} to {high:g} mm; mend the "
        "affine and the unit in its header"
    )


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
        count: Number of slices; 0 for all.

    Returns:
        Integer array of at most `count` different indices inside the volume.
    """
    ends = np.array(slice_range, dtype=float)
    ends = ends * (size - 1) if slice_unit == "fraction" else (ends - origin) / voxel_size
    if ends[1] < -0.5 or ends[0] > size - 0.5:
        return np.array([], dtype=int)
    ends = ends.clip(0, size - 1)
    if not count:
        first, last = np.round(ends).astype(int)
        return np.arange(first, last + 1)
    middle = np.linspace(ends[0], ends[1], count) if count > 1 else [ends.mean()]
    return np.unique(np.round(middle).astype(int))


def brain_slices(voxels: np.ndarray, axis: int, indices: np.ndarray) -> np.ndarray:
    """Returns those of the slices `indices` `(n,)` along an axis that show brain.

    Bright are voxels above a tenth of the full scale, the 99.8th percentile of those above 0. A
    slice shows brain if it has at least a tenth of the bright voxels of the fullest slice.
    """
    foreground = voxels[voxels > 0]
    if not foreground.size:
        return indices[:0]
    bright = voxels > BRIGHT * np.percentile(foreground, 99.8)
    counts = bright.sum(axis=tuple(other for other in range(3) if other != axis))
    return indices[counts[indices] >= BRAIN * counts.max()]


def cut_volume(
    volume: Volume, config: Any, name: object, pixel_size: float = 0.0
) -> tuple[list, list, list]:
    """Returns the slices that a `DataConfig` wants: pictures, indices, and positions in mm.

    A single slice is that slice, whatever the plane and the range. Its index is `None`, and so is
    its position if its header does not say where in the head it is.

    Args:
        volume: From `read_volume`, or made of others.
        config: `DataConfig`; its `pixel_size` in mm comes before that of the caller, and 0 of its
            `slices_per_volume` means every slice of the range that shows brain.
        name: What messages call the volume.
        pixel_size: Width of the pixels of the run, in mm. Default: that of the volume's own voxels
            in the plane, the smaller of the two.

    Raises:
        VolumeError: If no slice is in the range, none of them shows brain, or they are too large.
    """
    pixel_size = config.pixel_size or pixel_size
    if 1 in volume.voxels.shape:
        axis = volume.voxels.shape.index(1)
        placed = volume.header is None or volume.header.placed
        _check_pixels(volume, list(AXES)[axis], pixel_size, 1, name)
        picture = cut_slice(volume, list(AXES)[axis], 0, pixel_size)
        return [picture], [None], [volume.origin[axis] if placed else None]
    axis = AXES[config.plane]
    size, spacing, origin = volume.voxels.shape[axis], volume.voxel_size[axis], volume.origin[axis]
    wanted = config.slice_range, config.slice_unit, config.slices_per_volume
    indices = slice_indices(size, spacing, origin, *wanted)
    if not len(indices):
        raise VolumeError(
            f"{name}: no slice is in --slice-range. Its {config.plane} slices are at "
            f"{origin:g} to {origin + (size - 1) * spacing:g} mm"
        )
    if not config.slices_per_volume:
        indices = brain_slices(volume.voxels, axis, indices)
        if not len(indices):
            raise VolumeError(
                f"{name}: no slice in --slice-range shows brain. Choose another range, or take it "
                "out of the folder"
            )
    _check_pixels(volume, config.plane, pixel_size, len(indices), name)
    pictures = [cut_slice(volume, config.plane, index, pixel_size) for index in indices]
    return pictures, indices.tolist(), (origin + indices * spacing).tolist()


def cut_slice(volume: Volume, plane: str, index: int, pixel_size: float = 0.0) -> np.ndarray:
    """Returns one slice as a picture: float `(H, W)` with the top or the front of the head up.

    Axial and coronal slices have the subject's left on the left; sagittal ones face right. Pixels
    are square, so that nothing looks squashed, and `pixel_size` mm wide; by default as wide as the
    smaller side of the volume's voxels in the plane.
    """
    height, width = _slice_shape(volume, plane, pixel_size)
    picture = np.take(volume.voxels, index, axis=AXES[plane]).T[::-1]  # rows from the top down
    return picture if picture.shape == (height, width) else resized(picture, height, width)


def _slice_shape(volume: Volume, plane: str, pixel_size: float = 0.0) -> tuple[int, int]:
    """Returns the height and width in pixels of what `cut_slice` returns."""
    across, up = _axes_in_plane(plane)
    pixel_size = pixel_size or _pixel_size((volume.voxel_size[up], volume.voxel_size[across]))
    height, width = (
        max(round(volume.voxels.shape[axis] * volume.voxel_size[axis] / pixel_size), 1)
        for axis in (up, across)
    )
    return height, width


def _check_pixels(volume: Volume, plane: str, pixel_size: float, count: int, name: object) -> None:
    """Raises a `VolumeError` if so many slices would be larger than any scan's are."""
    height, width = _slice_shape(volume, plane, pixel_size)
    too_long = max(height, width) > max(LARGEST_SIDE, *volume.voxels.shape)
    if too_long or count * height * width > max(LARGEST_SCAN, volume.voxels.size):
        raise VolumeError(
            f"{name}: {count} slices of {height}x{width} pixels. Expected at most {LARGEST_SIDE} "
            f"a side and {LARGEST_SCAN:,} in all. Choose a larger --pixel-size or fewer "
            "--slices-per-volume, or mend the voxel sizes in the header"
        )


def _axes_in_plane(plane: str) -> tuple[int, int]:
    """Returns the axes of a plane that run across and up a picture."""
    across, up = (axis for axis in range(3) if axis != AXES[plane])
    return across, up


def _pixel_size(sizes: Iterable[float]) -> float:
    """Returns the smaller of a voxel's two sides in mm, to a hundredth: 0.9999 is 1."""
    return round(min(sizes), 2)


def choose_pixel_size(headers: Iterable[Header], plane: str) -> float:
    """Returns the width in mm of a run's pixels: that of most scans' voxels in the plane.

    Of voxels that are not square in the plane it is the smaller side. A single slice counts in its
    own plane. The finest width is taken among those that equally many scans have.
    """
    widths = collections.Counter()
    for header in headers:
        own = header.shape.index(1) if header.is_slice else AXES[plane]
        widths[_pixel_size(s for axis, s in enumerate(header.voxel_size) if axis != own)] += 1
    return min(widths, key=lambda width: (-widths[width], width), default=1.0)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a float picture `(H, W)` at another size, by bilinear interpolation."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
