"""Makes one document on the server, or finds that it is there already."""

from __future__ import annotations

from typing import Any

from quintile.core import errors, experiment, labeling_job, meta
from quintile.sdk import checking
from quintile.sdk.client import AsyncClient

KINDS = ("Experiment", "LabelingJob")
HEAD_HINT = "Begin it with kind, metadata: {name: ...} and spec."
_CHANGEABLE = ("budget", "labels")


def check_head(document: Any, *, where: str) -> None:
    """Check that a document says what it is.

    Raises:
        InvalidSpec: It is no mapping, of another kind, or has no name.
    """
    if not isinstance(document, dict):
        raise errors.InvalidSpec(
            f"{where} is a {type(document).__name__}, expected a mapping.", hint=HEAD_HINT
        )
    kind = document.get("kind")
    if kind not in KINDS:
        raise errors.InvalidSpec(
            f"{where} is of kind {kind!r}; expected {' or '.join(KINDS)}.",
            hint=HEAD_HINT,
            field="kind",
        )
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise errors.InvalidSpec(
            f"{where} has no metadata.name.", hint=HEAD_HINT, field="metadata.name"
        )
    if document.get("apiVersion", meta.API_VERSION) != meta.API_VERSION:
        raise errors.InvalidSpec(
            f"{where} has apiVersion {document['apiVersion']!r}; expected {meta.API_VERSION}.",
            hint="Use the release of Quintile that the document was written for.",
            field="apiVersion",
        )


async def apply(
    client: AsyncClient, project: str, document: dict[str, Any]
) -> tuple[str, str, str]:
    """Make a document; return its kind, name, and created, unchanged or configured.

    Raises:
        InvalidSpec: It does not fit its kind.
        Conflict: One of this name is there, with another spec that cannot be changed.
    """
    name = str(document["metadata"]["name"])
    if document["kind"] == "Experiment":
        return "Experiment", name, await _experiment(client, project, document)
    return "LabelingJob", name, await _labeling_job(client, project, document)


async def _experiment(client: AsyncClient, project: str, document: dict[str, Any]) -> str:
    wanted = checking.parse(experiment.Experiment, document, what="The Experiment")
    try:
        await client.experiments.create(project, document)
    except errors.Conflict as conflict:
        name, workers = wanted.metadata.name, wanted.spec.run.workers
        found = await client.experiments.get(project, name)
        if _resized(found.spec, workers, suspend=wanted.spec.suspend) != wanted.spec:
            raise _differs(conflict, "Experiment", name) from conflict
        if found.spec.run.workers == workers:
            return "unchanged"
        await client.experiments.scale(project, name, workers=workers.replicas)
        return "configured"
    return "created"


def _resized(
    spec: experiment.ExperimentSpec, wanted: experiment.Workers, *, suspend: bool
) -> experiment.ExperimentSpec:
    """Return a spec with what may change as it is wanted: suspend, and an elastic run's size."""
    workers = spec.run.workers
    if workers.elastic:
        workers = workers.model_copy(update={"replicas": wanted.replicas})
    run = spec.run.model_copy(update={"workers": workers})
    return spec.model_copy(update={"suspend": suspend, "run": run})


async def _labeling_job(client: AsyncClient, project: str, document: dict[str, Any]) -> str:
    wanted = checking.parse(labeling_job.LabelingJob, document, what="The LabelingJob")
    name = wanted.metadata.name
    try:
        await client.labeling.create(project, document)
    except errors.Conflict as conflict:
        found = await client.labeling.get(project, name)
        changes = {key: getattr(wanted.spec, key) for key in _CHANGEABLE}
        if found.spec.model_copy(update={**changes, "suspend": wanted.spec.suspend}) != wanted.spec:
            raise _differs(conflict, "LabelingJob", name) from conflict
        return await _change(client, project, found, wanted)
    return "created"


async def _change(
    client: AsyncClient,
    project: str,
    found: labeling_job.LabelingJob,
    wanted: labeling_job.LabelingJob,
) -> str:
    changes: dict[str, Any] = {}
    if found.spec.budget != wanted.spec.budget:
        changes["budget"] = wanted.spec.budget.document()
    if found.spec.labels != wanted.spec.labels:
        changes["labels"] = list(wanted.spec.labels)
    if not changes:
        return "unchanged"
    await client.labeling.patch(project, wanted.metadata.name, changes)
    return "configured"


def _differs(conflict: errors.Conflict, kind: str, name: str) -> errors.Conflict:
    return errors.Conflict(
        f"{kind} {name!r} is there already, with another spec. {conflict.message}",
        hint="Give the new one another name, or delete the old one.",
        field="metadata.name",
    )
