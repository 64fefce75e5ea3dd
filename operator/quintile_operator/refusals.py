"""Why a Job has no pods: only Events say that a quota or an admission rule refused them.

Called by the chores of ``quintile_operator.executor_kubernetes``; asks for few Jobs at a time.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from quintile.adapters import client_kube
from quintile_operator import cluster_views

PATIENCE_S: Final = 5.0
"""How long a Job may take to make its pods."""

EVERY_S: Final = 20.0
AT_ONCE: Final = 10
POD_NAME: Final = re.compile(r'pods "[^"]*" is')


class Refusals:
    """What was said about the pods of Jobs. ``told`` from any thread, ``look`` from one."""

    def __init__(self, client: client_kube.KubeClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._words: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}

    def told(self, job: cluster_views.JobView) -> cluster_views.JobView:
        """Return the view of a Job with what was said about its pods."""
        with self._lock:
            words = self._words.get(job.uid, "")
        return dataclasses.replace(job, problem=words) if words and not job.problem else job

    def look(
        self,
        jobs: Iterable[cluster_views.JobView],
        pods: Iterable[cluster_views.PodView],
        *,
        now_s: float,
    ) -> Iterator[cluster_views.JobView]:
        """Ask about Jobs whose pods do not come; yield those of which something new is known."""
        made = Counter(pod.job_uid for pod in pods)
        short = [job for job in jobs if _lacks_pods(job, made[job.uid], now_s)]
        known = {job.uid for job in short}
        with self._lock:
            self._words = {uid: text for uid, text in self._words.items() if uid in known}
        self._asked_s = {uid: time for uid, time in self._asked_s.items() if uid in known}
        due = [job for job in short if now_s - self._asked_s.get(job.uid, 0.0) >= EVERY_S]
        for job in due[:AT_ONCE]:
            self._asked_s[job.uid] = now_s
            words = self._ask(job)
            with self._lock:
                if words == self._words.get(job.uid, ""):
                    continue
                self._words[job.uid] = words
            yield job

    def _ask(self, job: cluster_views.JobView) -> str:
        found = self._client.get(
            f"/api/v1/namespaces/{job.place.namespace}/events",
            fieldSelector=f"involvedObject.uid={job.uid},reason=FailedCreate",
            limit=AT_ONCE,
        )["items"]
        newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        # Every try has a pod name of its own; the words shall stay the same.
        return POD_NAME.sub("a pod is", str(newest["message"])) if newest is not None else ""


def _lacks_pods(job: cluster_views.JobView, made: int, now_s: float) -> bool:
    wanted = job.completions - len(job.failed | job.completed)
    late = now_s - job.created_s >= PATIENCE_S
    return late and not job.suspended and not job.deleting and made < wanted
