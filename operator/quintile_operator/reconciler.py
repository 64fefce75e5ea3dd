"""Look at one resource and do what is needed: load, observe, decide (pure), write status, act.

Called by ``quintile_operator.loop`` with one worker per key at a time; the decisions are those of
``core.reconcile``, ``core.rollup`` and ``core.cycle``. Safe to stop between any two lines: the
status is written before anything that depends on it is done, and every action is idempotent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from quintile import logs
from quintile.adapters import tokens_ed25519
from quintile.core import (
    cycle,
    decision,
    errors,
    experiment,
    facts,
    failure_hints,
    job_status,
    labeling_job,
    meta,
    plan,
    pod_overrides,
    reconcile,
    rollup,
    rounds,
    search,
    trial_status,
)
from quintile_operator import gate, turns
from quintile_operator.parts import Parts

MANAGER: Final = "quintile-operator"
OUTAGE_S: Final = 20.0
"""A service that restarts is away for less, and no reason to write to every resource."""

GONE_GRACE_S: Final = 5.0
"""What processes of a deleted trial get between SIGTERM and SIGKILL."""

TOKEN_DAYS: Final = 92
DAY_S: Final = 86_400
KINDS: Final = ("LabelingJob", "Experiment", "Trial")

StatusT = TypeVar("StatusT", bound=meta.Wire)
_LOG: Final = logs.get(__name__)


class Reconciler:
    """Holds no state but since when something is so, to write it late or seldom.

    Blocking; thread-safe for distinct keys.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pace = _Pace()
        self._outage = _Outage()

    def reconcile(self, key: meta.Key) -> float | None:
        """Do what a resource needs now.

        Returns:
            Seconds until it wants a look even if nothing is reported; None = no need.

        Raises:
            QuintileError: Something was away or changed meanwhile; look again later.
        """
        if key.kind == "Trial":
            return self._trial(key)
        if key.kind in gate.KINDS:
            return self._parts.gate.look(key) if self._parts.gate is not None else None
        document = self._load(key)
        if document is None:
            return None
        if key.kind == "Experiment":
            return self._experiment(key, document)
        return self._labeling_job(key, document)

    def known_keys(self) -> tuple[meta.Key, ...]:
        """Return every key that may want a look: all resources, and trials with processes."""
        if self._parts.gate is not None:
            self._parts.gate.learn()
        # Processes first: a trial that starts in between is in the list that is read afterwards.
        found = dict.fromkeys(self._parts.executor.trials().values())
        for kind in KINDS:
            items = self._parts.resources.list(kind).items
            found |= dict.fromkeys(meta.key_of(document) for document in items)
        return tuple(found)

    def _trial(self, key: meta.Key) -> float | None:
        document = self._load(key)
        uid = document["metadata"]["uid"] if document is not None else ""
        self._end_strangers(key, uid)
        if self._parts.gate is not None:
            self._parts.gate.forget(key, uid)
        if document is None:
            return None
        trial = experiment.Trial.model_validate(document)
        # Replicas are observed before the facts are read; see ``core.verdict``.
        replicas = self._parts.executor.observe(uid)
        before = trial.status or experiment.TrialStatus()
        now_s = self._parts.clock.now()
        unheard = functools.partial(reconcile.decide_unheard, trial, now_s=now_s)
        with self._said_when_away(key, uid, before=before, unheard=unheard):
            known = self._parts.facts.trial(uid)
        decided = reconcile.decide_trial(trial, known, replicas, now_s=now_s)
        if self._parts.gate is not None:
            decided = self._parts.gate.decide(trial, decided, replicas, now_s=now_s)
        wake_s = self._carry_out(key, uid, before=before, decided=decided)
        for action in decided.actions:
            if isinstance(action, decision.EnsureAttempt):
                try:
                    self._start(trial, action.attempt)
                except (errors.Blocked, errors.Forbidden, errors.InvalidSpec) as error:
                    self._hold(trial, decided.status, error)
                    wake_s = _sooner(wake_s, turns.REFUSED_AGAIN_S)
            elif isinstance(action, decision.DeleteReplicas):
                self._parts.executor.delete(uid, attempt=action.attempt, grace_s=action.grace_s)
        self._tell(decided)
        return wake_s

    def _experiment(self, key: meta.Key, document: meta.Document) -> float | None:
        parent = experiment.Experiment.model_validate(document)
        names = [trial.metadata.name for trial in search.trials(parent)]
        stored = self._stored("Trial", key.namespace, names)
        decided = self._roll_up(parent, stored)
        before = parent.status or experiment.ExperimentStatus()
        return self._own(key, parent.metadata.uid, before=before, decided=decided)

    def _roll_up(
        self, parent: experiment.Experiment, stored: Mapping[str, meta.Document]
    ) -> rollup.ExperimentDecision:
        now_s = self._parts.clock.now()
        if self._parts.gate is not None:
            parent = self._parts.gate.settled(parent)
        # What began is not held back by a queue or runtime that changed since.
        if not stored:
            try:
                if self._parts.gate is not None:
                    self._parts.gate.check(parent)
                else:
                    pod_overrides.check_no_pods(parent.spec)
            except (errors.InvalidSpec, errors.Blocked) as error:
                return rollup.hold(parent, error, now_s=now_s, wake_s=turns.REFUSED_AGAIN_S)
        return rollup.decide_experiment(parent, stored, now_s=now_s)

    def _labeling_job(self, key: meta.Key, document: meta.Document) -> float | None:
        job = labeling_job.LabelingJob.model_validate(document)
        before = job.status or labeling_job.LabelingJobStatus()
        if job_status.is_terminal(before):
            return None
        uid, now_s = job.metadata.uid, self._parts.clock.now()
        unheard = functools.partial(cycle.decide_unheard, job, now_s=now_s)
        with self._said_when_away(key, uid, before=before, unheard=unheard):
            known = self._parts.facts.job(uid)
        refused: errors.InvalidSpec | None = None
        if known is None or before.observed_generation != job.metadata.generation:
            try:
                known = self._parts.facts.admit(document)
            except errors.InvalidSpec as error:
                refused = error
        if known is None:
            assert refused is not None
            decided = cycle.refuse(job, refused, now_s=now_s)
        else:
            names = [rounds.name(job, fact.number) for fact in _closed(known)]
            stored = self._stored("Experiment", key.namespace, names)
            decided = cycle.decide(job, known, stored, now_s=now_s, refused=refused)
        return self._own(key, uid, before=before, decided=decided)

    def _own(
        self,
        key: meta.Key,
        uid: str,
        *,
        before: StatusT,
        decided: decision.Decision[StatusT],
    ) -> float | None:
        """Carry out a decision whose actions are owned resources."""
        wake_s = self._carry_out(key, uid, before=before, decided=decided)
        for action in decided.actions:
            if isinstance(action, decision.ApplyChild):
                self._parts.resources.apply(action.document, manager=MANAGER)
        self._tell(decided)
        return wake_s

    def _carry_out(
        self,
        key: meta.Key,
        uid: str,
        *,
        before: StatusT,
        decided: decision.Decision[StatusT],
    ) -> float | None:
        """Write the status if it changed, log the decision; return when to look again."""
        changed = decided.status != before
        held_s = self._pace.left_s(uid, decided.within_s, now_s=self._parts.clock.now())
        if changed and held_s > 0:
            return _sooner(decided.wake_s, held_s)
        if changed:
            status = decided.status.document()
            self._parts.resources.patch_status(key, status, uid=uid)
            self._pace.note(uid, self._parts.clock.now())
        if _is_over(decided.status):
            self._pace.forget(uid)
        _log(key, decided, changed=changed)
        return decided.wake_s

    @contextlib.contextmanager
    def _said_when_away(
        self,
        key: meta.Key,
        uid: str,
        *,
        before: StatusT,
        unheard: Callable[[errors.Unavailable], decision.Decision[StatusT]],
    ) -> Iterator[None]:
        """Around a read of facts: a resource says it when they have been away for a while."""
        try:
            yield
        except errors.Unavailable as error:
            if self._outage.lasts(key.kind, now_s=self._parts.clock.now()):
                self._carry_out(key, uid, before=before, decided=unheard(error))
            raise
        self._outage.ends(key.kind)

    def _start(self, trial: experiment.Trial, attempt: int) -> None:
        parts, place = self._parts, trial.metadata
        claims = tokens_ed25519.TrialClaims(
            uid=place.uid,
            attempt=attempt,
            namespace=place.namespace,
            trial=place.name,
            # Whole days, so that a plan made twice on one day is the same.
            expires_s=(int(parts.clock.now()) // DAY_S + TOKEN_DAYS) * DAY_S,
        )
        token = parts.minter.sign(claims)
        site = {"api_url": parts.api_url, "python": parts.python, "token": token}
        pod = None
        if parts.gate is not None:
            parts.gate.check_secrets(place.namespace, trial.spec.template)
            trial, pod = parts.gate.dressed(trial)
        draft = plan.plan_trial(trial, attempt=attempt, hosts={}, **site)
        hosts = parts.executor.addresses(draft)
        whole = plan.plan_trial(trial, attempt=attempt, hosts=hosts, **site)
        parts.executor.ensure(dataclasses.replace(whole, pod=pod))

    def _hold(
        self, trial: experiment.Trial, before: experiment.TrialStatus, error: errors.QuintileError
    ) -> None:
        """Say on a trial why its replicas cannot be made; once, however often it is tried."""
        place, now_s = trial.metadata, self._parts.clock.now()
        reason = error.reason if isinstance(error, errors.Blocked) else "PodNotMade"
        message = failure_hints.sentence(failure_hints.stated(error), reason)
        held = trial_status.held(
            before, reason=reason, message=message, generation=place.generation, now_s=now_s
        )
        _LOG.warning("an attempt cannot begin", trial=place.name, reason=reason, error=str(error))
        if held != before:
            key = meta.Key("Trial", place.namespace, place.name)
            self._parts.resources.patch_status(key, held.document(), uid=place.uid)

    def _end_strangers(self, key: meta.Key, uid: str) -> None:
        """End the processes of trials that lived under this name and are deleted."""
        for held_uid in self._parts.executor.holders(key):
            if held_uid != uid:
                _LOG.info("processes of a deleted trial end", trial=str(key), uid=held_uid)
                self._parts.executor.delete(held_uid, grace_s=GONE_GRACE_S)

    def _tell(self, decided: decision.Decision[StatusT]) -> None:
        for event in decided.events:
            try:
                self._parts.events.emit(event)
            except errors.Unavailable as error:
                _LOG.warning("an event was not recorded", reason=event.reason, error=str(error))

    def _load(self, key: meta.Key) -> meta.Document | None:
        try:
            return self._parts.resources.get(key)
        except errors.NotFound:
            return None

    def _stored(
        self, kind: str, namespace: str, names: Iterable[str]
    ) -> Mapping[str, meta.Document]:
        loaded = {name: self._load(meta.Key(kind, namespace, name)) for name in names}
        return {name: document for name, document in loaded.items() if document is not None}


class _Pace:
    """Since when writes of a resource wait: the last one, or the first look. Thread-safe."""

    def __init__(self) -> None:
        self._written: dict[str, float] = {}
        self._lock = threading.Lock()

    def left_s(self, uid: str, within_s: float, *, now_s: float) -> float:
        """Return the seconds until a write that may wait so long is due."""
        with self._lock:
            since_s = self._written.setdefault(uid, now_s)
        # A clock that was set back must not hold progress up.
        return max(0.0, since_s + within_s - now_s) if since_s <= now_s else 0.0

    def note(self, uid: str, now_s: float) -> None:
        """Remember a write."""
        with self._lock:
            self._written[uid] = now_s

    def forget(self, uid: str) -> None:
        """Forget a resource that is over."""
        with self._lock:
            self._written.pop(uid, None)


class _Outage:
    """Since when the facts of a kind cannot be read. Thread-safe."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def lasts(self, kind: str, *, now_s: float) -> bool:
        """Return whether they have been away for so long that it is worth a write."""
        with self._lock:
            return now_s - self._since.setdefault(kind, now_s) >= OUTAGE_S

    def ends(self, kind: str) -> None:
        """Take that they were read."""
        with self._lock:
            self._since.pop(kind, None)


def _closed(known: facts.JobFacts) -> Sequence[facts.RoundFact]:
    return [fact for fact in known.rounds if fact.state == "closed"]


def _is_over(status: meta.Wire) -> bool:
    """Return whether a status of any kind is final."""
    return getattr(status, "phase", "") in experiment.TERMINAL


def _sooner(first_s: float | None, second_s: float) -> float:
    return second_s if first_s is None else min(first_s, second_s)


def _log(key: meta.Key, decided: decision.Decision[StatusT], *, changed: bool) -> None:
    lasting = [a for a in decided.actions if not isinstance(a, decision.DeleteReplicas)]
    weighty = (changed and decided.urgent) or lasting
    write = _LOG.info if weighty else _LOG.debug
    write(
        "decided",
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        phase=getattr(decided.status, "phase", ""),
        reason=getattr(decided.status, "reason", ""),
        actions=[type(action).__name__ for action in decided.actions],
        wake_s=decided.wake_s,
    )
