"""Encodes and decodes a person's slices as the frames of a video, by HEVC and AV1.

For codecs.py. It needs PyAV (`pip install av`), which no other script does; without it, codecs.py
leaves these two out and says so. HEVC is x265 on grey frames, AV1 is SVT-AV1, which has no grey:
its colour is even. Both work at a low speed and are tuned for SSIM.
"""

import os
from fractions import Fraction

import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # errors alone
try:
    import av
except ImportError:
    av = None

RATES = {"HEVC": (8, 14, 20, 24, 28, 32, 36, 40, 45), "AV1": (8, 16, 24, 31, 38, 45, 52, 58, 63)}
ENCODERS = {"HEVC": ("libx265", "gray"), "AV1": ("libsvtav1", "yuv420p")}
DECODERS = {"HEVC": "hevc", "AV1": "libdav1d"}
GREY = 128  # of the colours
FRAMES_PER_SECOND = Fraction(25)


def ladder():
    """Returns the settings of each codec: from their names to the options of its encoder."""
    hevc = {"preset": "placebo", "tune": "ssim"}
    silent = "info=0:log-level=none:pools=none:frame-threads=1"  # no text among the frames
    av1 = {"preset": "0", "svtav1-params": "tune=2:lp=1"}
    options = {
        "HEVC": lambda rate: hevc | {"x265-params": f"{silent}:crf={rate}"},
        "AV1": lambda rate: av1 | {"crf": str(rate)},
    }
    return {
        codec: {f"crf {rate}": options[codec](rate) for rate in sorted(rates, reverse=True)}
        for codec, rates in RATES.items()
    }


def encode_and_decode(frames, codec, options):
    """Encodes and decodes frames, uint8 `(n, H, W)`.

    Returns:
        The bytes of the stream, without a container, and the decoded frames.
    """
    encoder = open_encoder(codec, frames.shape[1:], options)
    packets = []
    for number, frame in enumerate(frames):
        packets += encoder.encode(as_frame(frame, number, encoder.pix_fmt))
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    decoded = [shown for packet in (*packets, None) for shown in decoder.decode(packet)]
    decoded.sort(key=lambda shown: shown.pts)
    pictures = np.stack([grey_of(shown) for shown in decoded])
    return sum(packet.size for packet in packets), cropped(pictures, frames.shape[1:])


def open_encoder(codec, shape, options):
    """Returns an encoder of frames of this shape `(H, W)`."""
    name, pixel_format = ENCODERS[codec]
    encoder = av.CodecContext.create(name, "w")
    encoder.height, encoder.width = (size + size % 2 for size in shape)
    encoder.pix_fmt = pixel_format
    encoder.framerate, encoder.time_base = FRAMES_PER_SECOND, 1 / FRAMES_PER_SECOND
    encoder.options = options
    return encoder


def as_frame(picture, number, pixel_format):
    """Returns a picture `(H, W)` as a frame, its sides made even by black."""
    picture = np.pad(picture, [(0, size % 2) for size in picture.shape])
    if pixel_format != "gray":
        height, width = picture.shape
        picture = np.pad(picture, ((0, height // 2), (0, 0)), constant_values=GREY)
    frame = av.VideoFrame.from_ndarray(picture, format=pixel_format)
    frame.pts = number
    return frame


def grey_of(frame):
    """Returns the brightness of a frame as it is stored, uint8 `(H, W)`."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def cropped(pictures, shape):
    """Returns pictures `(n, H, W)` without the rows and columns that made their sides even."""
    return pictures[:, : shape[0], : shape[1]]
