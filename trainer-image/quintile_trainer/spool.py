"""Records on disk between a rank and the API: numbered segments of JSON lines per stream.

Ranks and the agent write, the agent's shipper reads. A record's ``seq`` is its place in the
stream, counted by the reader, so that equal records always travel under equal numbers. A reader
takes complete lines only: a writer that is killed loses the line it was writing, no more.
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SEGMENT_BYTES = 1024 * 1024
BATCH_BYTES = 1024 * 1024
"""A batch takes no further record once it has so many: whoever stores it holds it in memory."""
RESERVE_BYTES = 64 * 1024 * 1024
"""Room on the disk that streams which may lose records leave to those which may not."""
CURSOR = "cursor.json"
Record = Mapping[str, Any]
Place = tuple[int, int]
"""Number of a segment and a byte in it."""
NO_END: Place = (2**62, 0)


class Writer:
    """Appends records to the newest segment of a stream. Thread-safe; one process per stream.

    Args:
        folder: Of the stream.
        segment_bytes: Size at which a segment is closed.
        reserve_bytes: Room that must be left on the disk; less counts as a full disk.
        rotated: Called after a segment was closed; the writer waits for it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = 0,
        rotated: Callable[[], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._rotated = rotated
        self._lock = threading.Lock()
        existing = segments(folder)
        self._number = number_of(existing[-1]) + 1 if existing else 0
        self._file = self._open()
        self._size = 0

    def append(self, record: Record) -> None:
        """Write one record; it is in the kernel's hands when this returns, or not at all.

        Raises:
            OSError: The disk is full.
        """
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._size > self._segment_bytes:
                os.close(self._file)
                self._number += 1
                self._file = self._open()
                self._size = 0
                if self._rotated is not None:
                    self._rotated()
            if self._reserve_bytes and free_bytes(self._file) < self._reserve_bytes:
                raise OSError(errno.ENOSPC, "the rest of the disk is reserved for other records")
            written = os.write(self._file, line)
            if written < len(line):
                # The disk filled up within the line: half a line would spoil the next one.
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, "no room left for a record")
            self._size += written

    def close(self) -> None:
        """Close the newest segment; appending afterwards fails."""
        with self._lock:
            os.close(self._file)

    def _open(self) -> int:
        path = self._folder / f"{self._number:08d}.seg"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Reader:
    """Reads a stream from where the API acknowledged it. One reader per stream."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segment, self._offset, self.next_seq = self._load()
        self._ends: list[tuple[int, int]] = []
        self._left = 0

    def batch(self, limit: int) -> list[dict[str, Any]]:
        """Return the next complete records that are not acknowledged, in order.

        Up to ``limit``, and up to the one with which they have ``BATCH_BYTES``.
        """
        records: list[dict[str, Any]] = []
        self._ends, self._left = [], BATCH_BYTES
        numbers = [number for path in segments(self._folder) if (number := number_of(path)) >= 0]
        for number in numbers:
            if number < self._segment or len(records) >= limit or self._left <= 0:
                continue
            start = self._offset if number == self._segment else 0
            self._read(number, start, records, limit)
        return records

    def ack(self, count: int) -> None:
        """Forget the first ``count`` records of the last batch and delete finished segments."""
        if count <= 0:
            return
        self._segment, self._offset = self._ends[count - 1]
        self._ends = self._ends[count:]
        self.next_seq += count
        self._save()
        for path in segments(self._folder):
            if number_of(path) < self._segment:
                path.unlink(missing_ok=True)

    @property
    def head(self) -> int:
        """Return the number of the segment that is being shipped."""
        return self._segment

    @property
    def tail(self) -> int:
        """Return the number of the last segment that the newest batch touches."""
        return max([self._segment, *(number for number, _ in self._ends[-1:])])

    @property
    def place(self) -> Place:
        """Return the place after the last acknowledged record."""
        return self._segment, self._offset

    def _read(self, number: int, start: int, records: list[dict[str, Any]], limit: int) -> None:
        try:
            with (self._folder / f"{number:08d}.seg").open("rb") as file:
                file.seek(start)
                place = start
                for line in file:
                    is_full = len(records) >= limit or self._left <= 0
                    if is_full or not line.endswith(b"\n"):
                        return
                    place += len(line)
                    self._left -= len(line)
                    if (record := _parsed(line)) is not None:
                        records.append(record)
                        self._ends.append((number, place))
        except FileNotFoundError:
            return

    def _load(self) -> tuple[int, int, int]:
        try:
            saved = json.loads((self._folder / CURSOR).read_text())
        except (FileNotFoundError, ValueError):
            return 0, 0, 0
        return int(saved["segment"]), int(saved["offset"]), int(saved["seq"])

    def _save(self) -> None:
        saved = {"segment": self._segment, "offset": self._offset, "seq": self.next_seq}
        write_atomically(self._folder / CURSOR, json.dumps(saved).encode())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a record, None for a line that a crash or a bad disk spoiled."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def free_bytes(descriptor: int) -> int:
    """Return how much an ordinary process may still write to the disk of an open file."""
    disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize


def segments(folder: Path) -> list[Path]:
    """Return the segments of a stream in order; empty for a stream that does not exist."""
    return sorted(folder.glob("*.seg"))


def end(folder: Path) -> Place:
    """Return the place after the last byte of a stream."""
    for path in reversed(segments(folder)):
        with contextlib.suppress(FileNotFoundError):
            return number_of(path), path.stat().st_size
    return (0, 0)


def number_of(segment: Path) -> int:
    """Return a segment's number."""
    return int(segment.stem)


def size_bytes(folder: Path) -> int:
    """Return how much a stream holds on disk."""
    total = 0
    for path in segments(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def trim(folder: Path, *, quota_bytes: int, head: int, marker: Callable[[int], Record]) -> int:
    """Drop the oldest whole segments beyond a quota; return how many records went.

    The segment being shipped (``head``) and the one being written stay. A dropped segment becomes
    one line, ``marker(count)``, whose field ``dropped`` is the count; neighbours are merged.
    """
    dropped = 0
    for path in segments(folder)[:-1]:
        if size_bytes(folder) <= quota_bytes:
            break
        if number_of(path) <= head:
            continue
        lines = path.read_bytes().splitlines()
        before, fresh = _counts(lines)
        if not fresh:
            continue
        dropped += fresh
        _absorb(folder, path, before + fresh, head=head, marker=marker)
    return dropped


def _absorb(
    folder: Path, path: Path, count: int, *, head: int, marker: Callable[[int], Record]
) -> None:
    earlier = [entry for entry in segments(folder) if head < number_of(entry) < number_of(path)]
    if earlier:
        lines = earlier[-1].read_bytes().splitlines()
        before, fresh = _counts(lines)
        if before and not fresh:
            count += before
            earlier[-1].unlink()
    write_atomically(path, json.dumps(marker(count), separators=(",", ":")).encode() + b"\n")


def _counts(lines: list[bytes]) -> tuple[int, int]:
    """Return (records that markers stand for, other records)."""
    marked = fresh = 0
    for line in lines:
        record = _parsed(line) if b'"dropped"' in line else None
        count = int(record.get("dropped", 0)) if record is not None else 0
        marked += count
        fresh += 0 if count else 1
    return marked, fresh


def write_atomically(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``, whole or not at all; on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
