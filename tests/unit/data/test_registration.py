"""Repeats averaged and heads brought to the atlas, against transforms that are known."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from oasisvq.core.errors import VolumeError
from oasisvq.data import registration
from oasisvq.data.registration import (
    ATLAS_ORIGIN,
    ATLAS_SHAPE,
    average_repeats,
    brain_mask,
    to_atlas,
)
from oasisvq.data.volumes import Volume

pytestmark = pytest.mark.slow
SCAN = (80, 128, 128)  # voxels of 2 mm


@pytest.fixture(scope="module")
def head():
    """The template in a skull, with scalp, eyes and neck: atlas grid, 1 mm.

    The left half of the brain is brighter, to tell left from right.
    """
    brain = registration._template().voxels
    distance = ndimage.distance_transform_edt(brain == 0)
    x, y, z = np.indices(ATLAS_SHAPE) + np.array(ATLAS_ORIGIN).reshape(3, 1, 1, 1)
    voxels = np.where(distance > 0, 0.2 * (distance < 4) + 0.05, brain * np.where(x < 0, 1.1, 1))
    voxels[(distance > 8) & (distance < 14)] = 0.8
    voxels[(np.hypot(x / 55, (y + 10) / 60) < 1) & (z < -45) & (distance > 8)] = 0.5
    for side in (-32, 32):
        voxels[((x - side) ** 2 + (y - 80) ** 2 + (z + 30) ** 2 < 150) & (distance > 4)] = 0.2
    voxels[distance > 40] = 0
    return voxels.astype(np.float32)


def scan(head, matrix=None, offset=(0, 0, 0), noise=0.03, seed=0):
    """Returns the head moved to `matrix @ point + offset` (mm), as a scan of 2 mm.

    It has its own origin, scale, noise and shading.
    """
    random = np.random.default_rng(seed)
    back = np.linalg.inv(np.eye(3) if matrix is None else matrix)
    first = 1.0 - np.array(SCAN)  # mm: the middle of the scan lies at 0
    voxels = ndimage.affine_transform(
        head, back * 2.0, back @ (first - offset) - ATLAS_ORIGIN, SCAN, order=1
    )
    shading = np.exp(0.2 * np.sin(np.linspace(-1, 2, SCAN[1])))[:, None]
    voxels = voxels * shading + noise * random.normal(size=SCAN)
    return Volume((700 * voxels.clip(0)).astype(np.float32), (2.0, 2.0, 2.0), tuple(first))


def turned(x, y, z, scale=1.0):
    return Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix() * scale


def misplacement(volume, matrix, offset):
    """Returns how far the registration puts points of the brain from where they lie, in mm."""
    found = registration._atlas_transform(registration._image(volume), scaling=True)
    points = np.argwhere(brain_mask())[::999] + ATLAS_ORIGIN
    there = np.array([found.TransformPoint(point) for point in points.tolist()])
    return np.linalg.norm(there - (points @ matrix.T + offset), axis=1).mean()


@pytest.mark.parametrize(
    ("matrix", "offset"),
    [(turned(15, 8, -10, 0.9), (5, 20, -15)), (turned(-15, -10, 5, 1.12), (-8, -10, 25))],
)
def test_a_head_returns_from_a_known_transform(head, matrix, offset):
    assert misplacement(scan(head, matrix, offset), matrix, offset) < 1


def test_without_scaling_a_head_is_placed_and_keeps_its_size(head):
    matrix = turned(5, 0, 10)
    larger = registration._image(scan(head, 1.05 * matrix, (3, 10, 5)))
    found = registration._atlas_transform(larger, scaling=False)
    middle = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    assert np.linalg.norm(middle - (3, 10, 5)) < 3
    np.testing.assert_allclose(
        np.linalg.svd(np.reshape(found.GetMatrix(), (3, 3)))[1], 1, atol=1e-6
    )


def test_the_result_lies_on_the_atlas_in_its_own_intensities_and_again(head):
    moved = scan(head, turned(5, 3, 5), (3, 5, 7))
    result = to_atlas(moved, "scan")
    assert result.voxels.shape == brain_mask().shape == ATLAS_SHAPE
    assert (result.voxel_size, result.origin) == ((1, 1, 1), ATLAS_ORIGIN)
    assert result.voxels.dtype == np.float32 and result.voxels.min() >= 0
    inside = ndimage.binary_erosion(brain_mask(), iterations=8)
    assert 350 < result.voxels[inside].mean() < 700  # the scan was scaled by 700
    left, right = (result.voxels[half][inside[half]] for half in np.s_[:88, 88:])
    assert left.mean() > 1.05 * right.mean()
    np.testing.assert_array_equal(to_atlas(moved, "scan").voxels, result.voxels)  # every bit


def no_heads(head):
    whole = scan(head).voxels
    middle = np.array(SCAN).reshape(3, 1, 1, 1) / 2
    return {
        "constant": np.full(SCAN, 5.0),
        "noise": np.random.default_rng(0).random(SCAN),
        "ball": 100.0 * (np.linalg.norm(np.indices(SCAN) - middle, axis=0) < 38),
        "upside down": whole[:, :, ::-1],
        "upper half": whole[:, :, 64:],
    }


@pytest.mark.parametrize("kind", ["constant", "noise", "ball", "upside down", "upper half"])
def test_what_is_no_whole_head_is_refused_by_name(head, kind):
    voxels = no_heads(head)[kind].astype(np.float32)
    with pytest.raises(VolumeError, match="a/scan.hdr.*Expected a whole head"):
        to_atlas(Volume(voxels, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), "a/scan.hdr")


def test_a_wrong_voxel_size_is_refused(head):
    moved = scan(head)
    with pytest.raises(VolumeError, match="scaled by"):
        to_atlas(Volume(moved.voxels, (2.0, 2.0, 1.5), moved.origin), "scan")


def test_aligned_repeats_come_closer_to_the_truth_and_strangers_are_left_out(head):
    truth = scan(head, noise=0).voxels
    repeats = [
        scan(head, noise=0.1, seed=1),
        scan(head, turned(2, -2, 1), (2, -1, 3), noise=0.1, seed=2),
    ]
    flipped = Volume(repeats[0].voxels[:, ::-1], repeats[0].voxel_size, repeats[0].origin)
    mean, left_out = average_repeats([flipped, *repeats], ["a", "b", "c"])
    assert left_out == ["a"]

    def error(voxels):  # of the repeat that serves as the reference, the first: it did not move
        return np.abs(voxels - truth)[truth > 70].mean()

    unaligned = np.mean([repeat.voxels for repeat in repeats], axis=0)
    assert error(mean.voxels) < 0.85 * min(error(unaligned), error(repeats[0].voxels))


def test_repeats_without_a_majority_are_refused(head):
    one = scan(head)
    smaller = Volume(one.voxels[:, :, 1:], one.voxel_size, one.origin)
    with pytest.raises(VolumeError, match="mpr-1, mpr-2: expected repeats of one head"):
        average_repeats([one, smaller], ["mpr-1", "mpr-2"])
    assert average_repeats([one], ["mpr-1"])[1] == []


@pytest.mark.real_data
def test_the_placed_template_fits_the_slices_of_oasis_1(real_data):
    # The constant, against the mean of many subjects; moved by 3 mm it must fit worse.
    folders = sorted((real_data / "oasis1_coronal").glob("OAS1_*"))[::6]
    slab = np.stack(
        [
            np.mean([picture(folder / f"{folder.name}.{n}.png") for folder in folders], axis=0)
            for n in range(90, 100)
        ]
    )  # (10, Z, X): rows from the top, columns from the right
    slab = slab[:, ::-1, ::-1].transpose(2, 0, 1)  # (X, 10, Z)
    axial = np.mean(
        [picture(path) for path in sorted(real_data.glob("oasis1_axial/*"))[::3]], axis=0
    )
    axial = axial[::-1].T  # (X, Y), index 89 along Z
    template = ndimage.gaussian_filter(registration._template().voxels, 1.5)

    def fit(x=0, y=0, z=0):
        moved = np.roll(template, (x, y, z), axis=(0, 1, 2))
        return correlation(slab, moved[:, 90:100]) + correlation(axial, moved[:, :, 89])

    assert fit() > 1.5
    for shift in 3 * np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
        assert fit(*shift) < fit() - 0.1


def picture(path):
    pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
    return pixels / np.percentile(pixels[pixels > 20], 99)


def correlation(mean, template):
    """Within the mask of the T88 volumes, which is the same for all subjects, less its rim."""
    plane = np.ones((5, 1, 5) if mean.ndim == 3 else (5, 5))
    inside = ndimage.binary_erosion(mean > 0.08, plane, iterations=2)
    return np.corrcoef(mean[inside], template[inside])[0, 1]
