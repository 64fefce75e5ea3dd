"""What every ResourceStore of ours holds documents to: they fit their model, and how they change.

Used by the SQL store and by the fake; in the cluster the API server applies the same rules from
the CRDs. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pydantic

from quintile.adapters import parsing
from quintile.core import admin_kinds, errors, experiment, labeling_job, meta

Resource = experiment.Experiment | experiment.Trial | labeling_job.LabelingJob
MODELS: Final[Mapping[str, type[Resource]]] = {
    "Experiment": experiment.Experiment,
    "LabelingJob": labeling_job.LabelingJob,
    "Trial": experiment.Trial,
}


class _ExperimentStatus(pydantic.BaseModel):
    status: experiment.ExperimentStatus


class _TrialStatus(pydantic.BaseModel):
    status: experiment.TrialStatus


class _LabelingJobStatus(pydantic.BaseModel):
    status: labeling_job.LabelingJobStatus


class _QueueStatus(pydantic.BaseModel):
    status: admin_kinds.QueueStatus


_STATUSES: Final[Mapping[str, type[pydantic.BaseModel]]] = {
    "Experiment": _ExperimentStatus,
    "LabelingJob": _LabelingJobStatus,
    "Queue": _QueueStatus,
    "Trial": _TrialStatus,
}
MUTABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "Experiment": ("suspend",),
    "LabelingJob": ("suspend", "budget", "labels"),
    "Trial": ("template.suspend",),
}
"""Paths below ``spec`` that may change; of labels only the end may grow."""
RESIZABLE: Final[Mapping[str, str]] = {"Experiment": "run", "Trial": "template.run"}
"""Where the run block lies below ``spec``; the size of an elastic run may change, too."""


def parse(document: meta.Document) -> Resource:
    """Return a document as its model, defaults filled in.

    Raises:
        InvalidSpec: The kind is unknown or the document does not fit it; names the field.
    """
    kind = document.get("kind")
    model = _model_of(kind)
    return parsing.parse_as(model, document, what=f"The {kind}")


def without_status(document: meta.Document) -> meta.Document:
    """Return a document validated and complete, without its status.

    Raises:
        InvalidSpec: As ``parse``.
    """
    given = {name: value for name, value in document.items() if name != "status"}
    return parse(given).document()


def with_status(document: meta.Document, status: meta.Document) -> meta.Document:
    """Return a document validated and complete, with another status.

    Raises:
        InvalidSpec: The status does not fit.
    """
    return parse({**document, "status": status}).document()


def status_of(kind: str, status: meta.Document) -> meta.Document:
    """Return the status of a kind validated and complete, whatever resource it belongs to.

    Raises:
        InvalidSpec: The kind is unknown, or the status does not fit.
    """
    if kind not in _STATUSES:
        _model_of(kind)
    found = parsing.parse_as(_STATUSES[kind], {"status": status}, what=f"The {kind}")
    whole: meta.Document = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(whole["status"])


def controller_uid(document: meta.Document) -> str:
    """Return the uid of the controlling owner, empty when there is none."""
    owners = document["metadata"].get("ownerReferences", [])
    return next((str(owner["uid"]) for owner in owners if owner.get("controller", True)), "")


def check_replace(
    before: meta.Document, after: meta.Document, *, version: str, create_only: bool
) -> None:
    """Check that ``after`` may replace ``before``; both are complete.

    Args:
        before: As stored.
        after: As wanted.
        version: The resource version that the caller read; empty if it does not care.
        create_only: Whether the caller wants no resource to exist.

    Raises:
        Conflict: The version differs, it exists already, or another owner controls it.
        InvalidSpec: An immutable field changes.
    """
    key = meta.key_of(before)
    if create_only:
        raise errors.Conflict(f"{key} exists already.", hint="Choose another name.")
    if version and version != before["metadata"]["resourceVersion"]:
        raise errors.Conflict(
            f"{key} has changed meanwhile.", hint="Read it again and repeat the change."
        )
    if controller_uid(before) != controller_uid(after):
        raise errors.Conflict(
            f"{key} belongs to another owner.", hint="Delete it or choose another name."
        )
    _check_immutable(key, before["spec"], after["spec"])


def check_status(before: meta.Document, phase: object) -> None:
    """Check that a status with this phase may replace the stored one.

    Raises:
        Conflict: The stored phase is final and differs.
    """
    stored = (before.get("status") or {}).get("phase")
    if stored in experiment.TERMINAL and phase != stored:
        raise errors.Conflict(f"{meta.key_of(before)} is {stored} for good.")


def _model_of(kind: object) -> type[Resource]:
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise errors.InvalidSpec(
            f"There are no resources of kind {kind!r}.",
            hint=f"Kinds are {', '.join(MODELS)}.",
            field="kind",
        )
    return model


def _check_immutable(key: meta.Key, before: Any, after: Any) -> None:
    mutable = MUTABLE[key.kind]
    place = RESIZABLE.get(key.kind)
    if place is not None and _check_size(before, after, f"spec.{place}.workers.replicas"):
        mutable = (*mutable, f"{place}.workers.replicas")
    changed = _first_difference(_frozen(before, mutable), _frozen(after, mutable), "spec")
    if changed:
        free = ", ".join(f"spec.{path}" for path in mutable)
        raise errors.InvalidSpec(
            f"{changed} of {key} cannot change once it is created.",
            hint=f"Create a new one; only {free} may change.",
            field=changed,
        )
    if key.kind == "LabelingJob":
        known = before["labels"]
        if after["labels"][: len(known)] != known:
            raise errors.InvalidSpec(
                f"spec.labels of {key} can only grow at its end; known labels keep their places.",
                hint=f"Begin with {', '.join(known[:5])}{', …' if len(known) > 5 else ''}.",
                field="spec.labels",
            )


def _check_size(before: Any, after: Any, field: str) -> bool:
    """Return whether a run is elastic, so that its number of workers may change.

    Raises:
        InvalidSpec: It changes to one that is out of bounds.
    """
    old, new = (_workers(spec, field) for spec in (before, after))
    if not old.elastic:
        return False
    if old.least <= new.replicas <= old.most:
        return True
    raise errors.InvalidSpec(
        f"{field} is to be {new.replicas}; this run can have {old.least} to {old.most} workers.",
        hint="Choose a number between min and max; both are fixed once the run is created.",
        field=field,
    )


def _workers(spec: Any, field: str) -> experiment.Workers:
    for name in field.split(".")[1:-1]:
        spec = spec[name]
    return experiment.Workers.model_validate(spec)


def _frozen(spec: Any, mutable: tuple[str, ...]) -> Any:
    """Return a copy of a spec without its mutable paths."""
    kept = dict(spec)
    for path in mutable:
        first, _, rest = path.partition(".")
        if rest and isinstance(kept.get(first), dict):
            kept[first] = _frozen(kept[first], (rest,))
        elif not rest:
            kept.pop(first, None)
    return kept


def _first_difference(before: Any, after: Any, path: str) -> str:
    """Return the path of the first field that differs, empty if none does."""
    if before == after:
        return ""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return path
    for name in sorted({*before, *after}):
        found = _first_difference(before.get(name), after.get(name), f"{path}.{name}")
        if found:
            return found
    return path
