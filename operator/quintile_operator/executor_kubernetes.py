"""Port ``Executor`` on a cluster: one Indexed Job per role of an attempt, watched, not asked.

A handful of writes per attempt, however many replicas it has; none when all is there. What a
replica is, ``replica_views`` says from copies of pods and Jobs that watches keep; so looking at a
trial costs no request. Pods that find no node give back those that their peers hold
(``placement``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from quintile import logs, ports
from quintile.adapters import client_kube
from quintile.core import errors, meta, names, runplan
from quintile_operator import cluster_views, mirror, placement, refusals, replica_views
from quintile_operator.manifests import attempts, marks, pods

MANAGER: Final = marks.OPERATOR
CHORES_S: Final = 2.0
AT_ONCE_S: Final = 1.0
"""The shortest grace: none at all would forget a pod before its processes are gone."""

LIVE: Final = ("pending", "running")
_LOG: Final = logs.get(__name__)


class KubernetesExecutor:
    """Makes, sees and deletes the objects of attempts. Thread-safe.

    Args:
        client: Requests to the API server.
        site: What the admin sets for all pods.
        clock: The time, as the cluster's controllers know it.
        namespaces: The projects; empty for the whole cluster.

    Raises:
        InvalidSpec: ``site`` can never work.
    """

    def __init__(
        self,
        client: client_kube.KubeClient,
        site: pods.PodSite,
        *,
        clock: ports.Clock,
        namespaces: Sequence[str] = (),
    ) -> None:
        site.check()
        self._client = client
        self._site = site
        self._clock = clock
        self._listeners: list[Callable[[meta.Key], None]] = []
        self._stopped = threading.Event()
        self._refusals = refusals.Refusals(client)
        self._jobs: mirror.Mirror[cluster_views.JobView] = mirror.Mirror(
            client,
            _collections("/apis/batch/v1", "jobs", namespaces),
            selector=marks.OURS,
            project=cluster_views.job,
            groups=_groups_of_job,
        )
        self._pods: mirror.Mirror[cluster_views.PodView] = mirror.Mirror(
            client,
            _collections("/api/v1", "pods", namespaces),
            selector=marks.OURS,
            project=cluster_views.pod,
            groups=_groups_of_pod,
        )
        self._jobs.subscribe(lambda view: self._tell(view.place.key))
        self._pods.subscribe(lambda view: self._tell(view.place.key))
        self._jobs.start()
        self._pods.start()
        threading.Thread(target=self._run, name="executor-chores", daemon=True).start()

    @property
    def relists(self) -> int:
        """Return how often a whole list was read."""
        return self._jobs.relists + self._pods.relists

    def subscribe(self, listener: Callable[[meta.Key], None]) -> None:
        """Call ``listener`` with the trial's key whenever one of its pods or Jobs changed."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Let go: pods stay as they are. Idempotent."""
        self._stopped.set()
        self._jobs.stop()
        self._pods.stop()

    def ensure(self, run: runplan.RunPlan) -> None:
        """Make the objects that are missing; see the port."""
        known = {
            view.place.role: view
            for view in self._jobs.of(run.trial_uid)
            if view.place.attempt == run.attempt
        }
        self._check_ending(run, known)
        self._check_name(run)
        wanted = {role: _count(run, role) for role in attempts.roles(run)}
        if {role: view.completions for role, view in known.items()} == wanted:
            return
        for document in attempts.documents(run, self._site):
            role = document["metadata"]["labels"].get(marks.ROLE, "")
            if role in known:
                self._resize(document, known[role].completions)
            elif not known or role:
                self._make(run, document)
            elif run.elastic and document["kind"] == "Secret":
                # Read by the pods that are made from now on.
                self._client.apply(attempts.path(document), document, manager=MANAGER, force=True)
        _LOG.info("attempt made", trial=run.trial, attempt=run.attempt, replicas=wanted)

    def trials(self) -> Mapping[str, meta.Key]:
        """Return the key by uid of every trial that holds replicas."""
        found = {view.place.trial_uid: view.place.key for view in self._jobs.all()}
        orphans = [view for view in self._pods.all() if view.place.trial_uid not in found]
        return found | {view.place.trial_uid: view.place.key for view in self._unfinished(orphans)}

    def holders(self, key: meta.Key) -> Collection[str]:
        """Return the uids of trials that hold replicas under a key."""
        found = {view.place.trial_uid for view in self._jobs.of(key)}
        orphans = [view for view in self._pods.of(key) if view.place.trial_uid not in found]
        return found | {view.place.trial_uid for view in self._unfinished(orphans)}

    def observe(self, trial_uid: str) -> tuple[runplan.ObservedReplica, ...]:
        """Return all replicas of a trial."""
        # Pods first: a Job that is deleted in between leaves its pods as orphans, never unseen.
        found, now_s = self._pods.of(trial_uid), self._clock.now()
        jobs = [self._refusals.told(job) for job in self._jobs.of(trial_uid)]
        seen: list[runplan.ObservedReplica] = []
        for job in jobs:
            own = [pod for pod in found if pod.job_uid == job.uid]
            seen += replica_views.replicas(job, own, now_s=now_s)
        known = {job.uid for job in jobs}
        for pod in found:
            if pod.job_uid not in known:
                left = replica_views.orphan(pod, now_s=now_s)
                seen += [left] if left is not None else []
        return tuple(sorted(seen, key=lambda entry: (entry.attempt, entry.role, entry.index)))

    def delete(self, trial_uid: str, *, attempt: int | None = None, grace_s: float = 0.0) -> None:
        """End and forget replicas; see the port. A deadline is never moved to later."""
        found = [pod for pod in self._pods.of(trial_uid) if attempt in (None, pod.place.attempt)]
        jobs = [job for job in self._jobs.of(trial_uid) if attempt in (None, job.place.attempt)]
        for job in jobs:
            # The Job first, so that no pod is made again.
            self._client.delete(_job_path(job), uid=job.uid)
            self._jobs.drop(job.place.namespace, job.name)
        for number in sorted({job.place.attempt for job in jobs}):
            self._client.delete(_secret_path(jobs[0].place, number))
        allowed_s = grace_s + pods.GRACE_MARGIN_S if grace_s > 0 else AT_ONCE_S
        limit_s = self._clock.now() + allowed_s
        for place in {pod.place for pod in found if _must_hurry(pod, limit_s)}:
            selector = marks.selector(trial_uid, place.attempt)
            path = f"/api/v1/namespaces/{place.namespace}/pods?labelSelector={selector}"
            self._client.delete(path, grace_s=allowed_s)

    def addresses(self, run: runplan.RunPlan) -> dict[str, str]:
        """Return the name of every replica's pod, as its peers resolve it."""
        return attempts.addresses(run)

    def logs(self, trial_uid: str, *, attempt: int, name: str) -> Iterator[bytes]:
        """Yield what an agent wrote to its output."""
        for pod in sorted(self._pods.of(trial_uid), key=lambda one: one.created, reverse=True):
            place = pod.place
            own = names.replica(
                place.trial, attempt=place.attempt, role=place.role, index=pod.index
            )
            if own == name and place.attempt == attempt:
                path = f"/api/v1/namespaces/{place.namespace}/pods/{pod.name}/log"
                return self._client.text(path, container=pods.CONTAINER)
        raise errors.NotFound(
            f"There is no pod of replica {name!r} of attempt {attempt}.",
            hint="Pods are deleted when their trial goes on to another attempt.",
        )

    def _check_ending(
        self, run: runplan.RunPlan, known: Mapping[str, cluster_views.JobView]
    ) -> None:
        uids = {view.uid for view in known.values()}
        for pod in self._pods.of(run.trial_uid):
            if pod.place.attempt == run.attempt and pod.job_uid not in uids:
                raise errors.Unavailable(f"Pod {pod.name} is still ending.", hint="Try again.")
        for view in known.values():
            if view.deleting:
                raise errors.Unavailable(f"Job {view.name} is still ending.", hint="Try again.")

    def _check_name(self, run: runplan.RunPlan) -> None:
        key = meta.Key("Trial", run.namespace, run.trial)
        for uid in self.holders(key):
            if uid != run.trial_uid and any(seen.state in LIVE for seen in self.observe(uid)):
                raise errors.Conflict(
                    f"Pods of an older trial {run.trial} still run.", hint="They are ending."
                )

    def _unfinished(self, orphans: Iterable[cluster_views.PodView]) -> list[cluster_views.PodView]:
        """Return the pods of deleted Jobs of which there is still something to end."""
        now_s = self._clock.now()
        return [pod for pod in orphans if replica_views.orphan(pod, now_s=now_s) is not None]

    def _make(self, run: runplan.RunPlan, document: meta.Document) -> None:
        try:
            made = self._client.create(
                attempts.path(document, named=False), document, manager=MANAGER
            )
        except errors.Conflict:
            made = self._take_over(run, document)
        if document["kind"] == "Job":
            self._jobs.put(made)

    def _take_over(self, run: runplan.RunPlan, document: meta.Document) -> meta.Document:
        """Return what lies under the name of an object that exists already.

        Asked by a patch that changes nothing: whoever may write Secrets need not read them.
        """
        path, kind = attempts.path(document), document["kind"]
        owner = {"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": run.trial_uid}
        try:
            found = self._client.patch(path, [owner], form="json", manager=MANAGER)
        except (errors.InvalidSpec, errors.Conflict) as error:
            raise errors.Blocked(
                f"{kind} {run.namespace}/{document['metadata']['name']} belongs to somebody else.",
                hint=f"Delete or rename that {kind}; the trial goes on by itself.",
                reason="NameTaken",
            ) from error
        except errors.NotFound as error:
            raise errors.Unavailable(
                f"{kind} {path} was just deleted.", hint="Try again."
            ) from error
        if found["metadata"].get("deletionTimestamp"):
            raise errors.Unavailable(f"{kind} {path} is still ending.", hint="Try again.")
        if kind in ("Service", "NetworkPolicy"):
            return self._client.apply(path, document, manager=MANAGER, force=True)
        return found

    def _resize(self, document: meta.Document, completions: int) -> None:
        wanted = document["spec"]["completions"]
        if wanted != completions:
            body = {"spec": {"completions": wanted, "parallelism": wanted}}
            self._jobs.put(self._client.patch(attempts.path(document), body, manager=MANAGER))

    def _run(self) -> None:
        keeper = placement.Placement(self._client, self._site.pending_deadline_s)
        while not self._stopped.wait(CHORES_S):
            try:
                now_s, found = self._clock.now(), self._pods.all()
                for key in {pod.place.key for pod in found if _just_lost(pod, now_s)}:
                    self._tell(key)
                jobs = self._jobs.all()
                for document in keeper.keep(jobs, found, now_s=now_s):
                    self._jobs.put(document)
                for job in self._refusals.look(jobs, found, now_s=now_s):
                    self._tell(job.place.key)
            except errors.QuintileError as error:
                _LOG.warning("the chores of the executor wait", error=str(error))
            except Exception as error:  # the boundary of the thread; the next round tries again
                _LOG.error("the chores of the executor failed once", exc_info=error)

    def _tell(self, key: meta.Key) -> None:
        for listener in list(self._listeners):
            listener(key)


def _collections(root: str, plural: str, namespaces: Sequence[str]) -> list[str]:
    if not namespaces:
        return [f"{root}/{plural}"]
    return [f"{root}/namespaces/{name}/{plural}" for name in namespaces]


def _groups_of_job(view: cluster_views.JobView) -> tuple[str, meta.Key]:
    return view.place.trial_uid, view.place.key


def _groups_of_pod(view: cluster_views.PodView) -> tuple[str, meta.Key]:
    return view.place.trial_uid, view.place.key


def _count(run: runplan.RunPlan, role: str) -> int:
    return sum(1 for replica in run.replicas if replica.role == role)


def _job_path(job: cluster_views.JobView) -> str:
    return f"/apis/batch/v1/namespaces/{job.place.namespace}/jobs/{job.name}"


def _secret_path(place: cluster_views.Place, attempt: int) -> str:
    name = names.cluster_child(
        place.trial, uid=place.trial_uid, attempt=attempt, part=attempts.SECRET
    )
    return f"/api/v1/namespaces/{place.namespace}/secrets/{name}"


def _must_hurry(pod: cluster_views.PodView, limit_s: float) -> bool:
    """Return whether a pod would live on for longer than it may."""
    if pod.phase in ("Succeeded", "Failed"):
        return False
    return pod.gone_by_s is None or pod.gone_by_s > limit_s + AT_ONCE_S


def _just_lost(pod: cluster_views.PodView, now_s: float) -> bool:
    due_s = replica_views.due_s(pod)
    return due_s is not None and due_s <= now_s < due_s + 2 * CHORES_S
