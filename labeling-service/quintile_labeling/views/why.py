"""Why an item has its label: everything that happened to it, oldest first."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import conditions, errors, labeling_job, tasks
from quintile_labeling import tables
from quintile_labeling.answers import rules
from quintile_labeling.rounds import freshness, predictions
from quintile_labeling.views import labels

Timed = tuple[float, tasks.WhyStep]
MACHINE = "machine"


def view(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    *,
    item_id: str,
) -> tasks.WhyView:
    """Return the chain behind the label of an item.

    Raises:
        NotFound: The job has no such item.
    """
    item = session.get(tables.Item, (job.id, item_id))
    if item is None:
        raise errors.NotFound(f"Labeling job {job.name!r} has no item {item_id[:64]!r}.")
    machine = labels.machine_of(session, job)
    one = labels.label_of(labels.row_of(session, job, item_id), machine, guess=True)
    steps = [
        *_asked(session, job, item),
        *_answers(session, job, spec, item_id),
        *_predicted(session, job, spec, item, shows_random=machine.shows_random),
        *_covered(session, job, spec, item, one),
    ]
    steps.sort(key=lambda timed: timed[0])
    return tasks.WhyView(
        item_id=item_id,
        name=item.name,
        label=_name(spec, one.class_id),
        source=one.source,
        steps=[step for _, step in steps],
    )


def _asked(session: orm.Session, job: tables.Job, item: tables.Item) -> Iterator[Timed]:
    source = source_of(job)
    yield _step(job.created_s, "imported", actor="quintile", detail=f"from {source}")
    if item.random_rank is not None:
        detail = f"number {item.random_rank + 1} of {job.random_size} random items"
        yield _step(job.created_s, "drawn", actor="quintile", detail=detail)
    query = (
        sa.select(tables.Slot.purpose, tables.Slot.why, tables.Slot.round, tables.Round.opened_s)
        .outerjoin(
            tables.Round,
            sa.and_(tables.Round.job_id == job.id, tables.Round.number == tables.Slot.round),
        )
        .where(
            tables.Slot.job_id == job.id,
            tables.Slot.item_id == item.item_id,
            tables.Slot.state != "void",
            tables.Slot.purpose.in_(("chosen", "adjudicate")),
        )
        .order_by(tables.Slot.ordinal)
    )
    for purpose, why, number, opened_s in session.execute(query):
        detail = f"round {number}: {why}" if purpose == "chosen" else why
        yield _step(opened_s or job.created_s, purpose, actor="quintile", detail=detail)


def _answers(
    session: orm.Session, job: tables.Job, spec: labeling_job.LabelingJobSpec, item_id: str
) -> Iterator[Timed]:
    notes = {
        note.id: note
        for note in session.scalars(
            sa.select(tables.Annotation).where(
                tables.Annotation.job_id == job.id, tables.Annotation.item_id == item_id
            )
        )
    }
    query = (
        sa.select(tables.Event)
        .where(tables.Event.job_id == job.id, tables.Event.item_id == item_id)
        .order_by(tables.Event.seq)
    )
    for event in session.scalars(query):
        note = notes.get(event.after or event.before)
        class_id = note.class_id if note is not None else rules.NO_CLASS
        detail = f"revision {note.revision}, {note.verdict}" if note is not None else ""
        yield _step(
            event.created_s,
            event.kind,
            actor=event.actor,
            label=_name(spec, class_id),
            detail=f"{detail}, blind" if note is not None and note.blind else detail,
        )


def _predicted(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    item: tables.Item,
    *,
    shows_random: bool,
) -> Iterator[Timed]:
    if item.random_rank is not None and not shows_random:
        return
    query = (
        sa.select(tables.Round.number, tables.Round.ingested_s)
        .where(tables.Round.job_id == job.id, tables.Round.state == "ingested")
        .order_by(tables.Round.number)
    )
    for number, ingested_s in session.execute(query).all():
        thought = predictions.Shelf(session, job, number).of(item.ordinal)
        if thought is not None:
            yield _step(
                ingested_s or job.created_s,
                "predicted",
                actor=MACHINE,
                label=_name(spec, thought.class_id),
                detail=f"round {number}: probability {thought.confidence:.3f}, "
                f"correct with {thought.score:.3f}",
            )


def _covered(
    session: orm.Session,
    job: tables.Job,
    spec: labeling_job.LabelingJobSpec,
    item: tables.Item,
    one: labels.Labeled,
) -> Iterator[Timed]:
    certificate = freshness.of(session, job)
    if certificate is not None and item.accepted:
        thought = predictions.Shelf(session, job, certificate.number).of(item.ordinal)
        yield _step(
            certificate.created_s,
            "certified",
            actor=MACHINE,
            label=_name(spec, thought.class_id if thought is not None else rules.NO_CLASS),
            detail=f"certificate {certificate.id}: {certificate.outcome}",
        )
    if job.output_version is not None and one.source != "none":
        yield _step(
            float("inf"),
            "exported",
            actor="quintile",
            label=_name(spec, one.class_id),
            detail=f"version {job.output_version} of dataset {spec.dataset.name}",
        )


def source_of(job: tables.Job) -> str:
    """Return the dataset version that a job labels, in words."""
    source = job.spec["dataset"]
    return f"version {source['version']} of dataset {source['name']}"


def _name(spec: labeling_job.LabelingJobSpec, class_id: int) -> str | None:
    return spec.labels[class_id] if class_id != rules.NO_CLASS else None


def _step(
    time_s: float, kind: str, *, actor: str, label: str | None = None, detail: str = ""
) -> Timed:
    shown = "" if time_s == float("inf") else conditions.timestamp(time_s)
    return time_s, tasks.WhyStep(kind=kind, actor=actor, label=label, detail=detail, time=shown)
