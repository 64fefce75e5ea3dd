"""Which slots one person could answer now, as conditions of one query."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import tables
from quintile_labeling.answers import projection, rules

READY_LIMIT: Final = 1000
"""Tasks that are counted ahead at most."""

Found = tuple[tables.Slot, tables.Item]
_SLOT, _ITEM = tables.Slot, tables.Item
_OF_SLOT = sa.and_(_ITEM.job_id == _SLOT.job_id, _ITEM.item_id == _SLOT.item_id)


def find(session: orm.Session, job: tables.Job, user: str, *, count: int) -> list[Found]:
    """Return the first ``count`` slots that ``user`` may have, with their items, in order.

    A second answer comes from another person: whoever holds or answered a slot of an item gets
    no other slot of it.
    """
    query = (
        sa.select(_SLOT, _ITEM)
        .join(_ITEM, _OF_SLOT)
        .where(_is_open(job), _is_new_to(job, user))
        .order_by(_SLOT.tier, _SLOT.position, _SLOT.ordinal, _SLOT.id)
        .limit(count)
    )
    return [(slot, item) for slot, item in session.execute(query)]


def count(session: orm.Session, job: tables.Job, user: str) -> int:
    """Return how many slots ``user`` could have, ``READY_LIMIT`` at most."""
    rows = (
        sa.select(sa.literal(1))
        .select_from(_SLOT)
        .join(_ITEM, _OF_SLOT)
        .where(_is_open(job), _is_new_to(job, user))
        .limit(READY_LIMIT)
        .subquery()
    )
    return session.scalar(sa.select(sa.func.count()).select_from(rows)) or 0


def any_open(session: orm.Session, job: tables.Job) -> bool:
    """Return whether there is a slot that somebody could have."""
    query = sa.select(sa.literal(1)).select_from(_SLOT).join(_ITEM, _OF_SLOT).where(_is_open(job))
    return session.scalar(query.limit(1)) is not None


def _is_open(job: tables.Job) -> sa.ColumnElement[bool]:
    # A machine label that the certificate covers, or a settled item, needs nobody any more.
    settled = sa.exists().where(
        tables.Settlement.job_id == job.id,
        tables.Settlement.item_id == _SLOT.item_id,
        tables.Settlement.rule.in_(rules.SETTLED),
    )
    return sa.and_(
        _SLOT.job_id == job.id, _SLOT.state == "open", _ITEM.accepted.is_(False), ~settled
    )


def _is_new_to(job: tables.Job, user: str) -> sa.ColumnElement[bool]:
    other, mine = orm.aliased(tables.Slot), tables.Annotation
    holds = sa.exists().where(
        other.job_id == job.id,
        other.item_id == _SLOT.item_id,
        other.state == "leased",
        other.holder == user,
    )
    answered = sa.exists().where(
        mine.job_id == job.id,
        mine.item_id == _SLOT.item_id,
        mine.author == user,
        mine.standing.in_(projection.LIVE),
    )
    return sa.and_(~holds, ~answered)
