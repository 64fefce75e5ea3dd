"""The log of one run has a limit in the database too: the oldest lines go, and one line says so."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from quintile.core import messages
from quintile_api.runs import logs, tables

QUOTA = 20_000
LINE = "x" * 90


def batch(first: int, count: int, *, rank: int = 0) -> messages.LogBatch:
    lines = [
        messages.LogLine(seq=seq, time=float(seq), line=f"{seq:06d}{LINE}")
        for seq in range(first, first + count)
    ]
    return messages.LogBatch(
        attempt=1,
        generation=1,
        boot_id="b" * 32,
        seq=1,
        role="worker",
        index=0,
        rank=rank,
        lines=lines,
    )


def test_the_oldest_lines_go_and_their_number_is_told(world: Any) -> None:
    store = logs.LogStore(world.ctx.database, quota=QUOTA)
    written = 0
    for _ in range(200):
        assert store.store("uid", batch(written, 10)) == written + 9
        written += 10
    found = store.tail("uid", lines=5000, rank=None)
    marker, *kept = found
    dropped = int(marker.line.removeprefix("[quintile] ").split()[0])
    assert marker.line == f"[quintile] {dropped} lines dropped: the log of this run is full"
    assert (marker.stream, marker.seq) == ("agent", dropped - 1)
    assert [view.seq for view in kept] == list(range(dropped, written))
    slack = logs.CHECK_EVERY * 10 * 96
    assert QUOTA * logs.SLACK - 960 <= sum(len(view.line) for view in kept) <= QUOTA + slack


def test_a_reader_goes_on_after_what_was_dropped(world: Any) -> None:
    store = logs.LogStore(world.ctx.database, quota=QUOTA)
    store.store("uid", batch(0, 10))
    [*_, last] = store.read("uid", after=logs.START, rank=None)
    for first in range(10, 2000, 10):
        store.store("uid", batch(first, 10))
    next_lines = store.read("uid", after=logs.place_of(last.id), rank=None)
    assert "lines dropped" in next_lines[0].line
    assert [view.seq for view in next_lines[1:]] == list(
        range(next_lines[0].seq + 1, next_lines[-1].seq + 1)
    )


def test_pages_of_long_lines_hold_few_of_them_and_none_is_missed(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "PAGE_SIZE", 900)
    store = logs.LogStore(world.ctx.database)
    for first in range(0, 100, 10):
        store.store("uid", batch(first, 10))
    place, found, pages = logs.START, [], 0
    while views := store.read("uid", after=place, rank=None):
        assert len(views) == 10
        found += [view.seq for view in views]
        place, pages = logs.place_of(views[-1].id), pages + 1
    assert (found, pages) == (list(range(100)), 10)
    assert [view.seq for view in store.tail("uid", lines=35, rank=None)] == list(range(65, 100))


def test_trimming_reads_no_lines_but_those_it_replaces(world: Any) -> None:
    """A full log of long lines would otherwise be held in memory, several times over."""
    store = logs.LogStore(world.ctx.database, quota=QUOTA)
    loaded: list[Any] = []

    def note(chunk: Any, _context: Any) -> None:
        loaded.append(chunk)

    sa.event.listen(tables.LogChunk, "load", note)
    try:
        for first in range(0, 5000, 10):
            store.store("uid", batch(first, 10))
    finally:
        sa.event.remove(tables.LogChunk, "load", note)
    trims = 500 // logs.CHECK_EVERY
    assert 0 < len(loaded) <= trims


def test_every_run_has_a_quota_of_its_own(world: Any) -> None:
    store = logs.LogStore(world.ctx.database, quota=QUOTA)
    store.store("quiet", batch(0, 10))
    for first in range(0, 2000, 10):
        store.store("loud", batch(first, 10))
    assert [view.seq for view in store.tail("quiet", lines=100, rank=None)] == list(range(10))
