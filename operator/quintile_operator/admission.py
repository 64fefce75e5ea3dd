"""Who holds a place in which queue: the memory behind ``core.queueing``.

One object for the one operator that leads. Places are what Trials say of themselves (condition
``QuotaReserved``), so that ``restore`` brings everything back after a restart; nothing here is
written anywhere. Thread-safe.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from quintile.core import admin_kinds, errors, meta, queueing

Answer = Literal["granted", "waiting", "evict", "refused"]


@dataclass(frozen=True)
class Place:
    """What a trial is told: its answer, and for all but ``granted`` why."""

    answer: Answer
    reason: str = ""
    message: str = ""


GRANTED = Place("granted")


@dataclass
class _Line:
    """One queue: what it allows, who holds a place, who waits (sorted), who must give way."""

    spec: admin_kinds.QueueSpec
    quota: queueing.Demand
    held: dict[str, queueing.Claim] = field(default_factory=dict)
    waiting: list[queueing.Claim] = field(default_factory=list)
    leaving: set[str] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)


class Admission:
    """Answers trials that ask for a place.

    Args:
        mark: Asks for a look at a trial whose answer has changed; must not call back.
    """

    def __init__(self, mark: Callable[[meta.Key], None]) -> None:
        self._mark = mark
        self._lines: dict[str, _Line] = {}
        self._line_of: dict[str, str] = {}
        self._lock = threading.Lock()

    def learn(self, queues: Iterable[admin_kinds.Queue]) -> None:
        """Take over what all queues say now; places stay, also beyond a quota that shrank.

        Raises:
            InvalidSpec: An amount of a queue cannot be read; its last good word holds.
        """
        with self._lock:
            found = {queue.metadata.name: queue.spec for queue in queues}
            for name in set(self._lines) - set(found):
                for claim in (*self._lines[name].waiting, *self._lines[name].held.values()):
                    self._line_of.pop(claim.uid, None)
                    self._mark(claim.key)
                del self._lines[name]
            for name, spec in found.items():
                quota = queueing.limits(spec)
                line = self._lines.setdefault(name, _Line(spec, quota))
                line.spec, line.quota = spec, quota
                self._advance(line)

    def restore(self, queue: str, claim: queueing.Claim) -> None:
        """Note a trial that says that it holds a place; before anybody asks."""
        with self._lock:
            line = self._lines.get(queue)
            if line is not None and claim.uid not in line.held:
                self._hold(line, claim)
                self._line_of[claim.uid] = queue

    def ask(self, queue: str, claim: queueing.Claim) -> Place:
        """Return whether a trial may run now; it waits in the queue until it is released."""
        with self._lock:
            line = self._lines.get(queue)
            if line is None:
                message = f"there is no queue {queue}; ask an administrator, or name another one"
                return Place("refused", "QueueNotFound", message)
            if claim.uid in line.held:
                if claim.uid in line.leaving:
                    return Place("evict", "Preempted", f"a trial of higher priority needs {queue}")
                return GRANTED
            refusal = _refusal(queue, line, claim)
            if refusal is not None:
                return refusal
            if self._line_of.get(claim.uid) != queue:
                bisect.insort(line.waiting, claim, key=lambda other: other.order)
                self._line_of[claim.uid] = queue
            self._advance(line, asking=claim.uid)
            if claim.uid in line.held:
                return GRANTED
            return _wait(queue, line, claim)

    def release(self, uid: str) -> None:
        """Give back the place of a trial that ended, was suspended or deleted. Idempotent."""
        with self._lock:
            name = self._line_of.pop(uid, None)
            line = self._lines.get(name) if name is not None else None
            if line is None:
                return
            claim = line.held.pop(uid, None)
            line.leaving.discard(uid)
            if claim is None:
                line.waiting = [other for other in line.waiting if other.uid != uid]
            else:
                line.used = queueing.minus(line.used, claim.demand)
            self._advance(line)

    def status(self, queue: str) -> admin_kinds.QueueStatus:
        """Return what a queue holds now.

        Raises:
            NotFound: There is no such queue.
        """
        with self._lock:
            line = self._lines.get(queue)
            if line is None:
                raise errors.NotFound(f"There is no queue {queue}.")
            used = [
                admin_kinds.Quota(
                    resource=entry.resource,
                    amount=queueing.shown(entry.resource, line.used.get(entry.resource, 0)),
                )
                for entry in line.spec.quota
            ]
            return admin_kinds.QueueStatus(
                admitted=len(line.held), pending=len(line.waiting), used=used
            )

    def _advance(self, line: _Line, *, asking: str = "") -> None:
        """Let those begin that fit, and tell those whose answer changed."""
        # One eviction at a time: until its place is free, nobody can tell what else is needed.
        may_evict = line.spec.preemption == "Lower" and not line.leaving
        below = line.held.values() if may_evict else ()
        found = queueing.turn(line.quota, line.used, line.waiting, below=below)
        for claim in found.admit:
            self._hold(line, claim)
            if claim.uid != asking:
                self._mark(claim.key)
        del line.waiting[: len(found.admit)]
        for claim in found.evict:
            line.leaving.add(claim.uid)
            self._mark(claim.key)

    def _hold(self, line: _Line, claim: queueing.Claim) -> None:
        line.held[claim.uid] = claim
        line.used = queueing.plus(line.used, claim.demand)


def _refusal(queue: str, line: _Line, claim: queueing.Claim) -> Place | None:
    namespace = claim.key.namespace
    if line.spec.namespaces and namespace not in line.spec.namespaces:
        message = f"queue {queue} is not for project {namespace}; name another one"
        return Place("refused", "QueueNotAllowed", message)
    over = queueing.excess(line.quota, claim.demand)
    if over:
        message = f"the trial asks for {over} in queue {queue}, more than all of it; ask for less"
        return Place("refused", "ExceedsQuota", message)
    most = line.spec.max_pending_per_namespace
    if most is not None:
        mine = [other.uid for other in line.waiting if other.key.namespace == namespace]
        if claim.uid not in mine and len(mine) >= most:
            message = f"{len(mine)} trials of {namespace} wait in queue {queue} already"
            return Place("waiting", "TooManyPending", f"{message}; {most} may")
    return None


def _wait(queue: str, line: _Line, claim: queueing.Claim) -> Place:
    ahead = bisect.bisect_left(line.waiting, claim.order, key=lambda other: other.order)
    lacks = queueing.lacking(line.quota, line.used, claim.demand)
    what = f"needs {lacks}" if lacks else "fits, but others go first"
    return Place("waiting", "WaitsInQueue", f"queue {queue}: {what}; {ahead} ahead")
