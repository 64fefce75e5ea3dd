"""Lets attempts begin when their queue has room, in the pods that their runtime describes.

Called by ``quintile_operator.reconciler`` between deciding and doing. An attempt that may not begin
yet is held back with the condition ``QuotaReserved=False``, which says what it waits for; one that
must give way saves its state, ends, and waits again. A trial that names no queue passes.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from quintile import logs, ports
from quintile.core import (
    admin_kinds,
    conditions,
    decision,
    errors,
    experiment,
    meta,
    plan,
    pod_overrides,
    queueing,
    runplan,
    runtimes,
    trial_status,
    verdict,
)
from quintile_operator import admission, turns

KINDS: Final = ("Queue", "ClusterRuntime")
STATUS_EVERY_S: Final = 15.0

KindT = TypeVar("KindT", admin_kinds.Queue, admin_kinds.ClusterRuntime)
_LOG: Final = logs.get(__name__)


class Gate:
    """Knows queues and runtimes, and who holds a place. Thread-safe.

    Args:
        resources: Where queues, runtimes and trials lie.
        mark: Asks for a look at a trial whose turn has come; must not call back.
        secrets: Refuses Secrets of a namespace that pods may not read; None: there are none.
    """

    def __init__(
        self,
        resources: ports.ResourceStore,
        mark: Callable[[meta.Key], None],
        secrets: Callable[[str, Sequence[str]], None] | None = None,
    ) -> None:
        self._resources = resources
        self._secrets = secrets
        self._admission = admission.Admission(mark)
        self._queues: dict[str, admin_kinds.Queue] = {}
        self._runtimes: dict[str, admin_kinds.ClusterRuntime] = {}
        self._uids: dict[meta.Key, str] = {}
        self._lock = threading.RLock()
        self._is_ready = False

    def learn(self) -> None:
        """Read queues and runtimes again; the first time, who holds a place already.

        Raises:
            Unavailable: They cannot be read.
        """
        with self._lock:
            self._learn()

    def look(self, key: meta.Key) -> float | None:
        """Take over a queue or runtime that changed; keep the status of a queue up to date."""
        self.learn()
        queue = self._queues.get(key.name) if key.kind == "Queue" else None
        if queue is None:
            return None
        before = queue.status or admin_kinds.QueueStatus()
        now = self._admission.status(key.name)
        update = {"admitted": now.admitted, "pending": now.pending, "used": now.used}
        update["observed_generation"] = queue.metadata.generation
        after = before.model_copy(update=update)
        if after != before or queue.status is None:
            self._resources.patch_status(key, after.document(), uid=queue.metadata.uid)
        return STATUS_EVERY_S

    def settled(self, parent: experiment.Experiment) -> experiment.Experiment:
        """Return an Experiment that names its queue and runtime, where there are defaults."""
        self._ready()
        namespace, spec = parent.metadata.namespace, parent.spec
        open_queues = [
            queue
            for queue in self._queues.values()
            if namespace in (queue.spec.namespaces or (namespace,))
        ]
        update = {
            "queue": spec.queue or _default(open_queues),
            "runtime": spec.runtime or _default(self._runtimes.values()),
        }
        return parent.model_copy(update={"spec": spec.model_copy(update=update)})

    def check(self, parent: experiment.Experiment) -> None:
        """Refuse an Experiment that names what is not there, or asks for more than it may.

        Raises:
            InvalidSpec: Names the field, and what there is.
            Blocked: As ``check_secrets``.
        """
        self._ready()
        spec = parent.spec
        self.check_secrets(parent.metadata.namespace, spec)
        runtimed = self._with_runtime(spec)
        plan.check(runtimed)
        if spec.queue is None:
            return
        queue = self._queue(spec.queue)
        queueing.priority(queue.spec, spec.priority)
        allowed = queue.spec.namespaces
        if allowed and parent.metadata.namespace not in allowed:
            raise errors.InvalidSpec(
                f"Queue {spec.queue} is not for project {parent.metadata.namespace}.",
                hint=f"It is for {', '.join(allowed)}; name another queue.",
                field="spec.queue",
            )

    def check_secrets(self, namespace: str, spec: experiment.ExperimentSpec) -> None:
        """Refuse Secrets that are not there, or that pods of users may not read.

        Raises:
            Blocked: Names the Secret.
            Unavailable: They cannot be looked at.
        """
        if self._secrets is not None and spec.secret_refs:
            self._secrets(namespace, [secret.name for secret in spec.secret_refs])

    def dressed(self, trial: experiment.Trial) -> tuple[experiment.Trial, runplan.Pod]:
        """Return a trial with what its runtime fills in, and the pods that both describe.

        Raises:
            InvalidSpec: As ``check``.
        """
        self._ready()
        template = self._with_runtime(trial.spec.template)
        runtime = self._runtimes.get(template.runtime or "")
        pod = runtimes.pod(runtime) if runtime is not None else runplan.Pod()
        spec = trial.spec.model_copy(update={"template": template})
        return trial.model_copy(update={"spec": spec}), pod_overrides.dress(pod, template)

    def decide(
        self,
        trial: experiment.Trial,
        decided: turns.TrialDecision,
        replicas: Sequence[runplan.ObservedReplica],
        *,
        now_s: float,
    ) -> turns.TrialDecision:
        """Return the decision as the queue of the trial allows it."""
        queue = trial.spec.template.queue
        self._ready()
        decided = self._stamped(trial, decided)
        if queue is None:
            return decided
        turn = turns.Turn(trial, decided, alive=bool(verdict.live(replicas)), now_s=now_s)
        self._remember(turn)
        if turn.is_over:
            if turn.alive:
                return decided
            self._admission.release(turn.uid)
            return turn.marked("False", "Ended", "") if turn.holds else decided
        if not (turn.wants or turn.holds or turn.leaves):
            return decided
        place = self._ask(queue, trial)
        if place.answer == "evict":
            return self._evict(queue, turn, place)
        if place.answer == "granted":
            return turn.marked("True", "Admitted", f"queue {queue}")
        # A queue that was closed to a trial at work does not end it.
        return turn.held_back(place) if turn.wants else decided

    def forget(self, key: meta.Key, uid: str) -> None:
        """Give back the place of a trial that lived under ``key`` before ``uid``."""
        with self._lock:
            known = self._uids.get(key, "")
            if known in ("", uid):
                return
            del self._uids[key]
        self._admission.release(known)

    def _stamped(
        self, trial: experiment.Trial, decided: turns.TrialDecision
    ) -> turns.TrialDecision:
        """Return the decision with what the runtime of an attempt that begins says."""
        runtime = self._runtimes.get(trial.spec.template.runtime or "")
        if runtime is None or not turns.begins(decided):
            return decided
        stamp = {"runtime_sha256": runtimes.digest(runtime)}
        after = decided.status.model_copy(update=stamp)
        within_s = decided.within_s if after == decided.status else decision.AT_ONCE
        return dataclasses.replace(decided, status=after, within_s=within_s)

    def _evict(self, queue: str, turn: turns.Turn, place: admission.Place) -> turns.TrialDecision:
        if turn.alive:
            return turn.leaving(place)
        self._admission.release(turn.uid)
        return turn.gone(place, queue)

    def _ask(self, queue: str, trial: experiment.Trial) -> admission.Place:
        try:
            return self._admission.ask(queue, self._claim(queue, trial))
        except errors.InvalidSpec as error:
            return admission.Place("refused", "InvalidSpec", str(error))

    def _claim(self, queue: str, trial: experiment.Trial) -> queueing.Claim:
        dressed, _ = self.dressed(trial)
        run = plan.plan_trial(dressed, attempt=1, api_url="", python="", token="", hosts={})
        known = self._queues.get(queue)
        word = trial.spec.template.priority
        return queueing.Claim(
            uid=trial.metadata.uid,
            key=meta.Key("Trial", trial.metadata.namespace, trial.metadata.name),
            priority=queueing.priority(known.spec, word) if known is not None else 0,
            since_s=conditions.seconds(trial.metadata.creation_timestamp),
            demand=queueing.demand(run),
        )

    def _ready(self) -> None:
        with self._lock:
            if not self._is_ready:
                self._learn()

    def _learn(self) -> None:
        self._queues = {one.metadata.name: one for one in self._read(admin_kinds.Queue)}
        self._runtimes = {one.metadata.name: one for one in self._read(admin_kinds.ClusterRuntime)}
        self._admission.learn(self._readable())
        if not self._is_ready:
            self._is_ready = True
            self._restore()

    def _restore(self) -> None:
        for document in self._resources.list("Trial").items:
            trial = experiment.Trial.model_validate(document)
            queue, status = trial.spec.template.queue, trial.status
            if queue is None or status is None or trial_status.is_terminal(status):
                continue
            if conditions.is_true(status.conditions, turns.RESERVED) and queue in self._queues:
                try:
                    self._admission.restore(queue, self._claim(queue, trial))
                except errors.InvalidSpec as error:
                    _LOG.warning("a place was lost", trial=trial.metadata.name, error=str(error))

    def _read(self, model: type[KindT]) -> Iterator[KindT]:
        for document in self._resources.list(model.__name__).items:
            try:
                yield model.model_validate(document)
            except ValueError as error:
                _LOG.warning("not understood", name=document["metadata"]["name"], error=str(error))

    def _readable(self) -> Iterator[admin_kinds.Queue]:
        for name, queue in self._queues.items():
            try:
                queueing.limits(queue.spec)
            except errors.InvalidSpec as error:
                _LOG.warning("a queue cannot be used", queue=name, error=str(error))
                continue
            yield queue

    def _remember(self, turn: turns.Turn) -> None:
        place = turn.trial.metadata
        with self._lock:
            self._uids[meta.Key("Trial", place.namespace, place.name)] = turn.uid

    def _queue(self, name: str) -> admin_kinds.Queue:
        return _named(self._queues, name, "queue")

    def _runtime(self, name: str) -> admin_kinds.ClusterRuntime:
        return _named(self._runtimes, name, "runtime")

    def _with_runtime(self, spec: experiment.ExperimentSpec) -> experiment.ExperimentSpec:
        runtime = self._runtime(spec.runtime) if spec.runtime else None
        pod_overrides.check(spec, runtime)
        return runtimes.apply(spec, runtime) if runtime is not None else spec


def _default(known: Iterable[admin_kinds.Queue | admin_kinds.ClusterRuntime]) -> str | None:
    """Return the first by name of those that are marked as default."""
    return min((one.metadata.name for one in known if one.metadata.is_default), default=None)


def _named(known: dict[str, KindT], name: str, what: str) -> KindT:
    found = known.get(name)
    if found is None:
        raise errors.InvalidSpec(
            f"There is no {what} {name}.",
            hint=f"There is {', '.join(sorted(known)) or 'none'}; ask an administrator for others.",
            field=f"spec.{what}",
        )
    return found
