"""Leases: who gets which slot, for how long. One transaction per call, behind the job's lock.

A lease belongs to a person and a client (a tab or a process); nobody ever holds two slots of one
item. Leases that ran out are taken back by whoever asks next.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from quintile.core import conditions, errors, labeling_job, tasks
from quintile_labeling import tables
from quintile_labeling.desk import Desk
from quintile_labeling.queue import candidates, showing, waiting

CLIENT_LIMIT: Final = 25
_FREE: Final = {"state": "open", "lease": None, "holder": None, "client": None, "expires_s": None}


def take(desk: Desk, wanted: tasks.NextRequest) -> tasks.TaskBatch:
    """Lease up to ``wanted.count`` tasks.

    Raises:
        Forbidden: The job names its annotators, and the caller is none of them.
    """
    check_annotator(desk.spec, desk.user)
    if wanted.fresh:
        release(desk, sa.and_(*_of_client(desk.user, wanted.client)))
    release(desk, tables.Slot.expires_s <= desk.now_s)
    held = _held(desk, *_of_client(desk.user, wanted.client))
    all_held, own = _held(desk), _held(desk, tables.Slot.holder == desk.user)
    budget = desk.job.decision_limit - desk.job.spent - all_held
    room = min(wanted.count, CLIENT_LIMIT - held, budget)
    blocked = waiting.blocked(desk, held=held, limit=CLIENT_LIMIT)
    if blocked or room <= 0:
        word = blocked or waiting.taken(all_held=all_held, own=own)
        return tasks.TaskBatch(tasks=[], ready=0, state=waiting.state(desk), waiting=word)
    open_slots = candidates.find(desk.session, desk.job, desk.user, count=2 * room)
    found = _one_per_item(open_slots)[:room]
    _lease(desk, [slot for slot, _ in found], client=wanted.client)
    shown = showing.tasks_of(desk, found)
    ready = candidates.count(desk.session, desk.job, desk.user) if found else 0
    return tasks.TaskBatch(
        tasks=shown,
        ready=min(ready, max(0, budget - len(found))),
        state=waiting.state(desk),
        waiting="" if found else waiting.word(desk, all_held=all_held, own=own),
    )


def renew(desk: Desk, wanted: tasks.LeaseRenewal) -> tasks.LeaseAnswer:
    """Extend the leases that the caller still holds; give others back. Idempotent."""
    if wanted.release:
        release(desk, _mine(desk, wanted.release))
    expires_s = desk.now_s + desk.ctx.lease_s
    kept: Sequence[str] = []
    if wanted.leases:
        mine = sa.select(tables.Slot).where(_leased(desk.job), _mine(desk, wanted.leases))
        slots = desk.session.scalars(mine).all()
        kept = [str(slot.lease) for slot in slots]
        for slot in slots:
            slot.expires_s = expires_s
        change = sa.update(tables.Lease).where(tables.Lease.token.in_(kept))
        desk.session.execute(change.values(expires_s=expires_s))
    return tasks.LeaseAnswer(extended=sorted(kept), expires=conditions.timestamp(expires_s))


def release(desk: Desk, which: sa.ColumnElement[bool]) -> None:
    """Make leased slots open again for whoever asks."""
    change = sa.update(tables.Slot).where(_leased(desk.job), which).values(**_FREE)
    done = desk.session.execute(
        change.execution_options(synchronize_session=False).returning(tables.Slot.id)
    )
    if done.first() is not None:
        desk.ctx.ring(desk.session, desk.job)


def check_annotator(spec: labeling_job.LabelingJobSpec, user: str) -> None:
    """Check that a job asks this person.

    Raises:
        Forbidden: It names others.
    """
    if spec.review.annotators and user not in spec.review.annotators:
        raise errors.Forbidden(
            f"{user} is not among the annotators of this job: "
            f"{', '.join(spec.review.annotators[:10])}.",
            hint="Ask a manager of the project for a job that names you in spec.review.annotators.",
        )


def _lease(desk: Desk, slots: Sequence[tables.Slot], *, client: str) -> None:
    expires_s = desk.now_s + desk.ctx.lease_s
    rows = []
    for slot in slots:
        slot.state, slot.holder, slot.client = "leased", desk.user, client
        slot.lease, slot.expires_s = secrets.token_hex(16), expires_s
        rows.append(
            {
                "token": slot.lease,
                "job_id": desk.job.id,
                "slot_id": slot.id,
                "user": desk.user,
                "client": client,
                "expires_s": expires_s,
            }
        )
    if rows:
        desk.session.execute(sa.insert(tables.Lease), rows)
    desk.session.flush()


def _one_per_item(found: Sequence[candidates.Found]) -> list[candidates.Found]:
    # Both slots of an item may be open at once; one person gets one of them.
    first: dict[str, candidates.Found] = {}
    for slot, item in found:
        first.setdefault(slot.item_id, (slot, item))
    return list(first.values())


def _held(desk: Desk, *which: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).where(_leased(desk.job), *which)
    return desk.session.scalar(query) or 0


def _leased(job: tables.Job) -> sa.ColumnElement[bool]:
    return sa.and_(tables.Slot.job_id == job.id, tables.Slot.state == "leased")


def _of_client(user: str, client: str) -> tuple[sa.ColumnElement[bool], ...]:
    return tables.Slot.holder == user, tables.Slot.client == client


def _mine(desk: Desk, leases: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(tables.Slot.holder == desk.user, tables.Slot.lease.in_(leases))
