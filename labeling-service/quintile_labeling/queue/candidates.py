"""Which slots one person could answer now. The statements are made once; they run at every task."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import tables
from quintile_labeling.answers import projection, rules

READY_LIMIT: Final = 1000
"""Tasks that are counted ahead at most."""

Found = tuple[tables.Slot, tables.Item]

_JOB: Final = sa.bindparam("job", type_=sa.BigInteger)
_USER: Final = sa.bindparam("user", type_=sa.String)
_COUNT: Final = sa.bindparam("count", type_=sa.Integer)
_SLOT, _ITEM = tables.Slot, tables.Item
_HELD: Final = orm.aliased(tables.Slot)
_OF_SLOT: Final = sa.and_(_ITEM.job_id == _SLOT.job_id, _ITEM.item_id == _SLOT.item_id)

# A machine label that the certificate covers, or a settled item, needs nobody any more.
_SETTLED: Final = sa.exists().where(
    tables.Settlement.job_id == _JOB,
    tables.Settlement.item_id == _SLOT.item_id,
    tables.Settlement.rule.in_(rules.SETTLED),
)
_IS_OPEN: Final = sa.and_(
    _SLOT.job_id == _JOB, _SLOT.state == "open", _ITEM.accepted.is_(False), ~_SETTLED
)

# A second answer comes from another person.
_HOLDS: Final = sa.exists().where(
    _HELD.job_id == _JOB,
    _HELD.item_id == _SLOT.item_id,
    _HELD.state == "leased",
    _HELD.holder == _USER,
)
_ANSWERED: Final = sa.exists().where(
    tables.Annotation.job_id == _JOB,
    tables.Annotation.item_id == _SLOT.item_id,
    tables.Annotation.author == _USER,
    tables.Annotation.standing.in_(projection.LIVE),
)
_SUITS: Final = sa.and_(_IS_OPEN, ~_HOLDS, ~_ANSWERED)

FIND: Final = (
    sa.select(_SLOT, _ITEM)
    .join(_ITEM, _OF_SLOT)
    .where(_SUITS)
    .order_by(_SLOT.tier, _SLOT.position, _SLOT.ordinal, _SLOT.id)
    .limit(_COUNT)
)
READY: Final = sa.select(sa.func.count()).select_from(
    sa.select(sa.literal(1))
    .select_from(_SLOT)
    .join(_ITEM, _OF_SLOT)
    .where(_SUITS)
    .limit(READY_LIMIT)
    .subquery()
)
ANY: Final = (
    sa.select(sa.literal(1)).select_from(_SLOT).join(_ITEM, _OF_SLOT).where(_IS_OPEN).limit(1)
)


def find(session: orm.Session, job: tables.Job, user: str, *, count: int) -> list[Found]:
    """Return the first ``count`` slots that ``user`` may have, with their items, in order.

    Whoever holds or answered a slot of an item gets no other slot of it.
    """
    found = session.execute(FIND, {"job": job.id, "user": user, "count": count})
    return [(slot, item) for slot, item in found]


def count(session: orm.Session, job: tables.Job, user: str) -> int:
    """Return how many slots ``user`` could have, ``READY_LIMIT`` at most."""
    return session.scalar(READY, {"job": job.id, "user": user}) or 0


def any_open(session: orm.Session, job: tables.Job) -> bool:
    """Return whether there is a slot that somebody could have."""
    return session.scalar(ANY, {"job": job.id}) is not None
