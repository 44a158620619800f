"""Reads pictures of slices: PNG, JPEG and TIFF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from oasisvq.core.errors import VolumeError
from oasisvq.data.intensities import ground_pictures
from oasisvq.data.volumes import LARGEST_SIDE, guarded, refuse_pointer

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")  # of one slice, the first is taken
FORMATS = ("PNG", "JPEG", "TIFF")  # Pillow's other decoders start programs, or are seldom tested
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")  # grey, of more than 8 bits
PHOTOMETRIC, MIN_IS_WHITE = 262, 0  # a tag of TIFF, and what it says if 0 is white


def read_picture(path: Path) -> np.ndarray:
    """Reads a grey picture as float32 `(H, W)`, in the file's own scale.

    Colours become grey, what is transparent becomes black, and a picture that a camera or a scanner
    says is turned is turned back.

    Raises:
        VolumeError: If it cannot be read, is too large, or holds several pictures.
    """
    refuse_pointer(path)
    with guarded(path, "picture"), Image.open(path, formats=FORMATS) as image:
        if max(image.size) > LARGEST_SIDE:
            raise VolumeError(
                f"{path}: {image.size[0]}x{image.size[1]} pixels. Expected at most "
                f"{LARGEST_SIDE} a side; take the file out of the folder"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in ("JPEG", "MPO"):  # cameras put previews behind a JPEG
            raise VolumeError(
                f"{path}: holds {frames} pictures. Expected one slice a file; save each page or "
                "frame as a file of its own"
            )
        # A copy: what turns the picture reads the whole of it.
        grey = _grey(ImageOps.exif_transpose(image))
        picture = np.asarray(grey, dtype=np.float32)
        # Pillow turns such pictures of 8 bits round, but not those of 16.
        white = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == MIN_IS_WHITE
        return 65535 - picture if white and image.mode == "I;16" else picture


def picture_size(path: Path) -> tuple[int, int]:
    """Returns width and height of a picture in pixels, from its header.

    Raises:
        VolumeError: If it is not a picture.
    """
    refuse_pointer(path)
    with guarded(path, "picture"), Image.open(path, formats=FORMATS) as image:
        return image.size


def _grey(image: Image.Image) -> Image.Image:
    """Returns a picture in grey, of 8 or more bits, over black where it is transparent."""
    if image.mode in DEEP_MODES:
        return image
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, colours).convert("RGB")
    return image.convert("L")


def read_pictures(paths: Sequence[Path], name: object) -> tuple[list[np.ndarray], list[str]]:
    """Reads the pictures of a scan, with their ground at 0, and notes on what was changed.

    Raises:
        VolumeError: If one of them cannot be read, see `read_picture`, or has no usable ground.
    """
    pictures, note = ground_pictures([read_picture(path) for path in paths], name)
    return pictures, [note] if note else []
