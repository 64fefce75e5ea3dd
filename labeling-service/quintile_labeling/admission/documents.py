"""LabelingJob documents of requests: read, changed, never half-valid. Pure."""

from __future__ import annotations

from typing import Any, Final

import pydantic
from pydantic import Field

from quintile.adapters import problem_json
from quintile.core import errors, labeling_job, meta, names, tasks

CREATED_BY: Final = "quintile.dev/created-by"
REQUEST_KEY: Final = "quintile.dev/request-key"
ENDED: Final = ("Succeeded", "Failed")


class JobInput(pydantic.BaseModel):
    """Short form of a new job; the long form is the whole LabelingJob document."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


def parse(body: dict[str, Any], project: str) -> labeling_job.LabelingJob:
    """Return the LabelingJob of a request body, placed in ``project``.

    Raises:
        InvalidSpec: The body does not fit, or names another project.
    """
    if "kind" in body or "apiVersion" in body or "metadata" in body:
        given = body.get("metadata")
        if not isinstance(given, dict):
            raise errors.InvalidSpec(
                f"metadata must be a mapping, got {type(given).__name__}.", field="metadata"
            )
        metadata = {"namespace": project, **given}
        document = {**body, "metadata": metadata}
    else:
        short = problem_json.parse_as(JobInput, body, what="The LabelingJob")
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
    wanted = problem_json.parse_as(labeling_job.LabelingJob, document, what="The LabelingJob")
    if len(wanted.metadata.name) > names.LABELING_JOB_NAME_LIMIT:
        raise errors.InvalidSpec(
            f"The name {wanted.metadata.name!r} has {len(wanted.metadata.name)} characters; at "
            f"most {names.LABELING_JOB_NAME_LIMIT} fit.",
            hint="Choose a shorter name; the experiments of its rounds get longer ones.",
            field="metadata.name",
        )
    return wanted


def patched(document: meta.Document, change: tasks.JobPatch) -> meta.Document:
    """Return a stored document with another budget or more labels, without its status.

    Raises:
        InvalidSpec: The result does not fit, or labels are not appended.
    """
    spec = dict(document["spec"])
    if change.budget is not None:
        given = change.budget.model_dump(mode="json", by_alias=True, exclude_unset=True)
        kept = {**spec.get("budget", {}), **given}
        spec["budget"] = {name: value for name, value in kept.items() if value is not None}
    if change.labels is not None:
        known = list(spec["labels"])
        if change.labels[: len(known)] != known:
            raise errors.InvalidSpec(
                "labels must begin with the job's own, in their order: "
                f"{', '.join(known[:12])}{', …' if len(known) > 12 else ''}.",
                hint="Append new labels at the end; class ids never change.",
                field="labels",
            )
        spec["labels"] = change.labels
    wanted = {**document, "spec": spec}
    wanted.pop("status", None)
    return problem_json.parse_as(labeling_job.LabelingJob, wanted, what="The change").document()


def check_running(document: meta.Document) -> None:
    """Check that a job has not ended.

    Raises:
        Conflict: It has.
    """
    phase = str((document.get("status") or {}).get("phase", "Pending"))
    if phase in ENDED:
        raise errors.Conflict(
            f"Labeling job {document['metadata']['name']!r} is {phase} for good.",
            hint="Make a new job; the exported version can be its input.",
        )


def is_repeat(stored: meta.Document, wanted: labeling_job.LabelingJob, key: str) -> bool:
    """Return whether a stored job came of an equal request with the same Idempotency-Key."""
    notes = stored["metadata"].get("annotations") or {}
    before = labeling_job.LabelingJobSpec.model_validate(stored["spec"])
    return bool(key) and notes.get(REQUEST_KEY) == key and before == wanted.spec
