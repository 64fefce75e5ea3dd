"""The reconciler on fakes: what it writes, starts, ends and says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quintile.core import decision, errors, facts, meta, runplan

PARENT = meta.Key("Experiment", "default", "digits")
JOB = meta.Key("LabelingJob", "default", "parts")


def test_an_experiment_becomes_a_trial_and_its_agents(world: Any) -> None:
    world.experiment()
    world.settle()
    key = world.trial()
    replicas = world.executor.replicas(world.uid(key))
    assert [item.plan.name for item in replicas] == [
        f"{key.name}-a1-worker-0",
        f"{key.name}-a1-worker-1",
    ]
    assert replicas[0].plan.argv == ("python", "-m", "quintile_trainer.agent")
    env = dict(replicas[1].plan.env)
    assert env["QUINTILE_API_URL"] == "http://localhost:8420"
    assert (env["QUINTILE_ROLE"], env["QUINTILE_INDEX"]) == ("worker", "1")
    assert env["QUINTILE_HOST"] == "127.0.0.1"
    assert json.loads(env["QUINTILE_MEMBERS"]) == {"worker": 2}
    assert "QUINTILE_TOKEN" not in env
    assert world.status(key)["attempt"] == 1
    assert world.status(PARENT) == {}  # nobody waits for it; it comes with what follows
    world.clock.sleep(decision.SOON_S)
    world.settle()
    assert world.status(PARENT)["trials"] == [key.name]


def test_the_token_is_for_this_attempt_and_outlasts_three_months(world: Any) -> None:
    world.experiment()
    world.settle()
    uid = world.uid(world.trial())
    claimed, attempt, expires = world.executor.replicas(uid)[0].run.token.split("/")
    assert (claimed, attempt) == (uid, "1")
    days = (int(expires) - world.clock.now()) / 86_400
    assert 90 < days <= 92


def test_an_attempt_is_written_before_it_is_started(world: Any) -> None:
    world.experiment()
    world.executor.fault = errors.Unavailable("no more processes")
    world.reconciler.reconcile(PARENT)
    key = world.trial()
    assert world.reconciler.reconcile(key) == 0.0
    assert world.status(key)["attempt"] == 1
    assert world.executor.started == []
    with pytest.raises(errors.Unavailable):
        world.reconciler.reconcile(key)
    world.reconciler.reconcile(key)
    assert len(world.executor.started) == 2


def test_a_settled_world_is_left_alone(world: Any) -> None:
    key = world.started()
    assert world.settle() == 0
    world.fresh()
    assert world.settle() == 0
    world.report(key, state="succeeded")
    world.end_agents(key)
    world.settle()
    assert (world.phase(key), world.phase(PARENT)) == ("Succeeded", "Succeeded")
    world.fresh()
    assert world.settle() == 0


def test_success_comes_when_the_agents_have_shipped_everything(world: Any) -> None:
    key = world.started()
    world.report(key, state="succeeded")
    world.settle()
    assert world.phase(key) == "Running"
    world.end_agents(key)
    world.settle()
    assert world.phase(key) == "Succeeded"
    assert world.status(PARENT)["phase"] == "Succeeded"
    assert world.status(PARENT)["completionTime"]
    reasons = [event.reason for event in world.events.seen if event.kind == "Trial"]
    assert reasons == ["Running"]


def test_a_lost_agent_is_one_counted_restart_with_a_back_off(world: Any) -> None:
    key = world.started()
    uid = world.uid(key)
    world.executor.lose(uid, f"{key.name}-a1-worker-1")
    world.settle()
    status = world.status(key)
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Restarting", 2, 1)
    assert status["lastFailure"]["reason"] == "AgentLost"
    assert world.executor.observe(uid) == ()
    assert 0 < world.reconciler.reconcile(key) <= 1.0
    world.clock.sleep(1.0)
    world.settle()
    assert [entry.attempt for entry in world.executor.observe(uid)] == [2, 2]
    assert world.executor.most_live_attempts == 1


def test_the_new_attempt_runs_and_says_so(world: Any) -> None:
    key = world.started()
    uid = world.uid(key)
    world.executor.lose(uid, f"{key.name}-a1-worker-0")
    world.settle()
    world.clock.sleep(5)
    world.settle()
    world.executor.set_running(uid)
    world.report(key, attempt=2, generation=1, state="running")
    world.settle()
    assert world.phase(key) == "Running"
    assert world.conditions(key)["Restarting"] == ("False", "RanksStarted")
    assert world.status(PARENT)["restarts"] == 1


def test_a_failure_of_user_code_is_final(world: Any) -> None:
    key = world.started()
    rank = facts.RankFact(0, "exited", 1, "UserError", "ValueError: no such column", -1)
    world.report(key, state="failed", failure=rank)
    world.end_agents(key, exit_code=1, reason="UserError")
    world.settle()
    assert world.phase(PARENT) == "Failed"
    assert "ValueError: no such column" in world.status(PARENT)["message"]
    failed = [event for event in world.events.seen if event.reason == "Failed"]
    assert {event.kind for event in failed} == {"Trial", "Experiment"}
    assert {event.type for event in failed} == {"Warning"}


def test_restarts_end_with_the_budget(world: Any) -> None:
    key = world.started(failure={"maxRestarts": 1})
    uid = world.uid(key)
    for attempt in (1, 2):
        world.executor.lose(uid, f"{key.name}-a{attempt}-worker-0")
        world.settle()
        world.clock.sleep(120)
        world.settle()
        world.executor.set_running(uid)
    assert world.phase(key) == "Failed"
    assert "all 1 restarts of spec.failure.maxRestarts are used" in world.status(key)["message"]
    assert {item.asked_to_end for item in world.executor.replicas(uid)} == {60.0}
    world.executor.leave()
    world.settle()
    assert {entry.state for entry in world.executor.observe(uid)} <= {"lost"}


def test_agents_that_hang_before_they_join_are_started_again_and_end_in_a_condition(
    world: Any,
) -> None:
    world.experiment(failure={"maxRestarts": 1}, telemetry={"startTimeoutSeconds": 300})
    world.settle()
    key = world.trial()
    uid = world.uid(key)
    for attempt, phase in ((1, "Pending"), (2, "Restarting")):
        world.executor.set_running(uid, started_s=world.clock.now())
        world.settle()
        assert (world.status(key)["attempt"], world.phase(key)) == (attempt, phase)
        # Nobody else will wake it: no agent speaks.
        assert world.reconciler.reconcile(key) == 300.0
        world.clock.sleep(300.0)
        world.settle()
        world.executor.leave()
        world.clock.sleep(1.0)
        world.settle()
    assert world.conditions(key)["Failed"] == ("True", "AgentHung")
    message = world.status(PARENT)["message"]
    assert "-worker-0 lives and has not joined for 300 s" in message
    assert "Hint: look at the output of the agent itself" in message


def test_suspend_drains_and_resume_begins_the_next_attempt(world: Any) -> None:
    key = world.started()
    uid = world.uid(key)
    world.change(PARENT, suspend=True)
    world.settle()
    assert world.conditions(key)["Suspended"] == ("False", "Suspending")
    assert {item.asked_to_end for item in world.executor.replicas(uid)} == {60.0}
    world.executor.leave()
    world.settle()
    assert (world.phase(key), world.phase(PARENT)) == ("Suspended", "Suspended")
    assert world.settle() == 0
    world.change(PARENT, suspend=False)
    world.settle()
    assert [entry.attempt for entry in world.executor.observe(uid)] == [2, 2]
    assert world.status(key)["restarts"] == 0


def test_stop_drains_and_is_final(world: Any) -> None:
    key = world.started()
    world.report(key, stop_requested=True)
    world.settle()
    assert world.phase(key) != "Stopped"
    world.executor.leave()
    world.settle()
    assert (world.phase(key), world.phase(PARENT)) == ("Stopped", "Stopped")
    assert world.settle() == 0


def test_progress_is_written_every_ten_seconds_at_most(world: Any) -> None:
    key = world.started()
    world.clock.sleep(10)
    world.report(key, step=10, total_steps=100, metrics={"loss": 0.5})
    assert world.settle() == 2
    world.report(key, step=20)
    assert world.settle() == 0
    assert 0 < world.reconciler.reconcile(key) <= 10
    world.clock.sleep(10)
    world.settle()
    assert world.status(key)["progress"]["step"] == 20
    assert world.status(PARENT)["progress"]["percent"] == 20


def test_a_transition_does_not_wait_for_progress(world: Any) -> None:
    key = world.started()
    world.report(key, step=10, total_steps=100)
    world.settle()
    world.report(key, state="succeeded", step=100)
    world.end_agents(key)
    world.settle()
    assert world.phase(PARENT) == "Succeeded"
    assert world.status(PARENT)["progress"]["percent"] == 100


@pytest.mark.parametrize("what", ["trial", "experiment"])
def test_processes_of_what_was_deleted_are_ended(world: Any, what: str) -> None:
    key = world.started()
    uid = world.uid(key)
    world.resources.delete(key if what == "trial" else PARENT)
    world.fresh()
    assert key in world.reconciler.known_keys()
    assert world.reconciler.reconcile(key) is None
    assert {item.asked_to_end for item in world.executor.replicas(uid)} == {5.0}
    world.executor.leave()
    world.settle()
    assert uid not in world.executor.trials()


def test_a_new_trial_under_an_old_name_waits_for_the_old_processes(world: Any) -> None:
    key = world.started()
    old = world.uid(key)
    world.resources.delete(key)
    world.reconciler.reconcile(PARENT)
    world.reconciler.reconcile(key)
    with pytest.raises(errors.Conflict):
        world.reconciler.reconcile(key)
    world.executor.leave()
    world.settle()
    assert list(world.executor.trials()) == [world.uid(key)] != [old]


def test_a_trial_name_that_is_taken_is_said_and_tried_again(world: Any) -> None:
    world.experiment()
    world.reconciler.reconcile(PARENT)
    taken = world.resources.get(world.trial())
    world.resources.delete(world.trial())
    taken["metadata"]["ownerReferences"] = []
    world.resources.apply(taken, manager="somebody")
    assert world.reconciler.reconcile(PARENT) == 30.0
    assert world.conditions(PARENT)["Accepted"] == ("False", "NameTaken")
    world.resources.delete(meta.key_of(taken))
    world.settle()
    assert world.conditions(PARENT)["Accepted"] == ("True", "Valid")


def test_a_spec_that_this_release_cannot_run_fails_with_a_reason(world: Any) -> None:
    world.experiment(run={"mode": "mpi", "workers": {"replicas": 20, "min": 5}})
    world.settle()
    assert (world.phase(PARENT), world.trials()) == ("Failed", [])
    assert "elastic run, but mode is mpi" in world.status(PARENT)["message"]


def test_a_lost_worker_of_an_elastic_run_is_started_again_in_its_attempt(world: Any) -> None:
    world.experiment(run={"workers": {"replicas": 3, "min": 2, "max": 4}})
    world.settle()
    [trial] = world.trials()
    uid = world.uid(trial)
    world.executor.set_running(uid)
    name = world.executor.observe(uid)[1].name
    world.executor.lose(uid, name)
    world.settle()
    assert world.executor.started.count(name) == 2
    assert world.status(trial)["attempt"] == 1


def test_the_size_of_an_elastic_run_reaches_its_replicas(world: Any) -> None:
    world.experiment(run={"workers": {"replicas": 2, "min": 1, "max": 4}})
    world.settle()
    [trial] = world.trials()
    uid = world.uid(trial)
    world.executor.set_running(uid)
    for replicas in (4, 2):
        world.change(PARENT, run={"workers": {"replicas": replicas, "min": 1, "max": 4}})
        world.settle()
        world.executor.leave()
        assert len(world.executor.observe(uid)) == replicas
    made = world.resources.get(trial)["spec"]
    assert (made["batchWorkers"], made["template"]["run"]["workers"]["replicas"]) == (2, 2)
    assert world.status(trial)["attempt"] == 1


def test_an_event_sink_that_is_away_stops_nothing(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emit(_event: runplan.Event) -> None:
        raise errors.Unavailable("no room for events")

    monkeypatch.setattr(world.events, "emit", emit)
    key = world.started()
    assert world.phase(key) == "Running"


def test_an_unknown_key_wants_nothing(world: Any) -> None:
    for kind in ("Experiment", "Trial", "LabelingJob"):
        assert world.reconciler.reconcile(meta.Key(kind, "default", "nobody")) is None


def closed(number: int, step: Any = "learn") -> facts.RoundFact:
    return facts.RoundFact(
        number, step, "closed", manifest_key=f"rounds/{number}", manifest_sha256="0" * 64
    )


def known(world: Any, **of: Any) -> None:
    uid = world.uid(JOB)
    before = world.facts.job(uid) or facts.JobFacts(uid=uid, state="importing")
    world.facts.put_job(JOB, facts.JobFacts(**{**vars(before), **of}))


def test_a_job_is_admitted_once_per_generation(world: Any) -> None:
    world.job()
    world.settle()
    assert len(world.facts.admitted) == 1
    assert world.phase(JOB) == "Importing"
    world.change(JOB, budget={"maxHumanLabels": "30%"})
    world.settle()
    assert [item["metadata"]["generation"] for item in world.facts.admitted] == [1, 2]
    assert world.settle() == 0


def test_a_job_that_can_never_run_is_refused_for_good(world: Any) -> None:
    world.facts.refusal = errors.InvalidSpec("there is no dataset digits version 1")
    world.job()
    world.settle()
    assert world.phase(JOB) == "Failed"
    assert "no dataset digits" in world.status(JOB)["message"]
    world.facts.refusal = None
    assert world.settle() == 0


def test_a_bad_change_of_a_running_job_is_said_and_ends_nothing(world: Any) -> None:
    world.job()
    known(world, state="labeling", items=100)
    world.settle()
    world.facts.refusal = errors.InvalidSpec("the budget is too small")
    world.change(JOB, budget={"maxHumanLabels": "1"})
    world.settle()
    assert world.phase(JOB) == "Labeling"
    assert world.conditions(JOB)["Accepted"] == ("False", "InvalidSpec")
    assert "too small" in world.status(JOB)["message"]
    known(world, human=3)
    world.clock.sleep(60)
    world.settle()
    assert world.conditions(JOB)["Accepted"] == ("False", "InvalidSpec")
    assert world.status(JOB)["counts"]["human"] == 3
    world.facts.refusal = None
    world.change(JOB, budget={"maxHumanLabels": "50%"})
    world.settle()
    assert world.conditions(JOB)["Accepted"] == ("True", "Admitted")


def test_a_service_that_is_away_is_asked_again(world: Any) -> None:
    world.job()
    world.facts.away = True
    with pytest.raises(errors.Unavailable):
        world.reconciler.reconcile(JOB)
    world.facts.away = False
    world.settle()
    assert world.phase(JOB) == "Importing"


def test_a_closed_round_becomes_an_experiment_with_its_agents(world: Any) -> None:
    world.job()
    known(world, state="labeling", items=100, rounds=(closed(0, "embed"),))
    world.settle()
    (parent,) = world.resources.list("Experiment").items
    assert parent["spec"]["estimator"]["labelingRound"]["step"] == "embed"
    assert parent["metadata"]["ownerReferences"][0]["uid"] == world.uid(JOB)
    assert len(world.executor.started) == 1
    assert world.conditions(JOB)["RoundRunning"] == ("True", "Embedding")
    assert world.status(JOB)["experiments"] == [parent["metadata"]["name"]]
    assert world.settle() == 0


def test_a_failed_round_is_said_and_computed_again_once_it_is_deleted(world: Any) -> None:
    world.job()
    known(world, state="labeling", items=100, rounds=(closed(0, "embed"),))
    world.settle()
    (parent,) = map(meta.key_of, world.resources.list("Experiment").items)
    uid = world.uid(parent)
    rank = facts.RankFact(0, "exited", 1, "UserError", "no such manifest", -1)
    world.report(world.trial(), attempt=1, generation=1, state="failed", failure=rank)
    world.settle()
    assert world.phase(parent) == "Failed"
    assert world.conditions(JOB)["RoundFailed"][0] == "True"
    assert world.phase(JOB) == "Labeling"
    world.resources.delete(parent)
    world.executor.leave()
    world.settle()
    assert world.uid(parent) != uid
    assert world.conditions(JOB)["RoundFailed"][0] == "False"


def test_a_suspended_job_suspends_its_round(world: Any) -> None:
    world.job()
    known(world, state="labeling", items=100, rounds=(closed(0, "embed"),))
    world.settle()
    world.change(JOB, suspend=True)
    world.settle()
    world.executor.leave()
    world.settle()
    (parent,) = map(meta.key_of, world.resources.list("Experiment").items)
    assert (world.phase(JOB), world.phase(parent)) == ("Suspended", "Suspended")
    world.change(JOB, suspend=False)
    world.settle()
    assert world.phase(JOB) == "Labeling"
    assert world.status(world.trial())["attempt"] == 2


def test_an_exported_job_is_over(world: Any) -> None:
    world.job()
    rounds = (facts.RoundFact(0, "embed", "ingested"), facts.RoundFact(1, "finalise", "ingested"))
    known(
        world,
        state="exported",
        items=100,
        human=20,
        auto=80,
        rounds=rounds,
        outcome="Certified",
        certified_error=0.02,
        output_version=2,
    )
    world.settle()
    assert world.phase(JOB) == "Succeeded"
    status = world.status(JOB)
    assert (status["outputVersion"], status["certifiedError"]) == (2, "0.020000")
    assert status["humanFraction"] == "0.2000"
    assert world.conditions(JOB)["Certified"] == ("True", "Certified")
    known(world, human=99)
    assert world.settle() == 0
