"""Routes of experiments and trials as resources: create, read, plan, stop, resume, delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import fastapi
import pydantic
from pydantic import Field

from quintile.adapters import problem_json
from quintile.core import errors, experiment, meta, names, plan, search
from quintile.core.meta import Message
from quintile_api import access, bundle_checks, context, eventlog, idempotency, paging
from quintile_api.data import usage
from quintile_api.runs import rewinding

router = fastapi.APIRouter(prefix="/projects/{project}", tags=["experiments"])
MANAGER = "quintile-api"
Body = Annotated[dict[str, Any], fastapi.Body()]
Document = pydantic.RootModel[dict[str, Any]]


class StopRequest(Message):
    """How to stop: for good, or ``suspend`` so that ``resume`` goes on from the checkpoint."""

    suspend: bool = False


class ResumeRequest(Message):
    """Where to go on: ``newest`` checkpoint, or ``best``, which gives up the work after it."""

    start: Literal["newest", "best"] = "newest"


class ScaleRequest(Message):
    """How many workers an elastic experiment shall have."""

    workers: Annotated[int, Field(ge=1, le=1024)]


class PlanView(Message):
    """What would run, per trial; nothing was made."""

    plans: list[dict[str, Any]]


class ExperimentInput(pydantic.BaseModel):
    """Short form of a new experiment; the long form is the whole Experiment document."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


@router.post("/experiments", status_code=201, response_model=dict[str, Any])
def create(
    caller: access.Manager,
    ctx: context.Current,
    project: str,
    body: Body,
    once: idempotency.Once,
) -> fastapi.Response:
    """Make an Experiment from a whole document or from ``{name, spec}``; Conflict on its name."""
    wanted = parse(body, project)
    plan.check(wanted.spec)
    bundle_checks.check(ctx.objects, wanted.spec.estimator, python=ctx.python)
    if wanted.spec.dataset is not None:
        with ctx.database.read() as session:
            usage.check_reference(session, project, wanted.spec.dataset)

    def work() -> tuple[int, pydantic.BaseModel]:
        document = wanted.document()
        document["metadata"].setdefault("annotations", {})["quintile.dev/created-by"] = caller.name
        return 201, Document(ctx.resources.apply(document, manager=MANAGER, create_only=True))

    return once.run(caller, work)


@router.get("/experiments")
def list_experiments(
    _caller: access.Viewer, ctx: context.Current, project: str, page: paging.Page
) -> paging.Listed[dict[str, Any]]:
    """Return the project's experiments by name."""
    return _listed(ctx.resources.list("Experiment", namespace=project).items, page)


@router.get("/experiments/{name}")
def get(_caller: access.Viewer, ctx: context.Current, project: str, name: str) -> dict[str, Any]:
    """Return one experiment."""
    return ctx.resources.get(meta.Key("Experiment", project, name))


@router.delete("/experiments/{name}", status_code=204)
def delete(_caller: access.Manager, ctx: context.Current, project: str, name: str) -> None:
    """Delete an experiment with its trials; running ones end."""
    key = meta.Key("Experiment", project, name)
    ctx.resources.get(key)
    ctx.resources.delete(key)


@router.post("/experiments/{name}/stop", status_code=202)
def stop(
    _caller: access.Manager,
    ctx: context.Current,
    project: str,
    name: str,
    body: StopRequest | None = None,
) -> dict[str, Any]:
    """Stop an experiment: its ranks save a checkpoint and end. Idempotent."""
    document = ctx.resources.get(meta.Key("Experiment", project, name))
    if _phase(document) in experiment.TERMINAL:
        return document
    if body is not None and body.suspend:
        return _change(ctx, document, suspend=True)
    owned = [trial for trial in _trials(ctx, project) if trial["spec"]["experiment"] == name]
    if not owned:
        raise errors.Unavailable(
            f"Experiment {name!r} has no trial yet, so there is nothing to stop.",
            hint="Try again in a second, or delete the experiment.",
        )
    for trial in owned:
        ctx.coordinator.request_stop(
            trial["metadata"]["uid"], namespace=project, name=trial["metadata"]["name"]
        )
    return document


@router.post("/experiments/{name}/resume", status_code=202)
def resume(
    _caller: access.Manager,
    ctx: context.Current,
    project: str,
    name: str,
    body: ResumeRequest | None = None,
) -> dict[str, Any]:
    """Go on with a suspended experiment from its newest or its best checkpoint. Idempotent."""
    document = ctx.resources.get(meta.Key("Experiment", project, name))
    if _phase(document) in experiment.TERMINAL:
        raise errors.Conflict(
            f"Experiment {name!r} is {_phase(document)} and cannot go on.",
            hint="Create a new experiment; only suspended ones can be resumed.",
        )
    if body is not None and body.start == "best":
        _rewind(ctx, document)
    return _change(ctx, document, suspend=False)


@router.post("/experiments/{name}/scale", status_code=202)
def scale(
    _caller: access.Manager, ctx: context.Current, project: str, name: str, body: ScaleRequest
) -> dict[str, Any]:
    """Give an elastic experiment another number of workers, at a checkpoint. Idempotent."""
    document = ctx.resources.get(meta.Key("Experiment", project, name))
    if _phase(document) in experiment.TERMINAL:
        raise errors.Conflict(
            f"Experiment {name!r} is {_phase(document)} and cannot change its size.",
            hint="Create a new experiment; only those that go on can be scaled.",
        )
    run = document["spec"]["run"]
    if not experiment.Workers.model_validate(run["workers"]).elastic:
        raise errors.InvalidSpec(
            f"Experiment {name!r} has a fixed number of workers.",
            hint="Name run.workers.min or max when it is created, which makes it elastic.",
            field="workers",
        )
    wanted = {**run, "workers": {**run["workers"], "replicas": body.workers}}
    return _change(ctx, document, run=wanted)


@router.post("/experiments/{name}:plan")
def dry_run(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str, body: Body
) -> PlanView:
    """Return what would run for a spec (``{spec}``, ``{name, spec}`` or a document)."""
    wanted = parse({"name": name, **body} if "kind" not in body else body, project)
    plans = [
        plan.plan_trial(
            trial, attempt=1, api_url=ctx.api_url, python=ctx.python, token="", hosts={}
        )
        for trial in search.trials(wanted)
    ]
    return PlanView(plans=[plan.printable(found) for found in plans])


@router.get("/trials")
def list_trials(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    page: paging.Page,
    experiment: str = "",
) -> paging.Listed[dict[str, Any]]:
    """Return the project's trials by name, of one experiment if named."""
    found = [
        trial
        for trial in _trials(ctx, project)
        if not experiment or trial["spec"]["experiment"] == experiment
    ]
    return _listed(found, page)


@router.get("/trials/{name}")
def get_trial(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str
) -> dict[str, Any]:
    """Return one trial."""
    return ctx.resources.get(meta.Key("Trial", project, name))


@router.get("/events")
def list_events(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    kind: str = "",
    name: str = "",
    limit: Annotated[int, fastapi.Query(ge=1, le=paging.LIMIT)] = 100,
) -> paging.Listed[eventlog.EventView]:
    """Return the newest events of the project, newest first."""
    found = ctx.events.events(project, kind=kind, name=name, limit=limit)
    return paging.Listed(items=list(found))


def parse(body: dict[str, Any], project: str) -> experiment.Experiment:
    """Return the Experiment of a request body, placed in ``project``.

    Raises:
        InvalidSpec: The body does not fit, or names another project.
    """
    if "kind" in body or "apiVersion" in body or "metadata" in body:
        metadata = {"namespace": project, **_mapping(body.get("metadata"), "metadata")}
        document = {**body, "metadata": metadata}
    else:
        short = problem_json.parse_as(ExperimentInput, body, what="The Experiment")
        metadata = {
            "name": short.name,
            "namespace": project,
            "labels": short.labels,
            "annotations": short.annotations,
        }
        document = {"metadata": metadata, "spec": short.spec}
    if metadata["namespace"] != project:
        raise errors.InvalidSpec(
            f"The document is of project {metadata['namespace']!r} but was sent to {project!r}.",
            hint="Send it to its own project, or leave metadata.namespace out.",
            field="metadata.namespace",
        )
    wanted = problem_json.parse_as(experiment.Experiment, document, what="The Experiment")
    if len(wanted.metadata.name) > names.EXPERIMENT_NAME_LIMIT:
        raise errors.InvalidSpec(
            f"The name {wanted.metadata.name!r} has {len(wanted.metadata.name)} characters; at "
            f"most {names.EXPERIMENT_NAME_LIMIT} fit.",
            hint="Choose a shorter name; its trials and replicas get longer ones.",
            field="metadata.name",
        )
    return wanted


def _mapping(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.InvalidSpec(
            f"{field} must be a mapping, got {type(value).__name__}.", field=field
        )
    return value


def _rewind(ctx: context.Context, document: meta.Document) -> None:
    """Let the next attempt of every trial begin at its best checkpoint."""
    name, project = document["metadata"]["name"], document["metadata"]["namespace"]
    owned = [trial for trial in _trials(ctx, project) if trial["spec"]["experiment"] == name]
    if any(_phase(one) != "Suspended" for one in (document, *owned)):
        raise errors.Conflict(
            f"Experiment {name!r} is not suspended, so it cannot go back to its best checkpoint.",
            hint="Suspend it first, and wait until it is: job.stop(checkpoint=True).",
        )
    for trial in owned:
        uid, trial_name = trial["metadata"]["uid"], trial["metadata"]["name"]
        rewinding.to_best(ctx.database, ctx.objects, uid, name=trial_name)


def _change(ctx: context.Context, document: meta.Document, **spec: Any) -> meta.Document:
    wanted = {**document, "spec": {**document["spec"], **spec}}
    wanted.pop("status", None)
    return ctx.resources.apply(wanted, manager=MANAGER)


def _phase(document: meta.Document) -> str:
    return str((document.get("status") or {}).get("phase", "Pending"))


def _trials(ctx: context.Context, project: str) -> tuple[meta.Document, ...]:
    return ctx.resources.list("Trial", namespace=project).items


def _listed(
    items: tuple[meta.Document, ...] | list[meta.Document], page: paging.PageQuery
) -> paging.Listed[dict[str, Any]]:
    after = page.after[0] if page.after else ""
    left = [item for item in items if item["metadata"]["name"] > after]
    shown = left[: page.limit]
    more = len(left) > page.limit
    cursor = paging.encode(shown[-1]["metadata"]["name"]) if more else None
    return paging.Listed(items=shown, next_cursor=cursor)
