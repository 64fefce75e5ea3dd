"""What the answers come to: settlements and tallies, kept up row by row or rebuilt from events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import tables
from quintile_labeling.answers import rules
from quintile_labeling.queue import ordering

LIVE = ("head", "extra")
_TALLIES = {
    "random": "random_settled",
    "chosen": "chosen_settled",
    "uncovered": "others_settled",
}


def resettle(session: orm.Session, job: tables.Job, item_id: str) -> rules.Settlement | None:
    """Bring the settlement of an item and the job's tallies up to its live answers.

    Opens or withdraws the adjudication slot as the answers differ or not.
    """
    slots = _slots(session, job, item_id)
    wanted = 2 if _is_doubled(slots) else 1
    after = rules.settle(_opinions(session, job, item_id), wanted=wanted)
    row = session.get(tables.Settlement, (job.id, item_id))
    was_settled = row is not None and row.rule in rules.SETTLED
    is_settled = after is not None and after.is_settled
    job.human += (after is not None) - (row is not None)
    _count(session, job, slots, is_settled - was_settled)
    if after is None and row is not None:
        session.delete(row)
    if after is not None:
        row = row or tables.Settlement(job_id=job.id, item_id=item_id)
        row.rule, row.annotation_id = after.rule, after.annotation_id
        row.class_id, row.verdict = after.class_id, after.verdict
        session.add(row)
    _adjudicate(session, job, slots, needed=after is not None and after.rule == "adjudicate")
    session.flush()
    return after


def rebuild(session: orm.Session, job: tables.Job) -> None:
    """Make standings, settlements and tallies anew from the events alone."""
    session.flush()
    standing = _standings(session, job)
    session.execute(sa.delete(tables.Settlement).where(tables.Settlement.job_id == job.id))
    session.expire_all()
    job.decisions = job.spent = 0
    by_item: dict[str, list[rules.Opinion]] = defaultdict(list)
    rows = session.scalars(sa.select(tables.Annotation).where(tables.Annotation.job_id == job.id))
    for row in rows:
        row.standing = standing[row.id]
        job.decisions += 1
        if row.standing in LIVE:
            job.spent += 1
            by_item[row.item_id].append(_opinion(row))
    slots: dict[str, list[tables.Slot]] = defaultdict(list)
    query = sa.select(tables.Slot).where(tables.Slot.job_id == job.id)
    for slot in session.scalars(query.order_by(tables.Slot.ordinal)):
        slots[slot.item_id].append(slot)
    _reset_tallies(session, job, slots)
    for item_id, opinions in by_item.items():
        wanted = 2 if _is_doubled(slots[item_id]) else 1
        found = rules.settle(opinions, wanted=wanted)
        assert found is not None
        session.add(
            tables.Settlement(
                job_id=job.id,
                item_id=item_id,
                rule=found.rule,
                annotation_id=found.annotation_id,
                class_id=found.class_id,
                verdict=found.verdict,
            )
        )
        _count(session, job, slots[item_id], int(found.is_settled))
    job.human = len(by_item)
    session.flush()


def _reset_tallies(
    session: orm.Session, job: tables.Job, slots: Mapping[str, Sequence[tables.Slot]]
) -> None:
    job.random_settled = job.chosen_settled = job.others_settled = 0
    accepted = sa.select(sa.func.count()).where(
        tables.Item.job_id == job.id, tables.Item.accepted.is_(True)
    )
    job.auto = session.scalar(accepted) or 0
    job.batch_left = sum(_in_batch(job, found[0]) for found in slots.values())


def _standings(session: orm.Session, job: tables.Job) -> dict[str, str]:
    query = sa.select(tables.Event).where(tables.Event.job_id == job.id).order_by(tables.Event.seq)
    standing: dict[str, str] = {}
    for event in session.scalars(query):
        if event.kind == "undo":
            standing[event.before] = "undone"
            if event.after:
                standing[event.after] = "head"
        elif event.kind == "reopen":
            standing[event.before] = "reopened"
        else:
            if event.before:
                standing[event.before] = "past"
            standing[event.after] = "head" if event.kind == "answer" else event.kind
    return standing


def _slots(session: orm.Session, job: tables.Job, item_id: str) -> Sequence[tables.Slot]:
    query = sa.select(tables.Slot).where(
        tables.Slot.job_id == job.id, tables.Slot.item_id == item_id
    )
    return session.scalars(query.order_by(tables.Slot.ordinal)).all()


def _is_doubled(slots: Sequence[tables.Slot]) -> bool:
    return any(slot.ordinal == rules.SECOND and slot.state != "void" for slot in slots)


def _opinions(session: orm.Session, job: tables.Job, item_id: str) -> list[rules.Opinion]:
    query = sa.select(tables.Annotation).where(
        tables.Annotation.job_id == job.id,
        tables.Annotation.item_id == item_id,
        tables.Annotation.standing.in_(LIVE),
    )
    return [_opinion(row) for row in session.scalars(query)]


def _opinion(row: tables.Annotation) -> rules.Opinion:
    return rules.Opinion(
        annotation_id=row.id,
        ordinal=row.ordinal,
        author=row.author,
        verdict=row.verdict,
        class_id=row.class_id,
        is_head=row.standing == "head",
    )


def _count(
    session: orm.Session, job: tables.Job, slots: Sequence[tables.Slot], change: int
) -> None:
    """Bring the tallies up to ``change`` more settled items (-1, 0 or 1)."""
    if not change:
        return
    main = slots[0]
    name = _TALLIES[main.purpose]
    setattr(job, name, getattr(job, name) + change)
    if _in_batch(job, main):
        job.batch_left -= change
    # A person's answer stands above the certificate's machine label.
    if session.get_one(tables.Item, (job.id, main.item_id)).accepted:
        job.auto -= change


def _in_batch(job: tables.Job, main: tables.Slot) -> bool:
    return main.batch and main.round == job.collecting


def _adjudicate(
    session: orm.Session, job: tables.Job, slots: Sequence[tables.Slot], *, needed: bool
) -> None:
    third = next((slot for slot in slots if slot.ordinal == rules.ADJUDICATION), None)
    if third is not None:
        if needed and third.state == "void":
            third.state = "open"
        elif not needed and third.state == "open":
            third.state = "void"
        return
    if not needed:
        return
    main = slots[0]
    session.add(
        tables.Slot(
            id=ordering.slot_id(job.uid, main.item_id, rules.ADJUDICATION),
            job_id=job.id,
            item_id=main.item_id,
            ordinal=rules.ADJUDICATION,
            purpose="adjudicate",
            tier=ordering.ADJUDICATE,
            position=main.position,
            round=main.round,
            batch=False,
            blind=True,
            why="two answers differ",
            state="open",
            revision=0,
        )
    )
