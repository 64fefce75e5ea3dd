"""Items of a job come in from its dataset version; R is served before the rest is there.

State is in the rows: a job in stage ``importing`` has no items, or R alone, or R and the first
part of the others. Every step continues from what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import datasets, errors
from quintile.engine import stratum
from quintile_labeling import context, tables
from quintile_labeling.queue import slots
from quintile_labeling.rounds import advance

PIECE: Final = 2_000
"""Items per transaction, so that people who answer never wait for long."""


def import_items(ctx: context.Context, job_id: int) -> None:
    """Bring in what is missing of a job's items, then begin its rounds. Idempotent.

    Raises:
        RunFailed: The version holds other items than it said.
        NotFound, Unavailable: The version cannot be read (now).
    """
    with ctx.database.read() as session:
        job = session.get_one(tables.Job, job_id)
        spec, project = context.spec_of(job), job.namespace
        expected, size = job.items, job.random_size
    source = spec.dataset
    items = sorted(ctx.catalog.items(project, source.name, source.version), key=_id)
    if len(items) != expected or len({item.item_id for item in items}) != expected:
        raise errors.RunFailed(
            f"Version {source.version} of dataset {source.name!r} gave {len(items)} items; "
            f"expected {expected} different ones.",
            hint="Check the dataset; a version never changes.",
            reason="ImportMismatch",
        )
    drawn = stratum.prefix(expected, seed=spec.seed, size=size).tolist()
    ranks = {ordinal: rank for rank, ordinal in enumerate(drawn)}
    _import_random(ctx, job_id, items, drawn)
    for piece in _pieces([row for row in range(expected) if row not in ranks]):
        _import_piece(ctx, job_id, items, piece)
    with ctx.database.write() as session:
        locked = _locked(session, job_id)
        if locked is not None:
            locked.stage, locked.problem = "ready", ""
            advance.advance(ctx, session, locked)
            ctx.changed(session, locked)


def _import_random(
    ctx: context.Context, job_id: int, items: Sequence[datasets.ItemView], drawn: Sequence[int]
) -> None:
    with ctx.database.write() as session:
        job = _locked(session, job_id)
        if job is None or _count(session, job_id) > 0:
            return
        rows = [_row(job_id, items[place], place, rank) for rank, place in enumerate(drawn)]
        session.execute(sa.insert(tables.Item), rows)
        spec = context.spec_of(job)
        slots.open_random(session, job, spec, [items[place].item_id for place in drawn])
        ctx.changed(session, job)


def _import_piece(
    ctx: context.Context, job_id: int, items: Sequence[datasets.ItemView], places: Sequence[int]
) -> None:
    with ctx.database.write() as session:
        if _locked(session, job_id) is None:
            return
        # Pieces are the same after a crash, and each is stored whole or not at all.
        if session.get(tables.Item, (job_id, items[places[0]].item_id)) is None:
            rows = [_row(job_id, items[place], place, None) for place in places]
            session.execute(sa.insert(tables.Item), rows)


def _row(job_id: int, item: datasets.ItemView, place: int, rank: int | None) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "item_id": item.item_id,
        "ordinal": place,
        "name": item.name,
        "sha256": item.sha256,
        "width": item.width,
        "height": item.height,
        "random_rank": rank,
        "accepted": False,
    }


def _locked(session: orm.Session, job_id: int) -> tables.Job | None:
    """Return a job that still imports, locked; None when it is deleted or done."""
    query = sa.select(tables.Job).where(
        tables.Job.id == job_id,
        tables.Job.deleted_s.is_(None),
        tables.Job.stage == "importing",
    )
    return session.scalar(query.with_for_update())


def _count(session: orm.Session, job_id: int) -> int:
    query = sa.select(sa.func.count()).select_from(tables.Item).where(tables.Item.job_id == job_id)
    return session.scalar(query) or 0


def _id(item: datasets.ItemView) -> str:
    return item.item_id


def _pieces(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), PIECE):
        yield places[start : start + PIECE]
