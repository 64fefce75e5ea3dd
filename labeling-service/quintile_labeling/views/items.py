"""Items of a job, page by page; bounded work per page, also in a pool of a million."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import errors, labeling_job, tasks
from quintile_labeling import paging, tables
from quintile_labeling.answers import rules
from quintile_labeling.views import labels

WINDOW: Final = 500
"""Items per query while a filter looks for fitting ones."""

WINDOWS: Final = 4
"""Queries per page at most; a page that is short then continues with its cursor."""


def page(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    *,
    asked: paging.PageQuery,
    source: str,
    label: str,
) -> paging.Listed[tasks.JobItemView]:
    """Return one page of items by id.

    Raises:
        InvalidSpec: A filter names an unknown source or class.
    """
    wanted = _class_of(spec, label)
    where = _where(source)
    machine = labels.machine_of(session, job)
    after = asked.after
    found: list[labels.Labeled] = []
    is_whole = not source and wanted is None
    size = asked.limit + 1 if is_whole else WINDOW
    for _ in range(WINDOWS):
        rows = labels.page(
            session, job, after=after, limit=size, where=where, answered=source == "human"
        )
        for row in rows:
            one = labels.label_of(row, machine, guess=True)
            if (not source or one.source == source) and wanted in (None, one.class_id):
                found.append(one)
        if len(rows) < size:
            return _listed(session, job, spec, found, limit=asked.limit, after=None)
        after = rows[-1].item_id
        if len(found) > asked.limit:
            break
    return _listed(session, job, spec, found, limit=asked.limit, after=after)


def _listed(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    found: Sequence[labels.Labeled],
    *,
    limit: int,
    after: str | None,
) -> paging.Listed[tasks.JobItemView]:
    """Return the page; ``after`` is how far was looked, None = to the end."""
    shown = found[:limit]
    if len(found) > limit:
        after = shown[-1].item_id
    counts = _annotations(session, job, [one.item_id for one in shown])
    items = [
        tasks.JobItemView(
            item_id=one.item_id,
            name=one.name,
            label=spec.labels[one.class_id] if one.class_id != rules.NO_CLASS else None,
            source=one.source,
            confidence=one.confidence,
            random=one.random,
            round=one.round,
            annotations=counts.get(one.item_id, 0),
        )
        for one in shown
    ]
    return paging.Listed(items=items, next_cursor=None if after is None else paging.encode(after))


def _annotations(session: orm.Session, job: tables.Job, item_ids: list[str]) -> dict[str, int]:
    note = tables.Annotation
    query = (
        sa.select(note.item_id, sa.func.count())
        .where(note.job_id == job.id, note.item_id.in_(item_ids))
        .group_by(note.item_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _class_of(spec: labeling_job.LabelingJobSpec, label: str) -> int | None:
    if not label:
        return None
    if label not in spec.labels:
        raise errors.InvalidSpec(
            f"The job has no label {label[:80]!r}; it has {', '.join(spec.labels[:12])}"
            f"{', …' if len(spec.labels) > 12 else ''}.",
            field="label",
        )
    return spec.labels.index(label)


def _where(source: str) -> list[sa.ColumnElement[bool]]:
    """Return what the database can tell of a source; the rest is told row by row."""
    known = get_args(labels.Source)
    if source and source not in known:
        raise errors.InvalidSpec(
            f"{source[:80]!r} is not a source; expected one of {', '.join(known)}.", field="source"
        )
    item, settled = tables.Item, tables.Settlement
    conditions: dict[str, list[sa.ColumnElement[Any]]] = {
        "human": [settled.rule.in_(rules.SETTLED), settled.class_id != rules.NO_CLASS],
        "auto": [item.accepted.is_(True)],
        "auto-uncertified": [item.accepted.is_(False)],
        "none": [item.accepted.is_(False)],
    }
    return list(conditions.get(source, []))
