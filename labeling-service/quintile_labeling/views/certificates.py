"""The certificate of a job as people see it, with everything needed to check it again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import conditions, errors, tasks
from quintile.engine import certify
from quintile.engine.certify import certificate as wording
from quintile_labeling import context, tables
from quintile_labeling.answers import rules, saving
from quintile_labeling.rounds import freshness, progress

STALE = (
    "An answer of the random items has changed since; the certificate does not hold as it stands."
)


def view(session: orm.Session, job: tables.Job) -> tasks.CertificateView:
    """Return the certificate of a job.

    Raises:
        NotFound: There is none yet.
    """
    row = freshness.of(session, job)
    if row is None:
        raise errors.NotFound(
            f"Labeling job {job.name!r} has no certificate yet.",
            hint="It is made once the random items are answered and the budget or a stop rule is "
            "reached.",
        )
    spec = context.spec_of(job)
    document = row.document
    source = session.get_one(tables.Round, (job.id, row.number))
    measured = document["random_items"] > 0
    return tasks.CertificateView(
        id=row.id,
        outcome="Uncertified" if row.stale else row.outcome,
        mode=document["mode"],
        words=document["words"],
        guarantee=document["guarantee"],
        target_error=document["target_error"],
        confidence=document["confidence"],
        certified_error=document["certified_error"],
        items=document["items"],
        accepted=document["accepted"],
        random_items=document["random_items"],
        random_wrong=document["random_wrong"],
        upper_wrong=document["upper_wrong"],
        measured_error=document["measured_error"] if measured else None,
        measured_low=document["measured_low"] if measured else None,
        measured_high=document["measured_high"] if measured else None,
        uncovered=progress.measure(session, job, spec).uncovered_left,
        stale=row.stale,
        seed_sha256=job.commitment,
        seed=spec.seed,
        salt=job.salt,
        engine_version=source.header["engine_version"],
        manifest_key=source.manifest_key,
        manifest_sha256=source.manifest_sha256,
        scores_key=source.outputs["scores_key"],
        scores_sha256=source.outputs["scores_sha256"],
        created=conditions.timestamp(row.created_s),
        lines=_lines(session, job, row),
        document=document,
    )


def _lines(session: orm.Session, job: tables.Job, row: tables.Certificate) -> list[str]:
    document = row.document
    holds = row.outcome != "Uncertified"
    partial = row.outcome == "CertifiedPartial" and job.stage in saving.FROZEN
    range_ = (document["measured_low"], document["measured_error"], document["measured_high"])
    machine, human = wording.sentences(
        among=wording.rows_meant(document["guarantee"], partial=partial),
        mode=document["mode"],
        words=document["words"],
        confidence=document["confidence"],
        error=document["certified_error"] if holds else None,
        measured=range_ if document["random_items"] > 0 else None,
    )
    lines = [machine, _human_part(session, job, document) or human]
    return [*lines, STALE] if row.stale else lines


def _human_part(session: orm.Session, job: tables.Job, document: dict[str, Any]) -> str:
    """Return how often two people differed on random items that both answered blind; or ""."""
    first, second = orm.aliased(tables.Annotation), tables.Annotation
    pairs = session.execute(
        sa.select(first.verdict, first.class_id, second.verdict, second.class_id)
        .join(
            second,
            sa.and_(
                second.job_id == first.job_id,
                second.item_id == first.item_id,
                second.ordinal == rules.SECOND,
                second.standing == "head",
            ),
        )
        .join(
            tables.Item,
            sa.and_(
                tables.Item.job_id == first.job_id,
                tables.Item.item_id == first.item_id,
                tables.Item.random_rank.is_not(None),
            ),
        )
        .where(first.job_id == job.id, first.ordinal == rules.MAIN, first.standing == "head")
    ).all()
    if not pairs:
        return ""
    differing = sum(pair[:2] != pair[2:] for pair in pairs)
    alpha = round(1 - float(document["confidence"]), 12)
    count = len(pairs)
    low = certify.lower_count(job.items, count, differing, alpha=alpha / 2) / job.items
    high = certify.upper_count(job.items, count, differing, alpha=alpha / 2) / job.items
    return (
        f"Human part: of {count} random items answered twice, blind, {differing} differed; with "
        f"{100 * float(document['confidence']):g} % confidence people differ on "
        f"{100 * low:.2f} % to {100 * high:.2f} % of all items."
    )
