"""What became of an attempt: one word for every mix of facts and replicas."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import experiment, facts, runplan, verdict

NOW_S = 10_000.0


def spec(**failure: int) -> experiment.ExperimentSpec:
    return experiment.ExperimentSpec.model_validate(
        {
            "estimator": {"builtin": {}},
            "run": {"workers": {"replicas": 2}},
            "failure": failure,
            "checkpoint": {"graceSeconds": 60},
        }
    )


def known(state: str = "running", **of: Any) -> facts.TrialFacts:
    fields = {"attempt": 1, "generation": 1, "updated_s": NOW_S, **of}
    return facts.TrialFacts(uid="u", state=state, **fields)


def rank(reason: str = "UserError", *, step: int = -1, code: int = 1) -> facts.RankFact:
    return facts.RankFact(1, "exited", code, reason, "ValueError: bad", step)


def replica(state: runplan.ReplicaState = "running", index: int = 0, **of: Any) -> Any:
    fields = {"exit_code": 0 if state == "exited" else None, **of}
    return runplan.ObservedReplica("u", 1, f"t-a1-worker-{index}", "worker", index, state, **fields)


def both(state: runplan.ReplicaState = "running", **of: Any) -> tuple[Any, ...]:
    return replica(state, 0, **of), replica(state, 1, **of)


SILENT = facts.TrialFacts(uid="u")
CASES: dict[str, tuple[facts.TrialFacts, tuple[Any, ...], str, str]] = {
    "nothing yet": (SILENT, (), "none", ""),
    "starting": (SILENT, both("pending"), "none", ""),
    "forming": (known("forming", generation=0), both(), "none", ""),
    "running": (known(), both(), "none", ""),
    "draining": (known("draining"), both(), "none", ""),
    "ranks are done, agents ship": (known("succeeded"), both(), "finishing", ""),
    "agents ship for too long": (
        known("succeeded", updated_s=NOW_S - 60),
        both(),
        "succeeded",
        "",
    ),
    "all is done": (known("succeeded"), both("exited"), "succeeded", ""),
    "done and forgotten": (known("succeeded"), (), "succeeded", ""),
    "one ships, one was lost after success": (
        known("succeeded"),
        (replica("lost"), replica(index=1)),
        "finishing",
        "",
    ),
    "all agents ended well before the fact came": (known(), both("exited"), "succeeded", ""),
    "a lost agent": (known(), (replica("lost"), replica(index=1)), "restart", "AgentLost"),
    "a lost agent that never spoke": (SILENT, (replica("lost"),), "restart", "AgentLost"),
    "a fault of the agent": (
        known(),
        both("exited", exit_code=70),
        "restart",
        "AgentInternal",
    ),
    "preempted": (known(), both("exited", exit_code=75), "preempted", "Preempted"),
    "fenced": (known(), both("exited", exit_code=76), "restart", "Fenced"),
    "the API was away": (known(), both("exited", exit_code=77), "preempted", "ApiUnreachable"),
    "a signal": (
        known(),
        both("exited", exit_code=139, reason="Segfault"),
        "restart",
        "Segfault",
    ),
    "an unknown code": (known(), both("exited", exit_code=3), "restart", "AgentExited"),
    "user code in the record alone": (
        SILENT,
        both("exited", exit_code=1, reason="UserError"),
        "failed",
        "UserError",
    ),
    "a bad spec in the record": (
        known(),
        both("exited", exit_code=1, reason="InvalidSpec"),
        "failed",
        "InvalidSpec",
    ),
    "user code before its first step": (known("failed", failure=rank()), both(), "failed", ""),
    "user code after all in-place restarts": (
        known("failed", failure=rank(step=40)),
        both(),
        "failed",
        "UserError",
    ),
    "out of memory": (
        known("failed", failure=rank("OutOfMemory", step=40, code=137)),
        both(),
        "restart",
        "OutOfMemory",
    ),
    "failed without a cause": (known("failed"), both(), "restart", "GenerationFailed"),
    "all replicas are gone": (known(), (), "preempted", "ReplicasGone"),
    "none was started yet": (known(generation=0, state="forming"), (), "none", ""),
    "a member ended and is waited for": (
        known("forming"),
        (replica("exited"), replica(index=1)),
        "none",
        "",
    ),
    "a member ended and was waited for": (
        known("forming", updated_s=NOW_S - 60),
        (replica("exited"), replica(index=1)),
        "restart",
        "MemberGone",
    ),
    "a member ended and never spoke": (
        known("failed", attempt=0, failure=rank()),
        (replica("exited"), replica(index=1)),
        "restart",
        "MemberGone",
    ),
    "stopped by request": (known("stopped", stop_requested=True), both("exited"), "none", ""),
    "asked to leave by the cluster": (known("stopped"), both("exited"), "preempted", "Preempted"),
    "still leaving": (known("stopped"), (replica("exited"), replica(index=1)), "none", ""),
    "an agent lives for too long without a word": (
        SILENT,
        both(started_s=NOW_S - verdict.START_S),
        "restart",
        "AgentHung",
    ),
    "agents live without a word, not for too long": (
        SILENT,
        both(started_s=NOW_S - verdict.START_S + 1),
        "none",
        "",
    ),
    "pods wait for room for ever": (SILENT, both("pending"), "none", ""),
    "one has not joined": (
        known("forming", updated_s=NOW_S - verdict.START_S, joined=(("worker", 0),)),
        both(started_s=1.0),
        "restart",
        "AgentHung",
    ),
    "one has not joined since the generation forms": (
        known("forming", updated_s=NOW_S - verdict.START_S + 1, joined=(("worker", 0),)),
        both(started_s=1.0),
        "none",
        "",
    ),
    "all have joined": (
        known("forming", updated_s=1.0, joined=(("worker", 0), ("worker", 1))),
        both(started_s=1.0),
        "none",
        "",
    ),
    "one in an older attempt had not joined": (
        known("forming", attempt=0, updated_s=1.0),
        both(started_s=NOW_S - 1),
        "none",
        "",
    ),
    "facts of an older attempt": (
        known("failed", attempt=0, failure=rank()),
        both("pending"),
        "none",
        "",
    ),
}


@pytest.mark.parametrize(("found", "replicas", "outcome", "reason"), CASES.values(), ids=CASES)
def test_the_word(
    found: facts.TrialFacts, replicas: tuple[Any, ...], outcome: str, reason: str
) -> None:
    word = verdict.judge(spec(), found, replicas, attempt=1, now_s=NOW_S)
    assert word.outcome == outcome
    if reason:
        assert word.failure is not None
        assert word.failure.reason == reason
    if outcome in ("none", "finishing", "succeeded"):
        assert word.failure is None


def test_user_code_that_got_going_restarts_when_nothing_restarts_in_place() -> None:
    found = known("failed", failure=rank(step=40))
    template = spec(maxInPlaceRestarts=0)
    assert verdict.judge(template, found, both(), attempt=1, now_s=NOW_S).outcome == "restart"


def test_the_cause_of_a_rank_beats_the_agents_record() -> None:
    found = known(failure=rank(step=-1))
    word = verdict.judge(spec(), found, both("exited", exit_code=1), attempt=1, now_s=NOW_S)
    assert word.failure is not None
    assert (word.failure.rank, word.failure.message) == (1, "ValueError: bad")


def test_a_loss_names_the_agent_and_its_words() -> None:
    lost = replica("lost", message="the agent is gone; its last words: disk full")
    word = verdict.judge(spec(), known(), (lost,), attempt=1, now_s=NOW_S)
    assert word.failure is not None
    assert word.failure.message.endswith("disk full")
    assert word.failure.role == "worker"


def test_texts_of_any_length_fit_the_status() -> None:
    long = facts.RankFact(0, "exited", 1, "R" * 500, "m" * 5000, 3)
    failure = verdict.rank_failure(long)
    assert (len(failure.reason), len(failure.message)) == (256, 1024)
    nameless = facts.RankFact(0, "exited", 1, "", "", 3)
    assert verdict.rank_failure(nameless).reason == "RankFailed"


@pytest.mark.parametrize(
    ("state", "live"),
    [("pending", True), ("running", True), ("exited", False), ("lost", False)],
)
def test_what_lives(state: Any, live: bool) -> None:
    assert bool(verdict.live([replica(state)])) is live


@pytest.mark.parametrize(
    ("given", "round_", "due_s"),
    [
        (None, False, 100.0 + verdict.START_S),
        (30, False, 130.0),
        (0, False, None),
        (0, True, 100.0 + verdict.START_S),
    ],
)
def test_how_long_an_agent_may_take_to_join(
    given: int | None, round_: bool, due_s: float | None
) -> None:
    block = {"job": "j", "jobUid": "u", "number": 0, "step": "embed", "manifestKey": "k"}
    labeling = {"labelingRound": {**block, "manifestSha256": "a" * 64}}
    template = experiment.ExperimentSpec.model_validate(
        {
            "estimator": labeling if round_ else {"builtin": {}},
            "telemetry": {} if given is None else {"startTimeoutSeconds": given},
        }
    )
    found = verdict.hanging(template, SILENT, both(started_s=100.0), attempt=1)
    assert (found.due_s if found else None) == due_s


def test_who_hangs_is_named_with_the_limit() -> None:
    found = known("forming", updated_s=1.0, joined=(("worker", 0),))
    word = verdict.judge(spec(), found, both(started_s=1.0), attempt=1, now_s=5000.0)
    assert word.failure is not None
    assert word.failure.message == (
        "the agent of t-a1-worker-1 lives and has not joined for 1800 s "
        "(telemetry.startTimeoutSeconds)"
    )
