"""Input manifests: frozen in the transaction that closes a round, made into bytes afterwards.

``freeze`` copies the settled labels into ``round_inputs`` and fixes everything else in the round's
``header``; ``render`` makes the bytes from those rows alone, the same ones every time. So the
object in the store can be written after the commit, and written again after a crash.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import engine
from quintile.core import labeling_job, tasks
from quintile_labeling import tables
from quintile_labeling.admission import plan
from quintile_labeling.answers import rules


def freeze(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    row: tables.Round,
) -> None:
    """Fix the input of a round that closes now."""
    session.flush()
    row.prefix = settled_prefix(session, job)
    row.random_settled = job.random_settled
    row.header = _header(session, job, spec, row)
    row.labels = 0 if row.step == "embed" else _copy_labels(session, job, row)
    session.flush()


def render(session: orm.Session, job: tables.Job, row: tables.Round) -> bytes:
    """Return the manifest of a closed round: canonical JSON of ``tasks.RoundManifest``."""
    inputs = tables.RoundInput
    query = sa.select(inputs.item_id, inputs.annotation_id, inputs.class_id).where(
        inputs.job_id == job.id, inputs.number == row.number
    )
    labels = sorted(
        (item, annotation, number) for item, annotation, number in session.execute(query)
    )
    classes = {item_id: class_id for item_id, _, class_id in labels}
    stratum = _stratum(session, job)
    prefix = [] if row.step == "embed" else stratum[: row.prefix]
    manifest = tasks.RoundManifest(
        **row.header,
        labels=labels,
        random=[(item_id, classes[item_id]) for item_id in prefix],
        exclude=[] if row.step == "finalise" else sorted(stratum),
    )
    document = manifest.model_dump(mode="json")
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def settled_prefix(session: orm.Session, job: tables.Job) -> int:
    """Return the length of the longest prefix of R in which every item is settled."""
    settled = (
        sa.select(tables.Item.random_rank)
        .join(
            tables.Settlement,
            sa.and_(
                tables.Settlement.job_id == tables.Item.job_id,
                tables.Settlement.item_id == tables.Item.item_id,
            ),
        )
        .where(
            tables.Item.job_id == job.id,
            tables.Item.random_rank.is_not(None),
            tables.Settlement.rule.in_(rules.SETTLED),
        )
        .order_by(tables.Item.random_rank)
    )
    length = 0
    for rank in session.scalars(settled):
        if rank != length:
            break
        length += 1
    return length


def pack_ranked(order: list[str], reasons: list[str]) -> bytes:
    """Return a ranked list with its reasons as stored."""
    padded = reasons + [""] * (len(order) - len(reasons))
    return zlib.compress(json.dumps([order, padded]).encode())


def ranked(row: tables.Round) -> list[tuple[str, str]]:
    """Return the ranked list of an ingested round as (item id, reason)."""
    if not row.ranked:
        return []
    order, reasons = json.loads(zlib.decompress(row.ranked))
    return list(zip(order, reasons, strict=True))


def _header(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    row: tables.Round,
) -> dict[str, Any]:
    earlier = session.execute(
        sa.select(tables.Round.step, tables.Round.outputs, tables.Round.report)
        .where(tables.Round.job_id == job.id, tables.Round.number < row.number)
        .order_by(tables.Round.number)
    ).all()
    outputs: dict[str, Any] = next((one.outputs for one in earlier if one.step == "embed"), {})
    totals = [one.report.get("labels_total") for one in earlier]
    return {
        "job_uid": job.uid,
        "number": row.number,
        "step": row.step,
        "dataset": spec.dataset.name,
        "version": spec.dataset.version,
        "pool_sha256": job.pool_sha256,
        "features_key": outputs.get("features_key", ""),
        "features_sha256": outputs.get("features_sha256", ""),
        "classes": list(spec.labels),
        "schema_version": job.schema_version,
        "engine_version": engine.VERSION,
        "seed": spec.seed,
        "batch": job.batch,
        "strategy": spec.strategy.name,
        "target": plan.target_of(spec),
        "random_size": job.random_size,
        "commitment": job.commitment,
        "history": [float(total) for total in totals if total is not None],
    }


def _copy_labels(session: orm.Session, job: tables.Job, row: tables.Round) -> int:
    settled = tables.Settlement
    chosen = sa.select(
        sa.literal(job.id),
        sa.literal(row.number),
        settled.item_id,
        settled.annotation_id,
        settled.class_id,
    ).where(settled.job_id == job.id, settled.rule.in_(rules.SETTLED))
    columns = ["job_id", "number", "item_id", "annotation_id", "class_id"]
    session.execute(sa.insert(tables.RoundInput).from_select(columns, chosen))
    count = sa.select(sa.func.count()).where(
        tables.RoundInput.job_id == job.id, tables.RoundInput.number == row.number
    )
    return session.scalar(count) or 0


def _stratum(session: orm.Session, job: tables.Job) -> list[str]:
    query = (
        sa.select(tables.Item.item_id)
        .where(tables.Item.job_id == job.id, tables.Item.random_rank.is_not(None))
        .order_by(tables.Item.random_rank)
    )
    return list(session.scalars(query))
