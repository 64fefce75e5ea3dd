"""The spool: order, numbers without gaps, acknowledgements, quotas, torn and spoiled lines."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from quintile_trainer import spool


def record(number: int, size: int = 0) -> dict[str, Any]:
    return {"n": number, "pad": "x" * size}


def filled(folder: Path, count: int, *, size: int = 0, segment_bytes: int = 100) -> spool.Writer:
    writer = spool.Writer(folder, segment_bytes=segment_bytes)
    for number in range(count):
        writer.append(record(number, size))
    return writer


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [entry["n"] for entry in records]


def test_records_come_back_in_order_over_segments(tmp_path: Path) -> None:
    filled(tmp_path, 50)
    assert len(spool.segments(tmp_path)) > 5
    reader = spool.Reader(tmp_path)
    assert numbers(reader.batch(1000)) == list(range(50))
    assert numbers(reader.batch(7)) == list(range(7))


def test_a_batch_of_long_records_ends_at_its_size(tmp_path: Path) -> None:
    third = spool.BATCH_BYTES // 3
    filled(tmp_path, 7, size=third, segment_bytes=spool.SEGMENT_BYTES)
    reader = spool.Reader(tmp_path)
    found = []
    while batch := reader.batch(100):
        assert len(batch) <= 3
        found += numbers(batch)
        reader.ack(len(batch))
    assert found == list(range(7))


def test_acknowledged_records_are_gone_and_numbers_go_on(tmp_path: Path) -> None:
    writer = filled(tmp_path, 20)
    reader = spool.Reader(tmp_path)
    reader.batch(12)
    reader.ack(12)
    assert reader.next_seq == 12
    again = spool.Reader(tmp_path)
    assert (again.next_seq, numbers(again.batch(100))) == (12, list(range(12, 20)))
    again.ack(8)
    assert len(spool.segments(tmp_path)) == 1
    writer.append(record(20))
    assert (again.next_seq, numbers(again.batch(100))) == (20, [20])


def test_part_of_a_batch_may_be_acknowledged(tmp_path: Path) -> None:
    filled(tmp_path, 10)
    reader = spool.Reader(tmp_path)
    reader.batch(10)
    reader.ack(3)
    reader.ack(2)
    reader.ack(0)
    assert numbers(reader.batch(2)) == [5, 6]


def test_a_new_writer_begins_a_new_segment(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    filled(tmp_path, 2).close()
    assert numbers(spool.Reader(tmp_path).batch(100)) == [0, 1, 2, 0, 1]


def test_a_line_that_is_not_complete_waits(tmp_path: Path) -> None:
    filled(tmp_path, 2, segment_bytes=10_000).close()
    with spool.segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"n": 2')
    assert numbers(spool.Reader(tmp_path).batch(100)) == [0, 1]


def test_a_line_torn_by_a_kill_is_lost_and_no_other(tmp_path: Path) -> None:
    filled(tmp_path, 2).close()
    with spool.segments(tmp_path)[-1].open("ab") as file:
        file.write(b'{"n": 2')
    filled(tmp_path, 1).close()
    reader = spool.Reader(tmp_path)
    assert numbers(reader.batch(100)) == [0, 1, 0]
    reader.ack(3)
    assert reader.batch(100) == []


def test_a_spoiled_line_is_passed_over(tmp_path: Path) -> None:
    writer = filled(tmp_path, 1, segment_bytes=10_000)
    with spool.segments(tmp_path)[0].open("ab") as file:
        file.write(b"\x00\x00\x00\n[1]\n")
    writer.append(record(1))
    reader = spool.Reader(tmp_path)
    assert numbers(reader.batch(100)) == [0, 1]
    reader.ack(2)
    assert (reader.next_seq, reader.batch(100)) == (2, [])


def marker(count: int) -> dict[str, Any]:
    return {"line": f"{count} lines dropped", "dropped": count}


def trim(folder: Path, *, quota: int, head: int = 0) -> int:
    return spool.trim(folder, quota_bytes=quota, head=head, marker=marker)


def test_over_the_quota_the_oldest_go_and_a_line_says_how_many(tmp_path: Path) -> None:
    filled(tmp_path, 100)
    before = spool.size_bytes(tmp_path)
    dropped = trim(tmp_path, quota=before // 2)
    assert spool.size_bytes(tmp_path) <= before // 2
    records = spool.Reader(tmp_path).batch(1000)
    head = [entry for entry in records if "n" in entry and entry["n"] < 50 and entry["n"] < dropped]
    [said] = [entry for entry in records if "dropped" in entry]
    kept = numbers([entry for entry in records if "n" in entry])
    assert said["dropped"] == dropped == 100 - len(kept)
    # What is being shipped stays, then the marker, then the newest without a gap.
    assert kept == [*range(len(head)), *range(len(head) + dropped, 100)]
    assert records.index(said) == len(head)


def test_markers_are_merged(tmp_path: Path) -> None:
    writer = filled(tmp_path, 100)
    quota = spool.size_bytes(tmp_path) // 2
    first = trim(tmp_path, quota=quota)
    for number in range(100, 160):
        writer.append(record(number))
    second = trim(tmp_path, quota=quota)
    markers = [r["dropped"] for r in spool.Reader(tmp_path).batch(1000) if "dropped" in r]
    assert markers == [first + second]


def test_under_the_quota_nothing_goes(tmp_path: Path) -> None:
    filled(tmp_path, 30)
    assert trim(tmp_path, quota=10_000) == 0
    assert len(spool.Reader(tmp_path).batch(100)) == 30


def test_numbers_stay_without_gaps_when_lines_are_dropped(tmp_path: Path) -> None:
    filled(tmp_path, 100)
    reader = spool.Reader(tmp_path)
    reader.batch(10)
    reader.ack(10)
    trim(tmp_path, quota=1000, head=reader.head)
    records = reader.batch(1000)
    reader.ack(len(records))
    assert reader.next_seq == 10 + len(records)


def test_the_reserve_is_left_to_others(tmp_path: Path) -> None:
    writer = spool.Writer(tmp_path / "logs", reserve_bytes=2**62)
    with pytest.raises(OSError, match="reserved"):
        writer.append(record(0))
    spool.Writer(tmp_path / "metrics").append(record(0))
    assert numbers(spool.Reader(tmp_path / "metrics").batch(9)) == [0]


def test_half_a_line_never_stays_on_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files cuts a write in two, as a disk does that fills up."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
        writer = spool.Writer(tmp_path, segment_bytes=10_000)
        refused = 0
        for number in range(5):
            try:
                writer.append(record(number, 80))
            except OSError:
                refused += 1
        os._exit(refused)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    text = spool.segments(tmp_path)[0].read_bytes()
    assert [json.loads(line)["n"] for line in text.splitlines()] == [0, 1]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "exit.json"
    spool.write_atomically(path, b"first")
    spool.write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["exit.json"]
