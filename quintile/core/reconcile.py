"""What to do about a Trial, given everything that was observed. Pure.

Called by ``quintile_operator.reconciler`` (experiments: ``core.rollup``, labeling jobs:
``core.cycle``). Nothing here reads a phase to decide anything; equal input gives an equal answer,
so a crash anywhere is repaired by looking again. Rules that always hold: at most one attempt of a
trial is live, an attempt is started only after its number was written, a final status never
changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quintile.core import (
    conditions,
    decision,
    elastic,
    errors,
    experiment,
    facts,
    failure_hints,
    plan,
    reporting,
    runplan,
    topology,
    trial_status,
    verdict,
)

BACKOFF_BASE_S = 1.0
BACKOFF_LIMIT_S = 60.0
PROGRESS_S = 120.0
"""A failure so soon after a checkpoint was committed is that of a run that gets on."""

STOP_POLL_S = 2.0

TrialDecision = decision.Decision[experiment.TrialStatus]


@dataclass(frozen=True)
class _View:
    """Everything one decision about a trial reads."""

    trial: experiment.Trial
    known: facts.TrialFacts
    replicas: tuple[runplan.ObservedReplica, ...]
    now_s: float

    @property
    def before(self) -> experiment.TrialStatus:
        return self.trial.status or experiment.TrialStatus()

    @property
    def template(self) -> experiment.ExperimentSpec:
        return self.trial.spec.template

    @property
    def grace_s(self) -> float:
        return float(self.template.checkpoint.grace_seconds)

    @property
    def alive(self) -> bool:
        return bool(verdict.live(self.replicas))

    def of_attempt(self, attempt: int) -> tuple[runplan.ObservedReplica, ...]:
        return tuple(entry for entry in self.replicas if entry.attempt == attempt)

    def suspension(self, reason: str) -> bool:
        found = conditions.find(self.before.conditions, "Suspended")
        return found is not None and found.reason == reason


def backoff_s(restarts: int) -> float:
    """Return the seconds between one attempt and the next: 1, 2, 4, ... at most 60."""
    return min(BACKOFF_LIMIT_S, BACKOFF_BASE_S * 2.0 ** min(max(restarts - 1, 0), 16))


def _delay_s(before: experiment.TrialStatus, failed_s: float) -> float:
    """Return the back-off after a failure: a run that gets on is not made to wait longer each time.

    It gets on when its newest checkpoint is not much older than the failure.
    """
    saved = before.checkpoint
    saved_s = conditions.seconds(saved.time) if saved is not None else 0.0
    if saved_s > failed_s - PROGRESS_S:
        return BACKOFF_BASE_S
    return backoff_s(before.restarts)


def decide_trial(
    trial: experiment.Trial,
    known: facts.TrialFacts,
    replicas: Sequence[runplan.ObservedReplica],
    *,
    now_s: float,
) -> TrialDecision:
    """Return status and actions for one trial.

    Args:
        trial: The trial as stored.
        known: Facts of its agents, read after ``replicas`` were observed.
        replicas: All replicas of all its attempts.
        now_s: Seconds since the epoch.
    """
    view = _View(trial=trial, known=known, replicas=tuple(replicas), now_s=now_s)
    if trial_status.is_terminal(view.before):
        return _settled(view)
    draft = _observed(view)
    draft = replace(draft, changes=(*draft.changes, *reporting.back(view.before.conditions)))
    try:
        plan.check(view.template)
    except errors.InvalidSpec as error:
        message = str(error)
        draft = draft.mark("Accepted", "False", reason="InvalidSpec", message=message)
        return _fail(view, draft, reason="InvalidSpec", message=message)
    draft = draft.mark("Accepted", "True", reason="Valid")
    draft = draft.put(mode=topology.resolve(view.template.run).mode)
    word = verdict.judge(
        view.template,
        view.known,
        view.of_attempt(view.before.attempt),
        attempt=view.before.attempt,
        now_s=now_s,
    )
    if view.before.attempt > 0 and word.outcome == "succeeded":
        draft = draft.mark("Succeeded", "True", reason="Completed", message="all ranks are done")
        draft = draft.mark("Running", "False", reason="Succeeded")
        return _end(view, draft)
    if word.outcome == "finishing":
        return _decide(view, _running(view, draft), wake_s=STOP_POLL_S)
    if view.known.stop_requested:
        return _stop(view, draft)
    if view.template.suspend:
        return _suspend(view, draft)
    left_s = _deadline_left_s(view)
    if left_s is not None and left_s <= 0:
        message = (
            "the trial ran longer than spec.activeDeadlineSeconds "
            f"{view.template.active_deadline_seconds}"
        )
        return _fail(view, draft, reason="DeadlineExceeded", message=message)
    return _go_on(view, draft, word)


def decide_unheard(
    trial: experiment.Trial, error: errors.Unavailable, *, now_s: float
) -> TrialDecision:
    """Return the status of a trial of which nothing can be heard; nothing is done about it."""
    before = trial.status or experiment.TrialStatus()
    if trial_status.is_terminal(before):
        return decision.Decision(before)
    draft = trial_status.Draft(fields={}, changes=(reporting.away(error),))
    generation = trial.metadata.generation
    return decision.Decision(trial_status.finish(before, draft, generation=generation, now_s=now_s))


def _settled(view: _View) -> TrialDecision:
    actions: tuple[decision.Action, ...] = ()
    if view.alive:
        actions = (decision.DeleteReplicas(attempt=None, grace_s=view.grace_s),)
    wake_s = STOP_POLL_S if actions else None
    within_s = decision.PROGRESS_S
    return decision.Decision(view.before, actions=actions, wake_s=wake_s, within_s=within_s)


def _observed(view: _View) -> trial_status.Draft:
    """Return a draft with what the agents reported, whatever is decided afterwards."""
    before, known = view.before, view.known
    draft = trial_status.Draft(fields={})
    if known.attempt == 0:
        return draft
    if known.attempt == before.attempt:
        draft = draft.put(generation=known.generation, in_place_restarts=known.in_place_restarts)
    draft = draft.put(
        progress=trial_status.progress(before.progress, known),
        checkpoint=trial_status.checkpoint(before.checkpoint, known),
        sample_accounting=trial_status.sample_accounting(view.template, known),
    )
    if known.failure is not None and known.attempt == before.attempt:
        draft = draft.put(last_failure=_stamped(before, verdict.rank_failure(known.failure), view))
    if known.checkpoint is not None:
        draft = draft.mark("Checkpointed", "True", reason="Committed")
    return draft


def _stamped(
    before: experiment.TrialStatus, failure: experiment.LastFailure, view: _View
) -> experiment.LastFailure:
    known = before.last_failure
    if known is not None and known.model_copy(update={"time": ""}) == failure:
        return known
    return failure.model_copy(update={"time": conditions.timestamp(view.now_s)})


def _stop(view: _View, draft: trial_status.Draft) -> TrialDecision:
    if view.alive:
        draft = draft.mark("Running", "False", reason="Stopping", message="stop was requested")
        return _drain(view, draft)
    draft = draft.mark("Stopped", "True", reason="StopRequested", message="stopped by request")
    draft = draft.mark("Running", "False", reason="Stopped")
    return _end(view, draft.note("Normal", "Stopped", "stopped by request"))


def _suspend(view: _View, draft: trial_status.Draft) -> TrialDecision:
    draft = draft.mark("Running", "False", reason="Suspended")
    draft = draft.mark("Restarting", "False", reason="Suspended")
    if view.alive:
        # Written before any replica is touched: from here on this attempt is never continued.
        draft = draft.mark("Suspended", "False", reason="Suspending", message="saving state")
        return _drain(view, draft)
    draft = draft.put(workers=0)
    draft = draft.mark("Suspended", "True", reason="Requested", message="suspended by request")
    if not view.suspension("Requested"):
        draft = draft.note("Normal", "Suspended", "suspended by request")
    return _decide(view, draft)


def _drain(view: _View, draft: trial_status.Draft) -> TrialDecision:
    remove = decision.DeleteReplicas(attempt=None, grace_s=view.grace_s)
    return _decide(view, draft, actions=(remove,), wake_s=STOP_POLL_S)


def _deadline_left_s(view: _View) -> float | None:
    limit = view.template.active_deadline_seconds
    if limit is None or not view.before.start_time:
        return None
    resumed = conditions.find(view.before.conditions, "Suspended")
    since = conditions.seconds(view.before.start_time)
    if resumed is not None and resumed.status == "True":
        return None  # it is about to go on, and its time begins anew
    if resumed is not None and resumed.status == "False":
        since = max(since, conditions.seconds(resumed.last_transition_time))
    return since + limit - view.now_s


def _go_on(view: _View, draft: trial_status.Draft, word: verdict.Verdict) -> TrialDecision:
    before = view.before
    resumed = view.suspension("Requested") or view.suspension("Suspending")
    if before.attempt == 0:
        draft = draft.put(start_time=conditions.timestamp(view.now_s))
    if resumed:
        draft = draft.mark("Suspended", "False", reason="Resumed")
        draft = draft.note("Normal", "Resumed", f"attempt {before.attempt + 1}")
    if resumed or before.attempt == 0:
        return _begin(view, draft)
    if word.outcome == "failed" and word.failure is not None:
        draft = draft.put(last_failure=_stamped(before, word.failure, view))
        message = failure_hints.with_hint(describe(word.failure), word.failure)
        return _fail(view, draft, reason=word.failure.reason, message=message)
    if word.outcome in ("restart", "preempted") and word.failure is not None:
        return _again(view, draft, word)
    return _keep(view, draft)


def _begin(view: _View, draft: trial_status.Draft) -> TrialDecision:
    """Move to the next attempt: write its number now, start it when the old one is gone.

    No event: the one of its ranks that run, and that of a restart, name the attempt.
    """
    draft = draft.put(attempt=view.before.attempt + 1, generation=0, in_place_restarts=0)
    return _decide(view, draft, wake_s=0.0)


def _again(view: _View, draft: trial_status.Draft, word: verdict.Verdict) -> TrialDecision:
    failure = word.failure or experiment.LastFailure()
    allowed = view.template.failure.max_restarts
    counted = 1 if word.outcome == "restart" else 0
    restarts = view.before.restarts + counted
    stamped = failure.model_copy(update={"time": conditions.timestamp(view.now_s)})
    if restarts > allowed:
        message = (
            f"{describe(failure)}; all {allowed} restarts of spec.failure.maxRestarts are used"
        )
        message = failure_hints.with_hint(message, failure)
        return _fail(view, draft.put(last_failure=stamped), reason=failure.reason, message=message)
    draft = draft.put(restarts=restarts, last_failure=stamped)
    draft = draft.mark("Restarting", "True", reason=failure.reason, message=describe(failure))
    draft = draft.mark("Running", "False", reason="Restarting")
    kind = "Warning" if counted else "Normal"
    draft = draft.note(kind, "Restarting", f"attempt {view.before.attempt}: {describe(failure)}")
    return _begin(view, draft)


def _keep(view: _View, draft: trial_status.Draft) -> TrialDecision:
    """Make the current attempt run, and nothing else."""
    attempt = view.before.attempt
    stale = sorted({entry.attempt for entry in view.replicas if entry.attempt != attempt})
    if stale:
        # Fenced by its number already; its processes must be gone before the next one starts.
        removals = tuple(decision.DeleteReplicas(attempt=old, grace_s=0.0) for old in stale)
        if any(entry.attempt != attempt for entry in verdict.live(view.replicas)):
            return _decide(view, draft, actions=removals, wake_s=STOP_POLL_S)
        return _decide(view, draft, actions=(*removals, *_ensure(view)), wake_s=_wait_s(view))
    return _decide(view, _running(view, draft), actions=_ensure(view), wake_s=_wake_s(view))


def _ensure(view: _View) -> tuple[decision.Action, ...]:
    if _wait_s(view) is not None:
        return ()
    if elastic.is_whole(view.template, view.of_attempt(view.before.attempt)):
        return ()
    return (decision.EnsureAttempt(attempt=view.before.attempt),)


def _wait_s(view: _View) -> float | None:
    """Return the seconds of back-off that are left before the attempt may start, None if none."""
    failure = view.before.last_failure
    started = view.known.attempt == view.before.attempt or view.of_attempt(view.before.attempt)
    restarting = conditions.is_true(view.before.conditions, "Restarting")
    if failure is None or started or not restarting:
        return None
    failed_s = conditions.seconds(failure.time)
    due_s = failed_s + _delay_s(view.before, failed_s)
    return due_s - view.now_s if due_s > view.now_s else None


def _wake_s(view: _View) -> float | None:
    replicas = view.of_attempt(view.before.attempt)
    patience_s = verdict.patience_s(
        view.template, view.known, replicas, attempt=view.before.attempt, now_s=view.now_s
    )
    waits = [_wait_s(view), _deadline_left_s(view), patience_s]
    if elastic.repairs(view.template, replicas):
        waits.append(elastic.REPAIR_POLL_S)
    return min((wait for wait in waits if wait is not None), default=None)


def _running(view: _View, draft: trial_status.Draft) -> trial_status.Draft:
    known = view.known
    replicas = view.of_attempt(view.before.attempt)
    is_whole = elastic.is_whole(view.template, replicas)
    place = trial_status.placed(view.before.conditions, replicas, is_whole=is_whole)
    if place is not None:
        draft = draft.mark(trial_status.PLACED, place[0], reason=place[1], message=place[2])
    if known.attempt != view.before.attempt:
        return draft
    going = trial_status.progressing(view.before.conditions, known)
    if going is not None:
        draft = draft.mark("Progressing", going[0], reason=going[1], message=going[2])
    draft = elastic.size(draft, view.before, known, view.template.run.workers)
    if known.state in ("running", "succeeded"):
        message = f"attempt {known.attempt}, generation {known.generation}"
        draft = draft.mark("Running", "True", reason="RanksStarted", message=message)
        if conditions.is_true(view.before.conditions, "Restarting"):
            draft = draft.mark("Restarting", "False", reason="RanksStarted")
        if message != trial_status.running_generation(view.before.conditions):
            draft = draft.note("Normal", "Running", message)
        return draft
    if elastic.is_resizing(known):
        draft = draft.mark("Restarting", "True", reason="Resizing", message=known.why)
        return draft.mark("Running", "False", reason="Resizing")
    if known.generation > 1 or known.state == "draining":
        message = describe(verdict.rank_failure(known.failure)) if known.failure else ""
        draft = draft.mark("Restarting", "True", reason="InPlace", message=message)
        return draft.mark("Running", "False", reason="Restarting")
    return draft


def describe(failure: experiment.LastFailure) -> str:
    """Return a failure as one sentence: who, exit code, reason, first error."""
    who = f"{failure.role} rank {failure.rank}" if failure.rank >= 0 else failure.role or "trial"
    code = f" exited with code {failure.exit_code}" if failure.exit_code is not None else ""
    detail = f": {failure.message}" if failure.message else ""
    return conditions.clip(f"{who}{code} ({failure.reason}){detail}")


def _fail(view: _View, draft: trial_status.Draft, *, reason: str, message: str) -> TrialDecision:
    draft = draft.mark("Failed", "True", reason=reason, message=message)
    draft = draft.mark("Running", "False", reason="Failed")
    draft = draft.mark("Restarting", "False", reason="Failed")
    return _end(view, draft.note("Warning", "Failed", message))


def _end(view: _View, draft: trial_status.Draft) -> TrialDecision:
    actions: tuple[decision.Action, ...] = ()
    if view.alive:
        actions = (decision.DeleteReplicas(attempt=None, grace_s=view.grace_s),)
    return _decide(view, draft, actions=actions, wake_s=STOP_POLL_S if actions else None)


def _decide(
    view: _View,
    draft: trial_status.Draft,
    *,
    actions: tuple[decision.Action, ...] = (),
    wake_s: float | None = None,
) -> TrialDecision:
    after = trial_status.finish(
        view.before, draft, generation=view.trial.metadata.generation, now_s=view.now_s
    )
    plain_before = trial_status.without_progress(view.before)
    calm = trial_status.without_progress(after) == plain_before
    return decision.Decision(
        status=after,
        actions=actions,
        events=trial_status.events(view.trial, draft),
        wake_s=wake_s,
        within_s=decision.PROGRESS_S if calm else decision.AT_ONCE,
    )
