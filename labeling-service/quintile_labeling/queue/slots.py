"""Making and withdrawing slots: R at admission, batches as rounds open, uncovered items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import labeling_job
from quintile_labeling import tables
from quintile_labeling.queue import ordering

PIECE: Final = 500
"""Item ids per query; databases bound the parameters of one statement."""

NO_MIX: Final = ordering.Mix()


def open_random(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    item_ids: Sequence[str],
) -> None:
    """Make the slots of R, in committed order."""
    rows = _rows(job, spec, "random", [(item_id, "random") for item_id in item_ids], number=0)
    _insert(session, rows)


def open_batch(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    *,
    number: int,
    order: Sequence[tuple[str, str]],
    sizes: tuple[int, int],
) -> int:
    """Make the slots of a round; return how many items its batch has.

    Open slots of earlier rounds are withdrawn; those that people hold come first in the batch,
    then whatever is ranked highest and can still be chosen, then (the list was too short) any.

    Args:
        session: The transaction.
        job: The job.
        spec: Its spec.
        number: The round that opens.
        order: Ranked (item id, reason).
        sizes: Items of the batch and of the reserve after it.
    """
    withdraw_chosen(session, job)
    wanted = sum(sizes)
    chosen = _held(session, job)
    seen = {item_id for item_id, _ in chosen}
    for piece in _pieces(order):
        if len(chosen) >= wanted:
            break
        free = _free(session, job, [item_id for item_id, _ in piece]) - seen
        chosen += [pair for pair in piece if pair[0] in free]
    chosen += _any(session, job, wanted=sizes[0] - len(chosen), without=chosen)
    batch, reserve = chosen[: sizes[0]], chosen[sizes[0] : wanted]
    mix = _mix(session, job, spec, number=number)
    rows = _rows(job, spec, "batch", batch, number=number, mix=mix)
    rows += _rows(job, spec, "reserve", reserve, number=number)
    _merge(session, rows)
    return len(batch)


def open_uncovered(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    *,
    order: Sequence[tuple[str, str]],
    limit: int,
) -> None:
    """Make slots for at most ``limit`` items that neither certificate nor people cover.

    Items of R beyond the certificate's prefix are like any other from now on. ``order``: ranked
    (item id, reason), what the machine doubts most first; others follow.
    """
    query = (
        sa.select(tables.Item.item_id)
        .where(
            tables.Item.job_id == job.id,
            tables.Item.accepted.is_(False),
            ~_answered(tables.Item.item_id, job),
        )
        .order_by(tables.Item.ordinal)
    )
    left = dict.fromkeys(session.scalars(query), "not covered by the certificate")
    ranked = [(item_id, why) for item_id, why in order if item_id in left]
    known = {item_id for item_id, _ in ranked}
    wanted = [*ranked, *((item_id, why) for item_id, why in left.items() if item_id not in known)]
    _merge(session, _rows(job, spec, "uncovered", wanted[: max(0, limit)], number=0))


def withdraw_chosen(session: orm.Session, job: tables.Job) -> None:
    """Withdraw chosen slots that nobody holds and whose item has no answer yet."""
    session.flush()
    random = sa.exists().where(
        tables.Item.job_id == job.id,
        tables.Item.item_id == tables.Slot.item_id,
        tables.Item.random_rank.is_not(None),
    )
    _withdraw(session, job, tables.Slot.purpose.in_(("chosen", "overlap")), ~random)


def withdraw_reserve(session: orm.Session, job: tables.Job) -> None:
    """Withdraw the reserve: no round comes that would learn from it."""
    session.flush()
    _withdraw(session, job, tables.Slot.tier == ordering.RESERVE)


def _withdraw(session: orm.Session, job: tables.Job, *which: sa.ColumnElement[bool]) -> None:
    change = (
        sa.update(tables.Slot)
        .where(
            tables.Slot.job_id == job.id,
            tables.Slot.state == "open",
            *which,
            ~_answered(tables.Slot.item_id, job),
        )
        .values(state="void", batch=False)
        .execution_options(synchronize_session=False)
    )
    session.execute(change)
    for loaded in session.identity_map.values():
        if isinstance(loaded, tables.Slot):
            session.expire(loaded)


def _answered(item_id: orm.InstrumentedAttribute[str], job: tables.Job) -> sa.Exists:
    """Return the condition that an item has an answer, settled or not."""
    return sa.exists().where(
        tables.Settlement.job_id == job.id, tables.Settlement.item_id == item_id
    )


def _held(session: orm.Session, job: tables.Job) -> list[tuple[str, str]]:
    """Return chosen items that somebody holds and nobody answered, with their reasons."""
    query = (
        sa.select(tables.Slot.item_id, tables.Slot.why)
        .where(
            tables.Slot.job_id == job.id,
            tables.Slot.state == "leased",
            tables.Slot.purpose == "chosen",
            ~_answered(tables.Slot.item_id, job),
        )
        .order_by(tables.Slot.tier, tables.Slot.position, tables.Slot.item_id)
    )
    return [(item_id, why) for item_id, why in session.execute(query)]


def _mix(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec, *, number: int
) -> ordering.Mix:
    """Return how the batch of round ``number`` is mixed with R, so that both last equally long."""
    if spec.strategy.lookahead == 0:
        return ordering.Mix()
    query = sa.select(sa.func.count(), sa.func.min(tables.Slot.position)).where(
        tables.Slot.job_id == job.id,
        tables.Slot.state == "open",
        tables.Slot.purpose == "random",
    )
    left, start = session.execute(query).one()
    chosen_left = job.chosen_limit - job.chosen_settled
    rounds_left = spec.budget.max_rounds - number + 1
    coming = max(1, min(chosen_left, rounds_left * job.batch))
    return ordering.Mix(start=start or 0, share=left / coming)


def _rows(
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    kind: ordering.Kind,
    items: Iterable[tuple[str, str]],
    *,
    number: int,
    mix: ordering.Mix = NO_MIX,
) -> list[dict[str, Any]]:
    share = labeling_job.count_of(spec.review.overlap, job.items) / max(job.items, 1)
    rows = []
    for position, (item_id, why) in enumerate(items):
        doubled = kind != "uncovered" and ordering.is_doubled(spec.seed, item_id, share=share)
        blind = kind in ("batch", "reserve") and ordering.is_blind(spec.seed, item_id)
        for ordinal in range(1 + doubled):
            place = ordering.place(
                kind, lookahead=spec.strategy.lookahead, ordinal=ordinal, blind=blind
            )
            rows.append(
                {
                    "id": ordering.slot_id(job.uid, item_id, ordinal),
                    "job_id": job.id,
                    "item_id": item_id,
                    "ordinal": ordinal,
                    "purpose": place.purpose,
                    "tier": place.tier,
                    "position": mix.position(position),
                    "round": number,
                    "batch": kind == "batch" and ordinal == 0,
                    "blind": place.blind,
                    "why": _why(why, blind=place.blind, ordinal=ordinal, kind=kind),
                    "state": "open",
                    "revision": 0,
                }
            )
    return rows


def _why(why: str, *, blind: bool, ordinal: int, kind: ordering.Kind) -> str:
    # A reason such as "cat or dog" would tell what the machine thinks.
    if ordinal:
        return "second opinion"
    return "chosen, shown blind" if blind and kind != "random" else why


def _merge(session: orm.Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert slots; bring those that exist back to work with their new place."""
    fresh = []
    for piece in _pieces(rows):
        query = sa.select(tables.Slot).where(tables.Slot.id.in_([row["id"] for row in piece]))
        known = {slot.id: slot for slot in session.scalars(query)}
        for row in piece:
            slot = known.get(row["id"])
            if slot is None:
                fresh.append(row)
                continue
            for name in ("purpose", "tier", "position", "round", "batch", "blind", "why"):
                setattr(slot, name, row[name])
            if slot.state == "void":
                slot.state = "open"
    session.flush()
    _insert(session, fresh)


def _insert(session: orm.Session, rows: Sequence[dict[str, Any]]) -> None:
    for piece in _pieces(rows):
        session.execute(sa.insert(tables.Slot), list(piece))


def _any(
    session: orm.Session, job: tables.Job, *, wanted: int, without: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return ``wanted`` more items that can be chosen; item ids are hashes, their order random."""
    if wanted <= 0:
        return []
    known = {item_id for item_id, _ in without}
    query = (
        sa.select(tables.Item.item_id)
        .where(
            tables.Item.job_id == job.id,
            tables.Item.random_rank.is_(None),
            ~_answered(tables.Item.item_id, job),
        )
        .order_by(tables.Item.ordinal)
        .limit(wanted + len(known))
    )
    found = [item_id for item_id in session.scalars(query) if item_id not in known]
    return [(item_id, "any item that is left") for item_id in found[:wanted]]


def _free(session: orm.Session, job: tables.Job, item_ids: Sequence[str]) -> set[str]:
    """Return those of the items that can be chosen: of this pool, not in R, not answered."""
    query = sa.select(tables.Item.item_id).where(
        tables.Item.job_id == job.id,
        tables.Item.item_id.in_(item_ids),
        tables.Item.random_rank.is_(None),
        ~_answered(tables.Item.item_id, job),
    )
    return set(session.scalars(query))


def _pieces(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), PIECE):
        yield rows[start : start + PIECE]
