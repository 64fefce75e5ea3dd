"""ObjectStore in a directory: one file per object, atomic, safe against links and full disks.

Used by the embedded composition root and by tests. Below ``root`` lie ``objects/`` (a file per
key) and ``tmp/`` (writes in progress). Every path is walked from a directory descriptor with
``O_NOFOLLOW``, so that a symbolic link planted below the root is refused, not followed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import re
import secrets
import stat
import time
from collections.abc import Iterator
from typing import BinaryIO, Final, Literal

from quintile import ports
from quintile.adapters import signed_urls
from quintile.core import errors

KEY_LIMIT: Final = 512
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._=-]+")
_PIECE_BYTES: Final = 1024 * 1024
_STALE_S: Final = 24 * 3600
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_key(key: str) -> tuple[str, ...]:
    """Return the segments of a key.

    Raises:
        InvalidSpec: The key is too long or outside the alphabet of the port.
    """
    segments = tuple(key.split("/"))
    good = all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments)
    if not good or len(key) > KEY_LIMIT:
        raise errors.InvalidSpec(
            f"{key[:80]!r} is not an object key.",
            hint="Keys are segments of [A-Za-z0-9._=-] joined by '/', 512 characters at most.",
            field="key",
        )
    return segments


class DirectoryObjectStore:
    """Port ``ObjectStore`` on a local file system; several processes may share one root."""

    def __init__(
        self, root: pathlib.Path, *, urls: signed_urls.UrlSigner, clock: ports.Clock
    ) -> None:
        self._urls = urls
        self._clock = clock
        for folder in (root, root / "objects", root / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root / "objects", _FOLDER)
        self._tmp = os.open(root / "tmp", _FOLDER)
        self._forget_stale_writes()

    def close(self) -> None:
        """Close the directory descriptors; the store is of no use afterwards."""
        os.close(self._root)
        os.close(self._tmp)

    def put(self, key: str, data: bytes | BinaryIO, *, sha256: str = "") -> ports.ObjectInfo:
        """Store bytes whole or not at all; see the port."""
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        upload = DirectoryUpload(self._root, self._tmp, key)
        try:
            while piece := source.read(_PIECE_BYTES):
                upload.write(piece)
            return upload.commit(sha256=sha256)
        except BaseException:
            upload.abort()
            raise

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of bytes; see the port."""
        segments = check_key(key)
        with _translated(key), _folder(self._root, segments[:-1]) as folder:
            descriptor = os.open(segments[-1], _READ, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise FileNotFoundError(errno.ENOENT, "not a file", key)
                file.seek(start)
                return file.read(-1 if length is None else length)

    def list(self, prefix: str) -> Iterator[ports.ObjectInfo]:
        """Yield objects by key; see the port. Objects deleted meanwhile may be left out."""
        text = prefix.rstrip("/")
        if text:
            check_key(text)
        folders = tuple(prefix.split("/")[:-1])
        try:
            with _translated(prefix), _folder(self._root, folders) as folder:
                yield from _walk(folder, "".join(f"{part}/" for part in folders), prefix)
        except errors.NotFound:
            return

    def delete(self, key: str) -> None:
        """Forget an object and folders that became empty; see the port."""
        segments = check_key(key)
        try:
            with _translated(key), _folder(self._root, segments[:-1]) as folder:
                os.unlink(segments[-1], dir_fd=folder)
                os.fsync(folder)
        except errors.NotFound:
            return
        for depth in range(len(segments) - 1, 0, -1):
            try:
                with _folder(self._root, segments[: depth - 1]) as folder:
                    os.rmdir(segments[depth - 1], dir_fd=folder)
            except OSError:
                # Not empty (or refilled just now): the folders above are in use as well.
                return

    def url(self, key: str, *, method: Literal["GET", "PUT"], ttl_s: int) -> str:
        """Return a signed URL of the API's bytes route; see the port."""
        check_key(key)
        return self._urls.url(key, method=method, expires_s=int(self._clock.now()) + ttl_s)

    def multipart(self, key: str) -> DirectoryUpload:
        """Begin an upload of unknown size; see the port."""
        return DirectoryUpload(self._root, self._tmp, key)

    def _forget_stale_writes(self) -> None:
        """Remove what writers left that died more than a day ago."""
        with os.scandir(self._tmp) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    # File times are the kernel's, so that they are compared with its clock.
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE_S:
                        os.unlink(entry.name, dir_fd=self._tmp)


class DirectoryUpload:
    """Port ``Upload``: a temporary file that is linked under its key when it is complete."""

    def __init__(self, root: int, tmp: int, key: str) -> None:
        self._segments = check_key(key)
        self._root, self._tmp, self._key = root, tmp, key
        self._name = secrets.token_hex(16)
        self._hash = hashlib.sha256()
        self._size = 0
        with _translated(key):
            descriptor = os.open(self._name, _CREATE, 0o600, dir_fd=tmp)
        self._file: io.FileIO | None = io.FileIO(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Append bytes; see the port."""
        assert self._file is not None, "the upload has ended"
        view = memoryview(data)
        try:
            with _translated(self._key):
                while len(view):
                    view = view[self._file.write(view) :]
        except errors.StoreFull:
            self.abort()
            raise
        self._hash.update(data)
        self._size += len(data)

    def commit(self, *, sha256: str = "") -> ports.ObjectInfo:
        """Make the object appear; see the port. ``sha256``: refuse other bytes."""
        assert self._file is not None, "the upload has ended"
        info = ports.ObjectInfo(key=self._key, size=self._size, sha256=self._hash.hexdigest())
        try:
            if sha256 and sha256 != info.sha256:
                raise errors.InvalidSpec(
                    f"Object {self._key!r} has SHA-256 {info.sha256[:12]}…, not {sha256[:12]}….",
                    hint="Send the bytes again; they were changed on the way.",
                    field="sha256",
                )
            with _translated(self._key):
                os.fsync(self._file.fileno())
                self._appear(info)
        finally:
            self.abort()
        return info

    def abort(self) -> None:
        """Discard everything. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._tmp)

    def _appear(self, info: ports.ObjectInfo) -> None:
        with _folder(self._root, self._segments[:-1], create=True) as folder:
            try:
                # A hard link appears whole and never replaces what is there.
                os.link(self._name, self._segments[-1], src_dir_fd=self._tmp, dst_dir_fd=folder)
            except FileExistsError:
                if _digest(self._segments[-1], folder, self._key) != info.sha256:
                    raise errors.Conflict(
                        f"Object {self._key!r} exists with other bytes; objects are immutable.",
                        hint="Write under another key.",
                    ) from None
            os.fsync(folder)


@contextlib.contextmanager
def _folder(root: int, segments: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
    """Open the folder below ``root``, one segment at a time, following no link."""
    current = os.dup(root)
    try:
        for segment in segments:
            try:
                found = os.open(segment, _FOLDER, dir_fd=current)
            except FileNotFoundError:
                if not create:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(segment, 0o700, dir_fd=current)
                    os.fsync(current)
                found = os.open(segment, _FOLDER, dir_fd=current)
            os.close(current)
            current = found
        yield current
    finally:
        os.close(current)


def _walk(folder: int, path: str, prefix: str) -> Iterator[ports.ObjectInfo]:
    """Yield what lies in an open folder, in order of whole keys ('/' sorts after '.' and '-')."""
    with os.scandir(folder) as entries:
        found = sorted(
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if not entry.is_symlink()
        )
    for name in found:
        key = path + name
        if not key.startswith(prefix) and not prefix.startswith(key):
            continue
        with contextlib.suppress(FileNotFoundError):
            if name.endswith("/"):
                with _folder(folder, (name[:-1],)) as inner:
                    yield from _walk(inner, key, prefix)
            elif key.startswith(prefix):
                size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                yield ports.ObjectInfo(key=key, size=size)


def _digest(name: str, folder: int, key: str) -> str:
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        raise errors.Conflict(
            f"Object {key!r} cannot be made: other objects lie below this key.",
            hint="Write under another key.",
        ) from None


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn errors of the file system into the Quintile family, chained."""
    try:
        yield
    except OSError as error:
        raise _error_of(error, key) from error


def _error_of(error: OSError, key: str) -> errors.QuintileError:
    if error.errno in (errno.ENOENT, errno.EISDIR):
        return errors.NotFound(f"There is no object {key!r}.")
    if error.errno in _FULL:
        return errors.StoreFull(
            f"No room left to store object {key!r}; nothing was kept.",
            hint="Free disk space (or raise the quota), then try again.",
        )
    if error.errno == errno.ENOTDIR:
        return errors.Conflict(
            f"Object {key!r} cannot be made: a part of its key is an object (or a link).",
            hint="Write under another key.",
        )
    if error.errno == errno.ELOOP:
        return errors.Forbidden(f"The file of object {key!r} is a symbolic link.")
    if error.errno == errno.ENAMETOOLONG:
        return errors.InvalidSpec(
            f"A segment of {key[:80]!r} is too long for this file system.", field="key"
        )
    return errors.Unavailable(
        f"The object store cannot reach {key!r}: {error.strerror}.",
        hint="Check the disk and the permissions of the home folder.",
    )
