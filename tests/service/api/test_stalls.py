"""The coordinator and ranks that stand still: whom it watches, whom it asks, whom it names."""

from __future__ import annotations

from typing import Any

import pytest

from quintile_api.coordinator import stalls

LIMIT_S = 30.0
START_S = 90.0


def form(trial: Any, **members: int) -> tuple[Any, Any]:
    """Two agents of a running generation; by default two workers."""
    first, second = trial.agents()
    for agent in (first, second, first):
        join(agent, members or {"worker": 2})
    join(second, members or {"worker": 2})
    return first, second


def join(agent: Any, members: dict[str, int]) -> dict[str, Any]:
    role = {"role": "ps", "index": 0} if "ps" in members and agent.index == 1 else {}
    limits = {"progress_timeout_s": LIMIT_S, "start_timeout_s": START_S}
    found: dict[str, Any] = agent.join(members=members, **limits, **role)
    return found


def beat(agent: Any, *, step: int = 5, still_s: float = 0.0, **of: Any) -> str:
    """Send a heartbeat; return the directive."""
    envelope = {name: of.pop(name) for name in ("role", "index") if name in of}
    report = {"rank": agent.index, "pid": 1, "state": "running", "step": step, "total_steps": 100}
    answer = agent.post("heartbeat", ranks=[{**report, "still_s": still_s, **of}], **envelope)
    return str(answer.json()["directive"])


def test_all_agents_are_asked_and_the_late_rank_is_named(world: Any, trial: Any) -> None:
    first, second = form(trial)
    assert beat(first, still_s=29.0) == "continue"
    assert beat(second, still_s=30.5) == "stacks"
    assert beat(first, still_s=29.5) == "stacks"
    heard = {"witness": "stack", "where": "all_reduce (distributed_c10d.py:9)", "waits": True}
    assert beat(first, still_s=30.0, **heard) == "stacks"
    assert world.facts.trial(trial.uid).generation == 1
    answer = {"witness": "stack", "where": "read (loader.py:88)"}
    beat(second, still_s=31.0, **answer)
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.state, facts.in_place_restarts) == (2, "forming", 1)
    assert (facts.failure.reason, facts.failure.role, facts.failure.rank) == (
        "Stalled",
        "worker",
        1,
    )
    assert facts.failure.first_error == (
        "no step was finished for 31 s (telemetry.progressTimeoutSeconds is 30); rank 1 (worker-1) "
        "is late, after step 5: it is in read (loader.py:88); "
        "the stacks of all ranks are in the log"
    )


def test_an_agent_that_does_not_answer_holds_nobody_up(world: Any, trial: Any) -> None:
    first, second = form(trial)
    beat(second)
    beat(first, still_s=31.0)
    world.clock.sleep(stalls.WITNESS_WAIT_S)
    beat(first, still_s=37.0, witness="stack", where="all_reduce (a.py:1)", waits=True)
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.failure.rank) == (2, 1)
    assert "its agent did not answer when stacks were asked for" in facts.failure.first_error


def test_ranks_that_move_on_in_time_are_left_alone(world: Any, trial: Any) -> None:
    first, second = form(trial)
    assert beat(first, still_s=31.0) == "stacks"
    beat(second, step=6)
    beat(first, step=6, witness="stack", where="step (a.py:1)")
    world.clock.sleep(stalls.WITNESS_WAIT_S + 1)
    assert beat(first, step=7, witness="stack", where="step (a.py:1)") == "continue"
    assert world.facts.trial(trial.uid).generation == 1


@pytest.mark.parametrize("step", [-1, 100], ids=["tells no steps", "has done all steps"])
def test_who_is_not_measured_by_steps_is_left_alone(world: Any, trial: Any, step: int) -> None:
    first, second = form(trial)
    assert beat(first, step=step, still_s=60.0) == "continue"
    assert beat(second, step=step, still_s=89.0) == "continue"
    assert world.facts.trial(trial.uid).generation == 1


def test_after_the_last_step_there_is_an_end_as_well(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    assert beat(first, step=100, still_s=91.0) == "stacks"


def test_who_told_steps_before_is_watched_from_the_start_of_a_later_generation(
    world: Any, trial: Any
) -> None:
    first, second = form(trial)
    beat(first, step=5)
    beat(second, step=-1)
    second.exit(137, reason="Killed")
    for agent in (first, second, first):
        join(agent, {"worker": 2})
    assert beat(first, step=-1, state="starting", still_s=31.0) == "continue"
    assert beat(second, step=-1, still_s=31.0) == "continue"
    assert beat(first, step=-1, still_s=31.0) == "stacks"


def test_parameter_servers_count_no_steps(world: Any, trial: Any) -> None:
    worker, server = form(trial, worker=1, ps=1)
    place = {"role": "ps", "index": 0}
    assert beat(server, step=-1, still_s=500.0, **place) == "continue"
    assert beat(worker, still_s=1.0) == "continue"
    assert beat(worker, still_s=31.0) == "stacks"
    beat(server, step=-1, still_s=531.0, witness="stack", where="select (x.py:1)", **place)
    beat(worker, still_s=32.0, witness="stack", where="read (train.py:9)")
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.failure.role, facts.failure.rank) == (2, "worker", 0)


def test_a_start_that_gets_no_further_ends_as_a_stall_does(world: Any, trial: Any) -> None:
    first, second = form(trial)
    begins = {"step": -1, "state": "starting"}
    assert beat(first, still_s=89.0, **begins) == "continue"
    assert beat(second, still_s=90.5, **begins) == "stacks"
    heard = {"witness": "stack", "where": "init_process_group (distributed_c10d.py:9)"}
    beat(first, still_s=90.5, waits=True, **heard, **begins)
    beat(second, still_s=91.0, witness="silent", where="it does not listen to SIGUSR1", **begins)
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.in_place_restarts) == (2, 1)
    assert (facts.failure.reason, facts.failure.rank) == ("Stalled", 1)
    assert facts.failure.first_error == (
        "the start got no further for 91 s (telemetry.startTimeoutSeconds is 90); rank 1 "
        "(worker-1) is late, before its first step: it gave no stack (it does not listen to "
        "SIGUSR1); the stacks of all ranks are in the log"
    )


def test_a_stopped_process_counts_whatever_its_program_tells(world: Any, trial: Any) -> None:
    first, second = form(trial)
    assert beat(first, step=-1, state="running", still_s=500.0) == "continue"
    assert beat(second, step=-1, state="stopped", still_s=30.5) == "stacks"
    beat(first, step=-1, state="running", still_s=500.0, witness="stack", where="recv (a.py:1)")
    beat(second, step=-1, state="stopped", still_s=31.0, witness="stopped")
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.failure.rank) == (2, 1)
    assert "its process is stopped (state T)" in facts.failure.first_error


def test_a_start_may_be_without_a_limit(world: Any, trial: Any) -> None:
    agent = trial.agent(0)
    for _ in range(2):
        agent.join(members={"worker": 1}, progress_timeout_s=LIMIT_S)
    assert beat(agent, step=-1, state="starting", still_s=5000.0) == "continue"
