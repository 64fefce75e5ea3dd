"""TensorBoard event files, written without TensorBoard: one per generation.

A file begins with its version and, after a restart, with a session mark whose step tells readers to
forget what an earlier file says from there on. Records are framed as TFRecord (masked CRC-32C).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_SESSION_START = 1


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_CRC = _table()


class EventFile:
    """Appends scalars to one event file. One thread writes."""

    def __init__(self, path: Path, *, time_s: float, purge_step: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._write(_event(time_s, version="brain.Event:2"))
        if purge_step is not None:
            session = _varint_field(1, _SESSION_START)
            self._write(_event(time_s, step=purge_step, body=_bytes_field(7, session)))

    def add(self, values: Mapping[str, float], *, step: int, time_s: float) -> None:
        """Append scalars by tag at a step."""
        summary = b"".join(_bytes_field(1, _scalar(tag, value)) for tag, value in values.items())
        self._write(_event(time_s, step=step, body=_bytes_field(5, summary)))

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        frame = (length, struct.pack("<I", _masked(length)), event)
        self._file.write(b"".join((*frame, struct.pack("<I", _masked(event)))))


def _event(time_s: float, *, step: int = 0, version: str = "", body: bytes = b"") -> bytes:
    parts = [b"\x09", struct.pack("<d", time_s)]
    if step:
        parts.append(_varint_field(2, step))
    if version:
        parts.append(_bytes_field(3, version.encode()))
    return b"".join((*parts, body))


def _scalar(tag: str, value: float) -> bytes:
    return _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers travel as their two's complement
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
