"""Labels of a job as CSV text, written while it is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import sql
from quintile.core import errors
from quintile_labeling import context, tables
from quintile_labeling.answers import rules
from quintile_labeling.rounds import predictions
from quintile_labeling.views import labels

HEADER = ("item_id", "name", "label", "source", "confidence")
LINES = 1_000
"""Rows per piece of text."""


def stream(
    database: sql.Database, job_id: int, *, guess: bool, round_number: int | None
) -> Iterator[str]:
    """Yield the CSV in pieces: one row per item, in order of id.

    Args:
        database: Where the job is.
        job_id: The job.
        guess: Whether rows without a label carry the machine's newest prediction.
        round_number: Labels as they were when this round closed, and its predictions; None = now.
    """
    with database.read() as session:
        job = session.get_one(tables.Job, job_id)
        names = context.spec_of(job).labels
        if round_number is None:
            machine = labels.machine_of(session, job)
            found = labels.walk(session, job, machine, guess=guess)
        else:
            found = _as_of(session, job, round_number, guess=guess)
        yield _text([HEADER])
        rows: list[tuple[object, ...]] = []
        for one in found:
            label = names[one.class_id] if one.class_id != rules.NO_CLASS else ""
            confidence = "" if one.confidence is None else f"{one.confidence:.6f}"
            rows.append((one.item_id, one.name, label, one.source, confidence))
            if len(rows) == LINES:
                yield _text(rows)
                rows = []
        yield _text(rows)


def check_round(session: orm.Session, job: tables.Job, number: int) -> None:
    """Check that a round predicted.

    Raises:
        NotFound: It did not, or not yet.
    """
    query = sa.select(tables.Prediction.chunk).where(
        tables.Prediction.job_id == job.id, tables.Prediction.number == number
    )
    if session.scalar(query.limit(1)) is None:
        raise errors.NotFound(
            f"Round {number} of labeling job {job.name!r} has no predictions.",
            hint="See the curve for the rounds that have.",
        )


def _as_of(
    session: orm.Session, job: tables.Job, number: int, *, guess: bool
) -> Iterator[labels.Labeled]:
    """Yield all items as round ``number`` knew them: its input, and what it predicted."""
    now = labels.machine_of(session, job)
    shelf = predictions.Shelf(session, job, number)
    machine = labels.Machine(certified=shelf, newest=shelf, shows_random=now.shows_random)
    used = {
        item_id: (class_id, annotation_id)
        for item_id, class_id, annotation_id in session.execute(
            sa.select(
                tables.RoundInput.item_id,
                tables.RoundInput.class_id,
                tables.RoundInput.annotation_id,
            ).where(tables.RoundInput.job_id == job.id, tables.RoundInput.number == number)
        )
    }
    after = ""
    while rows := labels.page(session, job, after=after, limit=labels.PAGE):
        for row in rows:
            yield labels.label_of(labels.as_used(row, used.get(row.item_id)), machine, guess=guess)
        after = rows[-1].item_id


def _text(rows: list[tuple[object, ...]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
