"""An elastic run at the coordinator: agents are lost, replaced, added and asked to leave."""

from __future__ import annotations

from typing import Any

import pytest

from quintile_api.coordinator import stalls

WINDOW_S, COOLDOWN_S, SILENCE_S = 5.0, 30.0, 15.0


@pytest.fixture(autouse=True)
def pace(world: Any) -> None:
    world.restart(
        elastic_window_s=WINDOW_S, elastic_cooldown_s=COOLDOWN_S, agent_silence_s=SILENCE_S
    )


def join(agent: Any, members: int | None = None, *, least: int = 1) -> dict[str, Any]:
    agent.members = members or agent.members
    found: dict[str, Any] = agent.join(least=least)
    return found


def started(trial: Any, count: int, *, least: int = 1) -> list[Any]:
    """A generation of so many agents whose ranks have done a step."""
    agents = [trial.agent(index, members=count) for index in range(count)]
    for agent in (*agents, *agents):
        join(agent, least=least)
    for agent in agents:
        assert agent.beat(step=1).json()["directive"] == "continue"
    trial.world.ctx.coordinator.flush()
    return agents


def later(trial: Any, seconds: float, *alive: Any) -> None:
    """Let time pass in which these agents say that they live."""
    trial.world.clock.sleep(seconds)
    for agent in alive:
        agent.beat(step=2)
    trial.world.ctx.coordinator.flush()


def yields(agent: Any, *, leaving: bool = False) -> Any:
    reason = "Preempted" if leaving else "Resized"
    body = {"rank": agent.index, "exit_code": 75, "reason": reason, "leaving": leaving}
    return agent.post("exits", **body).json()


def leaves(agent: Any) -> dict[str, Any]:
    """An agent whose rank runs says that it was asked to go."""
    rank = {"rank": agent.index, "pid": 1, "state": "running", "step": 2, "total_steps": 100}
    found: dict[str, Any] = agent.post("heartbeat", ranks=[rank], leaving=True).json()
    return found


def facts(trial: Any) -> Any:
    return trial.world.facts.trial(trial.uid)


def ranks(answer: dict[str, Any]) -> list[tuple[int, int]]:
    return [(slot["rank"], slot["index"]) for slot in answer["plan"]["ranks"]]


def test_the_survivors_of_a_loss_go_on_when_no_replacement_came(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    later(trial, SILENCE_S + 1, zero, two)
    coordinator = trial.world.ctx.coordinator
    coordinator.lose(trial.uid, silent_since_s=trial.world.clock.now() - SILENCE_S)
    later(trial, stalls.SURVIVORS_WAIT_S + 1, zero, two)
    coordinator.lose(trial.uid, silent_since_s=trial.world.clock.now() - SILENCE_S)
    assert facts(trial).state == "forming"
    join(zero)
    assert join(two)["state"] == "forming"
    later(trial, WINDOW_S)
    answer = join(two)
    assert (answer["state"], answer["generation"]) == ("running", 2)
    assert answer["plan"]["world_size"] == 2
    assert ranks(answer) == [(0, 0), (1, 2)]
    known = facts(trial)
    assert known.workers == 2
    assert known.why.startswith("without worker-1 (the agent worker-1 was silent")
    assert known.in_place_restarts == 1
    del one


def test_a_replacement_in_time_keeps_the_size(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    assert zero.exit(74, reason="PeerLost").json()["generation"] == 2
    join(zero)
    join(two)
    replacement = trial.agent(1, boot="b", members=3)
    assert ranks(join(replacement)) == [(0, 0), (1, 1), (2, 2)]
    assert facts(trial).workers == 3
    del one


def test_nobody_goes_on_without_an_agent_that_lives(trial: Any) -> None:
    zero, one = started(trial, 2)
    zero.exit(74, reason="PeerLost")
    join(zero)
    later(trial, WINDOW_S + 1, one)
    assert join(zero)["state"] == "forming"
    assert join(one)["state"] == "running"


def test_fewer_than_min_wait(trial: Any) -> None:
    zero, one, two = started(trial, 3, least=3)
    zero.exit(74, reason="PeerLost")
    join(zero, least=3)
    join(one, least=3)
    later(trial, SILENCE_S + WINDOW_S + 1)
    assert join(zero, least=3)["state"] == "forming"
    assert facts(trial).workers == 0
    del two


def test_a_start_waits_for_all_as_long_as_the_cool_down(trial: Any) -> None:
    zero, one = trial.agent(0, members=3), trial.agent(1, members=3)
    join(zero)
    join(one)
    later(trial, WINDOW_S + 1)
    assert join(zero)["state"] == "forming"
    later(trial, COOLDOWN_S)
    join(one)
    assert join(zero)["plan"]["world_size"] == 2


def test_newcomers_come_in_together_at_a_checkpoint_after_the_cool_down(trial: Any) -> None:
    zero, one = started(trial, 2)
    two, three = trial.agent(2, members=4), trial.agent(3, members=4)
    assert join(two) == {
        "state": "forming",
        "generation": 1,
        "directive": "continue",
        "plan": None,
    }
    later(trial, COOLDOWN_S, zero, one, two)
    # One of the two is still missing, and the window for it is not over.
    join(three)
    assert zero.beat(step=9).json() == {"directive": "drain", "state": "draining", "generation": 1}
    assert facts(trial).why == "worker-2, worker-3 joined"
    zero.checkpoint(step=9)
    assert yields(zero)["directive"] == "drain"
    assert join(two)["state"] == "forming"
    assert yields(one) == {"directive": "regenerate", "state": "forming", "generation": 2}
    join(zero)
    answer = join(one)
    assert (answer["state"], answer["plan"]["world_size"]) == ("running", 4)
    assert answer["plan"]["resume"]["step"] == 9
    known = facts(trial)
    assert (known.workers, known.why) == (4, "with worker-2, worker-3")
    assert (known.in_place_restarts, known.failure) == (0, None)


def test_before_the_cool_down_nobody_comes_in(trial: Any) -> None:
    zero, one = started(trial, 2)
    join(trial.agent(2, members=3))
    later(trial, COOLDOWN_S - 1, zero, one)
    assert join(trial.agent(2, members=3))["state"] == "forming"
    assert zero.beat(step=3).json()["directive"] == "continue"


def test_ranks_that_have_not_begun_are_left_alone(trial: Any) -> None:
    agents = [trial.agent(index) for index in range(2)]
    for agent in (*agents, *agents):
        join(agent)
    later(trial, COOLDOWN_S)
    for agent in agents:
        agent.beat(step=-1)
    join(trial.agent(2, members=3))
    assert agents[0].beat(step=-1).json()["directive"] == "continue"


def test_one_newcomer_of_two_is_not_waited_for_for_ever(trial: Any) -> None:
    zero, one = started(trial, 2)
    later(trial, COOLDOWN_S, zero, one)
    join(trial.agent(2, members=4))
    assert zero.beat(step=3).json()["directive"] == "continue"
    later(trial, WINDOW_S, zero, one)
    join(trial.agent(2, members=4))
    assert zero.beat(step=3).json()["directive"] == "drain"


def test_who_is_asked_to_leave_takes_all_to_a_checkpoint_and_is_no_member_any_more(
    trial: Any,
) -> None:
    zero, one, two = started(trial, 3)
    assert leaves(two)["directive"] == "drain"
    assert zero.beat(step=5).json()["directive"] == "drain"
    assert facts(trial).why == "worker-2 leaves"
    yields(two, leaving=True)
    yields(zero)
    assert yields(one)["generation"] == 2
    join(zero)
    answer = join(one)
    assert (answer["state"], answer["plan"]["world_size"]) == ("running", 2)
    assert (facts(trial).workers, facts(trial).why) == (2, "without worker-2")
    assert facts(trial).in_place_restarts == 0


def test_who_leaves_before_its_rank_was_started_holds_no_change_up(trial: Any) -> None:
    zero, one = (trial.agent(index) for index in range(2))
    for agent in (zero, one, zero):
        join(agent)
    assert one.post("heartbeat", ranks=[], leaving=True).json()["directive"] == "drain"
    assert yields(zero)["generation"] == 2
    assert join(zero)["plan"]["world_size"] == 1


def test_an_exit_alone_tells_that_an_agent_leaves(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    assert yields(two, leaving=True)["directive"] == "drain"
    yields(zero)
    assert yields(one)["generation"] == 2
    assert join(zero)["state"] == "forming"
    assert join(one)["plan"]["world_size"] == 2


def test_who_leaves_before_it_has_begun_is_not_waited_for(trial: Any) -> None:
    zero, one, two = (trial.agent(index, members=4) for index in range(3))
    for agent in (zero, one, two):
        join(agent)
        agent.generation = 1
    two.post("heartbeat", ranks=[], leaving=True)
    later(trial, COOLDOWN_S)
    assert ranks(join(one)) == [(0, 0), (1, 1)]


def test_a_newcomer_that_leaves_again_makes_no_room(trial: Any) -> None:
    zero, one = started(trial, 2)
    two = trial.agent(2, members=3)
    join(two)
    two.generation = 1
    two.post("heartbeat", ranks=[], leaving=True)
    later(trial, COOLDOWN_S, zero, one)
    join(trial.agent(1, members=2))
    assert zero.beat(step=4).json()["directive"] == "continue"


def test_when_too_few_stay_the_attempt_is_over(trial: Any) -> None:
    zero, one = started(trial, 2, least=2)
    yields(zero, leaving=True)
    assert yields(one)["state"] == "stopped"


def test_all_that_are_asked_to_leave_end_the_attempt(trial: Any) -> None:
    zero, one = started(trial, 2)
    yields(zero, leaving=True)
    assert yields(one, leaving=True)["state"] == "stopped"


def test_a_run_that_ends_while_it_drains_has_succeeded(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    leaves(two)
    for agent in (zero, one, two):
        agent.exit(0)
    assert facts(trial).state == "succeeded"


def test_a_crash_while_it_drains_counts_as_a_restart(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    leaves(two)
    yields(two, leaving=True)
    yields(zero)
    assert one.exit(139, reason="Segfault").json()["generation"] == 2
    assert facts(trial).in_place_restarts == 1


def test_an_agent_lost_while_it_drains_holds_nobody_up(trial: Any) -> None:
    zero, one, two = started(trial, 3)
    leaves(two)
    yields(zero)
    yields(one)
    later(trial, SILENCE_S + 1, zero, one)
    trial.world.ctx.coordinator.lose(trial.uid, silent_since_s=trial.world.clock.now() - SILENCE_S)
    assert facts(trial).generation == 2
    join(zero)
    assert join(one)["plan"]["world_size"] == 2


def test_a_stop_while_it_drains_is_a_stop(trial: Any) -> None:
    zero, one = started(trial, 2)
    leaves(zero)
    coordinator = trial.world.ctx.coordinator
    coordinator.request_stop(trial.uid, namespace="default", name=trial.name)
    assert one.beat(step=4).json()["directive"] == "stop"
    yields(zero, leaving=True)
    assert yields(one)["state"] == "stopped"


def test_a_member_that_never_heard_that_it_ran_holds_no_change_up(trial: Any) -> None:
    zero, one = started(trial, 2)
    leaves(one)
    yields(one, leaving=True)
    assert join(zero)["plan"]["generation"] == 2


def test_an_agent_of_a_run_that_is_not_elastic_must_come_from_the_same_plan(trial: Any) -> None:
    trial.agent(0).join()
    answer = trial.agent(1, members=3).post(
        "join", members={"worker": 3}, host="h", port=1, least=1
    )
    assert answer.status_code == 422
