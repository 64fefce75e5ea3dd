"""Where bytes live: a directory here, S3 in the cluster. Keys are immutable once written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object."""

    key: str
    size: int
    sha256: str = ""


class Upload(Protocol):
    """An object that is written piece by piece and appears whole, or not at all."""

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StoreFull: No room left; the upload is discarded.
        """
        ...

    def commit(self) -> ObjectInfo:
        """Make the object appear under its key."""
        ...

    def abort(self) -> None:
        """Discard everything. Idempotent."""
        ...


class ObjectStore(Protocol):
    """Immutable bytes by key. Keys are ``/``-separated segments of ``[A-Za-z0-9._=-]``.

    Every method raises ``InvalidSpec`` for a key outside that alphabet, with an empty, ``.`` or
    ``..`` segment, or longer than 512 characters.
    """

    def put(self, key: str, data: bytes | BinaryIO, *, sha256: str = "") -> ObjectInfo:
        """Store bytes whole or not at all. Putting equal bytes again is a no-op.

        Raises:
            Conflict: Other bytes are stored under the key.
            InvalidSpec: ``sha256`` is given and differs.
            StoreFull: No room left; nothing was kept.
        """
        ...

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes ``start`` to ``start + length`` (to the end when None).

        Raises:
            NotFound: No object under the key.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Forget an object. Idempotent."""
        ...

    def url(self, key: str, *, method: Literal["GET", "PUT"], ttl_s: int) -> str:
        """Return a URL that lets its holder read or write this one key until it expires."""
        ...

    def multipart(self, key: str) -> Upload:
        """Begin an upload of unknown size. Commit obeys the rules of ``put``."""
        ...
