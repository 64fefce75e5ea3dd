"""The storage format of dataset versions: indexed tar shards (and whole versions).

Written by imports, read by the API and by trainers through ``dataset_tables``. ``ShardWriter``
takes images one by one and uploads whole shards, so that memory stays small. Equal input gives
equal bytes. Nothing here decodes an image.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from quintile import ports
from quintile.adapters import dataset_tables
from quintile.core import errors, names

SHARD_BYTES: Final = 64 * 1024 * 1024
"""A shard is closed at the first item that makes it at least this large."""
SHARD_LIMIT_BYTES: Final = 128 * 1024 * 1024
"""A shard never grows beyond this, unless one single item does."""
BLOCK: Final = 512
"""Tar counts in blocks of this many bytes."""

EXTENSIONS: Final[Mapping[str, str]] = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif",
}
"""File extension inside a shard by image format, the whole allow-list."""


@dataclass(frozen=True)
class Shard:
    """One stored tar shard."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class WrittenVersion:
    """What ``write_version`` stored; ``items`` in order of item_id."""

    prefix: str
    shards: tuple[Shard, ...]
    manifest_key: str
    manifest_sha256: str
    labels_key: str
    labels_sha256: str
    items: tuple[dataset_tables.Item, ...]


def item_id(name: str, sha256: str) -> str:
    """Return the id of an item: 16 hex digits of its name and the digest of its stored bytes."""
    return hashlib.sha256(f"{name}\0{sha256}".encode()).hexdigest()[:16]


class ShardWriter:
    """Appends images to tar shards in the store; used by one thread.

    Call ``add`` for each image, then ``finish``; or ``abort``, which leaves the shards that are
    complete already (the caller deletes the prefix).
    """

    def __init__(
        self, objects: ports.ObjectStore, prefix: str, *, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._objects = objects
        self._prefix = prefix
        self._shard_bytes = shard_bytes
        self._upload: ports.Upload | None = None
        self._size = 0
        self._shards: list[Shard] = []
        self._items: dict[str, dataset_tables.Item] = {}

    def add(
        self, name: str, data: bytes, *, width: int, height: int, format: str
    ) -> dataset_tables.Item:
        """Append an image.

        Args:
            name: The name that people know, unique within the version.
            data: The stored bytes, as they are.
            width: Upright, in pixels.
            height: Upright, in pixels.
            format: A key of ``EXTENSIONS``.

        Raises:
            Conflict: The same name with the same bytes came before.
            StoreFull: No room left.
        """
        digest = hashlib.sha256(data).hexdigest()
        ident = item_id(name, digest)
        if ident in self._items:
            raise errors.Conflict(f"Item {name!r} is in this version already.")
        length = BLOCK + len(data) + _padding(len(data))
        if self._size and self._size + length > SHARD_LIMIT_BYTES:
            self._close()
        if self._upload is None:
            self._upload = self._objects.multipart(names.shard_key(self._prefix, len(self._shards)))
        item = dataset_tables.Item(
            item_id=ident,
            name=name,
            shard=len(self._shards),
            offset=self._size + BLOCK,
            size=len(data),
            sha256=digest,
            width=width,
            height=height,
            format=format,
        )
        header = tar_header(f"{ident}.{EXTENSIONS[format]}", len(data))
        self._upload.write(header + data + bytes(_padding(len(data))))
        self._size += length
        self._items[ident] = item
        if self._size >= self._shard_bytes:
            self._close()
        return item

    def finish(self) -> tuple[tuple[Shard, ...], tuple[dataset_tables.Item, ...]]:
        """Complete the last shard; return all shards, and all items in order of item_id."""
        if self._upload is not None:
            self._close()
        return tuple(self._shards), tuple(self._items[key] for key in sorted(self._items))

    def abort(self) -> None:
        """Discard the shard that is open. Idempotent."""
        if self._upload is not None:
            self._upload.abort()
            self._upload = None

    def _close(self) -> None:
        assert self._upload is not None
        self._upload.write(bytes(2 * BLOCK))
        info = self._upload.commit()
        self._shards.append(Shard(key=info.key, size=info.size, sha256=info.sha256))
        self._upload, self._size = None, 0


def write_version(
    objects: ports.ObjectStore,
    prefix: str,
    images: Iterable[tuple[str, bytes, int, int, str]],
    *,
    labels: Mapping[str, dataset_tables.Label] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> WrittenVersion:
    """Store a whole version: shards, then manifest, then labels.

    Args:
        objects: Where to.
        prefix: ``names.version_prefix(...)``.
        images: (name, bytes, width, height, format) each.
        labels: dataset_tables.Label by item *name*; ``item_id`` in it is filled in.
        shard_bytes: Size at which a shard is closed.
    """
    writer = ShardWriter(objects, prefix, shard_bytes=shard_bytes)
    try:
        for name, data, width, height, kind in images:
            writer.add(name, data, width=width, height=height, format=kind)
        shards, items = writer.finish()
    except BaseException:
        writer.abort()
        raise
    known = labels or {}
    rows = [
        dataclasses.replace(known[item.name], item_id=item.item_id)
        for item in items
        if item.name in known
    ]
    manifest, table = (
        dataset_tables.manifest_table(items),
        dataset_tables.labels_table(rows),
    )
    objects.put(names.manifest_key(prefix), manifest.data, sha256=manifest.sha256)
    objects.put(names.labels_key(prefix), table.data, sha256=table.sha256)
    return WrittenVersion(
        prefix=prefix,
        shards=shards,
        manifest_key=names.manifest_key(prefix),
        manifest_sha256=manifest.sha256,
        labels_key=names.labels_key(prefix),
        labels_sha256=table.sha256,
        items=items,
    )


def tar_header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a plain file; owner, mode and time are constant."""
    if len(name) > 100:
        raise ValueError(f"A member name has at most 100 characters; {name!r} has {len(name)}.")
    head = b"".join(
        (
            name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,
            f"{size:011o}\0".encode(),
            b"00000000000\0",
            b" " * 8,  # the checksum counts as blanks while it is computed
            b"0".ljust(101, b"\0"),
            b"ustar\x0000".ljust(255, b"\0"),
        )
    )
    return head[:148] + f"{sum(head):06o}\0 ".encode() + head[156:]


def _padding(size: int) -> int:
    return -size % BLOCK
