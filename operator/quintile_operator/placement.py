"""Attempts that find no room: all or none of their pods hold a node.

A pod without a node for longer than the deadline -> all Jobs of the attempt are suspended, which
frees the nodes of its peers; after a pause that doubles they are tried again. While peers hold
nodes the deadline is short: attempts that each hold a part would wait for each other. Everything
that is needed is in annotations of the Jobs, so another operator goes on where this one ended.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from quintile import logs
from quintile.adapters import client_kube
from quintile.core import conditions, meta
from quintile_operator import cluster_views
from quintile_operator.manifests import marks

HOLDING_S: Final = 45.0
"""How long an attempt may hold a part of the nodes that it needs."""

PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 600.0
Gang = tuple[str, int]
"""Uid of the trial and number of the attempt."""

_LOG: Final = logs.get(__name__)


def pause_s(tries: int, uid: str = "") -> float:
    """Return how long an attempt waits after it found no room ``tries`` times.

    By its uid every trial waits a little longer than others, up to twice as long: two that hindered
    each other do not meet again.
    """
    longer = 1.0 + zlib.crc32(uid.encode()) % 1000 / 1000 if uid else 1.0
    return longer * min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(max(tries - 1, 0), 16))


class Placement:
    """Suspends and resumes. Called by one thread."""

    def __init__(self, client: client_kube.KubeClient, deadline_s: float) -> None:
        self._client = client
        self._deadline_s = deadline_s

    def keep(
        self,
        jobs: Iterable[cluster_views.JobView],
        pods: Iterable[cluster_views.PodView],
        *,
        now_s: float,
    ) -> Iterator[meta.Document]:
        """Do what is due; yield the Jobs that were changed."""
        members: dict[Gang, list[cluster_views.JobView]] = defaultdict(list)
        for job in jobs:
            if not job.deleting:
                members[job.place.trial_uid, job.place.attempt].append(job)
        found: dict[Gang, list[cluster_views.PodView]] = defaultdict(list)
        for pod in pods:
            if pod.gone_by_s is None and pod.ended is None:
                found[pod.place.trial_uid, pod.place.attempt].append(pod)
        for gang, own in members.items():
            held = [job for job in own if job.suspended and job.words]
            words = self._overdue(own, found[gang], now_s)
            if held and all(job.resume_s <= now_s for job in held):
                yield from self._change(held, {"suspend": False}, {})
            elif words and not held:
                tries = max(job.tries for job in own) + 1
                notes = {
                    marks.WORDS: conditions.clip(words),
                    marks.RESUME: str(round(now_s + pause_s(tries, gang[0]))),
                    marks.TRIES: str(tries),
                }
                yield from self._change(own, {"suspend": True}, notes)

    def _overdue(
        self, jobs: list[cluster_views.JobView], pods: list[cluster_views.PodView], now_s: float
    ) -> str:
        """Return the scheduler's words when an attempt has waited for too long, else nothing."""
        waiting = [pod.unscheduled for pod in pods if pod.unscheduled is not None]
        holds = len(waiting) < len(pods)
        if not waiting or (holds and any(job.elastic for job in jobs)):
            return ""  # an elastic attempt goes on with those that it has
        since_s, words = min(waiting)
        limit_s = min(self._deadline_s, HOLDING_S) if holds else self._deadline_s
        return words if now_s - since_s >= limit_s else ""

    def _change(
        self, jobs: Iterable[cluster_views.JobView], spec: meta.Document, notes: Mapping[str, str]
    ) -> Iterator[meta.Document]:
        for job in jobs:
            path = f"/apis/batch/v1/namespaces/{job.place.namespace}/jobs/{job.name}"
            body = {"metadata": {"annotations": notes}, "spec": spec}
            _LOG.info("placement", job=job.name, suspend=spec["suspend"])
            yield self._client.patch(path, body, manager=marks.OPERATOR)
