"""Records of TensorBoard event files: scalars and session marks, without TensorBoard. Pure.

A file begins with ``version`` and, after a restart, with ``session``, whose step tells readers to
forget what an earlier file says from there on. Records are framed as TFRecord (masked CRC-32C).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

VERSION: Final = "brain.Event:2"
_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8
_SESSION_START: Final = 1
_HEAD: Final = 12
_TAIL: Final = 4
LARGEST_RECORD: Final = 1 << 30


@dataclass(frozen=True)
class Scalars:
    """Scalars by tag at a step, as a file holds them."""

    step: int
    values: Mapping[str, float]


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_CRC: Final = _table()


def version(time_s: float) -> bytes:
    """Return the first record of a file."""
    return _framed(_event(time_s, version=VERSION))


def session(time_s: float, *, purge_step: int) -> bytes:
    """Return the record that takes back everything earlier from ``purge_step`` on."""
    mark = _varint_field(1, _SESSION_START)
    return _framed(_event(time_s, step=purge_step, body=_bytes_field(7, mark)))


def scalars(values: Mapping[str, float], *, step: int, time_s: float) -> bytes:
    """Return the record of scalars by tag at a step."""
    summary = b"".join(_bytes_field(1, _scalar(tag, value)) for tag, value in values.items())
    return _framed(_event(time_s, step=step, body=_bytes_field(5, summary)))


def masked(data: bytes) -> int:
    """Return the masked CRC-32C of some bytes, as frames carry it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read(data: bytes) -> tuple[list[Scalars], int]:
    """Return the scalars of the whole records in ``data`` and how many bytes those take.

    Everything else that a record may hold (histograms, images, texts) is passed over.

    Raises:
        ValueError: These are no records.
    """
    found, place = [], 0
    while len(data) - place >= _HEAD:
        (length,) = struct.unpack_from("<Q", data, place)
        if length > LARGEST_RECORD:
            raise ValueError(f"a record of {length} bytes; these are no TensorBoard events")
        if len(data) - place < _HEAD + length + _TAIL:
            break
        entry = _scalars_of(data[place + _HEAD : place + _HEAD + length])
        if entry.values:
            found.append(entry)
        place += _HEAD + length + _TAIL
    return found, place


def _scalars_of(event: bytes) -> Scalars:
    step, values = 0, {}
    for number, content in _fields(event):
        if number == 2 and isinstance(content, int):
            step = content - 2**64 if content >= 2**63 else content
        elif number == 5 and isinstance(content, bytes):
            for _, value in _fields(content):
                parts = dict(_fields(value)) if isinstance(value, bytes) else {}
                tag, simple = parts.get(1), parts.get(2)
                if isinstance(tag, bytes) and isinstance(simple, bytes):
                    values[tag.decode()] = struct.unpack("<f", simple)[0]
    return Scalars(step, values)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and content of each field: an integer, or the bytes of all else."""
    place = 0
    while place < len(data):
        key, place = _varint_at(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint_at(data, place)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, place = _varint_at(data, place)
        elif not size:
            raise ValueError(f"a field of kind {kind}; these are no TensorBoard events")
        yield number, data[place : place + size]
        place += size


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("a record ends within a number; these are no TensorBoard events")


def _framed(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    sums = (struct.pack("<I", masked(length)), struct.pack("<I", masked(event)))
    return b"".join((length, sums[0], event, sums[1]))


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
