"""Classes were appended: the random items are asked again, since they might be of a new class.

What people said stays as it is recorded; it only stops counting. Other items keep their answers.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import context, tables
from quintile_labeling.answers import projection
from quintile_labeling.rounds import freshness


def reopen_random(ctx: context.Context, session: orm.Session, job: tables.Job) -> None:
    """Begin a new schema version; every answer to an item of R so far counts no longer."""
    job.schema_version += 1
    query = (
        sa.select(tables.Annotation)
        .join(
            tables.Item,
            sa.and_(
                tables.Item.job_id == tables.Annotation.job_id,
                tables.Item.item_id == tables.Annotation.item_id,
            ),
        )
        .where(
            tables.Annotation.job_id == job.id,
            tables.Item.random_rank.is_not(None),
            tables.Annotation.standing.in_(projection.LIVE),
        )
        .order_by(tables.Annotation.id)
    )
    now_s = ctx.clock.now()
    items: dict[str, None] = {}
    for row in session.scalars(query).all():
        slot = session.get_one(tables.Slot, row.slot_id)
        if row.standing == "head":
            slot.state, slot.author = "open", None
            slot.revision += 1
        row.standing = "reopened"
        job.spent -= 1
        items[row.item_id] = None
        session.add(
            tables.Event(
                job_id=job.id,
                group_id=f"schema-{job.schema_version}",
                kind="reopen",
                actor="quintile",
                item_id=row.item_id,
                slot_id=row.slot_id,
                before=row.id,
                after="",
                client_id="",
                created_s=now_s,
            )
        )
    session.flush()
    for item_id in items:
        projection.resettle(session, job, item_id)
    certificate = freshness.of(session, job)
    if certificate is not None:
        certificate.stale = freshness.is_stale(session, job, certificate.number)
