"""What is uploaded: a file as it is, or a folder that is zipped while it is sent.

A source knows its size and digest before the first byte goes out, and gives the same bytes every
time it is read, so that an upload can go on after a break.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from quintile.core import errors

READ_BYTES: Final = 1024 * 1024
_DELIMITERS: Final = (",", ";", "\t")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_FILE_MODE: Final = 0o100644 << 16


class Source(Protocol):
    """Bytes to send; as text it is what a message calls it."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in chunks of any size, from the start."""
        ...


@dataclass(frozen=True)
class Measured:
    """Size and digest of a source."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FileSource:
    """A file as it is."""

    path: Path

    def __str__(self) -> str:
        return f"The file {str(self.path)!r}"

    def chunks(self) -> Iterator[bytes]:
        """Yield the file."""
        with self.path.open("rb") as file:
            while data := file.read(READ_BYTES):
                yield data


@dataclass(frozen=True)
class MemorySource:
    """Bytes in memory."""

    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return "What is sent"

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes."""
        yield self.data


@dataclass(frozen=True)
class FolderSource:
    """Files of a folder as a zip, stored without compression (images do not shrink)."""

    folder: Path
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"The folder {str(self.folder)!r}"

    def chunks(self) -> Iterator[bytes]:
        """Yield the zip."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for name in self.names:
                info = zipfile.ZipInfo(_sendable(name), date_time=_EPOCH)
                info.external_attr = _FILE_MODE
                info.file_size = (self.folder / name).stat().st_size
                with archive.open(info, "w") as member, (self.folder / name).open("rb") as file:
                    while data := file.read(READ_BYTES):
                        member.write(data)
                        yield sink.take()
            yield sink.take()
        yield sink.take()


def _sendable(name: str) -> str:
    """Return a name as text; what is none gets backslashes, for which the server leaves it out."""
    return name.encode("utf-8", "backslashreplace").decode()


class _Sink(io.RawIOBase):
    """Holds what zipfile wrote until it is taken; cannot seek, so nothing is ever rewritten."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data


def measure(source: Source) -> Measured:
    """Read a source once.

    Raises:
        InvalidSpec: It is empty or cannot be read.
    """
    digest, size_bytes = hashlib.sha256(), 0
    try:
        for data in source.chunks():
            digest.update(data)
            size_bytes += len(data)
    except OSError as error:
        raise errors.InvalidSpec(
            f"{error.filename or source} cannot be read: {error.strerror}.",
            hint="Make it readable, or take it out of what is sent.",
            field="source",
        ) from error
    if size_bytes == 0:
        raise errors.InvalidSpec(
            f"{source} is empty.",
            hint="Give a folder of images, or a .zip, .csv, .npz or .npy file.",
            field="source",
        )
    return Measured(size_bytes, digest.hexdigest())


def pieces(source: Source, *, size_bytes: int, skip_bytes: int = 0) -> Iterator[bytes]:
    """Yield a source in pieces of ``size_bytes`` (the last one smaller), after ``skip_bytes``."""
    held = bytearray()
    left = skip_bytes
    for data in source.chunks():
        kept = data[left:] if left else data
        left = max(0, left - len(data))
        held += kept
        while len(held) >= size_bytes:
            yield bytes(held[:size_bytes])
            del held[:size_bytes]
    if held:
        yield bytes(held)


def folder(path: Path) -> FolderSource:
    """Return the files below a folder, without hidden ones.

    Raises:
        InvalidSpec: It is no folder, or holds no files.
    """
    if not path.is_dir():
        raise errors.InvalidSpec(f"There is no folder {str(path)!r}.", field="source")
    names = tuple(sorted(_visible(path)))
    if not names:
        raise errors.InvalidSpec(
            f"The folder {str(path)!r} holds no files.",
            hint="Name the folder that holds the images.",
            field="source",
        )
    return FolderSource(path, names)


def listed(path: Path, names: Iterable[str]) -> FolderSource:
    """Return those named files that lie in a folder; the server reports the others."""
    root = path.resolve()
    found = set()
    for name in names:
        file = root / name
        with contextlib.suppress(OSError, ValueError):
            inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            if inside and file.is_file():
                found.add(Path(name).as_posix())
    if not found:
        raise errors.InvalidSpec(
            f"None of the files that the table names lies in {str(path)!r}.",
            hint="File names are relative to that folder; name another one if they are elsewhere.",
            field="source",
        )
    return FolderSource(root, tuple(sorted(found)))


def names_of_csv(text: str) -> tuple[str, ...]:
    """Return the column ``file`` of a CSV manifest, as the server will read it.

    Raises:
        InvalidSpec: There is no such column, or it is no table.
    """
    head = text.splitlines()[0] if text else ""
    reader = csv.reader(io.StringIO(text), delimiter=max(_DELIMITERS, key=head.count))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise errors.InvalidSpec(
            f"The table cannot be read at line {reader.line_num}: {error}.",
            hint="Close every quote, and keep every cell below 100 kB.",
            field="manifest",
        ) from error
    columns = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "file" not in columns:
        raise errors.InvalidSpec(
            "The table has no column 'file'.",
            hint="Begin it with a header row: file,label",
            field="manifest",
        )
    at = columns.index("file")
    found = (row[at].strip() for row in rows[1:] if len(row) > at)
    return tuple(name for name in found if name)


def arrays(given: Mapping[str, Any]) -> MemorySource:
    """Return arrays (``images``, maybe ``labels`` and ``names``) as an npz.

    Raises:
        InvalidSpec: numpy is not installed, or images are missing.
    """
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise errors.InvalidSpec("Arrays need numpy.", hint="pip install numpy") from error
    if "images" not in given:
        raise errors.InvalidSpec("There are no images among the arrays.", field="images")
    buffer = io.BytesIO()
    stored: dict[str, Any] = {name: np.asarray(one) for name, one in given.items()}
    np.savez_compressed(buffer, **stored)
    return MemorySource(buffer.getvalue())


def _visible(path: Path) -> Iterator[str]:
    for root, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in files:
            file = Path(root) / name
            if not _is_hidden(name) and file.is_file():
                yield file.relative_to(path).as_posix()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
