"""Saving answers and undoing them: one transaction per message, nothing acknowledged is lost.

Every answer leaves an annotation, an event and a receipt; then the item is settled anew, and the
job goes on if that completed a round. An answer that comes too late is kept, never dropped.
"""

from __future__ import annotations

import math
from typing import Final

import sqlalchemy as sa

from quintile.core import errors, tasks
from quintile_labeling import context, desk, tables
from quintile_labeling.answers import projection, rules
from quintile_labeling.desk import Desk
from quintile_labeling.queue import ordering
from quintile_labeling.rounds import advance, freshness

FROZEN: Final = ("exporting", "exported")
LONGEST_S: Final = 86_400.0
"""More seconds on one item are not believed."""


def save(ctx: context.Context, place: desk.Place, batch: tasks.AnswerBatch) -> tasks.AnswerResults:
    """Store a batch of answers; each is judged on its own, all are committed together.

    Raises:
        NotFound: No such job.
        Unavailable, StoreFull: Nothing was stored; send the batch again.
    """
    with desk.open_at(ctx, place) as at:
        results = [_save_one(at, answer) for answer in batch.answers]
        if any(result.outcome in ("accepted", "extra", "stale") for result in results):
            advance.advance(ctx, at.session, at.job)
            ctx.changed(at.session, at.job)
    return tasks.AnswerResults(results=results)


def undo(ctx: context.Context, place: desk.Place, request: tasks.UndoRequest) -> tasks.AnswerResult:
    """Take back the newest live answer of a person on an item; a new event, nothing is erased.

    Raises:
        NotFound: There is no such answer.
        Conflict: The job is exported, or being exported.
    """
    with desk.open_at(ctx, place) as at:
        known = _receipt(at, request.client_id)
        if known is not None:
            return known
        if at.job.stage in FROZEN:
            raise errors.Conflict(
                f"The result of labeling job {place.job!r} is exported; its answers stand.",
                hint="Correct the label in a new job on the exported version.",
            )
        result = _take_back(at, request)
        advance.advance(ctx, at.session, at.job)
        ctx.changed(at.session, at.job)
    return result


def _receipt(at: Desk, client_id: str) -> tasks.AnswerResult | None:
    row = at.session.get(tables.Receipt, (at.job.id, client_id))
    if row is None:
        return None
    if row.author != at.user:
        return _refused(client_id, "This client_id was used by another person before.")
    return tasks.AnswerResult(client_id=client_id, outcome="repeated", revision=row.revision)


def _refused(client_id: str, problem: str) -> tasks.AnswerResult:
    return tasks.AnswerResult(client_id=client_id, outcome="refused", problem=problem)


def _save_one(at: Desk, answer: tasks.Answer) -> tasks.AnswerResult:
    known = _receipt(at, answer.client_id)
    if known is not None:
        return known
    try:
        class_id = rules.class_of(answer.payload, classes=len(at.spec.labels))
        slot = _slot(at, answer)
    except errors.QuintileError as error:
        return _refused(answer.client_id, str(error))
    view = rules.SlotView(slot.state, slot.revision, slot.author, slot.lease, slot.expires_s)
    outcome = rules.judge(
        view,
        author=at.user,
        lease=answer.lease,
        base_revision=answer.base_revision,
        now_s=at.now_s,
    )
    problem = ""
    if at.job.stage in FROZEN:
        outcome = "stale"
        problem = "The job is exported; the answer is kept but changes nothing."
    replaced = _replace(at, slot, outcome)
    at.job.decisions += 1
    at.job.spent += int(outcome != "stale") - int(bool(replaced))
    row = _annotation(at, slot, answer, class_id=class_id, outcome=outcome)
    at.session.add(row)
    kind = "answer" if outcome == "accepted" else outcome
    _note(at, slot, kind=kind, before=replaced, after=row.id, client_id=answer.client_id)
    at.session.flush()
    if outcome != "stale":
        projection.resettle(at.session, at.job, slot.item_id)
        freshness.check(at.session, at.job, slot.item_id)
    return _acknowledge(
        at, answer.client_id, outcome=outcome, revision=slot.revision, problem=problem
    )


def _slot(at: Desk, answer: tasks.Answer) -> tables.Slot:
    """Return the slot of an answer, checked against the lease that its author was once given.

    Raises:
        NotFound, Forbidden, InvalidSpec: The answer cannot belong to this slot.
    """
    slot = at.session.get(tables.Slot, answer.slot_id)
    if slot is None or slot.job_id != at.job.id:
        raise errors.NotFound(f"There is no slot {answer.slot_id!r} in this job.")
    lease = at.session.get(tables.Lease, answer.lease)
    if lease is None or lease.slot_id != slot.id or lease.user != at.user:
        raise errors.Forbidden(
            f"The lease for item {answer.item_id} was never given to {at.user}.",
            hint="Ask for tasks first: POST tasks/next.",
        )
    if slot.item_id != answer.item_id:
        raise errors.InvalidSpec(
            f"Slot {slot.id} belongs to item {slot.item_id}, not to {answer.item_id}.",
            field="item_id",
        )
    return slot


def _replace(at: Desk, slot: tables.Slot, outcome: rules.Outcome) -> str:
    """Make room for an answer; return the id of the person's own answer that it replaces.

    An accepted answer takes the slot; an extra opinion only replaces the same person's last one.
    """
    if outcome == "stale":
        return ""
    query = sa.select(tables.Annotation).where(
        tables.Annotation.job_id == at.job.id,
        tables.Annotation.item_id == slot.item_id,
        tables.Annotation.slot_id == slot.id,
        tables.Annotation.author == at.user,
        tables.Annotation.standing.in_(projection.LIVE),
    )
    before = at.session.scalar(query)
    if before is not None:
        before.standing = "past"
    if outcome == "accepted":
        slot.state, slot.author = "answered", at.user
        slot.lease = slot.holder = slot.client = slot.expires_s = None
        slot.revision += 1
    return before.id if before is not None else ""


def _annotation(
    at: Desk, slot: tables.Slot, answer: tasks.Answer, *, class_id: int, outcome: rules.Outcome
) -> tables.Annotation:
    return tables.Annotation(
        id=ordering.annotation_id(at.job.uid, answer.client_id),
        job_id=at.job.id,
        item_id=slot.item_id,
        slot_id=slot.id,
        ordinal=slot.ordinal,
        purpose=slot.purpose,
        round=slot.round,
        author=at.user,
        revision=slot.revision,
        base_revision=answer.base_revision,
        schema_version=at.job.schema_version,
        verdict=answer.payload.verdict,
        class_id=class_id,
        payload=answer.payload.model_dump(mode="json"),
        seconds=_plausible(answer.seconds),
        blind=slot.blind,
        via=answer.via,
        standing="head" if outcome == "accepted" else outcome,
        created_s=at.now_s,
    )


def _plausible(seconds: float) -> float:
    # A wrong clock of a client must not cost an answer.
    return min(max(seconds, 0.0), LONGEST_S) if math.isfinite(seconds) else 0.0


def _note(
    at: Desk, slot: tables.Slot, *, kind: str, before: str, after: str, client_id: str
) -> None:
    at.session.add(
        tables.Event(
            job_id=at.job.id,
            group_id="",
            kind=kind,
            actor=at.user,
            item_id=slot.item_id,
            slot_id=slot.id,
            before=before,
            after=after,
            client_id=client_id,
            created_s=at.now_s,
        )
    )


def _acknowledge(
    at: Desk, client_id: str, *, outcome: rules.Outcome, revision: int, problem: str = ""
) -> tasks.AnswerResult:
    at.session.add(
        tables.Receipt(
            job_id=at.job.id,
            client_id=client_id,
            author=at.user,
            outcome=outcome,
            revision=revision,
        )
    )
    return tasks.AnswerResult(
        client_id=client_id, outcome=outcome, revision=revision, problem=problem
    )


def _take_back(at: Desk, request: tasks.UndoRequest) -> tasks.AnswerResult:
    mine = sa.select(tables.Annotation).where(
        tables.Annotation.job_id == at.job.id,
        tables.Annotation.item_id == request.item_id,
        tables.Annotation.author == at.user,
    )
    live = mine.where(tables.Annotation.standing.in_(projection.LIVE))
    newest = live.join(tables.Event, tables.Event.after == tables.Annotation.id)
    row = at.session.scalars(newest.order_by(tables.Event.seq.desc()).limit(1)).first()
    if row is None:
        raise errors.NotFound(
            f"{at.user} has no answer on item {request.item_id!r} that could be undone."
        )
    slot = at.session.get_one(tables.Slot, row.slot_id)
    past = None
    if row.standing == "head":
        query = mine.where(
            tables.Annotation.slot_id == slot.id, tables.Annotation.standing == "past"
        )
        past = at.session.scalars(query.order_by(tables.Annotation.revision.desc())).first()
        slot.revision += 1
        if past is not None:
            past.standing = "head"
        else:
            slot.state, slot.author = "open", None
    row.standing = "undone"
    at.job.spent -= int(past is None)
    after = past.id if past is not None else ""
    _note(at, slot, kind="undo", before=row.id, after=after, client_id=request.client_id)
    at.session.flush()
    projection.resettle(at.session, at.job, slot.item_id)
    freshness.check(at.session, at.job, slot.item_id)
    return _acknowledge(at, request.client_id, outcome="accepted", revision=slot.revision)
