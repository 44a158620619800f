"""The guarded reader, and slices cut the right way up."""

import dataclasses
import gzip
import itertools

import nibabel
import numpy as np
import pytest
from nibabel import affines, orientations

from hyperparameters import DataConfig
from oasisvq.core.errors import VolumeError
from oasisvq.data import volumes
from oasisvq.data.volumes import (
    AXES,
    Header,
    Volume,
    choose_pixel_size,
    cut_slice,
    cut_volume,
    read_header,
    read_volume,
    slice_indices,
)
from support.processes import HANG, TESTS, start_python


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


def test_pixels_are_square_and_as_wide_as_the_voxels_in_the_plane_or_as_wanted(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", sizes=(1, 1, 2)))
    assert cut_slice(volume, "coronal", 0).shape == (20, 6)
    assert cut_slice(volume, "axial", 0).shape == (8, 6)
    volume = read_volume(save(tmp_path / "a.nii", sizes=(2, 2, 2)))
    assert cut_slice(volume, "axial", 0).shape == (8, 6)
    assert cut_slice(volume, "axial", 0, pixel_size=1).shape == (16, 12)
    assert cut_slice(volume, "axial", 0, pixel_size=4).shape == (4, 3)


def test_the_pixels_of_a_run_are_those_of_most_volumes_in_the_plane():
    def header(*sizes, shape=(6, 8, 10)):
        return Header(shape, sizes)

    headers = [header(0.9999, 1, 5), header(1.0001, 1.2, 5), header(0.5, 0.5, 0.5)]
    assert choose_pixel_size(headers, "axial") == 1
    assert choose_pixel_size([header(2, 1, 5)], "coronal") == 2
    assert choose_pixel_size([header(2, 3, 1, shape=(6, 8, 1))], "sagittal") == 2  # its own plane
    assert choose_pixel_size([], "axial") == 1


def config(**values):
    defaults = {"slice_range": (0.0, 1.0), "slices_per_volume": 0, "pixel_size": 0.0}
    return dataclasses.replace(DataConfig(), **defaults | values)


def test_all_slices_that_show_brain_are_cut():
    voxels = np.zeros((20, 20, 12), np.float32)
    for index, radius in enumerate((1, 6, 8, 6, 2), start=3):
        voxels[10 - radius : 10 + radius, 10 - radius : 10 + radius, index] = 9
    voxels += np.random.default_rng(0).uniform(0, 0.5, voxels.shape)  # noise is no brain
    volume = Volume(voxels.astype(np.float32), (1.0, 1.0, 2.0), (0.0, 0.0, -10.0))
    pictures, indices, positions = cut_volume(volume, config(), "a.nii")
    assert indices == [4, 5, 6]
    assert positions == [-2, 0, 2]
    assert len(pictures) == 3
    assert cut_volume(volume, config(slice_range=(-2, -2), slice_unit="mm"), "a")[1] == [4]
    with pytest.raises(VolumeError, match="no slice in --slice-range shows brain"):
        cut_volume(volume, config(slice_range=(0.8, 1)), "a.nii")
    assert cut_volume(volume, config(pixel_size=2.0), "a", 0.5)[0][0].shape == (10, 10)
    assert cut_volume(volume, config(), "a", 0.5)[0][0].shape == (40, 40)


# Single slices

CUTS = {"sagittal": np.s_[3:4], "coronal": np.s_[:, 4:5], "axial": np.s_[:, :, 5:6]}


@pytest.mark.parametrize("axes", ["RAS", "LIA", "PSR"])
@pytest.mark.parametrize("plane", CUTS)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
def test_a_volume_of_one_slice_is_that_slice(tmp_path, axes, plane, suffix):
    whole = nibabel.load(save(tmp_path / "whole.nii", axes))
    turn = nibabel.orientations.io_orientation(whole.affine)
    file_axis = [int(axis) for axis in turn[:, 0]].index(AXES[plane])
    cut = [slice(None)] * 3
    middle = (3, 4, 5)[AXES[plane]]
    size = whole.shape[file_axis]
    at = middle if turn[file_axis, 1] > 0 else size - 1 - middle
    cut[file_axis] = slice(at, at + 1)
    image = whole.slicer[tuple(cut)]
    image_class = nibabel.MGHImage if suffix == ".mgz" else nibabel.Nifti1Image
    voxels = np.asarray(image.dataobj, np.float32)
    nibabel.save(image_class(voxels, image.affine), tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.voxels, phantom()[CUTS[plane]])
    header = read_header(tmp_path / f"a{suffix}")
    assert header.is_slice
    assert volume.plane == header.thin == plane
    # Neither the plane nor the range that volumes are cut by is that of a slice.
    other = "axial" if plane == "coronal" else "coronal"
    (picture,), indices, (position,) = cut_volume(
        volume, config(plane=other, slice_range=(0, 0.1), slices_per_volume=3), "a"
    )
    whole = read_volume(tmp_path / "whole.nii")
    np.testing.assert_array_equal(picture, cut_slice(whole, plane, middle))
    assert indices == [None]
    assert position == pytest.approx(whole.origin[AXES[plane]] + middle)


def without_orientation(path):
    image = nibabel.load(path)
    image.header["qform_code"] = image.header["sform_code"] = 0
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 1, 1)])
@pytest.mark.parametrize("bare", ["no forms", "identity"])
def test_a_slice_without_an_orientation_takes_the_given_plane(tmp_path, shape, bare):
    voxels = phantom()[:, :, 9].reshape(shape)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 2, 2, 1])), tmp_path / "a.nii")
    if bare == "no forms":
        without_orientation(tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").thin == ""
    pictures = []
    for plane in AXES:
        volume = read_volume(tmp_path / "a.nii", plane=plane)
        assert volume.plane == read_header(tmp_path / "a.nii", plane=plane).thin == plane
        (picture,), _, positions = cut_volume(volume, config(), "a")
        assert positions == [None]
        pictures.append(picture)
    for picture in (*pictures, cut_volume(read_volume(tmp_path / "a.nii"), config(), "a")[0][0]):
        np.testing.assert_array_equal(picture, phantom()[:, :, 9].T[::-1])


def test_a_leading_axis_of_one_channel_is_dropped(tmp_path):
    affine = np.diag([1, 1.25, 2, 1])
    nibabel.save(nibabel.Nifti1Image(phantom()[None], affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").voxels, phantom())
    assert read_header(tmp_path / "a.nii") == Header((6, 8, 10), (1, 1.25, 2), placed=False)


# FreeSurfer, units, pointers


@pytest.mark.parametrize("axes", ["RAS", "LIA"])
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_freesurfer_volumes_are_read_as_ras(tmp_path, axes, suffix):
    volume = read_volume(save(tmp_path / f"a{suffix}", axes, nibabel.MGHImage))
    np.testing.assert_array_equal(volume.voxels, phantom())
    assert volume.origin == (-10, -20, -30)
    assert read_header(tmp_path / f"a{suffix}").shape == (6, 8, 10)
    with (tmp_path / f"a{suffix}").open("ab") as file:
        file.write(b"" if suffix == ".mgz" else b"tags" * 99)
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").voxels, phantom())


@pytest.mark.parametrize("reader", [read_volume, read_header])
def test_freesurfer_headers_that_claim_too_much_are_refused(tmp_path, reader):
    whole = gzip.decompress(save(tmp_path / "a.mgz", "RAS", nibabel.MGHImage).read_bytes())
    for at, value, problem in (
        (4, 2000, r"claims \(2000, 2000, 2000\) voxels, more than"),
        (16, 5, r"shape \(6, 8, 10, 5\)"),
        (4, 0, "three axes"),
        (20, 99, "cannot be read"),
    ):
        data = whole[:at] + value.to_bytes(4, "big") + whole[at + 4 :]
        data = data[:8] + (2000).to_bytes(4, "big") * 2 + data[16:] if value == 2000 else data
        (tmp_path / "a.mgz").write_bytes(gzip.compress(data))
        with pytest.raises(VolumeError, match=rf"a\.mgz: .*{problem}"):
            reader(tmp_path / "a.mgz")
    (tmp_path / "b.mgh").write_bytes(whole[:-2000])
    with pytest.raises(VolumeError, match="header claims"):
        read_volume(tmp_path / "b.mgh")


def test_a_packed_file_is_read_whatever_its_name_says(tmp_path):
    packed, plain = save(tmp_path / "a.nii.gz").read_bytes(), save(tmp_path / "b.nii").read_bytes()
    (tmp_path / "c.nii").write_bytes(packed)
    (tmp_path / "d.nii.gz").write_bytes(plain)
    for name in ("c.nii", "d.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, phantom())


@pytest.mark.parametrize(
    ("unit", "size", "expected"),
    [("meter", 0.002, 2), ("micron", 800, 0.8), ("mm", 2, 2), ("unknown", 1.5, 1.5)],
)
def test_units_of_the_header_are_converted_to_mm(tmp_path, unit, size, expected):
    image = nibabel.Nifti1Image(phantom(), np.diag([size] * 3 + [1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.voxel_size == pytest.approx([expected] * 3)
    assert volume.notes == ()


@pytest.mark.parametrize(("flip", "notes"), [(1, 0), (-1, 1)])
def test_two_affines_that_disagree_on_the_left_side_are_noted(tmp_path, flip, notes):
    image = nibabel.Nifti1Image(phantom(), np.eye(4))
    image.header.set_sform(np.eye(4), 1)
    image.header.set_qform(np.diag([flip, 1, 1, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.voxels, phantom())  # by the sform
    assert ["disagree on which side is left" in note for note in volume.notes] == [True] * notes


def test_a_unit_that_cannot_be_is_not_believed(tmp_path):
    image = nibabel.Nifti1Image(phantom(), np.eye(4))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.voxel_size == (1, 1, 1)
    assert "says meter" in volume.notes[0]


@pytest.mark.parametrize("size", [0.001, 90])
@pytest.mark.parametrize("reader", [read_volume, read_header])
def test_voxels_of_no_scanner_are_refused(tmp_path, size, reader):
    with pytest.raises(VolumeError, match=r"a\.nii: voxels of .* from 0\.05 to 20 mm"):
        reader(save(tmp_path / "a.nii", sizes=(1, 1, size)))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.hdr"])
@pytest.mark.parametrize("reader", [read_volume, read_header])
def test_pointers_name_what_fetches_the_volume(tmp_path, name, reader):
    path = tmp_path / name
    for text, remedy in (
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("/annex/objects/MD5E-s123--abc.nii.gz\n", "datalad get"),
    ):
        path.write_text(text)
        with pytest.raises(VolumeError, match=rf"{name}: a pointer .*{remedy}"):
            reader(path)
    path.unlink()
    path.symlink_to(".git/annex/objects/none")
    with pytest.raises(VolumeError, match="datalad get"):
        reader(path)


def test_what_was_changed_of_the_intensities_is_noted(tmp_path):
    voxels = np.pad(phantom(), 4) - 1024
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.voxels, voxels + 1024)
    assert volume.notes == (f"{tmp_path / 'a.nii'}: its ground of -1024 became 0",)


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
    printed, errors = process.communicate(timeout=HANG)
    assert (process.returncode, errors) == (0, "")
    read, refused, grown = map(int, printed.split())
    assert read + refused == MUTATIONS / EVERY[name]
    assert min(read, refused) > (read + refused) / 20  # both happen
    assert grown < 200  # MB


def test_a_packed_file_of_few_bytes_cannot_claim_many_voxels(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((100, 100, 100), np.uint8), np.eye(4)), path)
    read_header(path)
    monkeypatch.setattr(volumes, "LARGEST_PACKED", 10_000)
    for read in (read_header, read_volume):
        with pytest.raises(VolumeError, match=r"a\.nii\.gz: .* too many for a packed file"):
            read(path)


def test_slices_are_measured_before_they_are_resampled(monkeypatch):
    volume = Volume(np.ones((10, 10, 4), np.float32), (0.05, 20.0, 1.0), (0.0, 0.0, 0.0))
    config = DataConfig(slice_unit="fraction", slice_range=(0, 1), slices_per_volume=4)
    cut_volume(volume, config, "a")
    monkeypatch.setattr(volumes, "cut_slice", None)
    for limit in ("LARGEST_SIDE", "LARGEST_SCAN"):
        with monkeypatch.context() as patch:
            patch.setattr(volumes, limit, 1000)
            with pytest.raises(VolumeError, match=r"a: 4 slices of 4000x10 pixels"):
                cut_volume(volume, config, "a")
