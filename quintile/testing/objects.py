"""ObjectStore in memory, and the contract that every ObjectStore keeps."""

# ruff: noqa: D102 - what the contract holds is said by the names of its tests

from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import BinaryIO, Literal

import pytest

from quintile import ports
from quintile.adapters import object_directory
from quintile.core import errors


class FakeObjectStore:
    """Objects in a dictionary.

    Args:
        url: Called as ``url(key, method, ttl_s)`` for ``ObjectStore.url``.
        room_bytes: Bytes that fit in all; beyond that, ``StoreFull``.
    """

    def __init__(
        self,
        *,
        url: Callable[[str, Literal["GET", "PUT"], int], str] | None = None,
        room_bytes: int | None = None,
    ) -> None:
        self._url = url
        self.room_bytes = room_bytes
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes | BinaryIO, *, sha256: str = "") -> ports.ObjectInfo:
        """Store bytes whole or not at all."""
        object_directory.check_key(key)
        body = data if isinstance(data, bytes) else data.read()
        digest = hashlib.sha256(body).hexdigest()
        if sha256 and sha256 != digest:
            raise errors.InvalidSpec(f"Object {key!r} has another SHA-256.", field="sha256")
        with self._lock:
            self._check_place(key)
            stored = self._objects.get(key)
            if stored is not None and stored != body:
                raise errors.Conflict(f"Object {key!r} exists with other bytes.")
            self.check_room(0 if stored is not None else len(body))
            self._objects[key] = body
        return ports.ObjectInfo(key=key, size=len(body), sha256=digest)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of bytes."""
        object_directory.check_key(key)
        with self._lock:
            body = self._objects.get(key)
        if body is None:
            raise errors.NotFound(f"There is no object {key!r}.")
        return body[start:] if length is None else body[start : start + length]

    def list(self, prefix: str) -> Iterator[ports.ObjectInfo]:
        """Yield objects by key."""
        if prefix.rstrip("/"):
            object_directory.check_key(prefix.rstrip("/"))
        with self._lock:
            found = sorted(
                (key, len(body)) for key, body in self._objects.items() if key.startswith(prefix)
            )
        return (ports.ObjectInfo(key=key, size=size) for key, size in found)

    def delete(self, key: str) -> None:
        """Forget an object."""
        object_directory.check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def url(self, key: str, *, method: Literal["GET", "PUT"], ttl_s: int) -> str:
        """Return a URL; without a signer one that names key, method and time to live."""
        object_directory.check_key(key)
        if self._url is not None:
            return self._url(key, method, ttl_s)
        return f"https://objects.example.com/{key}?method={method}&ttl_s={ttl_s}"

    def multipart(self, key: str) -> FakeUpload:
        """Begin an upload."""
        object_directory.check_key(key)
        return FakeUpload(self, key)

    def check_room(self, more_bytes: int) -> None:
        """Raise ``StoreFull`` when ``more_bytes`` do not fit."""
        used = sum(len(body) for body in self._objects.values())
        if self.room_bytes is not None and used + more_bytes > self.room_bytes:
            raise errors.StoreFull("No room left in the fake store.")

    def _check_place(self, key: str) -> None:
        above = itertools.accumulate(key.split("/")[:-1], lambda path, part: f"{path}/{part}")
        below = any(other.startswith(f"{key}/") for other in self._objects)
        if below or any(path in self._objects for path in above):
            raise errors.Conflict(f"Object {key!r} and a part of its key cannot both exist.")


class FakeUpload:
    """An upload that is put when it is complete."""

    def __init__(self, store: FakeObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._body: io.BytesIO | None = io.BytesIO()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        assert self._body is not None, "the upload has ended"
        try:
            self._store.check_room(self._body.tell() + len(data))
        except errors.StoreFull:
            self.abort()
            raise
        self._body.write(data)

    def commit(self) -> ports.ObjectInfo:
        """Make the object appear."""
        assert self._body is not None, "the upload has ended"
        body, self._body = self._body.getvalue(), None
        return self._store.put(self._key, body)

    def abort(self) -> None:
        """Discard everything."""
        self._body = None


BAD_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/./b",
    "a b",
    "a\\b",
    "a\0b",
    "a\n",
    "é",
    "a%2e%2e/b",
    "k" * 513,
)


class ObjectStoreContract:
    """What every ObjectStore does; a subclass in ``tests/contract`` gives the fixture ``store``.

    ``folders``: whether the store keeps objects as files in folders, so that none is both.
    """

    folders = True

    def test_returns_what_was_put(self, store: ports.ObjectStore) -> None:
        info = store.put("a/b.bin", b"hello")
        assert info == ports.ObjectInfo("a/b.bin", 5, hashlib.sha256(b"hello").hexdigest())
        assert store.get("a/b.bin") == b"hello"

    def test_puts_from_a_stream(self, store: ports.ObjectStore) -> None:
        body = bytes(range(256)) * 8192
        assert store.put("big", io.BytesIO(body)).size == len(body)
        assert store.get("big") == body

    def test_gets_ranges(self, store: ports.ObjectStore) -> None:
        store.put("a", b"0123456789")
        assert store.get("a", start=3, length=4) == b"3456"
        assert store.get("a", start=8) == b"89"
        assert store.get("a", start=8, length=100) == b"89"
        assert store.get("a", start=10) == b""
        assert store.get("a", start=2, length=0) == b""

    def test_equal_bytes_again_are_a_no_op(self, store: ports.ObjectStore) -> None:
        assert store.put("a", b"same") == store.put("a", b"same")

    def test_other_bytes_conflict_and_change_nothing(self, store: ports.ObjectStore) -> None:
        store.put("a", b"first")
        with pytest.raises(errors.Conflict):
            store.put("a", b"second")
        assert store.get("a") == b"first"

    def test_refuses_a_wrong_digest(self, store: ports.ObjectStore) -> None:
        with pytest.raises(errors.InvalidSpec):
            store.put("a", b"bytes", sha256="0" * 64)
        assert list(store.list("")) == []
        store.put("a", b"bytes", sha256=hashlib.sha256(b"bytes").hexdigest())

    @pytest.mark.parametrize("key", BAD_KEYS, ids=[repr(key[:12]) for key in BAD_KEYS])
    def test_refuses_keys_outside_the_alphabet(self, store: ports.ObjectStore, key: str) -> None:
        for call in (
            lambda: store.put(key, b""),
            lambda: store.get(key),
            lambda: store.delete(key),
            lambda: store.multipart(key),
            lambda: store.url(key, method="GET", ttl_s=60),
        ):
            with pytest.raises(errors.InvalidSpec):
                call()

    def test_what_is_not_there_is_not_found(self, store: ports.ObjectStore) -> None:
        store.put("a/b", b"")
        for key in ("nothing", "a", "a/c", "x/y/z"):
            with pytest.raises(errors.NotFound):
                store.get(key)

    def test_an_object_is_no_folder(self, store: ports.ObjectStore) -> None:
        if not self.folders:
            pytest.skip("this store has no folders")
        store.put("a/b", b"1")
        with pytest.raises(errors.Conflict):
            store.put("a/b/c", b"2")
        with pytest.raises(errors.Conflict):
            store.put("a", b"3")
        assert [info.key for info in store.list("")] == ["a/b"]

    def test_lists_by_prefix_in_order_of_keys(self, store: ports.ObjectStore) -> None:
        keys = ["a", "b.c", "b/1", "b/2/x", "b/2.x", "b-c", "bc", "c/z"]
        for key in keys:
            store.put(key, key.encode())
        assert [info.key for info in store.list("")] == sorted(keys)
        for prefix in ("b", "b/", "b/2", "b/2/", "c/z", "c/zz", "nothing/here"):
            wanted = sorted(key for key in keys if key.startswith(prefix))
            assert [info.key for info in store.list(prefix)] == wanted
        assert [info.size for info in store.list("b/2/")] == [5]

    def test_deletes_for_good_and_again(self, store: ports.ObjectStore) -> None:
        store.put("a/b/c", b"1")
        store.put("a/d", b"2")
        store.delete("a/b/c")
        store.delete("a/b/c")
        store.delete("never/was")
        assert [info.key for info in store.list("")] == ["a/d"]
        store.put("a/b", b"a folder became free")

    def test_an_upload_appears_whole_at_its_commit(self, store: ports.ObjectStore) -> None:
        upload = store.multipart("a/b")
        upload.write(b"first ")
        upload.write(b"second")
        assert list(store.list("")) == []
        info = upload.commit()
        assert info == ports.ObjectInfo("a/b", 12, hashlib.sha256(b"first second").hexdigest())
        assert store.get("a/b") == b"first second"

    def test_an_aborted_upload_leaves_nothing(self, store: ports.ObjectStore) -> None:
        upload = store.multipart("a/b")
        upload.write(b"first")
        upload.abort()
        upload.abort()
        assert list(store.list("")) == []

    def test_an_upload_never_replaces(self, store: ports.ObjectStore) -> None:
        upload = store.multipart("a")
        upload.write(b"late")
        store.put("a", b"early")
        with pytest.raises(errors.Conflict):
            upload.commit()
        assert store.get("a") == b"early"

    def test_threads_that_put_equal_bytes_all_succeed(self, store: ports.ObjectStore) -> None:
        with futures.ThreadPoolExecutor(8) as pool:
            done = [pool.submit(store.put, "a/b/c/d", b"x" * 100_000) for _ in range(8)]
            assert len({one.result(timeout=30) for one in done}) == 1
        assert [info.size for info in store.list("a")] == [100_000]

    def test_urls_name_their_key(self, store: ports.ObjectStore) -> None:
        read = store.url("a/b.tar", method="GET", ttl_s=60)
        write = store.url("a/b.tar", method="PUT", ttl_s=60)
        assert "a/b.tar" in read
        assert read != write
