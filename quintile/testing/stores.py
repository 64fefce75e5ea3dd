"""Object stores of service tests: as the test says, or a real S3 when the environment names one.

On S3 all tests of a session share a bucket; each has a prefix of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

from quintile import ports
from quintile.adapters import object_s3
from quintile.testing import real_s3


def of(folder: pathlib.Path, usual: ports.ObjectStore) -> ports.ObjectStore:
    """Return the store of the test whose folder this is; ``usual`` without a real one."""
    store = _bucket()
    if store is None:
        return usual
    return OnS3(store, hashlib.sha256(str(folder).encode()).hexdigest()[:16], usual)


@functools.cache
def _bucket() -> object_s3.S3ObjectStore | None:
    place = real_s3.place()
    if place is None:
        return None
    stack = contextlib.ExitStack()
    made = stack.enter_context(real_s3.fresh_bucket(place))
    atexit.register(stack.close)
    return made.open()


class OnS3:
    """Port ``ObjectStore`` below a prefix of a bucket; URLs are those of the ``usual`` store."""

    def __init__(
        self, store: object_s3.S3ObjectStore, prefix: str, usual: ports.ObjectStore
    ) -> None:
        self._store = store
        self._prefix = f"{prefix}/"
        self._usual = usual

    def put(self, key: str, data: bytes | BinaryIO, *, sha256: str = "") -> ports.ObjectInfo:
        """Store bytes."""
        return self._own(self._store.put(self._prefix + key, data, sha256=sha256))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes."""
        return self._store.get(self._prefix + key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[ports.ObjectInfo]:
        """Yield objects."""
        return map(self._own, self._store.list(self._prefix + prefix))

    def delete(self, key: str) -> None:
        """Forget an object."""
        self._store.delete(self._prefix + key)

    def url(self, key: str, *, method: Literal["GET", "PUT"], ttl_s: int) -> str:
        """Return a URL of the API's bytes route, which ends at this store."""
        return self._usual.url(key, method=method, ttl_s=ttl_s)

    def multipart(self, key: str) -> ports.Upload:
        """Begin an upload."""
        return _Upload(self._store.multipart(self._prefix + key), self._own)

    def _own(self, info: ports.ObjectInfo) -> ports.ObjectInfo:
        return ports.ObjectInfo(info.key.removeprefix(self._prefix), info.size, info.sha256)


class _Upload:
    """An upload whose object is named without the prefix."""

    def __init__(
        self, upload: ports.Upload, own: Callable[[ports.ObjectInfo], ports.ObjectInfo]
    ) -> None:
        self._upload = upload
        self._own = own
        self.write, self.abort = upload.write, upload.abort

    def commit(self) -> ports.ObjectInfo:
        """Make the object appear."""
        return self._own(self._upload.commit())
