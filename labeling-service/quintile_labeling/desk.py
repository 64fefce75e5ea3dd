"""One write transaction of one person on one job; what queue and answers work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import orm

from quintile.core import labeling_job
from quintile_labeling import context, tables


@dataclass(frozen=True)
class Desk:
    """The transaction, its job (locked), and who sits at it. ``user`` is a person's name."""

    ctx: context.Context
    session: orm.Session
    job: tables.Job
    spec: labeling_job.LabelingJobSpec
    user: str
    now_s: float


@dataclass(frozen=True)
class Place:
    """Which job, and who comes: the job's name in its project, the person's name."""

    project: str
    job: str
    user: str


@contextmanager
def open_at(ctx: context.Context, place: Place) -> Iterator[Desk]:
    """Begin the transaction; it commits when the block ends and rolls back when it raises.

    Raises:
        NotFound: There is no such job (yet).
        Unavailable, StoreFull: Nothing was stored; try again.
    """
    with ctx.database.write() as session:
        job = context.job_named(session, place.project, place.job, lock=True)
        yield Desk(
            ctx=ctx,
            session=session,
            job=job,
            spec=context.spec_of(job),
            user=place.user,
            now_s=ctx.clock.now(),
        )
