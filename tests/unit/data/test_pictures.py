"""Pictures of every kind that is read, and those that are refused."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from oasisvq.core.errors import VolumeError
from oasisvq.data.pictures import read_picture, read_pictures

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY.astype(np.uint16) * 200,
        np.dstack([GREY] * 3),
        np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]),
    ],
)
def test_pictures_are_read_in_their_own_scale(tmp_path, name, array):
    picture = read_picture(save(tmp_path / name, array))
    assert picture.dtype == np.float32
    np.testing.assert_array_equal(picture, array if array.ndim == 2 else GREY)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_tiff_whose_0_is_white_is_turned_round(tmp_path, depth):
    array = GREY.astype(depth) * (np.iinfo(depth).max // 255)
    save(tmp_path / "black.tif", array)
    data = bytearray((tmp_path / "black.tif").read_bytes())
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8  # the tag that says what 0 is
    assert data[at] == 1
    data[at] = 0
    (tmp_path / "white.tif").write_bytes(data)
    inverted = np.iinfo(depth).max - array.astype(np.float32)
    np.testing.assert_array_equal(read_picture(tmp_path / "white.tif"), inverted)


@pytest.mark.parametrize("mode", ["P", "LA", "RGB"])
def test_other_modes_become_grey(tmp_path, mode):
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.png", GREY, mode)), GREY)


def test_tiff_of_floats_is_read_and_its_ground_becomes_0(tmp_path):
    array = np.full((20, 20), -1.5, np.float32)
    array[6:14, 6:14] = np.linspace(-1, 2, 64).reshape(8, 8)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.tif", array)), array)
    (picture,), notes = read_pictures([tmp_path / "a.tif"], "sub-1")
    np.testing.assert_allclose(picture, array + 1.5)
    assert notes == ["sub-1: its ground of -1.5 became 0"]
    array[8, 8] = np.inf
    with pytest.raises(VolumeError, match="infinite"):
        read_pictures([save(tmp_path / "a.tif", array)], "sub-1")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_black(tmp_path, mode):
    array = np.full((4, 4), 200, np.uint8)
    if mode == "P":
        save(tmp_path / "a.png", array * 0, "P", transparency=0)
        expected = np.zeros((4, 4))
    else:
        alpha = np.array([[0, 255, 255, 51]] * 4, np.uint8)
        colours = [array] * (len(mode) - 1)
        save(tmp_path / "a.png", np.dstack([*colours, alpha]))
        expected = np.array([[0, 200, 200, 40]] * 4)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)


def test_a_picture_that_says_it_is_turned_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is on the right
    save(tmp_path / "a.png", np.rot90(GREY), exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize(
    ("beginning", "remedy"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        ("/annex/objects/MD5E-s1--d41d.png", "datalad get"),
    ],
)
def test_pointers_name_what_fetches_the_picture(tmp_path, beginning, remedy):
    (tmp_path / "a.png").write_text(beginning)
    with pytest.raises(VolumeError, match=rf"a\.png: a pointer .*{remedy}"):
        read_picture(tmp_path / "a.png")


def test_other_formats_and_several_pictures_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.fromarray(GREY).save(tmp_path / "b.png", format="BMP")
    for name in ("a.png", "b.png"):
        with pytest.raises(VolumeError, match=rf"{name}: cannot be read as a picture"):
            read_picture(tmp_path / name)
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    for name in ("c.tif", "c.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(VolumeError, match=rf"{name}: holds 2 pictures"):
            read_picture(tmp_path / name)
    with pytest.raises(VolumeError, match="at most 4096"):
        read_picture(save(tmp_path / "d.png", np.zeros((1, 5000), np.uint8)))


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(VolumeError, match="not a regular file"):
        read_picture(tmp_path / "a.png")
