"""Event files of trials, written from the metric points that their agents reported.

So the curves grow while a run goes on, whichever machine it runs on, and hold what counts: one file
per generation, and points that a later generation did again are taken back.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import sql
from quintile.core import event_records
from quintile_api.runs import metrics, tables

BATCH = 5_000
LARGEST_FLOAT = 3.4e38
Generation = tuple[int, int]
"""(attempt, generation)."""


class EventSync:
    """The event files of one trial in one folder. One thread calls it."""

    def __init__(self, database: sql.Database, uid: str, folder: pathlib.Path) -> None:
        self._database = database
        self._uid = uid
        self._folder = folder
        self._written: dict[Generation, int] = {}

    def update(self) -> int:
        """Append the points that came since the last call; return how many lines were new."""
        with self._database.read() as session:
            lineage = metrics.lineage(session, self._uid)
        return sum(
            self._append(entry, limit=limit, is_first=place == 0)
            for place, (entry, limit) in enumerate(_limited(lineage))
        )

    def _append(self, entry: metrics.Lineage, *, limit: float, is_first: bool) -> int:
        """Append what is new of one generation, a batch at a time."""
        key = (entry.attempt, entry.generation)
        count = 0
        while True:
            with self._database.read() as session:
                rows = self._rows(session, key)
            if not rows:
                return count
            self._write(key, rows, limit=limit, purge=None if is_first else entry.resume_step)
            self._written[key] = rows[-1].seq
            count += len(rows)

    def _rows(self, session: orm.Session, key: Generation) -> Sequence[tables.MetricRow]:
        row = tables.MetricRow
        query = sa.select(row).where(
            row.trial_uid == self._uid,
            row.attempt == key[0],
            row.generation == key[1],
            row.rank == 0,
            row.seq > self._written.get(key, -1),
        )
        found = session.scalars(query.order_by(row.seq).limit(BATCH)).all()
        session.expunge_all()
        return found

    def _write(
        self,
        key: Generation,
        rows: Sequence[tables.MetricRow],
        *,
        limit: float,
        purge: int | None,
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"events.out.tfevents.{key[0]:06d}.{key[1]:06d}"
        pieces = []
        if key not in self._written:
            pieces.append(event_records.version(rows[0].time_s))
            if purge is not None:
                step = max(purge, -1) + 1
                pieces.append(event_records.session(rows[0].time_s, purge_step=step))
        pieces.extend(
            event_records.scalars(drawable(row.values), step=row.step, time_s=row.time_s)
            for row in rows
            if row.step <= limit
        )
        with path.open("ab") as file:
            file.write(b"".join(pieces))


def drawable(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that 32-bit floats hold; a lost one is NaN. Pure."""
    return {
        name: math.nan if value is None else value
        for name, value in values.items()
        if value is None or abs(value) < LARGEST_FLOAT
    }


def _limited(lineage: Sequence[metrics.Lineage]) -> list[tuple[metrics.Lineage, float]]:
    limits = metrics.visible(lineage)
    return [(entry, limits[(entry.attempt, entry.generation)]) for entry in lineage]
