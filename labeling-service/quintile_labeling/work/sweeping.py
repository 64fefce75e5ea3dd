"""Forgetting: jobs whose resource is gone, their rows and objects, old outbox rows, old leases."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import names
from quintile_labeling import context, tables

KEEP_CHANGES: Final = 100_000


def mark_gone(ctx: context.Context) -> None:
    """Mark jobs as deleted whose LabelingJob does not exist any more."""
    with ctx.database.read() as session:
        known = set(session.scalars(sa.select(tables.Job.uid).where(tables.Job.deleted.is_(False))))
    if not known:
        return
    listed = ctx.resources.list(context.KIND).items
    gone = known - {str(document["metadata"]["uid"]) for document in listed}
    if gone:
        with ctx.database.write() as session:
            mark(session, tables.Job.uid.in_(sorted(gone)))


def mark(session: orm.Session, which: sa.ColumnElement[bool]) -> None:
    """Mark jobs as deleted; nobody sees them from now on."""
    session.execute(sa.update(tables.Job).where(which).values(deleted=True))


def purge(ctx: context.Context) -> None:
    """Forget everything of deleted jobs: objects first, then rows."""
    with ctx.database.read() as session:
        found = session.execute(
            sa.select(tables.Job.id, tables.Job.uid).where(tables.Job.deleted.is_(True))
        ).all()
    for job_id, uid in found:
        for info in list(ctx.objects.list(f"{names.rounds_prefix(uid)}/")):
            ctx.objects.delete(info.key)
        with ctx.database.write() as session:
            session.execute(sa.delete(tables.Job).where(tables.Job.id == job_id))


def prune(ctx: context.Context) -> None:
    """Forget outbox rows that every reader has passed long ago."""
    with ctx.database.write() as session:
        ctx.outbox.prune(session, keep=KEEP_CHANGES)
