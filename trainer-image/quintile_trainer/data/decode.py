"""Image bytes to pixels: upright, of one size and number of channels.

JPEG goes through simplejpeg when it is there (it releases the interpreter lock), all else through
Pillow.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

Pixels = npt.NDArray[np.uint8]
ORIENTATION_TAG = 0x0112
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow and simplejpeg raise for bytes that are no good image."""
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "F"})


def decode(data: bytes, *, size: tuple[int, int], channels: int) -> Pixels:
    """Return pixels [H, W, channels] uint8 of an encoded image.

    Args:
        data: The stored bytes.
        size: (height, width) to scale to.
        channels: 1 or 3.

    Raises:
        UNREADABLE: The bytes are no image that we read.
    """
    if simplejpeg is not None and _is_plain_jpeg(data):
        space = "GRAY" if channels == 1 else "RGB"
        # Much larger than wanted: libjpeg halves while it decodes, which costs less than nothing.
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, colorspace=space, min_height=size[0], min_width=size[1], min_factor=2
        )
        if pixels.shape[:2] == size:
            return pixels
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    else:
        image = _open(data, channels)
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(height, width, channels)


def decode_into(pixels: Pixels, data: bytes) -> None:
    """Decode into ``pixels`` [H, W, channels], whose shape is the size to scale to.

    An image of just this size is decoded in place. Raises as ``decode``.
    """
    height, width, channels = pixels.shape
    if simplejpeg is not None and _is_plain_jpeg(data):
        found = simplejpeg.decode_jpeg_header(data)
        if (found[0], found[1]) == (height, width):
            space = "GRAY" if channels == 1 else "RGB"
            simplejpeg.decode_jpeg(data, colorspace=space, buffer=pixels)
            return
    pixels[:] = decode(data, size=(height, width), channels=channels)


def is_grey(data: bytes) -> bool:
    """Return whether an image has no colour in how it is stored."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode in GREY_MODES


def _is_plain_jpeg(data: bytes) -> bool:
    """Return whether this is a JPEG that stands as it is stored."""
    return data[:2] == b"\xff\xd8" and b"Exif" not in data[:64]


def _open(data: bytes, channels: int) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        assert upright is not None
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            ground = Image.new("RGBA", upright.size, (255, 255, 255, 255))
            upright = Image.alpha_composite(ground, upright)
        if upright.mode in ("I", "I;16", "F"):
            upright = _to_bytes(upright)
        return upright.convert("L" if channels == 1 else "RGB")


def _to_bytes(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
    return Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
