"""Batches of pixels from shards: decoded in threads, kept decoded when they fit in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import numpy.typing as npt

from quintile_trainer import failures
from quintile_trainer.data import dataset, decode

Pixels = npt.NDArray[np.uint8]
SAMPLE = 64
LARGEST_SIDE = 224
KEEP_BYTES = 1024 * 1024 * 1024


class ImageSource:
    """Pixels [B, H, W, C] uint8 of the rows of one part. Used by one loop; decodes in threads.

    Args:
        opened: The dataset version.
        part: Which rows; items are 0 .. len(part)-1.
        size: (height, width) in pixels.
        channels: 1 or 3.
        threads: How many threads decode.
    """

    def __init__(
        self,
        opened: dataset.Dataset,
        part: dataset.Part,
        *,
        size: tuple[int, int],
        channels: int,
        threads: int,
    ) -> None:
        self._manifest = opened.manifest
        self._part = part
        self._size = size
        self._channels = channels
        self._pool = futures.ThreadPoolExecutor(max(1, threads), "decode") if threads > 1 else None
        self._files = {index: os.open(path, os.O_RDONLY) for index, path in opened.shards.items()}
        shape = (len(part), *size, channels)
        fits = int(np.prod(shape)) <= KEEP_BYTES
        self._kept: Pixels | None = np.empty(shape, np.uint8) if fits else None
        self._have = np.zeros(len(part), dtype=bool)

    def __len__(self) -> int:
        return len(self._part)

    def batch(self, items: Sequence[int]) -> Pixels:
        """Return the pixels of some items.

        Raises:
            BadInput: An image cannot be decoded; the message names the item.
        """
        if self._kept is None:
            return np.stack(self._decode(items)) if items else self._empty()
        missing = [item for item in dict.fromkeys(items) if not self._have[item]]
        for item, pixels in zip(missing, self._decode(missing), strict=True):
            self._kept[item] = pixels
            self._have[item] = True
        taken: Pixels = self._kept[np.asarray(items, dtype=np.int64)]
        return taken

    def labels(self, items: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the class ids of some items."""
        return self._part.labels[np.asarray(items, dtype=np.int64)]

    def close(self) -> None:
        """Close files and threads."""
        if self._pool is not None:
            self._pool.shutdown()
        for descriptor in self._files.values():
            os.close(descriptor)

    def _decode(self, items: Sequence[int]) -> list[Pixels]:
        if self._pool is None or len(items) < 2:
            return [self._one(item) for item in items]
        return list(self._pool.map(self._one, items))

    def _one(self, item: int) -> Pixels:
        row = int(self._part.rows[item])
        manifest = self._manifest
        size, offset = int(manifest.sizes[row]), int(manifest.offsets[row])
        data = os.pread(self._files[int(manifest.shards[row])], size, offset)
        try:
            return decode.decode(data, size=self._size, channels=self._channels)
        except (OSError, ValueError) as error:
            name = manifest.item(row).name
            raise failures.BadInput(f"image {name!r} cannot be decoded: {error}") from error

    def _empty(self) -> Pixels:
        return np.empty((0, *self._size, self._channels), np.uint8)


def natural_size(opened: dataset.Dataset) -> tuple[int, int]:
    """Return the (height, width) to train at: that of the images when equal, else their median."""
    rows = opened.train.rows
    heights, widths = opened.manifest.heights[rows], opened.manifest.widths[rows]
    height, width = int(np.median(heights)), int(np.median(widths))
    if heights.min() == heights.max() and widths.min() == widths.max():
        if max(height, width) <= LARGEST_SIDE:
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
    pixels = source.batch([int(item) for item in items]).astype(np.float64) / 255.0
    mean = pixels.mean(axis=(0, 1, 2))
    spread = np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3)
    return [float(value) for value in mean], [float(value) for value in spread]
