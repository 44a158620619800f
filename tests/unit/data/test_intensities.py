"""Grounds that are not 0, and label maps, known by their values."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from oasisvq.core.errors import VolumeError
from oasisvq.data.intensities import ground_at_zero, ground_pictures, looks_like_labels


def head(random, shape=(40, 44, 36)):
    """Returns a smooth head in the middle of a ground of 0, and its mask."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    mask = (grid**2).sum(0) < 0.7
    noise = ndimage.gaussian_filter(random.standard_normal(shape), 2)
    texture = 600 + 150 * noise / noise.std()
    return np.where(mask, texture.clip(50, 1200), 0).astype(np.float32), mask


def standardised(voxels, mask):
    return (voxels - voxels[mask].mean()) / voxels[mask].std()


def padded(voxels, mask, random, value):
    """Returns a head amid noise, with one value outside of a cylinder along its third axis."""
    noise = np.round(np.abs(random.normal(0, 4, voxels.shape)))
    across, up = (np.linspace(-1, 1, n) for n in voxels.shape[:2])
    outside = np.hypot(across[:, None], up)[..., None] > 0.9
    return np.where(outside & ~mask, value, np.where(mask, voxels, noise))


KINDS = {
    "NaN ground": (lambda v, m, r: np.where(m, v, np.nan), "NaN"),
    "NaN where the scan has no field": (
        lambda v, m, r: np.where(np.indices(v.shape)[2] < 3, np.nan, v),
        "NaN",
    ),
    "z-scored in a NaN mask": (lambda v, m, r: np.where(m, standardised(v, m), np.nan), "NaN"),
    "z-scored in a mask": (lambda v, m, r: np.where(m, standardised(v, m), 0), "darkest value"),
    "z-scored whole": (lambda v, m, r: (v - v.mean()) / v.std(), "its ground of -"),
    "z-scored with noise": (
        lambda v, m, r: (np.abs(v + r.normal(0, 9, v.shape)) - v.mean()) / v.std(),
        "its ground of -",
    ),
    "from -1 to 1": (lambda v, m, r: v / v.max() * 2 - 1, "its ground of -1 "),
    "from -1 to 1 in a mask": (
        lambda v, m, r: np.where(m, v / v.max() * 2 - 1, 0),
        "darkest value",
    ),
    "Hounsfield units": (lambda v, m, r: v - 1024, "its ground of -1024 "),
    "uint16 read as int16": (
        lambda v, m, r: (v * 50).astype(np.uint16).astype(np.int16),
        "raised by 65536",
    ),
    "uint8 read as int8": (lambda v, m, r: (v / 5).astype(np.uint8).astype(np.int8), "by 256"),
    "a z-scored head on a ground of -10": (
        lambda v, m, r: np.where(m, standardised(v, m), -10),
        "its padding of -10 became -",
    ),
    "logarithms": (lambda v, m, r: np.where(m, np.log1p(v) - 9, -20), "its padding of -20 "),
    **{
        f"padding of {value:g}": (
            lambda v, m, r, value=value: padded(v, m, r, value),
            f"its padding of {value:.4g} became 0",
        )
        for value in (-2000, -32768, float(np.finfo(np.float32).min))
    },
    "a ground of 40": (lambda v, m, r: v + 40, "its ground of 40 "),
    "a noisy ground of 140": (
        lambda v, m, r: v + 140 + r.normal(0, 5, v.shape),
        "noise down to 1",
    ),
    "a white ground": (lambda v, m, r: np.where(m, v, 1300), "darkest value"),
    "ringing": (lambda v, m, r: ndimage.shift(ndimage.shift(v, 0.5), -0.5), "noise down to -"),
    "noise around 0": (lambda v, m, r: v + r.normal(0, 15, v.shape), "noise down to -"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_ground_becomes_0_and_is_said(random, kind):
    voxels, mask = head(random)
    change, said = KINDS[kind]
    changed = change(voxels, mask, random).astype(np.float32)
    result, note = ground_at_zero(changed, "a.nii")
    assert note.startswith("a.nii: ")
    assert said in note
    assert result.dtype == np.float32
    assert result.min() == 0
    assert np.median(result[~mask]) < 0.02 * np.percentile(result[mask], 99.8)
    assert np.mean(result[mask] == 0) < 0.01
    assert np.corrcoef(result[mask], voxels[mask])[0, 1] > 0.94


@pytest.mark.parametrize("value", [-10, -2000, -32768])
def test_padding_takes_no_contrast_from_the_head(random, value):
    voxels, mask = head(random)
    expected, _ = ground_at_zero(padded(voxels, mask, random, 0).astype(np.float32), "a.nii")
    scores = standardised(voxels, mask)
    for image, plain in (
        (padded(voxels, mask, random, min(value, -2000)), expected[mask]),
        (np.where(mask, scores, value), scores[mask] - scores[mask].min()),
    ):
        result, _ = ground_at_zero(image.astype(np.float32), "a.nii")
        np.testing.assert_allclose(result[mask], plain, rtol=1e-3, atol=1e-3)


def test_a_ground_of_0_and_the_noise_of_a_scanner_stay_as_they_are(random):
    voxels, _ = head(random)
    noisy = np.hypot(voxels + random.normal(0, 9, voxels.shape), random.normal(0, 9, voxels.shape))
    crop = voxels[12:28, 14:30, 10:26]  # no ground is in it
    for image in (voxels, np.round(noisy).astype(np.float32), crop, np.full((8, 8, 8), 5.0)):
        result, note = ground_at_zero(image, "a.nii")
        assert note == ""
        np.testing.assert_array_equal(result, image)
    assert ground_at_zero(voxels, "a.nii")[0] is voxels


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_odd_voxels_inside_the_head_are_refused(random, value):
    voxels, _ = head(random)
    voxels[20, 20, 18] = value
    with pytest.raises(VolumeError, match=r"a\.nii: holds (NaN|infinite) voxels"):
        ground_at_zero(voxels, "a.nii")


def test_negative_intensities_without_a_ground_are_refused(random):
    voxels, mask = head(random)
    crop = standardised(voxels, mask)[12:28, 14:30, 10:26]
    noise = np.where(mask, voxels / 1200 - 0.5, random.uniform(-0.5, 0.5, voxels.shape))
    for image in (crop, noise.astype(np.float32)):
        with pytest.raises(VolumeError, match=r"a\.nii: \d+% of its voxels are negative"):
            ground_at_zero(image, "a.nii")


def test_one_odd_voxel_is_not_the_darkest_value_of_a_head(random):
    voxels, mask = head(random)
    scores = np.where(mask, standardised(voxels, mask), 0).astype(np.float32)
    scores[20, 20, 18] = -90
    result, note = ground_at_zero(scores, "a.nii")
    assert "below it" in note
    assert result.max() < 20


def test_the_pictures_of_a_scan_are_raised_alike(random):
    voxels, _ = head(random)
    pictures = [voxels[:, :, 18] + 30, voxels[4:-4, :, 12] + 30, np.full((9, 7), 30, np.float32)]
    grounded, note = ground_pictures(pictures, "sub-1")
    assert note == "sub-1: its ground of 30 became 0"
    for before, after in zip(pictures, grounded, strict=True):
        np.testing.assert_allclose(after, before - 30, atol=1e-4)


# Label maps


def posterised(voxels, levels):
    return np.ceil(voxels / np.percentile(voxels[voxels > 0], 99.8) * (levels - 1))


def parcels(random, shape, count):
    """Returns a map of the nearest of `count` random places, 0 outside of a ball."""
    _, mask = head(random, shape)
    seeds = np.zeros(shape, int)
    places = random.choice(seeds.size, count, replace=False)
    seeds.flat[places] = np.arange(1, count + 1)
    nearest = ndimage.distance_transform_edt(
        seeds == 0, return_indices=True, return_distances=False
    )
    return np.where(mask, seeds[tuple(nearest)], 0)


@pytest.mark.parametrize("count", [8, 35, 110])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_label_maps_are_known_by_their_values(random, count, dtype):
    labels = parcels(random, (60, 64, 56), count).astype(dtype)
    assert looks_like_labels(labels)
    assert looks_like_labels(labels[:, :, 28])


def test_parcellations_of_thousands_are_label_maps_and_enlarged_brains_are_not(random, template):
    assert looks_like_labels(parcels(random, (90, 96, 84), 2000))
    brain = template.voxels[40:160:4, 40:200:4, 40:140:4]
    brain = np.where(brain > 0, np.round(brain * 1000) + random.integers(-9, 9, brain.shape), 0)
    assert len(np.unique(brain)) > 512
    assert not looks_like_labels(np.kron(brain, np.ones((4, 4, 4))))


@pytest.mark.parametrize("value", [1, 0.7, 255])
def test_masks_and_tissue_classes_are_label_maps(random, value):
    voxels, mask = head(random)
    assert looks_like_labels(mask * value)
    assert looks_like_labels(np.digitize(voxels, [1, 500, 700]) * value)


def test_brains_are_no_label_maps_even_in_few_grey_levels(template):
    brain = template.voxels[::2, ::2, ::2]
    eight_bit = np.round(brain / brain.max() * 255)
    for image in (brain, eight_bit, *(posterised(brain, n) for n in (8, 16, 32, 64))):
        assert not looks_like_labels(image)
        assert not looks_like_labels(image[:, :, 40])
    assert not looks_like_labels(np.zeros((8, 8)))
    assert not looks_like_labels(np.full((8, 8), np.nan))


@pytest.mark.real_data
def test_no_real_brain_is_a_label_map(real_data):
    volumes = sorted(real_data.glob("oasis1_volumes_2mm/*.nii.gz"))[:20]
    for path in [*volumes, *sorted(real_data.glob("volumes/*")), *real_data.glob("*/cor/*MR1*")]:
        voxels = np.asarray(nibabel.load(path).dataobj)
        assert not looks_like_labels(voxels), path
        for levels in (8, 16, 32):
            assert not looks_like_labels(posterised(voxels, levels)), (path, levels)
