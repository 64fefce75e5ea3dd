"""TensorBoard event files: framing, checksums, numbers of every kind, the mark of a restart."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from quintile.core import event_records
from quintile_trainer import event_files, own_curves, reporter


def frames(data: bytes) -> list[bytes]:
    """Return the events of a file; asserts the checksums, as readers do."""
    found, place = [], 0
    while place < len(data):
        head = data[place : place + 8]
        (length,) = struct.unpack("<Q", head)
        body = data[place + 12 : place + 12 + length]
        marks = struct.unpack("<I", data[place + 8 : place + 12])
        marks += struct.unpack("<I", data[place + 12 + length : place + 16 + length])
        assert marks == (event_records.masked(head), event_records.masked(body))
        found.append(body)
        place += 16 + length
    return found


def test_checksums_are_those_of_the_format() -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720), masked as TFRecord does.
    crc = 0xE3069283
    expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert event_records.masked(b"123456789") == expected


def test_a_file_begins_with_its_version(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events"
    file = event_files.EventFile(path, time_s=1.0, purge_step=None)
    file.add({"loss": 0.5}, step=3, time_s=2.0)
    file.close()
    first, scalar = frames(path.read_bytes())
    assert first == b"\x09" + struct.pack("<d", 1.0) + b"\x1a\x0dbrain.Event:2"
    assert scalar.startswith(b"\x09" + struct.pack("<d", 2.0) + b"\x10\x03")
    assert scalar.endswith(b"\x0a\x04loss\x15" + struct.pack("<f", 0.5))


@pytest.mark.parametrize("step", [-1, 0, 2**40])
def test_any_step_can_be_written(tmp_path: Path, step: int) -> None:
    path = tmp_path / "events"
    file = event_files.EventFile(path, time_s=1.0, purge_step=step)
    file.add({"a": math.nan}, step=step, time_s=2.0)
    file.close()
    assert len(frames(path.read_bytes())) == 3


def test_values_that_floats_of_32_bits_do_not_hold_stay_out() -> None:
    found = reporter.drawable({"a": 1.0, "b": math.inf, "c": -math.inf, "d": 1e300, "e": math.nan})
    assert sorted(found) == ["a", "e"]


def test_what_tensorboard_writes_is_read() -> None:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    summary = summary_pb2.Summary()
    summary.value.add(tag="loss", simple_value=0.5)
    summary.value.add(tag="weights", histo=summary_pb2.HistogramProto(min=1.0, bucket=[1.0, 2.0]))
    events = [
        event_pb2.Event(wall_time=1.0, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=2.0, step=300, summary=summary),
        event_pb2.Event(wall_time=3.0, step=-1, summary=summary),
    ]
    data = b"".join(event_records._framed(event.SerializeToString()) for event in events)
    found, taken = event_records.read(data + data[:20])
    assert [(entry.step, entry.values) for entry in found] == [
        (300, {"loss": 0.5}),
        (-1, {"loss": 0.5}),
    ]
    assert taken == len(data)
    with pytest.raises(ValueError, match="no TensorBoard events"):
        event_records.read(b"\xff" * 40)


def test_own_curves_are_reported_once_as_they_come(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    follower = own_curves.Follower(tmp_path, lambda step, values: told.append((step, dict(values))))
    follower.look()
    file = event_files.EventFile(tmp_path / f"{PREFIX}1", time_s=1.0, purge_step=None)
    file.add({"loss": 0.5}, step=1, time_s=2.0)
    file.close()
    follower.look()
    half = event_records.scalars({"loss": 0.25}, step=2, time_s=3.0)
    with (tmp_path / f"{PREFIX}1").open("ab") as raw:
        raw.write(half[:30])
    below = event_files.EventFile(tmp_path / "eval" / f"{PREFIX}1", time_s=1.0, purge_step=None)
    below.add({"accuracy": 1.0}, step=1, time_s=2.0)
    below.close()
    follower.look()
    assert told == [(1, {"loss": 0.5}), (1, {"eval/accuracy": 1.0})]
    with (tmp_path / f"{PREFIX}1").open("ab") as raw:
        raw.write(half[30:])
    follower.look()
    assert told[2:] == [(2, {"loss": 0.25})]


def test_a_record_may_be_large(tmp_path: Path) -> None:
    told: list[int] = []
    follower = own_curves.Follower(tmp_path, lambda step, _values: told.append(step))
    file = event_files.EventFile(tmp_path / f"{PREFIX}1", time_s=1.0, purge_step=None)
    file.add({"t" * (3 * own_curves.PIECE): 1.0}, step=7, time_s=1.0)
    file.close()
    follower.look()
    assert told == [7]


PREFIX = own_curves.PATTERN.removesuffix("*")
