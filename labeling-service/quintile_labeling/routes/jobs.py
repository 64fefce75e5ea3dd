"""Routes of labeling jobs as resources: create, read, change, pause, delete."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
import sqlalchemy as sa

from quintile.core import errors, meta, tasks
from quintile_labeling import access, context, paging, tables
from quintile_labeling.admission import admitting, documents
from quintile_labeling.work import sweeping

MANAGER = "quintile-labeling"
router = fastapi.APIRouter(prefix="/projects/{project}/labeling-jobs", tags=["labeling jobs"])
Body = Annotated[dict[str, Any], fastapi.Body()]
Document = dict[str, Any]
Key = Annotated[str, fastapi.Header(max_length=128)]


@router.post("", status_code=201)
def create(
    caller: access.Manager,
    ctx: context.Current,
    project: str,
    body: Body,
    idempotency_key: Key = "",
) -> Document:
    """Make a LabelingJob from a whole document or from ``{name, spec}``; Conflict on its name.

    A job that could never succeed is refused here, with the number that it takes.
    """
    wanted = documents.parse(body, project)
    place = meta.Key(context.KIND, project, wanted.metadata.name)
    if idempotency_key:
        stored = _find(ctx, place)
        if stored is not None and documents.is_repeat(stored, wanted, idempotency_key):
            return stored
    admitting.check(ctx.catalog, wanted.spec, project)
    document = wanted.document()
    notes = document["metadata"].setdefault("annotations", {})
    notes[documents.CREATED_BY] = caller.name
    if idempotency_key:
        notes[documents.REQUEST_KEY] = idempotency_key
    made = ctx.resources.apply(document, manager=MANAGER, create_only=True)
    admitting.admit(ctx, made)
    return made


@router.get("")
def list_jobs(
    _caller: access.Viewer, ctx: context.Current, project: str, page: paging.Page
) -> paging.Listed[Document]:
    """Return the project's labeling jobs by name."""
    items = ctx.resources.list(context.KIND, namespace=project).items
    left = [item for item in items if item["metadata"]["name"] > page.after]
    shown = left[: page.limit]
    more = len(left) > page.limit
    cursor = paging.encode(shown[-1]["metadata"]["name"]) if more else None
    return paging.Listed(items=shown, next_cursor=cursor)


@router.get("/{job}")
def get(_caller: access.Viewer, ctx: context.Current, project: str, job: str) -> Document:
    """Return one labeling job."""
    return _stored(ctx, project, job)


@router.delete("/{job}", status_code=204)
def delete(_caller: access.Manager, ctx: context.Current, project: str, job: str) -> None:
    """Delete a job with its rounds and all answers; dataset versions stay."""
    document = _stored(ctx, project, job)
    uid = str(document["metadata"]["uid"])
    ctx.resources.delete(meta.Key(context.KIND, project, job), uid=uid)
    sweeping.mark_deleted(ctx, uid)


@router.patch("/{job}")
def patch(
    _caller: access.Manager, ctx: context.Current, project: str, job: str, body: tasks.JobPatch
) -> Document:
    """Change the budget, or append labels (the random items are asked again then)."""
    document = _stored(ctx, project, job)
    documents.check_running(document)
    wanted = documents.patched(document, body)
    if wanted["spec"]["labels"] != document["spec"]["labels"]:
        _check_open_to_labels(ctx, document)
    return _apply(ctx, wanted)


@router.post("/{job}/suspend", status_code=202)
def suspend(_caller: access.Manager, ctx: context.Current, project: str, job: str) -> Document:
    """Pause a job: nobody gets tasks, nothing is computed or exported. Idempotent."""
    return _set_suspend(ctx, _stored(ctx, project, job), suspend=True)


@router.post("/{job}/resume", status_code=202)
def resume(_caller: access.Manager, ctx: context.Current, project: str, job: str) -> Document:
    """Go on with a paused job. Idempotent."""
    return _set_suspend(ctx, _stored(ctx, project, job), suspend=False)


def _set_suspend(ctx: context.Context, document: Document, *, suspend: bool) -> Document:
    documents.check_running(document)
    wanted = {**document, "spec": {**document["spec"], "suspend": suspend}}
    wanted.pop("status", None)
    return _apply(ctx, wanted)


def _apply(ctx: context.Context, wanted: Document) -> Document:
    made = ctx.resources.apply(wanted, manager=MANAGER)
    admitting.admit(ctx, made)
    return made


def _find(ctx: context.Context, place: meta.Key) -> Document | None:
    try:
        return ctx.resources.get(place)
    except errors.NotFound:
        return None


def _stored(ctx: context.Context, project: str, job: str) -> Document:
    found = _find(ctx, meta.Key(context.KIND, project, job))
    if found is None:
        raise errors.NotFound(
            f"Project {project!r} has no labeling job {job!r}.", hint="Check the name."
        )
    return found


def _check_open_to_labels(ctx: context.Context, document: Document) -> None:
    """Check that no certificate was made or is being made: new classes would void it.

    Raises:
        Conflict: It was.
    """
    query = (
        sa.select(tables.Round.number)
        .join(tables.Job, tables.Job.id == tables.Round.job_id)
        .where(tables.Job.uid == str(document["metadata"]["uid"]), tables.Round.step == "finalise")
    )
    with ctx.database.read() as session:
        if session.scalar(query) is not None:
            raise errors.Conflict(
                "The certificate of this job is made for its labels as they are.",
                hint="Append labels in a new job on the exported version.",
            )
