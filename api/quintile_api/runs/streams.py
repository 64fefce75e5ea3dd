"""How far a stream of numbered records is stored without a gap."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import orm

from quintile_api.runs import tables

StreamKey = tuple[str, int, int, int, str]
"""(trial uid, attempt, generation, rank, stream)."""

NOTHING = -1


def acked(session: orm.Session, key: StreamKey) -> int | None:
    """Return the last contiguous seq of a stream; None when nothing of it is stored."""
    row = session.get(tables.StreamRow, key, with_for_update=True)
    return row.acked if row is not None else None


def advance(before: int | None, stored: Iterable[int]) -> int:
    """Return the last contiguous seq after ``stored`` (ascending) was added. Pure.

    A stream begins with whatever seq came first.
    """
    last = before
    for seq in stored:
        if last is None or seq == last + 1:
            last = seq
        elif seq > last + 1:
            break
    return NOTHING if last is None else last


def save(session: orm.Session, key: StreamKey, acked_seq: int) -> None:
    """Write down how far a stream is."""
    row = session.get(tables.StreamRow, key)
    if row is None:
        uid, attempt, generation, rank, stream = key
        session.add(
            tables.StreamRow(
                trial_uid=uid,
                attempt=attempt,
                generation=generation,
                rank=rank,
                stream=stream,
                acked=acked_seq,
            )
        )
    else:
        row.acked = acked_seq
