"""The 1,797 handwritten digits that ship with scikit-learn, as a dataset version in a store."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn import datasets

from quintile import ports
from quintile.adapters import dataset_tables, shards
from quintile.core import messages, names

CLASSES = tuple(str(digit) for digit in range(10))
TEST_EVERY = 5
SPLIT = "fifth"


@dataclass(frozen=True)
class StoredDigits:
    """Where the version lies and what it holds."""

    written: shards.WrittenVersion
    split_key: str

    def access(self, url: Callable[[str], str]) -> messages.DatasetAccess:
        """Return what a trial is told; ``url`` makes a URL of a key."""
        written = self.written
        return messages.DatasetAccess(
            name="digits",
            version=1,
            digest=written.manifest_sha256,
            items=len(written.items),
            classes=list(CLASSES),
            manifest_url=url(written.manifest_key),
            manifest_sha256=written.manifest_sha256,
            labels_url=url(written.labels_key),
            labels_sha256=written.labels_sha256,
            split_url=url(self.split_key),
            shards=[
                messages.ShardAccess(
                    index=index, size=shard.size, sha256=shard.sha256, url=url(shard.key)
                )
                for index, shard in enumerate(written.shards)
            ],
        )


@functools.cache
def pngs() -> tuple[tuple[bytes, int], ...]:
    """Return (PNG bytes, digit) of every image."""
    bunch = datasets.load_digits()
    pixels = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    return tuple(
        (_png(image), int(digit)) for image, digit in zip(pixels, bunch.target, strict=True)
    )


def store(objects: ports.ObjectStore, *, items: int = 1797, shard_bytes: int = 0) -> StoredDigits:
    """Store the first ``items`` digits with true labels; every fifth is in part ``test``."""
    known = pngs()[:items]
    width = height = 8

    def images() -> Iterator[tuple[str, bytes, int, int, str]]:
        for place, (data, _) in enumerate(known):
            yield f"{place:04d}.png", data, width, height, "PNG"

    labels = {
        f"{place:04d}.png": dataset_tables.Label("", digit, str(digit), "human")
        for place, (_, digit) in enumerate(known)
    }
    prefix = names.version_prefix("digits-uid", 1)
    size = shard_bytes or shards.SHARD_BYTES
    written = shards.write_version(objects, prefix, images(), labels=labels, shard_bytes=size)
    places = [int(item.name[:4]) for item in written.items]
    split = dataset_tables.split_table(
        [item.item_id for item in written.items],
        ["test" if place % TEST_EVERY == 0 else "train" for place in places],
        [known[place][1] if place % TEST_EVERY == 0 else -1 for place in places],
    )
    key = names.split_key(prefix, SPLIT)
    objects.put(key, split.data)
    return StoredDigits(written, key)


def _png(image: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
