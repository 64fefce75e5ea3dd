"""Log lines of ranks: stored in chunks as they come, read from the end, from a place, or live.

A trial may store so many characters of log; beyond that the oldest chunks go, and one line stands
in their place and says how many lines that were.

The place of a line is ``<chunk id>.<offset>``; it is the event id of the live stream, so that a
reader that comes back with Last-Event-ID gets no gap and no repeat.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import signals, sql
from quintile.core import errors, messages
from quintile.core.meta import Message
from quintile_api.runs import streams, tables

STREAM: Final = "logs"
PAGE_CHUNKS: Final = 20
PAGE_SIZE: Final = 1024 * 1024
"""Characters after which a page takes no further chunk: lines may be long."""
QUOTA: Final = 256 * 1024 * 1024
"""Characters of log of one trial."""
CHECK_EVERY: Final = 16
"""The quota is looked at once in so many chunks."""
SLACK: Final = 0.9
"""Trimming makes room down to this share of the quota, so that it is not needed at once again."""
Place = tuple[int, int]
START: Final[Place] = (0, 0)


class LogView(Message):
    """One stored line. ``id`` is its place."""

    id: str
    attempt: int
    generation: int
    rank: int
    seq: int
    time: float
    stream: str
    line: str


class LogStore:
    """Stores and reads lines; ``arrived`` wakes followers in this process."""

    def __init__(self, database: sql.Database, *, quota: int = QUOTA) -> None:
        self._database = database
        self._quota = quota
        self.arrived = signals.Signal()

    def store(self, uid: str, batch: messages.LogBatch) -> int:
        """Insert the lines that are not stored yet; return the last contiguous seq.

        A gap between batches means that the agent dropped lines (it says so in a line of its own);
        lines of a batch must ascend.
        """
        seqs = [line.seq for line in batch.lines]
        if seqs != sorted(set(seqs)):
            raise errors.InvalidSpec("Lines must be in ascending order of seq.", field="lines")
        key = (uid, batch.attempt, batch.generation, batch.rank, STREAM)
        with self._database.write() as session:
            self._database.serialize(session, f"logs {uid}")
            before = streams.acked(session, key)
            fresh = [line for line in batch.lines if before is None or line.seq > before]
            if not fresh:
                return streams.NOTHING if before is None else before
            chunk = tables.LogChunk(
                trial_uid=uid,
                attempt=batch.attempt,
                generation=batch.generation,
                rank=batch.rank,
                lines=[[line.seq, line.time, line.stream, line.line] for line in fresh],
                size=sum(len(line.line) for line in fresh),
                dropped=0,
            )
            session.add(chunk)
            streams.save(session, key, fresh[-1].seq)
            session.flush()
            if chunk.id % CHECK_EVERY == 0:
                _trim(session, uid, self._quota)
        self.arrived.notify()
        return fresh[-1].seq

    def read(self, uid: str, *, after: Place, rank: int | None) -> list[LogView]:
        """Return the next lines after a place, some chunks at most."""
        with self._database.read() as session:
            return _after(session, uid, after=after, rank=rank)

    def tail(self, uid: str, *, lines: int, rank: int | None) -> list[LogView]:
        """Return the last ``lines`` lines in order."""
        if lines <= 0:
            return []
        found: list[LogView] = []
        before: int | None = None
        with self._database.read() as session:
            while len(found) < lines:
                chunks = _before(session, uid, before=before, rank=rank)
                if not chunks:
                    break
                for chunk in chunks:
                    found[:0] = _views(chunk)
                    before = chunk.id
        return found[-lines:]

    def newest(self, uid: str) -> Place:
        """Return the place after the last line of now."""
        with self._database.read() as session:
            query = sa.select(sa.func.max(tables.LogChunk.id))
            newest = session.scalar(query.where(tables.LogChunk.trial_uid == uid))
        return (newest + 1, 0) if newest is not None else START


def place_of(text: str) -> Place:
    """Return the place after the line with this id.

    Raises:
        InvalidSpec: It is not an id of a line.
    """
    chunk, _, offset = text.partition(".")
    if not chunk.isdigit() or not offset.isdigit():
        raise errors.InvalidSpec(
            f"{text!r} is not the id of a log line.",
            field="Last-Event-ID",
            hint="Send back the id of the last line that arrived.",
        )
    return int(chunk), int(offset) + 1


def _trim(session: orm.Session, uid: str, quota: int) -> None:
    """Replace the oldest chunks of a trial beyond its quota by one line that counts them."""
    row = tables.LogChunk
    mine = row.trial_uid == uid
    stored = session.scalar(sa.select(sa.func.sum(row.size)).where(mine)) or 0
    if stored <= quota:
        return
    # Only sizes are read here: the lines of a full log would fill the memory.
    sizes = session.execute(sa.select(row.id, row.size).where(mine).order_by(row.id)).all()
    surplus = stored - int(quota * SLACK)
    held = itertools.accumulate(size for _, size in sizes)
    newest = next(key for (key, _), sofar in zip(sizes, held, strict=True) if sofar >= surplus)
    told = sa.case((row.dropped > 0, row.dropped), else_=sa.func.json_array_length(row.lines))
    lines = session.scalar(sa.select(sa.func.sum(told)).where(mine, row.id <= newest)) or 0
    session.execute(sa.delete(row).where(mine, row.id < newest))
    last = session.get_one(row, newest)
    seq, time_s, _, _ = last.lines[-1]
    words = f"[quintile] {lines} lines dropped: the log of this run is full"
    last.lines, last.size, last.dropped = [[seq, time_s, "agent", words]], 0, lines


def _after(session: orm.Session, uid: str, *, after: Place, rank: int | None) -> list[LogView]:
    row, (begun, offset) = tables.LogChunk, after
    query = _chunks(uid, rank)
    has_more = sa.func.json_array_length(row.lines) > offset
    for chunk in session.scalars(query.where(row.id == begun, has_more)):
        return _views(chunk)[offset:]
    page = _page(session, query.where(row.id > begun).order_by(row.id))
    return [view for chunk in page for view in _views(chunk)]


def _before(
    session: orm.Session, uid: str, *, before: int | None, rank: int | None
) -> Sequence[tables.LogChunk]:
    query = _chunks(uid, rank)
    if before is not None:
        query = query.where(tables.LogChunk.id < before)
    return _page(session, query.order_by(tables.LogChunk.id.desc()))


def _page(session: orm.Session, query: sa.Select[tables.LogChunk]) -> Sequence[tables.LogChunk]:
    """Return the first chunks of a query: at least one, and no more than memory is meant for."""
    row = tables.LogChunk
    sizes = session.execute(query.with_only_columns(row.id, row.size).limit(PAGE_CHUNKS)).all()
    before = itertools.accumulate((size for _, size in sizes), initial=0)
    wanted = [key for (key, _), held in zip(sizes, before, strict=False) if held < PAGE_SIZE]
    return session.scalars(query.where(row.id.in_(wanted))).all()


def _chunks(uid: str, rank: int | None) -> sa.Select[tables.LogChunk]:
    query = sa.select(tables.LogChunk).where(tables.LogChunk.trial_uid == uid)
    return query if rank is None else query.where(tables.LogChunk.rank == rank)


def _views(chunk: tables.LogChunk) -> list[LogView]:
    return [
        LogView(
            id=f"{chunk.id}.{offset}",
            attempt=chunk.attempt,
            generation=chunk.generation,
            rank=chunk.rank,
            seq=seq,
            time=time_s,
            stream=stream,
            line=line,
        )
        for offset, (seq, time_s, stream, line) in enumerate(chunk.lines)
    ]
