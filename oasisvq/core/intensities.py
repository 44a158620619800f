"""Turns intensities in [0, 1] into the 256 levels of 8-bit pictures, and back."""

import numpy as np

LEVELS = 256


def as_levels(images: np.ndarray) -> np.ndarray:
    """Returns images as uint8; 255 stands for 1.0, and what lies outside [0, 1] for its end."""
    return (np.clip(images, 0, 1) * (LEVELS - 1)).round().astype(np.uint8)


def as_floats(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 in [0, 1]."""
    return images / np.float32(LEVELS - 1)
