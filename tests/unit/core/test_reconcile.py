"""Decisions about a trial: tables of single steps, and what holds for any input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import conditions, decision, experiment, facts, reconcile, runplan, trial_status

NOW_S = 1_800_000_000.0
WORKERS = 2


def trial(status: experiment.TrialStatus | None = None, **template: Any) -> experiment.Trial:
    return experiment.Trial.model_validate(
        {
            "metadata": {"name": "digits-t0-x", "uid": "u", "generation": 1},
            "spec": {
                "experiment": "digits",
                "experimentUid": "e",
                "template": {
                    "estimator": {"builtin": {}},
                    "run": {"workers": {"replicas": WORKERS}},
                    "checkpoint": {"graceSeconds": 60},
                    **template,
                },
            },
            "status": status,
        }
    )


def known(attempt: int = 1, state: str = "running", **of: Any) -> facts.TrialFacts:
    fields = {"generation": 1, "updated_s": NOW_S, **of}
    return facts.TrialFacts(uid="u", attempt=attempt, state=state, **fields)


def replicas(
    attempt: int = 1, state: runplan.ReplicaState = "running", count: int = WORKERS, **of: Any
) -> tuple[runplan.ObservedReplica, ...]:
    fields = {"exit_code": 0 if state == "exited" else None, **of}
    return tuple(
        runplan.ObservedReplica("u", attempt, f"a{attempt}-{n}", "worker", n, state, **fields)
        for n in range(count)
    )


SILENT = facts.TrialFacts(uid="u")
NONE: tuple[runplan.ObservedReplica, ...] = ()


def decide(
    before: experiment.Trial,
    found: facts.TrialFacts = SILENT,
    seen: tuple[runplan.ObservedReplica, ...] = NONE,
    *,
    now_s: float = NOW_S,
) -> reconcile.TrialDecision:
    return reconcile.decide_trial(before, found, seen, now_s=now_s)


def after(made: reconcile.TrialDecision, **template: Any) -> experiment.Trial:
    return trial(made.status, **template)


def begun(attempt: int = 1, **template: Any) -> experiment.Trial:
    """A trial whose current attempt runs."""
    made = decide(trial(**template))
    for _ in range(attempt - 1):
        made = decide(after(made, **template), known(made.status.attempt), replicas())
    running = decide(after(made, **template), known(attempt), replicas(attempt))
    return after(running, **template)


def reasons(made: reconcile.TrialDecision) -> list[str]:
    return [event.reason for event in made.events]


def test_a_new_trial_gets_a_number_first_and_processes_then() -> None:
    first = decide(trial())
    assert (first.status.attempt, first.actions, first.wake_s) == (1, (), 0.0)
    assert first.status.start_time == conditions.timestamp(NOW_S)
    assert (first.status.phase, first.status.mode) == ("Pending", "ddp")
    second = decide(after(first))
    assert second.actions == (decision.EnsureAttempt(1),)
    assert second.status == first.status


@pytest.mark.parametrize(
    ("seen", "ensures"),
    [
        (NONE, True),
        (replicas(count=1), True),
        (replicas(state="pending"), False),
        (replicas(), False),
        ((*replicas(count=1), *replicas(state="exited", count=2)[1:]), False),
    ],
    ids=["none", "one", "pending", "running", "one ended"],
)
def test_only_what_is_missing_is_ensured(
    seen: tuple[runplan.ObservedReplica, ...], ensures: bool
) -> None:
    made = decide(after(decide(trial())), SILENT, seen)
    assert made.actions == ((decision.EnsureAttempt(1),) if ensures else ())


def test_running_is_said_once() -> None:
    first = decide(after(decide(trial())), known(), replicas())
    assert (first.status.phase, reasons(first)) == ("Running", ["Running"])
    second = decide(after(first), known(), replicas())
    assert (second.status, second.actions, second.events) == (first.status, (), ())
    assert not second.urgent


def test_an_in_place_restart_keeps_the_attempt() -> None:
    rank = facts.RankFact(1, "exited", 137, "OutOfMemory", "killed", 5)
    forming = known(state="forming", generation=2, in_place_restarts=1, failure=rank)
    made = decide(begun(), forming, replicas())
    assert (made.status.phase, made.status.attempt, made.status.restarts) == ("Restarting", 1, 0)
    assert (made.status.generation, made.status.in_place_restarts) == (2, 1)
    assert made.status.last_failure is not None
    assert made.status.last_failure.time == conditions.timestamp(NOW_S)
    assert made.actions == ()
    again = decide(after(made), known(generation=2, failure=rank), replicas(), now_s=NOW_S + 30)
    assert again.status.phase == "Running"
    assert again.status.last_failure == made.status.last_failure


@pytest.mark.parametrize(
    ("seen", "reason", "restarts"),
    [
        (replicas(state="lost"), "AgentLost", 1),
        (replicas(state="exited", exit_code=70), "AgentInternal", 1),
        (replicas(state="exited", exit_code=75), "Preempted", 0),
        (replicas(state="exited", exit_code=77), "ApiUnreachable", 0),
        (NONE, "ReplicasGone", 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_attempt_is_followed_by_the_next(
    seen: tuple[runplan.ObservedReplica, ...], reason: str, restarts: int
) -> None:
    made = decide(begun(), known(), seen)
    status = made.status
    assert (status.attempt, status.restarts, status.phase) == (2, restarts, "Restarting")
    assert (status.generation, status.in_place_restarts) == (0, 0)
    assert status.last_failure is not None
    assert status.last_failure.reason == reason
    assert made.actions == ()
    assert reasons(made) == ["Restarting"]


def test_the_old_attempt_must_be_gone_before_the_next_starts() -> None:
    lost = (*replicas(state="lost", count=1), *replicas()[1:])
    restarted = after(decide(begun(), known(), lost))
    later = NOW_S + 60
    made = decide(restarted, known(), lost, now_s=later)
    assert made.actions == (decision.DeleteReplicas(attempt=1, grace_s=0.0),)
    assert made.wake_s == reconcile.STOP_POLL_S
    made = decide(restarted, known(), replicas(state="lost"), now_s=later)
    assert made.actions == (
        decision.DeleteReplicas(attempt=1, grace_s=0.0),
        decision.EnsureAttempt(2),
    )
    made = decide(restarted, known(), NONE, now_s=later)
    assert made.actions == (decision.EnsureAttempt(2),)


def test_the_next_attempt_waits_for_its_back_off() -> None:
    restarted = after(decide(begun(), known(), replicas(state="lost")))
    made = decide(restarted, known(), NONE, now_s=NOW_S + 0.25)
    assert made.actions == ()
    assert made.wake_s == pytest.approx(0.75)
    assert decide(restarted, known(), NONE, now_s=NOW_S + 1).actions != ()


@pytest.mark.parametrize(
    ("restarts", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1000, 60)]
)
def test_back_off_doubles_up_to_a_minute(restarts: int, seconds: float) -> None:
    assert reconcile.backoff_s(restarts) == seconds


@pytest.mark.parametrize(("age_s", "seconds"), [(10, 1), (1000, 32)])
def test_a_run_that_gets_on_waits_no_longer_each_time(age_s: float, seconds: float) -> None:
    saved = facts.CheckpointFact(key="k", step=5, time_s=NOW_S - age_s)
    before = begun()
    assert before.status is not None
    often = trial(before.status.model_copy(update={"restarts": 5}), failure={"maxRestarts": 9})
    failed = after(decide(often, known(checkpoint=saved), replicas(state="lost")))
    made = decide(failed, known(checkpoint=saved), NONE, now_s=NOW_S)
    assert made.wake_s == pytest.approx(seconds)


def test_the_budget_of_restarts_ends_the_trial() -> None:
    template = {"failure": {"maxRestarts": 0}}
    made = decide(begun(**template), known(), replicas(state="lost"))
    assert made.status.phase == "Failed"
    assert made.status.reason == "AgentLost"
    assert "all 0 restarts of spec.failure.maxRestarts are used" in made.status.message
    assert made.status.completion_time == conditions.timestamp(NOW_S)


def test_preemption_never_uses_the_budget() -> None:
    template = {"failure": {"maxRestarts": 0}}
    made = decide(begun(**template), known(), replicas(state="exited", exit_code=75))
    assert (made.status.phase, made.status.attempt) == ("Restarting", 2)


def test_success_ends_the_trial_and_its_late_agents() -> None:
    made = decide(begun(), known(state="succeeded"), replicas(state="exited"))
    assert (made.status.phase, made.actions) == ("Succeeded", ())
    late = known(state="succeeded", updated_s=NOW_S - 61)
    made = decide(begun(), late, replicas())
    assert made.status.phase == "Succeeded"
    assert made.actions == (decision.DeleteReplicas(attempt=None, grace_s=60.0),)
    assert decide(after(made), late, replicas()).actions == made.actions
    assert decide(after(made), late, NONE).actions == ()


def test_agents_that_still_ship_are_left_alone() -> None:
    made = decide(begun(), known(state="succeeded"), replicas())
    assert (made.status.phase, made.actions) == ("Running", ())
    assert made.wake_s == reconcile.STOP_POLL_S


@pytest.mark.parametrize("wish", ["stop", "suspend", "deadline"])
def test_a_success_that_is_known_beats_every_wish(wish: str) -> None:
    template: dict[str, Any] = {"suspend": wish == "suspend"}
    if wish == "deadline":
        template["activeDeadlineSeconds"] = 1
    before = trial(begun().status, **template)
    found = known(state="succeeded", stop_requested=wish == "stop")
    made = decide(before, found, replicas(state="exited"), now_s=NOW_S + 100)
    assert made.status.phase == "Succeeded"


def test_stop_waits_for_the_agents_and_is_final() -> None:
    found = known(stop_requested=True)
    made = decide(begun(), found, replicas())
    assert made.actions == (decision.DeleteReplicas(attempt=None, grace_s=60.0),)
    assert made.status.phase == "Pending"
    made = decide(after(made), found, NONE)
    assert (made.status.phase, reasons(made)) == ("Stopped", ["Stopped"])
    assert decide(after(made), known(), replicas(state="exited")).status == made.status


def test_a_trial_that_is_stopped_before_it_began_starts_nothing() -> None:
    made = decide(trial(), facts.TrialFacts(uid="u", stop_requested=True))
    assert (made.status.phase, made.status.attempt) == ("Stopped", 0)


def test_suspend_and_resume() -> None:
    suspended = trial(begun().status, suspend=True)
    draining = decide(suspended, known(), replicas())
    assert draining.actions == (decision.DeleteReplicas(attempt=None, grace_s=60.0),)
    gone = decide(trial(draining.status, suspend=True), known(), NONE)
    assert (gone.status.phase, reasons(gone)) == ("Suspended", ["Suspended"])
    again = decide(trial(gone.status, suspend=True), known(), NONE)
    assert (again.status, again.events) == (gone.status, ())
    resumed = decide(trial(gone.status), known(), NONE)
    assert (resumed.status.attempt, reasons(resumed)) == (2, ["Resumed"])
    assert decide(after(resumed), known(), NONE).actions == (decision.EnsureAttempt(2),)


def test_a_suspension_that_was_begun_is_never_continued_as_the_same_attempt() -> None:
    """A process that was asked to go must not meet ranks that were told to stay."""
    draining = decide(trial(begun().status, suspend=True), known(), replicas())
    made = decide(trial(draining.status), known(), replicas())
    assert made.status.attempt == 2


def test_a_new_trial_can_be_suspended_from_the_start() -> None:
    made = decide(trial(suspend=True))
    assert (made.status.phase, made.status.attempt, made.actions) == ("Suspended", 0, ())
    begun_at = decide(trial(made.status))
    assert begun_at.status.attempt == 1
    assert begun_at.status.phase == "Pending"
    assert decide(trial(begun_at.status)).status.attempt == 1  # not one more for the resume


def test_the_deadline_counts_from_the_start_or_from_the_resume() -> None:
    template = {"activeDeadlineSeconds": 100}
    before = begun(**template)
    made = decide(before, known(), replicas(), now_s=NOW_S + 99)
    assert (made.status.phase, made.wake_s) == ("Running", 1.0)
    made = decide(before, known(), replicas(), now_s=NOW_S + 100)
    assert (made.status.phase, made.status.reason) == ("Failed", "DeadlineExceeded")
    draining = decide(trial(before.status, **template, suspend=True), known(), replicas())
    gone = decide(trial(draining.status, **template, suspend=True), known(), NONE)
    resumed = decide(trial(gone.status, **template), known(), NONE, now_s=NOW_S + 500)
    late = decide(after(resumed, **template), known(), NONE, now_s=NOW_S + 599)
    assert late.status.phase != "Failed"


def test_a_spec_that_cannot_run_fails_with_its_field() -> None:
    made = decide(trial(run={"workers": {"replicas": 2, "min": 1}, "mode": "mpi"}))
    assert (made.status.phase, made.status.reason) == ("Failed", "InvalidSpec")
    assert "but mode is mpi" in made.status.message
    made = decide(trial(run={"resources": {"cpu": "much"}}))
    assert "'much' is not a cpu quantity" in made.status.message


@pytest.mark.parametrize("kind", trial_status.TERMINAL_TYPES)
def test_what_is_final_is_never_touched_but_its_processes_are_ended(kind: str) -> None:
    entry = conditions.condition(kind, "True", reason="Any")
    status = experiment.TrialStatus(conditions=[entry], attempt=3, phase=kind)  # type: ignore[arg-type]
    made = decide(trial(status, suspend=True), known(3, stop_requested=True), replicas(3))
    assert (made.status, made.events, made.urgent) == (status, (), False)
    assert made.actions == (decision.DeleteReplicas(attempt=None, grace_s=60.0),)
    assert decide(trial(status), known(3), replicas(3, state="lost")).actions == ()


def test_progress_alone_is_not_urgent() -> None:
    made = decide(begun(), known(step=5, total_steps=10, metrics={"loss": 0.25}), replicas())
    assert not made.urgent
    assert made.status.progress.percent == 50
    assert [entry.document() for entry in made.status.progress.metrics] == [
        {"name": "loss", "value": "0.25"}
    ]


def test_what_is_reported_is_kept_whatever_is_decided() -> None:
    fact = facts.CheckpointFact("ckpt/u/1-1/step-5/manifest.json", 5, NOW_S)
    found = known(step=5, total_steps=10, checkpoint=fact)
    made = decide(begun(), found, replicas(state="lost"))
    assert made.status.attempt == 2
    assert made.status.checkpoint is not None
    assert made.status.checkpoint.step == 5
    assert conditions.is_true(made.status.conditions, "Checkpointed")


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            {"role": "worker", "rank": 1, "exit_code": 137, "reason": "OutOfMemory"},
            "worker rank 1 exited with code 137 (OutOfMemory)",
        ),
        (
            {"role": "worker", "reason": "AgentLost", "message": "gone"},
            "worker (AgentLost): gone",
        ),
        ({"reason": "ReplicasGone"}, "trial (ReplicasGone)"),
    ],
)
def test_a_failure_is_one_sentence(failure: dict[str, Any], sentence: str) -> None:
    assert reconcile.describe(experiment.LastFailure(**failure)) == sentence


ATTEMPTS = st.integers(0, 3)
STATES = st.sampled_from(("pending", "running", "exited", "lost"))
SEEN = st.lists(
    st.builds(
        lambda attempt, index, state, code: runplan.ObservedReplica(
            "u",
            attempt,
            f"a{attempt}-{index}",
            "worker",
            index,
            state,
            exit_code=code if state == "exited" else None,
        ),
        st.integers(1, 3),
        st.integers(0, 1),
        STATES,
        st.sampled_from((0, 1, 70, 75, 76, 77, 137)),
    ),
    max_size=4,
    unique_by=lambda entry: entry.name,
).map(tuple)
RANKS = st.none() | st.builds(
    facts.RankFact,
    rank=st.integers(0, 1),
    state=st.just("exited"),
    exit_code=st.sampled_from((1, 74, 137)),
    reason=st.sampled_from(("UserError", "PeerLost", "InvalidSpec", "")),
    first_error=st.just("why"),
    step=st.integers(-1, 5),
)
FACTS = st.builds(
    facts.TrialFacts,
    uid=st.just("u"),
    attempt=ATTEMPTS,
    generation=st.integers(0, 3),
    state=st.sampled_from(("forming", "running", "draining", "succeeded", "failed", "stopped")),
    in_place_restarts=st.integers(0, 3),
    step=st.integers(-1, 10),
    total_steps=st.just(10),
    failure=RANKS,
    stop_requested=st.booleans(),
    started_s=st.just(NOW_S - 100),
    updated_s=st.sampled_from((0.0, NOW_S - 100, NOW_S)),
)
WISHES = st.fixed_dictionaries(
    {"suspend": st.booleans(), "failure": st.just({"maxRestarts": 2})},
    optional={"activeDeadlineSeconds": st.sampled_from((50, 500))},
)


@settings(max_examples=100, deadline=None)
@given(history=st.lists(st.tuples(FACTS, SEEN, WISHES, st.integers(0, 90)), min_size=1, max_size=4))
def test_what_holds_for_every_decision(history: list[tuple[Any, Any, Any, int]]) -> None:
    before: experiment.TrialStatus | None = None
    now_s = NOW_S
    for found, seen, wishes, seconds in history:
        now_s += seconds
        made = decide(trial(before, **wishes), found, seen, now_s=now_s)
        again = decide(trial(before, **wishes), found, seen, now_s=now_s)
        assert made == again
        old, new = before or experiment.TrialStatus(), made.status
        assert new.attempt in (old.attempt, old.attempt + 1)
        assert old.restarts <= new.restarts <= 2
        if trial_status.is_terminal(old):
            assert new == old
        starts = [a for a in made.actions if isinstance(a, decision.EnsureAttempt)]
        if starts:
            # Started only once its number is stored, and never beside an older attempt.
            assert starts == [decision.EnsureAttempt(old.attempt)]
            assert not [
                entry
                for entry in seen
                if entry.attempt != old.attempt and entry.state in ("pending", "running")
            ]
            assert not trial_status.is_terminal(new)
        if made.events and new == old:
            raise AssertionError(f"said again without a change: {made.events}")
        # The wire form holds what was decided, so that it is found unchanged after a restart.
        assert experiment.TrialStatus.model_validate(new.document()) == new
        settled = decide(trial(new, **wishes), found, seen, now_s=now_s)
        if new == old:
            assert settled.status == new
        before = new
