"""Decodes untrusted images in a process of its own, under limits. Started by ``decoders``.

Run by path (``python -I decoder_process.py FD``) and imports only the standard library and Pillow,
so that it starts fast and holds nothing worth stealing: no environment, no open file but its
socket. One request at a time: header ``!cII`` (operation, edge in pixels, body length), then the
body. One answer: ``!II`` (length of the JSON, length of the bytes), JSON, bytes. JSON holds
``format, width, height`` or ``reason, message``. Ends when its socket closes.
"""

from __future__ import annotations

import io
import json
import resource
import socket
import struct
import sys
import warnings
from typing import Any, Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

REQUEST: Final = struct.Struct("!cII")
ANSWER: Final = struct.Struct("!II")
VERIFY: Final = b"v"
THUMBNAIL: Final = b"t"
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"BM")
PIXEL_LIMIT: Final = 64_000_000
MEMORY_LIMIT_BYTES: Final = 2 * 1024**3
CPU_LIMIT_S: Final = 3600
ORIENTATION: Final = 0x0112
SIDEWAYS: Final = frozenset({5, 6, 7, 8})
QUALITY: Final = 85
LOSSLESS_EDGE: Final = 64
PLUGINS: Final = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)


class Refused(Exception):
    """An image that is not taken: a reason word and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def main() -> None:
    """Answer requests on the socket whose descriptor is the first argument."""
    line = socket.socket(fileno=int(sys.argv[1]))
    limit()
    while header := receive(line, REQUEST.size):
        operation, edge, length = REQUEST.unpack(header)
        answer, body = serve(operation, edge, receive(line, length))
        text = json.dumps(answer).encode()
        line.sendall(ANSWER.pack(len(text), len(body)) + text + body)


def limit() -> None:
    """Take away what decoding does not need; the parent also ends us when we are slow."""
    Image.init = lambda: False  # no plugin beyond the allow-list
    Image.MAX_IMAGE_PIXELS = None  # checked below, before any pixel is decoded
    warnings.simplefilter("ignore")
    for name, value in (
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        try:
            resource.setrlimit(name, (value, value))
        except (ValueError, OSError):
            # macOS refuses some limits to everybody; Linux refuses none.
            if sys.platform == "linux":
                raise


def receive(line: socket.socket, length: int) -> bytes:
    """Return exactly ``length`` bytes; fewer when the parent is gone."""
    pieces = bytearray()
    while len(pieces) < length:
        piece = line.recv(min(length - len(pieces), 1 << 20))
        if not piece:
            return b""
        pieces += piece
    return bytes(pieces)


def serve(operation: bytes, edge: int, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the bytes of the answer; never raises for a bad image."""
    try:
        if operation == THUMBNAIL:
            return {}, thumbnail(data, edge)
        return verify(data), b""
    except Refused as refusal:
        return {"reason": refusal.reason, "message": str(refusal)}, b""
    except MemoryError:
        return {
            "reason": "TooLarge",
            "message": f"decoding needs more than {MEMORY_LIMIT_BYTES >> 30} GiB of memory",
        }, b""
    except Exception as error:  # noqa: BLE001 - decoders raise anything for hostile bytes
        reason = "Truncated" if "truncated" in str(error).lower() else "Broken"
        return {"reason": reason, "message": describe(reason, error)}, b""


def describe(reason: str, error: Exception) -> str:
    """Return the sentence for an error of the decoder."""
    if reason == "Truncated":
        return "the image ends before its last row; send the whole file"
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return f"the image cannot be decoded ({text}); save it again with another program"


def load(data: bytes, *, edge: int) -> tuple[Image.Image, str, tuple[int, int]]:
    """Decode an image; return it with its format and full size as stored.

    JPEG is decoded at 1/8 scale or just above ``edge``: every byte is read all the same.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if data.startswith(SIGNATURES):
            raise Refused(
                "Broken", "the image is damaged at its beginning; send the whole file again"
            ) from None
        raise Refused(
            "NotAnImage",
            "the bytes are no image; expected JPEG, PNG, WebP, BMP, GIF or TIFF",
        ) from None
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise Refused(
            "TooManyPixels",
            f"the image says {width} x {height} pixels; at most {PIXEL_LIMIT:,} are taken",
        )
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    if kind == "JPEG":
        image.draft(image.mode, (edge, edge))
    image.load()
    return image, kind, (width, height)


def verify(data: bytes) -> dict[str, Any]:
    """Return format and upright size of an image that decodes to its end."""
    image, kind, (width, height) = load(data, edge=1)
    if image.getexif().get(ORIENTATION) in SIDEWAYS:
        width, height = height, width
    return {"format": kind, "width": width, "height": height}


def thumbnail(data: bytes, edge: int) -> bytes:
    """Return a WebP, upright and without metadata, whose edges are at most ``edge`` pixels."""
    image, _, _ = load(data, edge=edge)
    upright = ImageOps.exif_transpose(image)
    mode = "RGBA" if upright.has_transparency_data else "RGB"
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = stretched(upright)
    shown = upright.convert(mode)
    shown.thumbnail((edge, edge))
    clean = Image.frombytes(shown.mode, shown.size, shown.tobytes())
    sink = io.BytesIO()
    clean.save(sink, "WEBP", quality=QUALITY, lossless=max(clean.size) <= LOSSLESS_EDGE)
    return sink.getvalue()


def stretched(image: Image.Image) -> Image.Image:
    """Return an 8-bit grey image of one with deeper pixels, its range stretched to 0..255."""
    grey = image.convert("F")
    low, high = grey.getextrema()
    assert isinstance(low, float) and isinstance(high, float)
    scale = 255.0 / (high - low) if high > low else 0.0
    return grey.point(lambda value: value * scale - low * scale).convert("L")


if __name__ == "__main__":
    main()
