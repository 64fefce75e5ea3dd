"""Which label of an item counts now, and where it comes from; the one rule for views and export.

A settled answer of people stands above everything (without a class: no label). Then the machine's
label, if the certificate covers it. Then nothing, or the machine's newest guess for whoever asks
for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_labeling import tables
from quintile_labeling.answers import rules
from quintile_labeling.rounds import freshness, predictions

Source = Literal["human", "auto", "auto-uncertified", "none"]
PAGE: Final = 2_000
"""Items per query of a walk over all of them."""

_AUTO: Final[Source] = "auto"
_UNCERTIFIED: Final[Source] = "auto-uncertified"
HUMAN: Final = predictions.Prediction(class_id=rules.NO_CLASS, confidence=1.0, score=1.0)
"""How sure a label of a person counts as."""


@dataclass(frozen=True)
class Labeled:
    """One item with the label that counts; ``class_id`` is -1 without one.

    ``confidence``: probability of the class by the machine, 1 for people. ``score``: how sure the
    machine is to be right. ``round``: which round predicted it, or asked people for it.
    """

    item_id: str
    name: str
    ordinal: int
    random: bool
    class_id: int
    source: Source
    confidence: float | None
    score: float
    round: int
    annotation_id: str


@dataclass(frozen=True)
class Machine:
    """What the machine says: certified predictions, and its newest ones for everything else.

    ``shows_random``: whether predictions of random items may be seen (once there is a
    certificate); an annotator who saw one would not be blind.
    """

    certified: predictions.Shelf
    newest: predictions.Shelf
    shows_random: bool


_COLUMNS: Final[tuple[Any, ...]] = (
    tables.Item.item_id,
    tables.Item.name,
    tables.Item.ordinal,
    tables.Item.random_rank,
    tables.Item.accepted,
    tables.Settlement.rule,
    tables.Settlement.class_id,
    tables.Settlement.annotation_id,
    tables.Slot.round,
)


def machine_of(session: orm.Session, job: tables.Job) -> Machine:
    """Return what the machine of a job says now; read as it is asked for."""
    certificate = freshness.of(session, job)
    certified = certificate.number if certificate is not None else None
    return Machine(
        certified=predictions.Shelf(session, job, certified),
        newest=predictions.Shelf(session, job, predictions.newest(session, job)),
        shows_random=certificate is not None,
    )


def walk(
    session: orm.Session, job: tables.Job, machine: Machine, *, guess: bool
) -> Iterator[Labeled]:
    """Yield all items of a job in order of id; ``guess`` fills gaps with the newest prediction."""
    after = ""
    while True:
        rows = page(session, job, after=after, limit=PAGE)
        for row in rows:
            yield label_of(row, machine, guess=guess)
        if len(rows) < PAGE:
            return
        after = rows[-1].item_id


@dataclass(frozen=True)
class Row:
    """An item, what its answers come to (``rule`` None without any), and its slot's round."""

    item_id: str
    name: str
    ordinal: int
    random_rank: int | None
    accepted: bool
    rule: str | None
    class_id: int | None
    annotation_id: str | None
    asked_round: int | None


def page(
    session: orm.Session,
    job: tables.Job,
    *,
    after: str,
    limit: int,
    where: Sequence[sa.ColumnElement[bool]] = (),
    answered: bool = False,
) -> list[Row]:
    """Return up to ``limit`` items beyond id ``after``; ``answered`` ones alone if so asked."""
    item, settled, slot = tables.Item, tables.Settlement, tables.Slot
    same_item = sa.and_(settled.job_id == item.job_id, settled.item_id == item.item_id)
    # Few of many items may be answered: then the answers are walked, not the items.
    lead = settled if answered else item
    query = sa.select(*_COLUMNS).select_from(lead)
    query = query.join(item, same_item) if answered else query.outerjoin(settled, same_item)
    query = (
        query.outerjoin(
            slot,
            sa.and_(
                slot.job_id == item.job_id,
                slot.item_id == item.item_id,
                slot.ordinal == rules.MAIN,
            ),
        )
        .where(lead.job_id == job.id, lead.item_id > after, *where)
        .order_by(lead.item_id)
        .limit(limit)
    )
    return [Row(*found) for found in session.execute(query)]


def row_of(session: orm.Session, job: tables.Job, item_id: str) -> Row:
    """Return one item, which must exist."""
    found = page(session, job, after="", limit=1, where=[tables.Item.item_id == item_id])
    return found[0]


def as_used(row: Row, used: tuple[int, str] | None) -> Row:
    """Return an item as a round knew it: (class id, annotation id) that entered it, if any."""
    class_id, annotation_id = used if used is not None else (None, None)
    rule = "single" if used is not None else None
    return replace(row, accepted=False, rule=rule, class_id=class_id, annotation_id=annotation_id)


def label_of(row: Row, machine: Machine, *, guess: bool) -> Labeled:
    """Return an item with the label that counts for it."""
    if row.rule in rules.SETTLED:
        has_class = row.class_id != rules.NO_CLASS
        return _labeled(
            row,
            class_id=row.class_id if row.class_id is not None else rules.NO_CLASS,
            source="human" if has_class else "none",
            thought=HUMAN if has_class else None,
            number=row.asked_round or 0,
        )
    shelf, source = machine.newest, _UNCERTIFIED
    if row.accepted:
        shelf, source = machine.certified, _AUTO
    elif not guess or (row.random_rank is not None and not machine.shows_random):
        return _labeled(row, class_id=rules.NO_CLASS, source="none", thought=None, number=0)
    thought = shelf.of(row.ordinal)
    if thought is None:
        return _labeled(row, class_id=rules.NO_CLASS, source="none", thought=None, number=0)
    number = shelf.number or 0
    return _labeled(row, class_id=thought.class_id, source=source, thought=thought, number=number)


def _labeled(
    row: Row,
    *,
    class_id: int,
    source: Source,
    thought: predictions.Prediction | None,
    number: int,
) -> Labeled:
    return Labeled(
        item_id=row.item_id,
        name=row.name,
        ordinal=row.ordinal,
        random=row.random_rank is not None,
        class_id=class_id,
        source=source,
        confidence=thought.confidence if thought is not None else None,
        score=thought.score if thought is not None else 0.0,
        round=number,
        annotation_id=(row.annotation_id or "") if row.rule in rules.SETTLED else "",
    )
