"""Two agents speak JSON to the coordinator: join, die, regenerate, fence, succeed."""

from __future__ import annotations

from typing import Any

import pytest

from quintile_api import tables
from quintile_api.coordinator import liveness, stalls


def form(trial: Any, **of: Any) -> tuple[Any, Any]:
    """Bring both agents into the newest generation."""
    first, second = trial.agents(**of)
    first.join()
    assert second.join()["state"] == "running"
    first.join()
    return first, second


def test_a_generation_runs_when_every_member_has_joined(trial: Any) -> None:
    first, second = trial.agents()
    assert first.join() == {
        "state": "forming",
        "generation": 1,
        "directive": "continue",
        "plan": None,
    }
    plan = second.join()["plan"]
    assert plan["world_size"] == 2
    assert [slot["rank"] for slot in plan["ranks"]] == [0, 1]
    assert (plan["master_host"], plan["master_port"]) == ("127.0.0.1", 20_000)
    assert plan["resume"] is None
    assert first.join()["plan"] == plan


def test_a_join_waits_for_the_other_member(world: Any, at_once: Any) -> None:
    world.restart(join_wait_s=20.0)
    first, second = world.trial().agents()
    answers = at_once(first.join, second.join)
    assert [answer["state"] for answer in answers] == ["running", "running"]


def test_a_rank_that_dies_begins_one_new_generation_however_many_die(trial: Any) -> None:
    first, second = form(trial)
    assert first.beat(step=3).json()["directive"] == "continue"
    answer = second.exit(1, reason="UserError", error="boom").json()
    assert answer == {"directive": "regenerate", "state": "forming", "generation": 2}
    # The survivor was killed by its agent; its exit is of the generation that is over.
    assert first.exit(-9).json()["generation"] == 2
    assert trial.world.facts.trial(trial.uid).in_place_restarts == 1


def test_an_older_generation_is_answered_409_with_what_is_current(trial: Any) -> None:
    first, second = form(trial)
    second.exit(137)
    stale = first.beat()
    assert stale.status_code == 409
    body = stale.json()
    assert body["type"].endswith("/fenced")
    assert (body["directive"], body["state"], body["generation"]) == ("regenerate", "forming", 2)
    assert body["plan"] is None
    behind = trial.agent(0)
    behind.generation = 1
    first.join()
    second.join()
    assert behind.post("checkpoints/urls", step=1, files=["a"]).json()["plan"]["generation"] == 2


def test_an_older_attempt_is_fenced_for_good(trial: Any) -> None:
    first, _ = form(trial)
    newer = trial.agent(0, attempt=2, boot="b")
    newer.join()
    for answer in (
        first.beat(),
        first.post("join", members={"worker": 2}, host="h", port=1),
        first.metrics((0, 1, 1.0)),
        first.logs((0, "late")),
        first.exit(0),
    ):
        assert answer.status_code == 409
        assert answer.json()["directive"] == "fenced"
    facts = trial.world.facts.trial(trial.uid)
    assert (facts.attempt, facts.generation, facts.state) == (2, 1, "forming")


def test_a_token_of_one_attempt_does_not_speak_for_another(trial: Any) -> None:
    agent = trial.agent(0)
    answer = agent.client.post(
        f"/api/v1/internal/trials/{trial.uid}/heartbeat",
        json={**agent.envelope(), "attempt": 2, "ranks": []},
    )
    assert answer.status_code == 409
    assert answer.json()["directive"] == "fenced"


def test_all_workers_exited_0_is_success(trial: Any) -> None:
    first, second = form(trial)
    assert first.exit(0).json()["state"] == "running"
    assert second.exit(0).json() == {"directive": "stop", "state": "succeeded", "generation": 1}
    assert first.beat().json()["directive"] == "stop"
    assert first.join() == {
        "state": "succeeded",
        "generation": 1,
        "directive": "stop",
        "plan": None,
    }
    assert trial.world.facts.trial(trial.uid).state == "succeeded"


def test_steps_after_the_last_heartbeat_are_told_by_the_exit(trial: Any) -> None:
    first, second = form(trial)
    first.beat(step=90)
    for agent in (first, second):
        agent.post("exits", rank=agent.index, exit_code=0, step=100, total_steps=100)
    facts = trial.world.facts.trial(trial.uid)
    assert (facts.state, facts.step, facts.total_steps) == ("succeeded", 100, 100)


def test_an_exit_counts_once(trial: Any) -> None:
    first, _ = form(trial)
    first.beat(step=1)
    first.exit(1)
    again = first.exit(1)
    assert again.json()["generation"] == 2
    assert trial.world.facts.trial(trial.uid).in_place_restarts == 1


def test_a_script_that_cannot_start_fails_at_once(trial: Any) -> None:
    first, _ = form(trial)
    answer = first.exit(1, reason="UserError", error="ModuleNotFoundError: torchx")
    assert answer.json()["state"] == "failed"
    failure = trial.world.facts.trial(trial.uid).failure
    assert failure is not None
    assert failure.first_error == "ModuleNotFoundError: torchx"


def test_the_peer_that_broke_is_named_also_when_it_reports_late(trial: Any) -> None:
    first, second = form(trial)
    assert first.exit(74, reason="PeerLost", error="gloo: closed").json()["state"] == "forming"
    second.exit(1, reason="UserError", error="ImportError: no torchx")
    facts = trial.world.facts.trial(trial.uid)
    assert facts.state == "failed"
    assert facts.failure is not None
    assert (facts.failure.rank, facts.failure.first_error) == (1, "ImportError: no torchx")
    assert first.join()["directive"] == "stop"


def test_a_kill_before_the_first_step_is_no_user_error(trial: Any) -> None:
    first, _ = form(trial)
    assert first.exit(-9, reason="Killed").json()["state"] == "forming"


def test_the_attempt_fails_after_max_restarts(trial: Any) -> None:
    first, second = trial.agents()
    for generation in (1, 2, 3):
        first.join()
        second.join()
        first.join()
        first.beat(step=generation)
        state = first.exit(139, reason="Segfault", error="core dumped").json()["state"]
    assert state == "failed"
    facts = trial.world.facts.trial(trial.uid)
    assert (facts.generation, facts.in_place_restarts) == (3, 2)


def test_leaving_on_request_is_no_failure(trial: Any) -> None:
    first, second = form(trial)
    assert first.exit(75, reason="Suspended").json()["state"] == "running"
    assert second.exit(1).json()["state"] == "stopped"
    assert trial.world.facts.trial(trial.uid).in_place_restarts == 0


def test_stop_reaches_the_agents_and_ends_the_generation(world: Any, trial: Any) -> None:
    first, second = form(trial)
    answer = world.admin().post("/api/v1/projects/default/experiments/digits/stop")
    assert answer.status_code == 202
    assert first.beat(step=5).json()["directive"] == "stop"
    assert world.facts.trial(trial.uid).stop_requested
    first.exit(0)
    assert second.exit(143).json()["state"] == "stopped"


def test_stop_before_the_ranks_run(world: Any, trial: Any) -> None:
    first, _ = trial.agents()
    first.join()
    world.admin().post("/api/v1/projects/default/experiments/digits/stop")
    assert first.join()["state"] == "stopped"


def test_the_state_survives_the_api(world: Any, trial: Any) -> None:
    first, second = form(trial)
    first.beat(step=4)
    world.ctx.coordinator.flush()
    world.restart()
    assert first.beat(step=5).json() == {
        "directive": "continue",
        "state": "running",
        "generation": 1,
    }
    second.exit(139)
    world.restart()
    first.join()
    assert second.join()["generation"] == 2
    assert world.facts.trial(trial.uid).in_place_restarts == 1


def test_an_agent_that_started_again_begins_a_new_generation(trial: Any) -> None:
    first, second = form(trial)
    reborn = trial.agent(1, boot="again")
    assert reborn.join()["generation"] == 2
    assert first.beat().status_code == 409
    assert first.join()["state"] == "running"
    # The old process of the same member is nobody any more.
    second.generation = 2
    assert second.beat().json()["directive"] == "regenerate"


def judge(world: Any, holder: str = "test") -> liveness.Liveness:
    return liveness.Liveness(
        world.ctx.coordinator,
        database=world.ctx.database,
        clock=world.clock,
        silence_s=20.0,
        flush_s=3.0,
        holder=holder,
    )


def tick_for(world: Any, judged: liveness.Liveness, seconds: int, alive: Any = None) -> None:
    for _ in range(seconds):
        world.clock.sleep(1.0)
        if alive is not None:
            alive.beat(step=1)
        judged.tick()


def test_a_silent_agent_is_found_and_the_others_go_on_without_a_new_attempt(
    world: Any, trial: Any
) -> None:
    judged = judge(world)
    first, second = form(trial)
    tick_for(world, judged, 21 + round(stalls.SURVIVORS_WAIT_S), alive=first)
    assert first.beat().status_code == 409
    facts = world.facts.trial(trial.uid)
    assert (facts.generation, facts.state, facts.attempt) == (2, "forming", 1)
    first.join()
    assert second.join()["state"] == "running"


def test_silence_that_began_while_the_api_was_away_is_no_verdict(world: Any, trial: Any) -> None:
    form(trial)
    world.clock.sleep(300.0)
    judged = judge(world)
    tick_for(world, judged, 10)
    assert world.facts.trial(trial.uid).generation == 1
    # A pause of the API itself starts the wait again.
    world.clock.sleep(40.0)
    judged.tick()
    tick_for(world, judged, 10)
    assert world.facts.trial(trial.uid).generation == 1


def test_only_the_holder_of_the_lease_judges(world: Any, trial: Any) -> None:
    form(trial)
    holder, other = judge(world), judge(world, "other")
    holder.tick()
    tick_for(world, other, 4)
    with world.ctx.database.read() as session:
        lease = session.get(tables.Lease, "liveness")
    assert lease is not None
    assert (lease.holder, lease.fence) == ("test", 1)
    world.clock.sleep(20.0)
    other.tick()
    with world.ctx.database.read() as session:
        lease = session.get(tables.Lease, "liveness")
    assert lease is not None
    assert (lease.holder, lease.fence) == ("other", 2)


def test_heartbeats_are_written_in_one_batch(world: Any, trial: Any) -> None:
    first, second = form(trial)
    world.ctx.coordinator.flush()
    cursor = world.facts.changed("", wait_s=0).cursor
    first.beat(step=7)
    second.beat(step=6)
    assert world.facts.changed(cursor, wait_s=0).keys == ()
    assert world.ctx.coordinator.flush() == 2
    changes = world.facts.changed(cursor, wait_s=0)
    assert [key.name for key in changes.keys] == [trial.name]
    assert world.facts.trial(trial.uid).step == 7


def test_members_must_come_from_one_plan(trial: Any) -> None:
    trial.agent(0).join()
    other = trial.agent(1, members=3)
    answer = other.post("join", members={"worker": 3}, host="h", port=1)
    assert answer.status_code == 422
    assert answer.json()["field"] == "members"
    stranger = trial.agent(5)
    answer = stranger.post("join", members={"worker": 2}, host="h", port=1)
    assert answer.json()["field"] == "role"


def test_every_fact_is_in_the_outbox(world: Any, trial: Any) -> None:
    cursor = world.facts.changed("", wait_s=0).cursor

    def moved() -> bool:
        nonlocal cursor
        changes = world.facts.changed(cursor, wait_s=0)
        cursor = changes.cursor
        return bool(changes.keys)

    first, second = form(trial)
    assert moved()
    first.metrics((0, 1, 1.0))
    assert moved()
    first.checkpoint(1)
    assert moved()
    first.exit(0)
    assert moved()
    second.exit(0)
    assert moved()
    assert not moved()


@pytest.mark.parametrize("route", ["join", "heartbeat", "exits", "metrics", "logs", "checkpoints"])
def test_agents_open_their_own_trial_only(world: Any, trial: Any, route: str) -> None:
    other = world.trial("other")
    agent = trial.agent(0)
    path = f"/api/v1/internal/trials/{other.uid}/{route}"
    assert agent.client.post(path, json=agent.envelope()).status_code == 403
    assert world.admin().post(path, json=agent.envelope()).status_code == 401
    assert world.anonymous().post(path, json=agent.envelope()).status_code == 401


def test_a_checkpoint_is_committed_once_its_files_are_there(trial: Any) -> None:
    first, _ = form(trial)
    prefix = f"ckpt/{trial.uid}/1-1/step-10"
    early = first.commit(10, prefix)
    assert early.status_code == 422
    assert "model.safetensors is missing" in early.json()["detail"]
    assert first.upload(10) == prefix
    assert first.commit(10, prefix).json()["step"] == 10
    assert first.commit(10, prefix).status_code == 200
    assert first.commit(10, prefix, data=b"other!!").status_code == 422
    saved = trial.world.facts.trial(trial.uid).checkpoint
    assert saved is not None
    assert saved.key == f"{prefix}/manifest.json"


def test_a_commit_of_an_older_generation_is_refused(trial: Any) -> None:
    first, second = form(trial)
    prefix = first.upload(10)
    first.beat(step=10)
    second.exit(1)
    late = trial.agent(0)
    late.generation = 1
    first.join()
    second.join()
    refused = late.commit(10, prefix)
    assert refused.status_code == 409
    assert refused.json()["directive"] == "regenerate"
    assert trial.world.facts.trial(trial.uid).checkpoint is None


def test_what_a_lost_generation_saved_counts_until_the_next_one_runs(trial: Any) -> None:
    first, second = form(trial)
    first.beat(step=10)
    second.exit(1)
    first.checkpoint(10)
    second.join()
    assert first.join()["plan"]["resume"]["step"] == 10


def test_a_commit_after_the_last_exit_still_counts(trial: Any) -> None:
    first, second = form(trial)
    prefix = first.upload(100)
    first.exit(0)
    second.exit(0)
    assert first.commit(100, prefix).status_code == 200


def test_the_next_generation_resumes_from_the_newest_complete_checkpoint(trial: Any) -> None:
    first, second = form(trial)
    first.beat(step=20)
    first.checkpoint(10)
    first.checkpoint(20)
    # The newest one loses a file: a restart must not trust it.
    trial.world.objects.delete(f"ckpt/{trial.uid}/1-1/step-20/model.safetensors")
    second.exit(1)
    first.join()
    resume = second.join()["plan"]["resume"]
    assert resume["step"] == 10
    data = trial.world.anonymous().get(resume["urls"]["model.safetensors"])
    assert data.content == b"weights"
    manifest = trial.world.anonymous().get(resume["manifest_url"]).json()
    assert manifest == first.manifest(10) | {"generation": 1}


def test_a_new_attempt_resumes_too(trial: Any) -> None:
    first, _ = form(trial)
    first.checkpoint(10)
    again, other = trial.agents(attempt=2, boot="b")
    again.join()
    assert other.join()["plan"]["resume"]["step"] == 10
    assert other.join()["plan"]["checkpoint_prefix"] == f"ckpt/{trial.uid}/2-1"


def test_a_crash_after_the_final_checkpoint_is_no_restart(trial: Any) -> None:
    first, second = form(trial)
    first.beat(step=100, total=100)
    first.checkpoint(100)
    first.exit(0)
    assert second.exit(139).json()["state"] == "succeeded"


def test_old_checkpoints_go(trial: Any) -> None:
    world, run = trial.world, trial
    first, second = form(run)
    first.beat(step=50)
    for step in (10, 20, 30, 40, 50):
        first.checkpoint(step)
    stored = {key.split("/")[3] for key in (i.key for i in world.objects.list(f"ckpt/{run.uid}"))}
    listed = world.admin().get(f"{run.path}/checkpoints").json()["items"]
    # keepLast 2; none was evaluated, so that none is best.
    assert [entry["step"] for entry in listed] == [50, 40]
    assert stored == {"step-50", "step-40"}
    second.exit(1)
    first.join()
    assert second.join()["plan"]["resume"]["step"] == 50
    first.join()
    # What a running generation began with stays, whatever newer ones are kept.
    for step in (60, 70, 80):
        first.checkpoint(step)
    listed = world.admin().get(f"{run.path}/checkpoints").json()["items"]
    assert [entry["step"] for entry in listed] == [80, 70, 50]


def test_a_plan_says_how_long_the_run_has_gone_on_but_not_how_long_it_was_to_lie_still(
    world: Any, trial: Any
) -> None:
    first, second = form(trial)
    world.clock.sleep(100.0)
    second.exit(137)
    first.join()
    # A restart costs time of the run.
    assert second.join()["plan"]["elapsed_s"] == 100.0
    first.join()
    world.clock.sleep(50.0)
    for agent in (first, second):
        agent.exit(75, reason="Preempted")
    world.clock.sleep(3600.0)
    third, fourth = trial.agents(attempt=2, boot="b")
    third.join()
    assert fourth.join()["plan"]["elapsed_s"] == 150.0
    third.join()
    world.clock.sleep(10.0)
    # An attempt that nobody ended goes on until the next one has begun.
    fifth, sixth = trial.agents(attempt=3, boot="c")
    world.clock.sleep(30.0)
    fifth.join()
    assert sixth.join()["plan"]["elapsed_s"] == 190.0
