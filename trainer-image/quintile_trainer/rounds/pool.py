"""All images of a dataset version to features, chunk by chunk, whatever their sizes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quintile.adapters import dataset_tables
from quintile.engine import features as engine_features
from quintile_trainer import failures
from quintile_trainer.data import cache, decode

CHUNK = 256
LARGEST_SIDE = 256
"""Larger images are shrunk before the canvas of the features, to bound memory."""

Pixels = npt.NDArray[np.uint8]


def describe(
    access: Mapping[str, Any], files: cache.Cache, *, seed: int
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]:
    """Return (item ids [N], features [N, D] float32) of a dataset version, sorted by item id.

    Args:
        access: JSON of ``messages.DatasetAccess``.
        files: Where fetched files are kept.
        seed: Of the feature dictionary.

    Raises:
        BadInput: An image cannot be decoded, or there is none.
    """
    reader = _Reader(access, files)
    n_items = len(reader.manifest)
    sample = reader.images(engine_features.sample_rows(n_items, seed=seed).tolist())
    dictionary = engine_features.learn(list(sample), seed=seed)
    raw = np.empty((n_items, len(dictionary.means)), dtype=np.float32)
    for start in range(0, n_items, CHUNK):
        rows = range(start, min(start + CHUNK, n_items))
        raw[start : start + CHUNK] = engine_features.describe_raw(
            list(reader.images(rows)), dictionary
        )
    reader.close()
    found = engine_features.whiten(raw, seed=seed)
    return reader.manifest.item_ids, found.astype(np.float32)


class _Reader:
    """Decoded images of a dataset version by row of its manifest."""

    def __init__(self, access: Mapping[str, Any], files: cache.Cache) -> None:
        stored = files.fetch(access["manifest_url"], access["manifest_sha256"])
        self.manifest = dataset_tables.read_manifest(stored.read_bytes())
        self._shards = {shard["index"]: shard for shard in access["shards"]}
        self._files = files
        self._open: dict[int, int] = {}

    def images(self, rows: Sequence[int]) -> Iterator[Pixels]:
        """Yield the images of some rows, grey [H, W] or colour [H, W, 3]."""
        for row in rows:
            data = os.pread(
                self._shard(int(self.manifest.shards[row])),
                int(self.manifest.sizes[row]),
                int(self.manifest.offsets[row]),
            )
            try:
                yield _decode(data, self._size(row))
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                name = self.manifest.item(row).name
                raise failures.BadInput(f"image {name!r} cannot be decoded: {error}") from error

    def close(self) -> None:
        """Close the shards."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _shard(self, index: int) -> int:
        if index not in self._open:
            shard = self._shards[index]
            path: Path = self._files.fetch(shard["url"], shard["sha256"])
            self._open[index] = os.open(path, os.O_RDONLY)
        return self._open[index]

    def _size(self, row: int) -> tuple[int, int]:
        height, width = int(self.manifest.heights[row]), int(self.manifest.widths[row])
        shrink = min(1.0, LARGEST_SIDE / max(height, width))
        return max(1, round(height * shrink)), max(1, round(width * shrink))


def _decode(data: bytes, size: tuple[int, int]) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        grey = image.mode in decode.GREY_MODES
    pixels = decode.decode(data, size=size, channels=1 if grey else 3)
    return pixels[..., 0] if grey else pixels
