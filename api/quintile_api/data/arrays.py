"""Reads NumPy files from strangers: never unpickles, never holds the whole array.

An npz holds ``images`` [N,H,W] or [N,H,W,3] uint8, optional ``labels`` [N] integers or texts,
optional ``names`` [N] texts; a bare npy is the images alone. Images are read one after the other
and stored as PNG (lossless).
"""

from __future__ import annotations

import functools
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from PIL import Image

from quintile.core import datasets, errors
from quintile_api.data import archives, candidates, decoder_process, decoders

TEXTS_LIMIT_BYTES: Final = 1024**3
DIMENSIONS: Final = (3, 4)
CHANNELS: Final = 3
NUMBER_DIGITS: Final = 5
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NPY: Final = ".npy"
_HINT: Final = "Save with np.savez(path, images=images, labels=labels)."


@dataclass(frozen=True)
class Arrays:
    """The arrays of a file: bytes by name, and how one is opened at its header."""

    sizes: dict[str, int]
    open: Callable[[str], IO[bytes]]


@dataclass(frozen=True)
class Header:
    """Shape and kind of one array, as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class Images:
    """The images [N,H,W] or [N,H,W,3] of an archive, read in order; used by one thread."""

    def __init__(self, open_stream: Callable[[], IO[bytes]], header: Header) -> None:
        self._open = open_stream
        self.header = header
        self.shape = header.shape[1:]
        self._stream: IO[bytes] | None = None
        self._next = 0

    def read(self, index: int) -> bytes | decoders.Refusal:
        """Return image ``index`` as PNG; indices must rise."""
        size = math.prod(self.shape)
        try:
            if self._stream is None:
                self._stream = self._open()
                _header(self._stream, "images")
            while self._next <= index:
                data = self._stream.read(size)
                self._next += 1
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, errors.InvalidSpec) as error:
            return decoders.Refusal("Damaged", f"the file is damaged here ({str(error)[:120]})")
        if len(data) != size:
            return decoders.Refusal("Truncated", "the array ends before this image")
        sink = io.BytesIO()
        pixels = np.frombuffer(data, dtype=np.uint8).reshape(self.shape)  # [H,W] or [H,W,3]
        Image.fromarray(pixels).save(sink, "PNG")
        return sink.getvalue()


def images(
    source: io.BufferedReader,
    *,
    classes: Sequence[str],
    labelled: bool = True,
    limits: archives.Limits = archives.LIMITS,
) -> candidates.Found:
    """Return the images of an npz or npy as candidates; ``labelled``: take their labels as well.

    Raises:
        InvalidSpec: Neither, or an array is missing, of a wrong kind or of a wrong shape.
        TooLarge: It holds too much.
    """
    file = _open(source, limits)
    header = _checked_images(file, limits)
    count, height, width = header.shape[:3]
    names = _names(file, count)
    labels = _labels(file, count, classes) if labelled else [None] * count
    known = candidates.classes_of((text for text in labels if text is not None), classes)
    pixels = Images(functools.partial(file.open, "images"), header)
    picture = decoders.Picture(format="PNG", width=width, height=height)
    found: list[candidates.Candidate] = []
    refused: list[datasets.RejectedFile] = []
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        trouble = candidates.unsafe(name)
        if trouble:
            refused.append(candidates.rejected(name, "UnsafeName", trouble, row=index))
        elif name in first:
            message = f"image {first[name]} has this name already; the first is taken"
            refused.append(candidates.rejected(name, "DuplicateName", message, row=index))
        else:
            first[name] = index
            read = functools.partial(pixels.read, index)
            found.append(candidates.Candidate(name, read, picture, labels[index], index))
    good, unknown = candidates.keep_known(found, known)
    return candidates.Found(tuple(good), (*refused, *unknown), known)


def _open(source: io.BufferedReader, limits: archives.Limits) -> Arrays:
    if source.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        return _bare(source)
    try:
        archive = archives.open_archive(
            source, archives.Limits(file_bytes=limits.total_bytes, ratio=limits.ratio * 10)
        )
    except errors.InvalidSpec as error:
        raise errors.InvalidSpec(
            "The upload is neither a NumPy .npz nor a .npy file.", hint=_HINT, field="upload_id"
        ) from error
    if archive.rejected:
        bad = archive.rejected[0]
        raise errors.InvalidSpec(
            f"The .npz file holds {bad.name!r}, which is not taken: {bad.message}.",
            hint=_HINT,
            field="upload_id",
        )
    sizes = {
        name.removesuffix(_NPY): member.info.file_size
        for name, member in archive.members.items()
        if name.endswith(_NPY)
    }
    return Arrays(sizes, lambda name: archive.file.open(name + _NPY))


def _bare(source: io.BufferedReader) -> Arrays:
    size = source.seek(0, io.SEEK_END)

    def rewound(_name: str) -> IO[bytes]:
        source.seek(0)
        return source

    return Arrays({"images": size}, rewound)


def _checked_images(file: Arrays, limits: archives.Limits) -> Header:
    if "images" not in file.sizes:
        held = ", ".join(sorted(file.sizes)) or "nothing"
        raise _bad("images", f"is missing; the file holds {held[:200]}")
    # Not closed: the stream of a bare npy is the source itself.
    header = _header(file.open("images"), "images")
    if header.dtype != np.uint8:
        raise _bad("images", f"has dtype {header.dtype}; expected uint8 (0 to 255)")
    shape = header.shape
    good = len(shape) in DIMENSIONS and (len(shape) == DIMENSIONS[0] or shape[3] == CHANNELS)
    if not good or min(shape) < 1:
        text = ", ".join(map(str, shape))
        raise _bad("images", f"has shape ({text}); expected (N, H, W) or (N, H, W, 3), N >= 1")
    if shape[0] > limits.members:
        raise errors.TooLarge(
            f"The array 'images' holds {shape[0]:,} images; at most {limits.members:,} are taken.",
            hint="Import it in parts.",
            field="upload_id",
        )
    if shape[1] * shape[2] > decoder_process.PIXEL_LIMIT:
        raise _bad(
            "images",
            f"has {shape[1]} x {shape[2]} pixels per image; at most "
            f"{decoder_process.PIXEL_LIMIT:,} are taken",
        )
    if header.fortran and len(shape) > 1:
        raise _bad("images", "is in Fortran order; save np.ascontiguousarray(images)")
    size = file.sizes["images"]
    if math.prod(shape) > size:
        raise _bad(
            "images", f"has {size:,} bytes, fewer than its shape says ({math.prod(shape):,})"
        )
    return header


def _names(file: Arrays, count: int) -> list[str]:
    if "names" not in file.sizes:
        digits = max(NUMBER_DIGITS, len(str(count - 1)))
        return [f"{index:0{digits}d}.png" for index in range(count)]
    names = _vector(file, "names", count)
    if names.dtype.kind != "U":
        raise _bad("names", f"has dtype {names.dtype}; expected texts")
    return [str(name) for name in names]


def _labels(file: Arrays, count: int, classes: Sequence[str]) -> list[str | None]:
    if "labels" not in file.sizes:
        return [None] * count
    labels = _vector(file, "labels", count)
    if labels.dtype.kind == "U":
        return [str(label) or None for label in labels]
    if labels.dtype.kind not in "iu":
        raise _bad("labels", f"has dtype {labels.dtype}; expected integers or texts")
    numbers = [int(label) for label in labels]
    if not classes or all(name.isdecimal() for name in classes):
        return [str(number) for number in numbers]
    # Class numbers index the given list; others stay numbers, and so are no class.
    return [classes[number] if 0 <= number < len(classes) else str(number) for number in numbers]


def _vector(file: Arrays, name: str, count: int) -> npt.NDArray[Any]:
    with file.open(name) as stream:
        header = _header(stream, name)
        if header.shape != (count,):
            text = ", ".join(map(str, header.shape))
            raise _bad(name, f"has shape ({text}); expected one entry per image: ({count})")
        wanted = count * header.dtype.itemsize
        if wanted > min(TEXTS_LIMIT_BYTES, file.sizes[name]):
            raise _bad(name, f"needs {wanted:,} bytes, which the file does not hold")
        try:
            data = stream.read(wanted)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _bad(name, f"is damaged ({str(error)[:120]})") from error
    if len(data) != wanted:
        raise _bad(name, "ends too early")
    return np.frombuffer(data, dtype=header.dtype)


def _header(stream: IO[bytes], name: str) -> Header:
    """Read the header of an array and leave the stream at its first byte."""
    try:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = " ".join(str(error).split())[:120]
        raise _bad(name, f"is not a NumPy array ({text})") from error
    if dtype.hasobject:
        raise _bad(name, "holds Python objects, which are never loaded; save plain numbers")
    return Header(shape=tuple(shape), dtype=dtype, fortran=bool(fortran))


def _bad(name: str, text: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(f"The array {name!r} {text}.", hint=_HINT, field="upload_id")
