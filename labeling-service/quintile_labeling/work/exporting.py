"""The result of a job becomes a dataset version, with provenance for every label.

The version is keyed by job and number: handing it in again, after a crash at any point, gives the
same version. The stage ``exporting`` freezes all answers, so the rows are the same every time.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import conditions, datasets, labeling_job
from quintile.engine import certify
from quintile_labeling import context, tables
from quintile_labeling.rounds import freshness, progress
from quintile_labeling.views import labels

NOTES_AT_ONCE: Final = 500


def export(ctx: context.Context, job_id: int) -> None:
    """Make the output version of a job. Idempotent.

    Raises:
        InvalidSpec, Conflict: The version cannot be made like this.
        Unavailable: Try again.
    """
    with ctx.database.read() as session:
        job = session.get_one(tables.Job, job_id)
        spec = context.spec_of(job)
        rows = _rows(session, job, spec)
        project, uid, name = job.namespace, job.uid, job.name
    wanted = datasets.VersionCreate(
        parent=spec.dataset.version,
        version=spec.output.version,
        classes=list(spec.labels),
        origin=f"labeling job {name}",
        idempotency_key=f"{uid}:{spec.output.version or 'next'}",
    )
    made = ctx.catalog.create_version(project, spec.dataset.name, wanted, rows)
    with ctx.database.write() as session:
        job = session.get_one(tables.Job, job_id, with_for_update=True)
        if job.stage != "exporting":
            return
        job.stage, job.output_version, job.problem = "exported", made.version, ""
        _settle_certificate(session, job, spec)
        ctx.changed(session, job)


def _rows(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec
) -> list[datasets.LabelRow]:
    certificate = freshness.of(session, job)
    certificate_id = certificate.id if certificate is not None else ""
    made_s = certificate.created_s if certificate is not None else job.created_s
    models = {
        number: str(outputs.get("model_sha256", ""))
        for number, outputs in session.execute(
            sa.select(tables.Round.number, tables.Round.outputs).where(
                tables.Round.job_id == job.id
            )
        )
    }
    guess = spec.finish.uncovered == "autoUncertified"
    machine = labels.machine_of(session, job)
    found = [one for one in labels.walk(session, job, machine, guess=guess) if one.source != "none"]
    notes = _notes(session, [one.annotation_id for one in found if one.annotation_id])
    rows = []
    for one in found:
        by_people = one.source == "human"
        version, time_s = notes.get(one.annotation_id, (job.schema_version, made_s))
        rows.append(
            datasets.LabelRow(
                item_id=one.item_id,
                label=spec.labels[one.class_id],
                source="human" if by_people else one.source,
                annotation_id=one.annotation_id,
                round=one.round,
                model_sha256="" if by_people else models.get(one.round, ""),
                score=min(max(one.score, 0.0), 1.0),
                certificate_id=certificate_id if one.source == "auto" else "",
                schema_version=version,
                time=conditions.timestamp(time_s),
            )
        )
    return rows


def _notes(session: orm.Session, ids: list[str]) -> dict[str, tuple[int, float]]:
    """Return schema version and time of annotations by id."""
    note = tables.Annotation
    found: dict[str, tuple[int, float]] = {}
    for start in range(0, len(ids), NOTES_AT_ONCE):
        query = sa.select(note.id, note.schema_version, note.created_s).where(
            note.id.in_(ids[start : start + NOTES_AT_ONCE])
        )
        found.update({key: (version, time_s) for key, version, time_s in session.execute(query)})
    return found


def _settle_certificate(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec
) -> None:
    row = freshness.of(session, job)
    if row is None:
        return
    left = progress.measure(session, job, spec).uncovered_left
    settled = certify.settle(certify.Certificate.read(row.document), uncovered_left=left)
    row.document = settled.document()
    row.outcome = "Uncertified" if row.stale else settled.outcome
