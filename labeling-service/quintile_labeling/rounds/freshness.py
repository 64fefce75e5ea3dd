"""Whether a certificate still follows from the answers: R must stand as it was looked at."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import tables
from quintile_labeling.answers import rules

_UNSETTLED: Final = -2
_BEFORE: Final = ("importing", "ready")
"""Stages without a certificate: its ingest moves the job on in the same transaction."""


def check(session: orm.Session, job: tables.Job, item_id: str) -> None:
    """Mark the certificate stale, or fresh again, when the answer of an item of R changed."""
    if job.stage in _BEFORE:
        return
    if session.get_one(tables.Item, (job.id, item_id)).random_rank is None:
        return
    certificate = of(session, job)
    if certificate is not None:
        certificate.stale = is_stale(session, job, certificate.number)


def of(session: orm.Session, job: tables.Job) -> tables.Certificate | None:
    """Return the certificate of a job; None while there is none."""
    query = sa.select(tables.Certificate).where(tables.Certificate.job_id == job.id)
    return session.scalars(query.order_by(tables.Certificate.number.desc()).limit(1)).first()


def is_stale(session: orm.Session, job: tables.Job, number: int) -> bool:
    """Return whether an item of R is answered otherwise than it entered round ``number``."""
    session.flush()
    item, used, now = tables.Item, tables.RoundInput, tables.Settlement
    settled_now = sa.case((now.rule.in_(rules.SETTLED), now.class_id), else_=_UNSETTLED)
    query = (
        sa.select(sa.literal(1))
        .select_from(item)
        .join(
            used,
            sa.and_(
                used.job_id == item.job_id,
                used.number == number,
                used.item_id == item.item_id,
            ),
        )
        .outerjoin(now, sa.and_(now.job_id == item.job_id, now.item_id == item.item_id))
        .where(
            item.job_id == job.id,
            item.random_rank.is_not(None),
            sa.func.coalesce(settled_now, _UNSETTLED) != used.class_id,
        )
        .limit(1)
    )
    return session.scalar(query) is not None
