"""What people did, as the reconciler reads it: snapshots of jobs and the tail of the outbox.

The labeling half of the port ``Facts``; the composition root joins it with the API's half.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import errors, facts, meta
from quintile_labeling import context, tables
from quintile_labeling.admission import admitting
from quintile_labeling.rounds import freshness, progress


class JobFactsReader:
    """Facts about labeling jobs from the service's own tables. Blocking; thread-safe."""

    def __init__(self, ctx: context.Context) -> None:
        self._ctx = ctx

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return keys changed after ``since`` ("" = from now on); block up to ``wait_s``."""
        return self._ctx.outbox.changed(since, wait_s=wait_s)

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a job; None while it is not admitted."""
        with self._ctx.database.read() as session:
            job = context.job_of(session, uid)
            return None if job is None else facts_of(session, job)

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Take in a LabelingJob as stored. Idempotent by uid and generation.

        Raises:
            InvalidSpec: The job can never run (no such dataset version, budget too small).
            Unavailable: The API is away; try again.
        """
        uid = admitting.admit(self._ctx, document)
        found = self.job(uid)
        if found is None:
            raise errors.Unavailable(
                "The labeling job was deleted while it was admitted.", hint="Read it again."
            )
        return found


def facts_of(session: orm.Session, job: tables.Job) -> facts.JobFacts:
    """Return what is known of a job now."""
    certificate = freshness.of(session, job)
    settled = job.random_settled + job.chosen_settled + job.others_settled
    uncovered = max(0, job.items - job.auto - settled)
    report = {} if certificate is not None else _report(session, job)
    coverage = report.get("coverage")
    error, outcome = None, ""
    if certificate is not None:
        coverage = 1 - uncovered / job.items
        outcome = "Uncertified" if certificate.stale else certificate.outcome
        if outcome != "Uncertified":
            error = float(certificate.document["certified_error"])
    return facts.JobFacts(
        uid=job.uid,
        state=progress.state(session, job),
        items=job.items,
        human=job.human,
        auto=job.auto,
        decisions=job.decisions,
        rounds=tuple(_told(fact) for fact in progress.rounds(session, job)),
        random_commitment=job.commitment,
        coverage=coverage,
        certified_error=error,
        outcome=outcome,
        labels_left=_labels_left(job, report, uncovered if certificate is not None else None),
        output_version=job.output_version,
        problem=job.problem,
    )


def _told(fact: facts.RoundFact) -> facts.RoundFact:
    """Return a round as others may know it: closed only once its manifest is stored."""
    if fact.state == "closed" and not fact.manifest_key:
        return replace(fact, state="collecting")
    return fact


def _labels_left(job: tables.Job, report: dict[str, Any], uncovered: int | None) -> int | None:
    """Return how many answers the job still takes, as far as anybody can say."""
    if uncovered is not None:
        asks_people = job.spec.get("finish", {}).get("uncovered", "people") == "people"
        left = uncovered if asks_people and job.stage in ("ready", "covering") else 0
        return min(left, max(0, job.decision_limit - job.spent))
    forecast = report.get("labels_left")
    return None if forecast is None else int(forecast)


def _report(session: orm.Session, job: tables.Job) -> dict[str, Any]:
    query = (
        sa.select(tables.Round.report)
        .where(tables.Round.job_id == job.id, tables.Round.state == "ingested")
        .order_by(tables.Round.number.desc())
        .limit(1)
    )
    return session.scalar(query) or {}
