"""Rounds and the curve of people's work over them. Nothing here was measured on R."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import names, tasks
from quintile_labeling import tables

_COLUMNS = (
    tables.Round.number,
    tables.Round.step,
    tables.Round.state,
    tables.Round.labels,
    tables.Round.random_settled,
    tables.Round.report,
    tables.Round.closed_s,
    tables.Round.ingested_s,
)


def views(session: orm.Session, job: tables.Job) -> list[tasks.RoundView]:
    """Return all rounds of a job, oldest first; one that collects shows the counts of now."""
    found = []
    for row in _rows(session, job):
        collecting = row.state == "collecting"
        done = row.ingested_s is not None and row.closed_s is not None
        found.append(
            tasks.RoundView(
                number=row.number,
                step=row.step,
                state=row.state,
                human=job.human if collecting else row.labels,
                random_settled=job.random_settled if collecting else row.random_settled,
                coverage=row.report.get("coverage"),
                forecast_low=row.report.get("coverage_low"),
                forecast_high=row.report.get("coverage_high"),
                experiment=names.round_experiment(job.name, uid=job.uid, number=row.number),
                seconds=row.ingested_s - row.closed_s if done else None,
            )
        )
    return found


def curve(session: orm.Session, job: tables.Job) -> list[tasks.CurvePoint]:
    """Return what people had answered when each computed round closed."""
    return [
        tasks.CurvePoint(
            round=row.number,
            step=row.step,
            human_labels=row.labels,
            human_label_fraction=row.labels / job.items,
            coverage=row.report.get("coverage"),
            coverage_low=row.report.get("coverage_low"),
            coverage_high=row.report.get("coverage_high"),
        )
        for row in _rows(session, job)
        if row.state == "ingested" and row.step != "embed"
    ]


def _rows(session: orm.Session, job: tables.Job) -> list[Any]:
    query = sa.select(*_COLUMNS).where(tables.Round.job_id == job.id)
    return list(session.execute(query.order_by(tables.Round.number)))
