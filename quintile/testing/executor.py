"""Executor in memory: replicas are entries that a test makes run, end or vanish."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from quintile.core import errors, meta, runplan, verdict

LIVE = ("pending", "running")


@dataclass
class FakeReplica:
    """One replica; ``asked_to_end`` holds the grace of a deletion that is under way."""

    plan: runplan.ReplicaPlan
    run: runplan.RunPlan
    seen: runplan.ObservedReplica
    asked_to_end: float | None = None


class FakeExecutor:
    """Replicas in a dictionary. Thread-safe.

    Args:
        lingering: Whether a killed replica lives on until ``leave``, as a process does for a while.

    Attributes:
        fault: Raised by the next ``ensure`` instead of starting anything.
        most_live_attempts: The most attempts of one trial that ever lived at the same time.
        started: Names of all replicas that were ever started, in order.
    """

    def __init__(self, *, lingering: bool = False) -> None:
        self._lingering = lingering
        self._replicas: dict[tuple[str, str], FakeReplica] = {}
        self._lock = threading.RLock()
        self.fault: errors.QuintileError | None = None
        self.most_live_attempts = 0
        self.started: list[str] = []

    def ensure(self, run: runplan.RunPlan) -> None:
        """Start the replicas that are missing, as pending."""
        with self._lock:
            if self.fault is not None:
                fault, self.fault = self.fault, None
                raise fault
            for plan in run.replicas:
                self._ensure(run, plan)
            if run.elastic:
                self._dismiss(run)
            live = {entry.attempt for entry in self.observe(run.trial_uid) if entry.state in LIVE}
            self.most_live_attempts = max(self.most_live_attempts, len(live))

    def trials(self) -> Mapping[str, meta.Key]:
        """Return the key by uid of every trial that holds replicas."""
        with self._lock:
            return {
                uid: meta.Key("Trial", found.run.namespace, found.run.trial)
                for (uid, _), found in self._replicas.items()
            }

    def holders(self, key: meta.Key) -> Collection[str]:
        """Return the uids of trials that hold replicas under a key."""
        return {uid for uid, held in self.trials().items() if held == key}

    def observe(self, trial_uid: str) -> tuple[runplan.ObservedReplica, ...]:
        """Return the replicas of a trial."""
        with self._lock:
            seen = [found.seen for (uid, _), found in self._replicas.items() if uid == trial_uid]
        return tuple(sorted(seen, key=lambda entry: (entry.attempt, entry.role, entry.index)))

    def delete(self, trial_uid: str, *, attempt: int | None = None, grace_s: float = 0.0) -> None:
        """Forget what is dead or has no grace; the rest waits for ``leave``."""
        with self._lock:
            for place, found in list(self._replicas.items()):
                if place[0] != trial_uid or attempt not in (None, found.run.attempt):
                    continue
                killed = grace_s <= 0 and not self._lingering
                if killed or found.seen.state not in LIVE:
                    del self._replicas[place]
                else:
                    known = found.asked_to_end
                    found.asked_to_end = grace_s if known is None else min(known, grace_s)

    def addresses(self, run: runplan.RunPlan) -> dict[str, str]:
        """Return a host by replica name."""
        return {replica.name: "127.0.0.1" for replica in run.replicas}

    def logs(self, trial_uid: str, *, attempt: int, name: str) -> Iterator[bytes]:
        """Yield one line."""
        with self._lock:
            found = self._replicas.get((trial_uid, name))
        if found is None or found.run.attempt != attempt:
            raise errors.NotFound(f"There is no replica {name!r}.")
        return iter([f"agent of {name}\n".encode()])

    def replicas(self, trial_uid: str) -> list[FakeReplica]:
        """Return the replicas of a trial with plan and run, for tests to read."""
        with self._lock:
            found = [item for (uid, _), item in self._replicas.items() if uid == trial_uid]
        return sorted(found, key=lambda item: (item.run.attempt, item.plan.role, item.plan.index))

    def set_running(self, trial_uid: str, *, started_s: float = 0.0) -> None:
        """Let all pending replicas of a trial run."""
        with self._lock:
            for found in self.replicas(trial_uid):
                if found.seen.state == "pending":
                    found.seen = replace(found.seen, state="running", started_s=started_s)

    def finish(
        self, trial_uid: str, name: str, *, exit_code: int = 0, reason: str = "Completed"
    ) -> None:
        """Let a live replica end with an exit record."""
        with self._lock:
            found = self._replicas.get((trial_uid, name))
            if found is not None and found.seen.state in LIVE:
                self._end(found, state="exited", exit_code=exit_code, reason=reason)

    def lose(self, trial_uid: str, name: str) -> None:
        """Let a live replica vanish without an exit record."""
        with self._lock:
            found = self._replicas.get((trial_uid, name))
            if found is not None and found.seen.state in LIVE:
                self._end(found, state="lost", exit_code=None, reason="AgentLost")

    def leave(self) -> None:
        """Let every replica that was asked to end do so; it is forgotten."""
        with self._lock:
            for place, found in list(self._replicas.items()):
                if found.asked_to_end is not None:
                    del self._replicas[place]

    def _ensure(self, run: runplan.RunPlan, plan: runplan.ReplicaPlan) -> None:
        for (uid, name), found in self._replicas.items():
            if name == plan.name and uid != run.trial_uid and found.seen.state in LIVE:
                raise errors.Conflict(f"The replica {name} of an older trial still runs.")
        known = self._replicas.get((run.trial_uid, plan.name))
        if known is not None:
            if known.asked_to_end is not None:
                raise errors.Unavailable(f"{plan.name} is still ending.")
            if not (run.elastic and verdict.repairable(known.seen)):
                return
        seen = runplan.ObservedReplica(
            trial_uid=run.trial_uid,
            attempt=run.attempt,
            name=plan.name,
            role=plan.role,
            index=plan.index,
            state="pending",
        )
        self._replicas[(run.trial_uid, plan.name)] = FakeReplica(plan=plan, run=run, seen=seen)
        self.started.append(plan.name)

    def _dismiss(self, run: runplan.RunPlan) -> None:
        named = {plan.name for plan in run.replicas}
        for place, found in list(self._replicas.items()):
            if place[0] != run.trial_uid or found.run.attempt != run.attempt or place[1] in named:
                continue
            if found.seen.state in LIVE:
                found.asked_to_end = float(run.grace_s)
            else:
                del self._replicas[place]

    def _end(
        self,
        found: FakeReplica,
        *,
        state: runplan.ReplicaState,
        exit_code: int | None,
        reason: str,
    ) -> None:
        if found.asked_to_end is not None:
            del self._replicas[(found.run.trial_uid, found.plan.name)]
            return
        found.seen = replace(found.seen, state=state, exit_code=exit_code, reason=reason)
