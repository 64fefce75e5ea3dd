"""Jobs come in and change: rows for a new one, a new budget, classes that were appended.

Idempotent by uid and generation: the reconciler hands a job in as often as it likes.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import problem_json
from quintile.core import cycle, datasets, errors, labeling_job, meta
from quintile.engine import stratum
from quintile_labeling import catalog, context, tables
from quintile_labeling.admission import plan
from quintile_labeling.answers import reopening
from quintile_labeling.rounds import advance, progress


def check(
    source: catalog.Catalog, spec: labeling_job.LabelingJobSpec, project: str
) -> tuple[datasets.VersionView, cycle.Limits]:
    """Return the input version of a job and its budget in items.

    Raises:
        InvalidSpec: The job can never succeed; says why, with the number that is needed.
        Unavailable: The API is away.
    """
    wanted = spec.dataset
    try:
        version = source.version(project, wanted.name, wanted.version)
    except errors.NotFound as error:
        raise errors.InvalidSpec(
            f"There is no version {wanted.version} of dataset {wanted.name!r} in project "
            f"{project!r}.",
            hint="List them with `quintile dataset list`, or import images first.",
            field="spec.dataset",
        ) from error
    if version.items < 1:
        raise errors.InvalidSpec(
            f"Version {wanted.version} of dataset {wanted.name!r} holds no items.",
            hint="Import images into it first.",
            field="spec.dataset",
        )
    plan.check_labels(spec, [one.name for one in version.classes])
    _check_output(source, spec, project)
    return version, plan.size(spec, version)


def admit(ctx: context.Context, document: meta.Document) -> str:
    """Take in a LabelingJob as stored; return its uid.

    Raises:
        InvalidSpec: The job can never succeed.
        Unavailable: The API is away; try again.
    """
    job = problem_json.parse_as(labeling_job.LabelingJob, document, what="The LabelingJob")
    uid = job.metadata.uid
    with ctx.database.read() as session:
        known = context.job_of(session, uid)
        if known is not None and known.generation >= job.metadata.generation:
            return uid
    if known is None:
        version, limits = check(ctx.catalog, job.spec, job.metadata.namespace)
        with ctx.database.write() as session:
            ctx.database.serialize(session, f"admit {uid}")
            found = session.scalar(sa.select(tables.Job).where(tables.Job.uid == uid))
            if found is None:
                _create(ctx, session, job, version=version, limits=limits)
            elif found.deleted_s is not None:
                # Its resource was missed for a while, and is there again.
                found.deleted_s = None
                ctx.changed(session, found)
    with ctx.database.write() as session:
        row = context.job_of(session, uid, lock=True)
        if row is not None and row.generation < job.metadata.generation:
            _update(ctx, session, row, job)
    return uid


def _check_output(
    source: catalog.Catalog, spec: labeling_job.LabelingJobSpec, project: str
) -> None:
    number = spec.output.version
    if number is None:
        return
    try:
        source.version(project, spec.dataset.name, number)
    except errors.NotFound:
        return
    raise errors.InvalidSpec(
        f"Version {number} of dataset {spec.dataset.name!r} exists already; versions are "
        "immutable.",
        hint="Choose another spec.output.version, or leave it out for the next free one.",
        field="spec.output.version",
    )


def _create(
    ctx: context.Context,
    session: orm.Session,
    job: labeling_job.LabelingJob,
    *,
    version: datasets.VersionView,
    limits: cycle.Limits,
) -> None:
    place = job.metadata
    _replace_namesake(ctx, session, place)
    salt = secrets.token_hex(16)
    row = tables.Job(
        uid=place.uid,
        namespace=place.namespace,
        name=place.name,
        generation=place.generation,
        spec=job.spec.document(),
        created_s=ctx.clock.now(),
        deleted_s=None,
        stage="importing",
        pool_sha256=version.manifest_sha256,
        items=version.items,
        random_size=limits.random,
        decision_limit=limits.decisions,
        chosen_limit=limits.chosen,
        batch=limits.batch,
        commitment=stratum.commitment(version.items, seed=job.spec.seed, salt=salt),
        salt=salt,
        schema_version=1,
        collecting=advance.NOT_COLLECTING,
        batch_left=0,
        decisions=0,
        spent=0,
        human=0,
        auto=0,
        random_settled=0,
        chosen_settled=0,
        others_settled=0,
        stop="",
        output_version=None,
        problem="",
        retry_s=0.0,
    )
    session.add(row)
    session.flush()
    ctx.changed(session, row)


def _replace_namesake(ctx: context.Context, session: orm.Session, place: meta.ObjectMeta) -> None:
    # A job of this name with another uid is gone from the resource store: names are unique there.
    session.execute(
        sa.update(tables.Job)
        .where(
            tables.Job.namespace == place.namespace,
            tables.Job.name == place.name,
            tables.Job.uid != place.uid,
            tables.Job.deleted_s.is_(None),
        )
        .values(deleted_s=ctx.clock.now())
    )


def _update(
    ctx: context.Context,
    session: orm.Session,
    row: tables.Job,
    job: labeling_job.LabelingJob,
) -> None:
    before = context.spec_of(row)
    limits = plan.resize(job.spec, progress.limits(row), items=row.items)
    row.generation, row.spec = job.metadata.generation, job.spec.document()
    row.decision_limit, row.chosen_limit = limits.decisions, limits.chosen
    row.retry_s = 0.0
    if job.spec.labels != before.labels:
        reopening.reopen_random(ctx, session, row)
    if row.stage == "covering":
        advance.cover(session, row, job.spec)
    advance.advance(ctx, session, row)
    ctx.changed(session, row)
