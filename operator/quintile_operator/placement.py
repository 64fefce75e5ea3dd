"""Attempts that find no room: all or none of their pods hold a node.

A pod without a node for longer than the deadline -> all Jobs of the attempt are suspended, which
frees the nodes of its peers; after a pause that doubles they are tried again. Everything that is
needed for that is in annotations of the Jobs, so another operator goes on where this one ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from quintile import logs
from quintile.adapters import client_kube
from quintile.core import conditions, meta
from quintile_operator import cluster_views
from quintile_operator.manifests import marks

PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 600.0
_LOG: Final = logs.get(__name__)


def pause_s(tries: int) -> float:
    """Return how long an attempt waits after it found no room ``tries`` times."""
    return min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(max(tries - 1, 0), 16))


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
        gangs: dict[tuple[str, int], list[cluster_views.JobView]] = defaultdict(list)
        for job in jobs:
            if not job.deleting:
                gangs[(job.place.trial_uid, job.place.attempt)].append(job)
        homeless = {
            (pod.place.trial_uid, pod.place.attempt): words
            for pod in pods
            if (words := self._overdue(pod, now_s))
        }
        for gang, members in gangs.items():
            held = [job for job in members if job.suspended and job.words]
            if held and all(job.resume_s <= now_s for job in held):
                yield from self._change(held, {"suspend": False}, {})
            elif gang in homeless and not held:
                tries = max(job.tries for job in members) + 1
                notes = {
                    marks.WORDS: conditions.clip(homeless[gang]),
                    marks.RESUME: str(round(now_s + pause_s(tries))),
                    marks.TRIES: str(tries),
                }
                yield from self._change(members, {"suspend": True}, notes)

    def _overdue(self, pod: cluster_views.PodView, now_s: float) -> str:
        if pod.unscheduled is None or pod.gone_by_s is not None:
            return ""
        since_s, words = pod.unscheduled
        return words if now_s - since_s >= self._deadline_s else ""

    def _change(
        self, jobs: Iterable[cluster_views.JobView], spec: meta.Document, notes: Mapping[str, str]
    ) -> Iterator[meta.Document]:
        for job in jobs:
            path = f"/apis/batch/v1/namespaces/{job.place.namespace}/jobs/{job.name}"
            body = {"metadata": {"annotations": notes}, "spec": spec}
            _LOG.info("placement", job=job.name, suspend=spec["suspend"])
            yield self._client.patch(path, body, manager=marks.OPERATOR)
