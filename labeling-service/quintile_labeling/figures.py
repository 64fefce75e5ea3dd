"""What the labeling service's tables say of jobs, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from quintile.adapters import http_figures, sql
from quintile_labeling import tables

WAITING: Final = ("open", "leased")
JOB: Final = ("project", "job")


class JobFigures:
    """Reads gauges of all jobs that are not deleted; one short transaction at each scrape."""

    def __init__(self, database: sql.Database) -> None:
        self._database = database

    def read(self) -> Iterator[http_figures.Gauge]:
        """Yield queue lengths, labels by who gave them, and how much of each job is labeled."""
        job, slot = tables.Job, tables.Slot
        queues = (
            sa.select(job.namespace, job.name, slot.state, sa.func.count())
            .join(slot, slot.job_id == job.id)
            .where(job.deleted_s.is_(None), slot.state.in_(WAITING))
            .group_by(job.namespace, job.name, slot.state)
        )
        with self._database.read() as session:
            lengths: dict[tuple[str, ...], float] = {
                (str(project), str(name), str(state)): float(count)
                for project, name, state, count in session.execute(queues)
            }
            jobs = list(session.scalars(sa.select(job).where(job.deleted_s.is_(None))))
        yield http_figures.Gauge(
            "labeling_queue_length",
            "Answers that are wanted from people, by state.",
            (*JOB, "state"),
            lengths,
        )
        yield http_figures.Gauge(
            "labeling_labels",
            "Items with a label, by who gave it.",
            (*JOB, "source"),
            {
                (one.namespace, one.name, source): float(count)
                for one in jobs
                for source, count in (("human", one.human), ("auto", one.auto))
            },
        )
        yield http_figures.Gauge(
            "labeling_coverage",
            "Share of a job's items with a label.",
            JOB,
            {
                (one.namespace, one.name): min(1.0, (one.human + one.auto) / one.items)
                for one in jobs
                if one.items
            },
        )
        yield http_figures.Gauge(
            "labeling_answers",
            "Answers that people gave so far.",
            JOB,
            {(one.namespace, one.name): float(one.decisions) for one in jobs},
        )
