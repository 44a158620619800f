"""Which side of the head is on the left of a slice."""

import nibabel
import numpy as np
import pandas
import pytest
from PIL import Image
from scipy import ndimage

from oasisvq.data.sides import NOT_KNOWN, UNKNOWN, common_sides, sides_of, sides_of_pictures
from oasisvq.data.volumes import read_volume
from support.sources import open_folder, write_png

LEFT, RIGHT, FRONT, BACK = 40, 80, 120, 160  # intensities of four corners of a head


@pytest.mark.parametrize(
    ("plane", "noted", "sides"),
    [
        ("axial", "", ("L", "R")),
        ("coronal", "", ("L", "R")),
        ("sagittal", "", ("P", "A")),
        ("axial", NOT_KNOWN, UNKNOWN),
        ("", "", UNKNOWN),
        ("", "RL", ("R", "L")),
        ("", "LR", ("L", "R")),
    ],
)
def test_sides_are_those_of_the_plane_unless_others_are_noted(plane, noted, sides):
    assert sides_of(pandas.DataFrame({"plane": [plane], "sides": [noted]})) == [sides]


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("OAS1_0001_MR1.95.png", (176, 176), "RL"),
        ("OAS1_0001_MR1.85.jpg", (208, 176), "RL"),
        ("OAS1_0001_MR1.102.jpg", (208, 176), "RL"),
        ("OAS1_0001_MR1_a.jpg", (208, 176), "LR"),
        ("OAS1_0001_MR1_a.jpg", (176, 176), ""),
        ("OAS1_0001_MR1.95.png", (88, 88), ""),
        ("OAS1_0001_MR1.80.png", (176, 176), ""),  # no slice of that set
        ("OAS1_0001_MR1.85.png", (208, 176), ""),
        ("OAS1_0001_MR1.103.jpg", (208, 176), ""),
        ("OAS1_0001_MR1_axial_80.png", (208, 176), ""),  # of another export
        ("OAS2_0001_MR1.95.png", (176, 176), ""),
        ("sub-1.95.png", (176, 176), ""),
    ],
)
def test_only_pictures_of_a_known_set_have_sides(name, size, sides):
    picture = np.zeros(size)
    assert sides_of_pictures([name], [picture]) == sides
    assert sides_of_pictures([name, "other.png"], [picture] * 2) == ""


def test_pictures_of_different_sides_have_none_in_common():
    names = ["OAS1_0001_MR1.85.jpg", "OAS1_0001_MR1_a.jpg"]
    assert sides_of_pictures(names, [np.zeros((208, 176))] * 2) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("{}_MR1.95.png", ("R", "L")), ("{}_MR1_coronal_95.png", UNKNOWN)],
)
def test_what_is_known_of_pictures_is_kept_with_the_slices(name, expected, tmp_path):
    picture = np.pad(np.full((90, 90), 90, np.uint8) + np.arange(90, dtype=np.uint8), 43)
    for n in range(3):
        write_png(tmp_path / "in" / name.format(f"OAS1_{n:04d}"), picture)
    assert open_folder(tmp_path / "in", tmp_path).common_sides == expected


@pytest.mark.parametrize("shape", [(24, 24, 24), (24, 24), (24, 24, 1)])
def test_a_file_without_an_orientation_has_no_sides_as_a_volume_or_as_a_slice(shape, tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(3):
        voxels = np.zeros(shape, np.float32)
        voxels[4:20, 4:20] = np.random.default_rng(n).uniform(5, 15, voxels[4:20, 4:20].shape)
        path = tmp_path / f"in/sub-{n}_axial.nii"
        image = nibabel.Nifti1Image(voxels, None)
        nibabel.save(image, path)
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert set(dataset.table["plane"]) == {"axial"}
    assert dataset.common_sides == UNKNOWN
    notes = dataset.description["notes"].values()
    assert all("which side is left is not known" in note for (note,) in notes)
    assert len(notes) == 3


def test_sides_are_common_only_if_no_slice_differs():
    assert common_sides([("L", "R")] * 3) == ("L", "R")
    assert common_sides([("L", "R"), ("R", "L")]) == UNKNOWN
    assert common_sides([("L", "R"), UNKNOWN]) == UNKNOWN
    assert common_sides([]) == UNKNOWN


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_letters_are_true_whatever_the_axes_of_the_file(plane, flips, tmp_path):
    # Four blocks in RAS voxels; the file stores some axes the other way round.
    voxels = np.zeros((24, 24, 24), np.float32)
    voxels[4:20, 4:20, 4:20] = np.random.default_rng(0).uniform(5, 15, (16, 16, 16))
    voxels[4:8, 10:14], voxels[16:20, 10:14] = LEFT, RIGHT
    voxels[10:14, 16:20], voxels[10:14, 4:8] = FRONT, BACK
    affine = np.diag([*flips, 1.0])
    stored = voxels[:: flips[0], :: flips[1], :: flips[2]]
    (tmp_path / "in").mkdir()
    for n in range(3):
        nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / f"in/sub-{n}.nii")
    chosen = {"plane": plane, "slice_range": (0.5, 0.5), "slices_per_volume": 1}
    dataset = open_folder(tmp_path / "in", tmp_path, **chosen)
    (sides,) = set(dataset.sides(dataset.rows("all")))
    assert dataset.common_sides == sides
    values = {"L": LEFT, "R": RIGHT, "A": FRONT, "P": BACK}
    picture = dataset.slices[0].astype(float)
    for letter, columns in zip(sides, (slice(4, 8), slice(16, 20)), strict=True):
        brightest = picture[:, columns].max()
        expected = values[letter] / max(values[one] for one in sides)
        assert brightest / picture[:, [*range(4, 8), *range(16, 20)]].max() == pytest.approx(
            expected, abs=0.01
        )


def test_pictures_of_other_people_have_no_side(tmp_path):
    for n in range(3):
        write_png(tmp_path / f"in/case_{n}_slice_0.png", np.full((16, 16), 9))
    dataset = open_folder(tmp_path / "in", tmp_path)
    assert dataset.common_sides == UNKNOWN


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "axis", "down"),
    [
        ("oasis1_coronal/{0}/{0}.95.png", 1, 1),
        ("oasis1_axial/{0}_a.jpg", 2, 1),
        ("oasis1_axial_slab/{0}/{0}.85.jpg", 2, -1),  # the front is below
    ],
)
def test_the_pictures_of_oasis_1_lie_as_volumes_of_the_same_heads_say(path, axis, down, real_data):
    gains = []
    for number in (1, 10, 15, 16, 19, 22, 28, 30):
        name = f"OAS1_{number:04d}_MR1"
        file = real_data / path.format(name)
        picture = np.asarray(Image.open(file).convert("L"), np.float32)
        sides = sides_of_pictures([file.name], [picture])
        voxels = read_volume(real_data / f"oasis1_volumes_2mm/{name}.nii.gz").voxels
        slices = [np.take(voxels, at, axis).T[::-1] for at in range(32, 68)]  # left on the left
        truly = picture[::down, :: {"LR": 1, "RL": -1}[sides]]
        alike, mirrored = (max(likeness(p, s) for s in slices) for p in (truly, truly[:, ::-1]))
        gains.append(alike - mirrored)
    assert np.mean(gains) > 0.05
    assert np.sum(np.array(gains) > 0) >= 7


def likeness(one, other):
    """Returns the correlation of the details of two brains, each in the box that it fills."""
    boxed = []
    for picture in (one, other):
        box = ndimage.find_objects((picture > picture.max() / 10).astype(int))[0]
        small = Image.fromarray(picture[box].astype(np.float32)).resize((80, 80))
        boxed.append(np.asarray(small) - ndimage.gaussian_filter(np.asarray(small), 6))
    return np.corrcoef(boxed[0].ravel(), boxed[1].ravel())[0, 1]
