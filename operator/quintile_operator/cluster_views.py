"""What is kept of a pod and of a Job: the few fields that say how a replica is. Pure.

Whole documents of 4,000 pods are a hundred megabytes; these are two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quintile.core import conditions, meta
from quintile_operator.manifests import marks, pods

STARTING = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Place:
    """Which trial, attempt and role an object belongs to."""

    namespace: str
    trial: str
    trial_uid: str
    attempt: int
    role: str

    @property
    def key(self) -> meta.Key:
        """Return the key of the trial."""
        return meta.Key("Trial", self.namespace, self.trial)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended; ``recorded``: the agent itself said so."""

    exit_code: int
    reason: str
    message: str
    recorded: bool


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod. Times are seconds since the epoch; ``waiting`` is reason and message."""

    place: Place
    name: str
    uid: str
    job_uid: str
    index: int
    created: str
    phase: str
    reason: str = ""
    message: str = ""
    node: str = ""
    running: bool = False
    started_s: float = 0.0
    gone_by_s: float | None = None
    silent_since_s: float | None = None
    disruption: str = ""
    waiting: tuple[str, str] | None = None
    unscheduled: tuple[float, str] | None = None
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """One Job.

    ``words``: of the scheduler, when it was suspended because its pods found no node; ``resume_s``
    when it is tried again. ``elastic``: it makes pods again whose agents ended.
    """

    place: Place
    name: str
    uid: str
    completions: int
    created_s: float = 0.0
    elastic: bool = False
    suspended: bool = False
    deleting: bool = False
    failed: frozenset[int] = frozenset()
    completed: frozenset[int] = frozenset()
    problem: str = ""
    words: str = ""
    resume_s: float = 0.0
    tries: int = 0


def pod(document: meta.Document) -> PodView | None:
    """Return what is kept of a pod; None when it is none of ours."""
    place = _place(document)
    labels = document["metadata"].get("labels", {})
    if place is None or marks.INDEX not in labels:
        return None
    metadata, status = document["metadata"], document.get("status", {})
    found = {entry["type"]: entry for entry in status.get("conditions", ())}
    container = _container(status)
    ended = container.get("terminated")
    disruption = found.get("DisruptionTarget", {})
    return PodView(
        place=place,
        name=metadata["name"],
        uid=metadata["uid"],
        job_uid=labels.get("batch.kubernetes.io/controller-uid", ""),
        index=int(labels[marks.INDEX]),
        created=metadata.get("creationTimestamp", ""),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node=document.get("spec", {}).get("nodeName", ""),
        running="running" in container,
        started_s=_seconds(container.get("running", {}).get("startedAt")) or 0.0,
        gone_by_s=_seconds(metadata.get("deletionTimestamp")),
        silent_since_s=_silent_since_s(found),
        disruption=disruption.get("message", "") if disruption.get("status") == "True" else "",
        waiting=_waiting(container),
        unscheduled=_unscheduled(found.get("PodScheduled", {})),
        ended=_ended(ended) if ended is not None else None,
    )


def job(document: meta.Document) -> JobView | None:
    """Return what is kept of a Job; None when it is none of ours, whatever its labels say.

    A Job that names none gets the labels of its pods.
    """
    place = _place(document)
    owners = document["metadata"].get("ownerReferences", ())
    if place is None or all(owner["uid"] != place.trial_uid for owner in owners):
        return None
    metadata, spec = document["metadata"], document["spec"]
    status, notes = document.get("status", {}), metadata.get("annotations", {})
    failed = [entry for entry in status.get("conditions", ()) if entry["type"] == "Failed"]
    return JobView(
        place=place,
        name=metadata["name"],
        uid=metadata["uid"],
        completions=int(spec.get("completions", 1)),
        created_s=_seconds(metadata.get("creationTimestamp")) or 0.0,
        elastic="backoffLimitPerIndex" not in spec,
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in metadata,
        failed=indexes(status.get("failedIndexes", "")),
        completed=indexes(status.get("completedIndexes", "")),
        problem=failed[0].get("message", "") if failed else "",
        words=notes.get(marks.WORDS, ""),
        resume_s=float(notes.get(marks.RESUME, 0)),
        tries=int(notes.get(marks.TRIES, 0)),
    )


def indexes(text: str) -> frozenset[int]:
    """Return the indexes that a Job's status lists as ``0,2-4``."""
    return frozenset(_spread(text))


def _spread(text: str) -> Iterator[int]:
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _place(document: meta.Document) -> Place | None:
    metadata = document["metadata"]
    labels = metadata.get("labels", {})
    wanted = (marks.TRIAL, marks.TRIAL_UID, marks.ATTEMPT, marks.ROLE)
    trial, uid, attempt, role = (labels.get(name, "") for name in wanted)
    if not (trial and uid and role and attempt.isdigit()):
        return None
    return Place(metadata["namespace"], trial, uid, int(attempt), role)


def _container(status: meta.Document) -> meta.Document:
    for entry in status.get("containerStatuses", ()):
        if entry["name"] == pods.CONTAINER:
            state: meta.Document = entry.get("state", {})
            return state
    return {}


def _waiting(container: meta.Document) -> tuple[str, str] | None:
    waiting = container.get("waiting", {})
    reason = waiting.get("reason", "")
    return (reason, waiting.get("message", "")) if reason and reason not in STARTING else None


def _unscheduled(condition: meta.Document) -> tuple[float, str] | None:
    if condition.get("status") != "False":
        return None
    since_s = _seconds(condition.get("lastTransitionTime")) or 0.0
    return since_s, condition.get("message", "") or condition.get("reason", "")


def _silent_since_s(found: Mapping[str, meta.Document]) -> float | None:
    """Return since when the node does not answer: it says of a pod that runs that it is not ready.

    The containers' own readiness is written by the node alone, the pod's by the node controller.
    """
    ready, containers = found.get("Ready", {}), found.get("ContainersReady", {})
    if ready.get("status") == "False" and containers.get("status") == "True":
        return _seconds(ready.get("lastTransitionTime"))
    return None


def _ended(terminated: meta.Document) -> Ended:
    code = int(terminated.get("exitCode", 0))
    reason, message = terminated.get("reason", ""), terminated.get("message", "")
    record = _record(message)
    if record is None:
        return Ended(code, reason, message, recorded=False)
    said = str(record.get("message", ""))
    return Ended(int(record["exit_code"]), str(record.get("reason", "")), said, recorded=True)


def _record(message: str) -> meta.Document | None:
    """Return what the agent wrote about its end, None when the message is something else."""
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "exit_code" in found else None


def _seconds(text: str | None) -> float | None:
    return conditions.seconds(text) if text else None
