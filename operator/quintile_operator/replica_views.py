"""From pods and Jobs to replicas: state, exit code, reason, and words that help. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from quintile.core import names, runplan
from quintile_operator import cluster_views
from quintile_operator.manifests import attempts

LOST_MARGIN_S: Final = 30.0
"""How long after the end of its grace a pod may still be on its way out."""

SILENT_S: Final = 60.0
"""How long a node may be silent before its pods count as lost."""

KILLED: Final = 137
NO_START: Final = 128
LEFT: Final = "Preempted"
OUT_OF_MEMORY: Final = "OOMKilled"
NO_ROOM: Final = ("ephemeral", "emptydir", "disk")
IMAGE: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
AGAIN: Final = re.compile(r'^Back-off pulling image "[^"]*": ErrImagePull: ')
"""How the kubelet says the same in between two tries."""


def replicas(
    job: cluster_views.JobView, pods: Iterable[cluster_views.PodView], *, now_s: float
) -> Iterator[runplan.ObservedReplica]:
    """Yield the replicas of a Job; an index without a pod is what the Job says of it."""
    newest: dict[int, cluster_views.PodView] = {}
    for pod in sorted(pods, key=lambda one: (one.created, one.name)):
        newest[pod.index] = pod
    for index in range(job.completions):
        found = newest.get(index)
        if found is None or (job.suspended and found.ended is not None):
            yield _absent(job, index)
        elif job.elastic and _left(found):
            words = found.disruption or f"pod {found.name} was asked to leave"
            yield _seen(job.place, index, "pending", reason="Disrupted", message=words)
        else:
            yield _of_pod(found, now_s=now_s)
    for index in sorted(newest):
        # After a resize to fewer: asked to leave, and seen until it is gone.
        left = orphan(newest[index], now_s=now_s) if index >= job.completions else None
        if left is not None:
            yield left


def orphan(pod: cluster_views.PodView, *, now_s: float) -> runplan.ObservedReplica | None:
    """Return the replica of a pod whose Job was deleted, None when nothing is left to end."""
    seen = _of_pod(pod, now_s=now_s)
    return seen if seen.state in ("pending", "running") else None


def due_s(pod: cluster_views.PodView) -> float | None:
    """Return when a pod counts as lost if nothing is heard of it; None while all is well."""
    times = []
    if pod.gone_by_s is not None:
        times.append(pod.gone_by_s + LOST_MARGIN_S)
    if pod.silent_since_s is not None:
        times.append(pod.silent_since_s + SILENT_S)
    return min(times) if times and pod.ended is None else None


def _absent(job: cluster_views.JobView, index: int) -> runplan.ObservedReplica:
    if index in job.completed:
        return _seen(job.place, index, "exited", exit_code=0, reason="Completed")
    if job.suspended and job.words:
        return _seen(job.place, index, "pending", reason="Unschedulable", message=job.words)
    if index in job.failed and job.words:
        words = f"it gave its node back, for its peers found none: {job.words}"
        return _seen(
            job.place, index, "exited", exit_code=attempts.YIELDED, reason=LEFT, message=words
        )
    if index in job.failed:
        words = "its pod was deleted by somebody, or by the loss of its node"
        return _seen(job.place, index, "lost", reason="PodGone", message=words)
    reason = "PodNotMade" if job.problem else ""
    return _seen(job.place, index, "pending", reason=reason, message=job.problem)


def _of_pod(pod: cluster_views.PodView, *, now_s: float) -> runplan.ObservedReplica:
    place, index = pod.place, pod.index
    if _left(pod):
        words = pod.disruption or (pod.ended.message if pod.ended is not None else "")
        if not words and pod.gone_by_s is not None:
            words = f"pod {pod.name} was deleted, and did not end within its grace"
        code = attempts.YIELDED
        return _seen(place, index, "exited", exit_code=code, reason=LEFT, message=words)
    if pod.ended is not None or pod.phase in ("Succeeded", "Failed"):
        return _ended(pod)
    due = due_s(pod)
    if due is not None and now_s >= due:
        silent = f"node {pod.node} does not answer"
        return _seen(place, index, "lost", reason="NodeLost", message=f"pod {pod.name}: {silent}")
    if pod.running:
        return replace(_seen(place, index, "running"), started_s=pod.started_s)
    reason, message = _why_pending(pod)
    return _seen(place, index, "pending", reason=reason, message=message)


def _left(pod: cluster_views.PodView) -> bool:
    """Return whether an agent was made to leave: it saved its state, or had no time to."""
    if pod.ended is not None and pod.ended.exit_code == attempts.YIELDED:
        return True
    return pod.phase == "Failed" and (bool(pod.disruption) or _ran_out_of_grace(pod))


def _ran_out_of_grace(pod: cluster_views.PodView) -> bool:
    """Return whether a pod that was deleted had not ended in time: its agent was killed."""
    ended = pod.ended
    if pod.gone_by_s is None or ended is None or ended.recorded:
        return False
    return ended.exit_code == KILLED and ended.reason != OUT_OF_MEMORY


def _why_pending(pod: cluster_views.PodView) -> tuple[str, str]:
    if pod.waiting is not None:
        reason, message = pod.waiting
        if reason in IMAGE:
            return "ImagePullFailed", AGAIN.sub("", message)
        return ("PodConfigFailed" if "Config" in reason else reason), message
    return ("Unschedulable", pod.unscheduled[1]) if pod.unscheduled is not None else ("", "")


def _ended(pod: cluster_views.PodView) -> runplan.ObservedReplica:
    place, index, ended = pod.place, pod.index, pod.ended
    if pod.reason == "Evicted":
        full = any(word in pod.message.lower() for word in NO_ROOM)
        reason = "DiskFull" if full else "Evicted"
        code = ended.exit_code if ended is not None and ended.exit_code else KILLED
        return _seen(place, index, "exited", exit_code=code, reason=reason, message=pod.message)
    if ended is None:
        if pod.phase == "Succeeded":
            return _seen(place, index, "exited", exit_code=0, reason="Completed")
        words = pod.message or f"pod {pod.name} failed before its agent began"
        return _seen(place, index, "lost", reason=pod.reason or "PodFailed", message=words)
    if ended.recorded:
        return _seen(
            place,
            index,
            "exited",
            exit_code=ended.exit_code,
            reason=ended.reason,
            message=ended.message,
        )
    if ended.reason == OUT_OF_MEMORY:
        words = f"the container of pod {pod.name} was killed for memory"
        return _seen(place, index, "exited", exit_code=KILLED, reason="OutOfMemory", message=words)
    if ended.exit_code == 0:
        return _seen(place, index, "exited", exit_code=0, reason="Completed")
    if ended.exit_code == NO_START and ended.reason != "Error":
        return _seen(
            place,
            index,
            "exited",
            exit_code=ended.exit_code,
            reason=ended.reason,
            message=ended.message,
        )
    words = f"the agent in pod {pod.name} ended with code {ended.exit_code} and left no exit record"
    last = ended.message.strip().rpartition("\n")[2]
    message = f"{words}; its last words: {last}" if last else words
    return _seen(place, index, "lost", reason="AgentLost", message=message)


def _seen(
    place: cluster_views.Place,
    index: int,
    state: runplan.ReplicaState,
    *,
    exit_code: int | None = None,
    reason: str = "",
    message: str = "",
) -> runplan.ObservedReplica:
    return runplan.ObservedReplica(
        trial_uid=place.trial_uid,
        attempt=place.attempt,
        name=names.replica(place.trial, attempt=place.attempt, role=place.role, index=index),
        role=place.role,
        index=index,
        state=state,
        exit_code=exit_code,
        reason=reason,
        message=message,
    )
