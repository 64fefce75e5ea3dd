"""One look at a trial that names a queue: what its place in the queue makes of a decision. Pure.

Called by ``quintile_operator.gate``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from quintile.core import conditions, decision, experiment, meta, runplan, trial_status
from quintile_operator import admission

RESERVED: Final = "QuotaReserved"
REFUSED_AGAIN_S: Final = 30.0
POLL_S: Final = 1.0

TrialDecision = decision.Decision[experiment.TrialStatus]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One look at a trial that names a queue."""

    trial: experiment.Trial
    decided: TrialDecision
    alive: bool
    now_s: float

    @property
    def uid(self) -> str:
        """Uid of the trial."""
        return self.trial.metadata.uid

    @property
    def before(self) -> experiment.TrialStatus:
        """The status as stored."""
        return self.trial.status or experiment.TrialStatus()

    @property
    def wants(self) -> bool:
        """Whether an attempt would begin."""
        return begins(self.decided)

    @property
    def holds(self) -> bool:
        """Whether the trial says that it holds a place."""
        return conditions.is_true(self.before.conditions, RESERVED)

    @property
    def leaves(self) -> bool:
        """Whether the trial was told to give its place up."""
        found = conditions.find(self.before.conditions, RESERVED)
        return found is not None and found.reason == "Preempted"

    @property
    def is_over(self) -> bool:
        """Whether the trial needs its place no longer, once its processes are gone."""
        after = self.decided.status
        return trial_status.is_terminal(after) or conditions.is_true(after.conditions, "Suspended")

    def marked(
        self,
        status: conditions.Status,
        reason: str,
        message: str,
        *,
        update: Mapping[str, object] | None = None,
    ) -> TrialDecision:
        """Return the decision with the condition, and an event when it turned."""
        after = self.decided.status
        changes = [self._entry(RESERVED, status, reason, message)]
        if reason == "Preempted":
            changes.append(self._entry("Running", "False", reason, message))
        merged = conditions.merge(after.conditions, changes, now_s=self.now_s)
        phase, _ = conditions.phase(merged, trial_status.RANKING, default="Pending")
        events = self.decided.events
        known = conditions.find(self.before.conditions, RESERVED)
        if known is None or (known.status, known.reason) != (status, reason):
            events = (*events, self._event(reason, message))
        return dataclasses.replace(
            self.decided,
            status=after.model_copy(
                update={**(update or {}), "conditions": merged, "phase": phase}
            ),
            events=events,
            within_s=self.decided.within_s if merged == self.before.conditions else 0.0,
        )

    def held_back(self, place: admission.Place) -> TrialDecision:
        """Return the decision without the attempt."""
        words = {"reason": place.reason, "message": place.message}
        made = self.marked("False", place.reason, place.message, update=words)
        kept = tuple(e for e in made.actions if not isinstance(e, decision.EnsureAttempt))
        wake_s = REFUSED_AGAIN_S if place.answer == "refused" else made.wake_s
        return dataclasses.replace(made, actions=kept, wake_s=wake_s)

    def leaving(self, place: admission.Place) -> TrialDecision:
        """Return what lets the replicas save their state and go."""
        words = {"reason": place.reason, "message": place.message}
        made = self.marked("False", place.reason, place.message, update=words)
        grace_s = float(self.trial.spec.template.checkpoint.grace_seconds)
        removal = decision.DeleteReplicas(attempt=None, grace_s=grace_s)
        return dataclasses.replace(made, actions=(removal,), wake_s=POLL_S)

    def gone(self, place: admission.Place, queue: str) -> TrialDecision:
        """Return the next attempt, which asks anew; the one that gave way is fenced."""
        attempt = self.decided.status.attempt
        if attempt == self.before.attempt:
            attempt += 1
        update = {"attempt": attempt, "generation": 0, "in_place_restarts": 0}
        made = self.marked("False", place.reason, f"waits in queue {queue} again", update=update)
        return dataclasses.replace(made, actions=(), wake_s=0.0)

    def _entry(
        self, kind: str, status: conditions.Status, reason: str, message: str
    ) -> meta.Condition:
        generation = self.trial.metadata.generation
        return conditions.condition(
            kind, status, reason=reason, message=message, generation=generation
        )

    def _event(self, reason: str, message: str) -> runplan.Event:
        place = self.trial.metadata
        return runplan.Event(
            kind="Trial",
            namespace=place.namespace,
            name=place.name,
            uid=place.uid,
            type="Warning" if reason == "Preempted" else "Normal",
            reason=reason,
            message=message or reason,
        )


def begins(decided: TrialDecision) -> bool:
    """Return whether a decision lets an attempt begin."""
    return any(isinstance(entry, decision.EnsureAttempt) for entry in decided.actions)
