"""A worker hands in a round: its outputs are checked and kept, then the job goes on.

Idempotent by (job, number): what came first stands, since equal manifests give equal outputs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import tokens_ed25519
from quintile.core import tasks
from quintile_labeling import context, tables
from quintile_labeling.answers import rules
from quintile_labeling.rounds import (
    access,
    advance,
    freshness,
    manifests,
    opening,
    outputs,
    predictions,
)

STOP_LIMIT: Final = 64
ADVICE_LIMIT: Final = 1024
_FIGURES: Final = (
    "coverage",
    "coverage_low",
    "coverage_high",
    "labels_left",
    "labels_total",
    "seconds",
)
_KEPT: Final = (
    "predictions_key",
    "predictions_sha256",
    "features_key",
    "features_sha256",
    "scores_key",
    "scores_sha256",
    "model_sha256",
)


def ingest(
    ctx: context.Context,
    claims: tokens_ed25519.TrialClaims,
    result: tasks.RoundResult,
    *,
    job_uid: str,
) -> tasks.RoundAck:
    """Take the result of a round.

    Raises:
        Forbidden: The token is not of this round's worker.
        Fenced: A newer attempt has begun.
        InvalidSpec: An output is missing or does not fit the round.
        Unavailable, StoreFull: Nothing was kept; send it again.
    """
    number = result.number
    access.check(ctx, claims, job_uid=job_uid, number=number, attempt=result.attempt)
    with ctx.database.read() as session:
        job, row = opening.find(session, job_uid, number)
        access.check_place(job, claims)
        opening.fence(row, result.attempt)
        if row.state == "ingested":
            return tasks.RoundAck(number=number, repeated=True)
        if row.step != result.step:
            raise outputs.misfit(f"round {number} is a step {row.step}, not {result.step}")
        item_ids = _item_ids(session, job)
        classes = len(row.header["classes"])
    found = outputs.check(ctx.objects, job_uid, result, item_ids=item_ids, classes=classes)
    with ctx.database.write() as session:
        job, row = opening.find(session, job_uid, number)
        opening.fence(row, result.attempt)
        if row.state == "ingested":
            return tasks.RoundAck(number=number, repeated=True)
        _keep(ctx, session, job, row, result=result, found=found)
        advance.advance(ctx, session, job)
        ctx.changed(session, job)
    return tasks.RoundAck(number=number, repeated=False)


def _keep(
    ctx: context.Context,
    session: orm.Session,
    job: tables.Job,
    row: tables.Round,
    *,
    result: tasks.RoundResult,
    found: outputs.Outputs,
) -> None:
    now_s = ctx.clock.now()
    row.state, row.ingested_s, row.attempt = "ingested", now_s, result.attempt
    row.outputs = {name: getattr(result, name) for name in _KEPT}
    row.report = _report(result.report)
    row.ranked = manifests.pack_ranked(result.order, result.reasons) if result.order else b""
    job.stop = str(row.report["stop"])
    if found.records is not None:
        predictions.store(session, job, row.number, found.records)
    if found.certificate is None:
        return
    _accept(session, job, result.accepted)
    session.add(
        tables.Certificate(
            id=certificate_id(job.uid, row.number),
            job_id=job.id,
            number=row.number,
            stale=freshness.is_stale(session, job, row.number),
            outcome=found.certificate.outcome,
            document=found.certificate.document(),
            created_s=now_s,
        )
    )


def _report(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures and words of a report that somebody reads; others are left out."""
    report: dict[str, Any] = {}
    for name in _FIGURES:
        value = given.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            report[name] = float(value)
    stop, advice = given.get("stop") or "", given.get("advice") or ""
    return {**report, "stop": str(stop)[:STOP_LIMIT], "advice": str(advice)[:ADVICE_LIMIT]}


def certificate_id(job_uid: str, number: int) -> str:
    """Return the id of a certificate; equal in every replay."""
    return hashlib.sha256(f"certificate\0{job_uid}\0{number}".encode()).hexdigest()[:24]


def _accept(session: orm.Session, job: tables.Job, item_ids: Sequence[str]) -> None:
    change = (
        sa.update(tables.Item)
        .where(tables.Item.job_id == job.id, tables.Item.item_id == sa.bindparam("one"))
        .values(accepted=True)
    )
    if item_ids:
        rows: list[dict[str, Any]] = [{"one": item_id} for item_id in item_ids]
        session.connection().execute(change, rows)
    settled = sa.exists().where(
        tables.Settlement.job_id == job.id,
        tables.Settlement.item_id == tables.Item.item_id,
        tables.Settlement.rule.in_(rules.SETTLED),
    )
    covered = sa.select(sa.func.count()).where(
        tables.Item.job_id == job.id, tables.Item.accepted.is_(True), ~settled
    )
    job.auto = session.scalar(covered) or 0


def _item_ids(session: orm.Session, job: tables.Job) -> list[str]:
    query = sa.select(tables.Item.item_id).where(tables.Item.job_id == job.id)
    return list(session.scalars(query.order_by(tables.Item.ordinal)))
