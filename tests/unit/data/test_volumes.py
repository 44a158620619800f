"""The guarded reader, and slices cut the right way up."""

import itertools

import nibabel
import numpy as np
import pytest
from nibabel import affines, orientations

from oasisvq.core.errors import VolumeError
from oasisvq.data.volumes import Volume, cut_slice, read_volume, slice_indices
from support.processes import TESTS, start_python


def phantom():
    """Returns RAS (6, 8, 10), each octant another value: 1 + 1 right + 2 front + 4 top."""
    x, y, z = np.indices((6, 8, 10))
    return (1 + (x >= 3) + 2 * (y >= 4) + 4 * (z >= 5)).astype(np.float32)


def save(path, axes="RAS", image_class=nibabel.Nifti1Image, sizes=(1, 1, 1)):
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -10, -20, -30
    image = nibabel.Nifti1Image(phantom(), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    image = image.as_reoriented(turn)
    nibabel.save(image_class(np.asarray(image.dataobj), image.affine), path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LAS", "ASL", "LIA", "PSR"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_orientation_is_read_as_ras(tmp_path, axes, suffix):
    volume = read_volume(save(tmp_path / f"a{suffix}", axes))
    np.testing.assert_array_equal(volume.voxels, phantom())
    assert volume.origin == (-10, -20, -30)
    assert volume.voxels.dtype == np.float32


def test_analyze_pairs_with_a_trailing_axis_are_read(tmp_path):
    data = phantom()[..., None].astype(">i2")
    nibabel.save(nibabel.AnalyzeImage(data, None), tmp_path / "a.hdr")
    voxels = read_volume(tmp_path / "a.hdr").voxels
    np.testing.assert_array_equal(voxels, phantom()[::-1])  # Analyze is LAS


FILE_AXES = {"LAS": (0, 1, 2), "ASL": (1, 2, 0)}  # which RAS axis each file axis follows


def save_analyze(path, axes, trailing=True):
    """The phantom as OASIS stores volumes: big-endian Analyze, axes in no header."""
    data = phantom()[::-1].transpose(FILE_AXES[axes])  # left is the far end of RAS's first axis
    data = data[..., None] if trailing else data
    header = nibabel.Spm2AnalyzeImage.header_class(endianness=">")
    header.set_data_dtype(">i2")
    header.set_data_shape(data.shape)
    header.set_zooms([1.25 if axis == 0 else 1 for axis in FILE_AXES[axes]] + [1] * trailing)
    path.with_suffix(".hdr").write_bytes(header.binaryblock)
    path.with_suffix(".img").write_bytes(data.astype(">i2").tobytes(order="F"))
    return path.with_suffix(".hdr")


@pytest.mark.parametrize("axes", ["LAS", "ASL"])
@pytest.mark.parametrize("trailing", [True, False])
def test_the_axes_of_oasis_are_read_as_ras(tmp_path, axes, trailing):
    volume = read_volume(save_analyze(tmp_path / "a", axes, trailing), axes)
    np.testing.assert_array_equal(volume.voxels, phantom())
    assert volume.voxel_size == (1.25, 1, 1)
    assert volume.origin == (-2.5 * 1.25, -3.5, -4.5)  # 0 mm is the middle


EVERY_AXES = [
    "".join(axis[flip] for axis, flip in zip(order, flips, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for flips in itertools.product((0, 1), repeat=3)
]


@pytest.mark.parametrize("axes", EVERY_AXES)
def test_given_axes_turn_a_volume_as_the_affine_would_that_runs_along_them(tmp_path, random, axes):
    shape, sizes = (6, 7, 10), (1.25, 0.9, 3.3)
    data = random.integers(0, 999, shape).astype(">i2")
    header = nibabel.Spm2AnalyzeImage.header_class(endianness=">")
    header.set_data_dtype(data.dtype)
    header.set_data_shape(shape)
    header.set_zooms(sizes)
    (tmp_path / "a.hdr").write_bytes(header.binaryblock)
    (tmp_path / "a.img").write_bytes(data.tobytes(order="F"))
    volume = read_volume(tmp_path / "a.hdr", axes)
    # For each axis of the file, which axis of the world it follows, and which way.
    directions = np.zeros((3, 3))
    for axis, (end, sign) in enumerate(orientations.axcodes2ornt(axes)):
        directions[int(end), axis] = sign * float(np.float32(sizes[axis]))
    middle = (np.array(shape) - 1) / 2
    affine = affines.from_matvec(directions, -directions @ middle)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data.astype(np.float32), affine))
    np.testing.assert_array_equal(volume.voxels, image.get_fdata())
    assert volume.voxel_size == tuple(affines.voxel_sizes(image.affine))
    assert volume.origin == tuple(image.affine[:3, 3])


def test_a_nifti_pair_is_believed_rather_than_the_axes_given(tmp_path):
    image = nibabel.Nifti1Pair(phantom(), np.diag([1, 2, 3, 1]))
    nibabel.save(image, tmp_path / "a.hdr")
    volume = read_volume(tmp_path / "a.hdr", "ASL")
    np.testing.assert_array_equal(volume.voxels, phantom())
    assert volume.voxel_size == (1, 2, 3)


def test_slices_stand_upright():
    # 1 is left, back, bottom; 2 is right, 3 front, 5 top.
    volume = Volume(phantom(), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    axial = cut_slice(volume, "axial", 0)
    assert (axial[0, 0], axial[0, -1], axial[-1, 0], axial[-1, -1]) == (3, 4, 1, 2)
    coronal = cut_slice(volume, "coronal", 0)
    assert (coronal[0, 0], coronal[0, -1], coronal[-1, 0], coronal[-1, -1]) == (5, 6, 1, 2)
    sagittal = cut_slice(volume, "sagittal", 0)
    assert (sagittal[0, 0], sagittal[0, -1], sagittal[-1, 0], sagittal[-1, -1]) == (5, 7, 1, 3)
    assert axial.shape == (8, 6)
    assert coronal.shape == (10, 6)
    assert sagittal.shape == (10, 8)


def test_pixels_are_one_millimetre(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", sizes=(1, 1, 2)))
    assert cut_slice(volume, "coronal", 0).shape == (20, 6)
    assert cut_slice(volume, "axial", 0).shape == (8, 6)


def test_slice_indices_by_fraction_and_by_millimetre():
    np.testing.assert_array_equal(
        slice_indices(101, 2.0, -100, (0, 1), "fraction", 3), [0, 50, 100]
    )
    np.testing.assert_array_equal(slice_indices(101, 2.0, -100, (-20, 20), "mm", 3), [40, 50, 60])
    np.testing.assert_array_equal(slice_indices(101, 1.0, 0, (0.5, 0.5), "fraction", 9), [50])
    np.testing.assert_array_equal(slice_indices(10, 1.0, 0, (-50, 3), "mm", 2), [0, 3])
    assert len(slice_indices(10, 1.0, 0, (50, 60), "mm", 5)) == 0


def test_spacing_and_origin_are_the_affines_in_every_orientation(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", "ASL", sizes=(1, 1.25, 2)))
    assert volume.voxel_size == (1, 1.25, 2)
    np.testing.assert_array_equal(volume.voxels, phantom())
    image = nibabel.load(tmp_path / "a.nii")
    image.header["pixdim"][1:4] = 3  # what stands beside the affine does not count
    nibabel.save(image, tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii").voxel_size == (1, 1.25, 2)


@pytest.mark.parametrize(("at", "value"), [(42, b"\x04\x00"), (70, b"\x02\x00\x08\x00")])
def test_an_analyze_header_that_does_not_fit_its_data_is_refused(tmp_path, at, value):
    nibabel.save(nibabel.AnalyzeImage(phantom().astype("<i2"), None), tmp_path / "a.hdr")
    data = bytearray((tmp_path / "a.hdr").read_bytes())
    data[at : at + len(value)] = value  # a shorter first axis; another type
    (tmp_path / "a.hdr").write_bytes(data)
    with pytest.raises(VolumeError, match=r"a\.hdr: .* bytes, but the header claims"):
        read_volume(tmp_path / "a.hdr")


def test_complex_voxels_are_refused(tmp_path):
    image = nibabel.Nifti1Image(phantom().astype(np.complex64), np.eye(4))
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, tmp_path / name)
        with pytest.raises(VolumeError, match="complex64"):
            read_volume(tmp_path / name)


def corrupt(path, kind):
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "not an image":
        path.write_bytes(b"<html>404</html>" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "absurd size":
        path.write_bytes(data[:42] + b"\xff\x7f" * 3 + data[48:])
    elif kind == "a series":
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), path)
    elif kind == "NaN":
        voxels = phantom()
        voxels[2, 2, 2] = np.nan
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


@pytest.mark.parametrize(
    "kind", ["truncated", "not an image", "empty", "absurd size", "a series", "NaN"]
)
def test_bad_volumes_are_named(tmp_path, kind):
    path = save(tmp_path / "broken.nii")
    corrupt(path, kind)
    problem = {"absurd size": "more than", "NaN": "NaN", "a series": "three axes"}.get(kind, "")
    with pytest.raises(VolumeError, match=rf"broken\.nii: .*{problem}"):
        read_volume(path)


# Mutated headers: what is read has the right shape, or is one kind of error

MUTATIONS = 10_000
# Of them, every so many is read: these lead to every kind of refusal that all of them lead to.
EVERY = {"a.hdr": 2, "a.nii": 4, "a.nii.gz": 4}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_mutated_headers_never_give_a_wrong_volume(tmp_path, name):
    path = tmp_path / name
    voxels = np.random.default_rng(0).integers(0, 3000, (7, 11, 13)).astype(np.int16)
    analyze = name.endswith(".hdr")
    image = (
        nibabel.AnalyzeImage(voxels, None) if analyze else nibabel.Nifti1Image(voxels, np.eye(4))
    )
    nibabel.save(image, path)
    process = start_python(TESTS / "support/header_fuzz.py", path, MUTATIONS, EVERY[name])
    printed, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    read, refused, grown = map(int, printed.split())
    assert read + refused == MUTATIONS / EVERY[name]
    assert min(read, refused) > (read + refused) / 20  # both happen
    assert grown < 200  # MB
