"""Batches of pixels from shards: decoded in threads, kept decoded when they fit in memory."""

from __future__ import annotations

import os
import sys
from concurrent import futures
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quintile_trainer import failures
from quintile_trainer.data import dataset, decode, order

Pixels = npt.NDArray[np.uint8]
SAMPLE = 64
LARGEST_SIDE = 224
CHUNK = 8
"""Images that a thread decodes per errand: one errand each would cost a tenth of the decoding."""

ROOMS = 4
"""Batches whose memory is kept: one in use, one being decoded, and some slack."""


@dataclass(frozen=True)
class Shape:
    """How every image comes out: height and width in pixels, 1 or 3 channels."""

    height: int
    width: int
    channels: int

    @property
    def side(self) -> int:
        """Return the shorter side."""
        return min(self.height, self.width)


@dataclass(frozen=True)
class Means:
    """What decoding may use: threads, and memory for images that stay decoded."""

    threads: int
    keep_bytes: int


@dataclass(frozen=True)
class _Decoding:
    """Pixels [M, H, W, C] of ``items`` [M], complete when every errand is done."""

    items: order.Ints
    pixels: Pixels
    errands: list[futures.Future[None]]

    def result(self) -> Pixels:
        for errand in self.errands:
            errand.result()
        return self.pixels


class _Rooms:
    """Memory of batches, taken again when nobody holds them: fresh pages cost 6 us an image."""

    def __init__(self) -> None:
        self._held: list[Pixels] = []

    def take(self, shape: tuple[int, ...]) -> Pixels:
        """Return an array [B, H, W, C] with anything in it, a view of memory that is ours.

        Every view of it, and every tensor over it, refers to the memory itself, so that the count
        of its references says whether anybody may still read it.
        """
        size = int(np.prod(shape, dtype=np.int64))
        for room in self._held:
            # Referred to by the list, by this loop and by the call: nobody else.
            if room.size == size and sys.getrefcount(room) == 3:
                return room.reshape(shape)
        if len(self._held) == ROOMS:
            self._held.pop(0)
        self._held.append(np.empty(size, np.uint8))
        return self._held[-1].reshape(shape)


class ImageSource:
    """Pixels [B, H, W, C] uint8 of the rows of one part. Used by one loop; decodes in threads.

    Args:
        opened: The dataset version.
        part: Which rows; items are 0 .. len(part)-1.
        shape: Of the images.
        means: Threads and memory.
    """

    def __init__(
        self, opened: dataset.Dataset, part: dataset.Part, shape: Shape, means: Means
    ) -> None:
        self._manifest = opened.manifest
        self._part = part
        self._shape = shape
        self._pool = futures.ThreadPoolExecutor(max(1, means.threads), "decode")
        self._files = {index: os.open(path, os.O_RDONLY) for index, path in opened.shards.items()}
        whole = (len(part), shape.height, shape.width, shape.channels)
        fits = int(np.prod(whole, dtype=np.int64)) <= means.keep_bytes
        self._kept: Pixels | None = np.empty(whole, np.uint8) if fits else None
        self._have = np.zeros(len(part), dtype=bool)
        self._expected: _Decoding | None = None
        self._rooms = _Rooms()

    def __len__(self) -> int:
        return len(self._part)

    def batch(self, items: order.Ints) -> Pixels:
        """Return the pixels of some items [B].

        Raises:
            BadInput: An image cannot be decoded; the message names the item.
        """
        if self._kept is None:
            return self._decode(items)
        missing = items[~self._have[items]]
        if len(missing):
            self._kept[missing] = self._decode(missing)
            self._have[missing] = True
        taken: Pixels = self._kept[items]
        return taken

    def expect(self, items: order.Ints) -> None:
        """Begin to decode what the next ``batch`` will ask for; changes nothing but its speed."""
        self._expected = self._begin(items[~self._have[items]])

    def labels(self, items: order.Ints) -> order.Ints:
        """Return the class ids [B] of some items [B]."""
        return self._part.labels[items]

    def close(self) -> None:
        """Close files and threads."""
        self._pool.shutdown(cancel_futures=True)
        for descriptor in self._files.values():
            os.close(descriptor)

    def _decode(self, items: order.Ints) -> Pixels:
        under_way, self._expected = self._expected, None
        if under_way is None or not np.array_equal(under_way.items, items):
            under_way = self._begin(items)
        return under_way.result()

    def _begin(self, items: order.Ints) -> _Decoding:
        shape = self._shape
        pixels = self._rooms.take((len(items), shape.height, shape.width, shape.channels))

        def errand(start: int) -> None:
            for place, item in enumerate(items[start : start + CHUNK].tolist(), start):
                self._one(item, pixels[place])

        starts = range(0, len(items), CHUNK)
        return _Decoding(items, pixels, [self._pool.submit(errand, start) for start in starts])

    def _one(self, item: int, pixels: Pixels) -> None:
        row = int(self._part.rows[item])
        manifest = self._manifest
        size, offset = int(manifest.sizes[row]), int(manifest.offsets[row])
        data = os.pread(self._files[int(manifest.shards[row])], size, offset)
        try:
            decode.decode_into(pixels, data)
        except decode.UNREADABLE as error:
            name = manifest.item(row).name
            raise failures.BadInput(f"image {name!r} cannot be decoded: {error}") from error


def natural_size(opened: dataset.Dataset) -> tuple[int, int]:
    """Return the (height, width) to train at: that of the images when equal, else their median."""
    rows = opened.train.rows
    heights, widths = opened.manifest.heights[rows], opened.manifest.widths[rows]
    height, width = int(np.median(heights)), int(np.median(widths))
    alike = heights.min() == heights.max() and widths.min() == widths.max()
    if alike and max(height, width) <= LARGEST_SIDE:
        return height, width
    side = min(LARGEST_SIDE, max(8, height), max(8, width))
    return side, side


def natural_channels(opened: dataset.Dataset) -> int:
    """Return 1 when the images are grey, else 3, judged by up to 64 of them."""
    rows = opened.train.rows
    places = np.linspace(0, len(rows) - 1, num=min(SAMPLE, len(rows))).astype(np.int64)
    for row in rows[np.unique(places)]:
        with opened.shards[int(opened.manifest.shards[row])].open("rb") as file:
            file.seek(int(opened.manifest.offsets[row]))
            if not decode.is_grey(file.read(int(opened.manifest.sizes[row]))):
                return 3
    return 1


def statistics(source: ImageSource) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, in 0 .. 1, of up to 256 spread items."""
    count = min(len(source), 4 * SAMPLE)
    items = np.unique(np.linspace(0, len(source) - 1, num=count).astype(np.int64))
    pixels = source.batch(items).astype(np.float64) / 255.0
    mean = pixels.mean(axis=(0, 1, 2))
    spread = np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3)
    return [float(value) for value in mean], [float(value) for value in spread]
