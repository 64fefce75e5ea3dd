"""Forgetting: jobs whose resource is gone, their rows and objects, old outbox rows, old leases."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from quintile.core import names
from quintile_labeling import context, tables

KEEP_CHANGES: Final = 100_000
GRACE_S: Final = 7 * 24 * 3600.0
"""How long the answers of a job are kept whose resource is gone, in case it comes back."""


def mark_gone(ctx: context.Context) -> None:
    """Mark jobs as deleted whose LabelingJob does not exist any more."""
    with ctx.database.read() as session:
        known = set(
            session.scalars(sa.select(tables.Job.uid).where(tables.Job.deleted_s.is_(None)))
        )
    if not known:
        return
    listed = ctx.resources.list(context.KIND).items
    gone = known - {str(document["metadata"]["uid"]) for document in listed}
    if gone:
        with ctx.database.write() as session:
            missed = sa.update(tables.Job).where(tables.Job.uid.in_(sorted(gone)))
            session.execute(missed.values(deleted_s=ctx.clock.now()))


def mark_deleted(ctx: context.Context, uid: str) -> None:
    """Mark a job that somebody deleted: nobody sees it from now on, nothing of it is kept."""
    with ctx.database.write() as session:
        session.execute(sa.update(tables.Job).where(tables.Job.uid == uid).values(deleted_s=0.0))
    ctx.bells.work.notify()


def purge(ctx: context.Context) -> None:
    """Forget jobs that were deleted, or missed for ``GRACE_S``: their objects, then rows."""
    with ctx.database.read() as session:
        found = session.execute(
            sa.select(tables.Job.id, tables.Job.uid).where(
                tables.Job.deleted_s <= ctx.clock.now() - GRACE_S
            )
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
