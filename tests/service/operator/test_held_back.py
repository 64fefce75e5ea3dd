"""What stands in the way of an attempt is a condition, and it goes on once that is gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from quintile.core import errors, meta
from quintile.testing import admins
from quintile_operator import gate, reconciler, turns

PARENT = meta.Key("Experiment", "default", "digits")


class Secrets:
    """Which Secrets there are, and why not."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}

    def check(self, namespace: str, names: Sequence[str]) -> None:
        for name in names:
            if name in self.refused:
                raise errors.Blocked(
                    f"Secret {namespace}/{name} is not for experiments.",
                    hint="Label it.",
                    reason=self.refused[name],
                )


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def gated(world: Any, secrets: Secrets) -> Any:
    world.resources = admins.AdminStore(clock=world.clock)
    made = gate.Gate(world.resources, lambda key: None, secrets.check)
    plain = world.fresh()
    world.reconciler = reconciler.Reconciler(dataclasses.replace(plain._parts, gate=made))
    return world


def told(world: Any, key: meta.Key) -> tuple[str, str]:
    found: tuple[str, str] = world.conditions(key).get("Placed", ("", ""))
    return found


def taken(world: Any) -> None:
    world.executor.fault = errors.Blocked(
        "Job default/digits-t0 belongs to somebody else.",
        hint="Delete or rename that Job.",
        reason="NameTaken",
    )


def test_a_name_that_is_taken_is_said_on_trial_and_experiment(world: Any) -> None:
    world.experiment("digits")
    world.reconciler.reconcile(PARENT)
    key = world.trial()
    world.reconciler.reconcile(key)
    for _ in range(3):
        taken(world)
        assert world.reconciler.reconcile(key) == turns.REFUSED_AGAIN_S
    assert told(world, key) == ("False", "NameTaken")
    assert (world.phase(key), world.status(key)["reason"]) == ("Pending", "NameTaken")
    assert "Hint: Delete or rename that Job." in world.status(key)["message"]
    world.reconciler.reconcile(PARENT)
    assert told(world, PARENT) == ("False", "NameTaken")
    assert (world.phase(PARENT), world.status(PARENT)["reason"]) == ("Pending", "NameTaken")
    before = world.resources.writes
    taken(world)
    world.reconciler.reconcile(key)
    assert world.resources.writes == before


def test_it_goes_on_when_the_name_is_free(world: Any) -> None:
    world.experiment("digits")
    world.reconciler.reconcile(PARENT)
    key = world.trial()
    world.reconciler.reconcile(key)
    taken(world)
    world.reconciler.reconcile(key)
    world.settle()
    assert told(world, key) == ("False", "NameTaken")  # pods are there, and not yet running
    world.executor.set_running(world.uid(key))
    world.report(key, attempt=1, generation=1, state="running")
    world.settle()
    assert told(world, key) == ("True", "Placed") == told(world, PARENT)
    assert world.phase(key) == "Running"


@pytest.mark.parametrize("fault", [errors.Forbidden("exceeded quota"), errors.InvalidSpec("odd")])
def test_what_the_cluster_refuses_is_said_in_its_words(
    world: Any, fault: errors.QuintileError
) -> None:
    world.experiment("digits")
    world.reconciler.reconcile(PARENT)
    key = world.trial()
    world.reconciler.reconcile(key)
    world.executor.fault = fault
    world.reconciler.reconcile(key)
    assert told(world, key) == ("False", "PodNotMade")
    assert str(fault) in world.status(key)["message"]
    assert "Hint: raise the quota" in world.status(key)["message"]


def test_a_platform_that_is_away_is_said_after_a_while_and_taken_back(world: Any) -> None:
    key = world.started(name="digits")
    world.facts.away = True
    written = world.resources.writes
    look_in_an_outage(world, key)
    assert world.resources.writes == written
    world.clock.sleep(reconciler.OUTAGE_S)
    for _ in range(3):
        look_in_an_outage(world, key)
    assert world.resources.writes == written + 1
    world.reconciler.reconcile(PARENT)
    for one in (key, PARENT):
        assert world.conditions(one)["Reporting"] == ("False", "PlatformAway")
        assert world.phase(one) == "Running"
    world.facts.away = False
    world.settle()
    for one in (key, PARENT):
        assert world.conditions(one)["Reporting"] == ("True", "Answered")


def test_one_that_waits_says_that_the_platform_is_away(world: Any) -> None:
    world.experiment("digits")
    world.reconciler.reconcile(PARENT)
    world.facts.away = True
    key = world.trial()
    look_in_an_outage(world, key)
    world.clock.sleep(reconciler.OUTAGE_S)
    look_in_an_outage(world, key)
    world.reconciler.reconcile(PARENT)
    assert (world.phase(PARENT), world.status(PARENT)["reason"]) == ("Pending", "PlatformAway")
    world.facts.away = False
    world.settle()
    assert len(world.executor.replicas(world.uid(key))) == 2


def test_a_job_that_changes_in_an_outage_is_handed_over_afterwards(world: Any) -> None:
    key = world.job("parts")
    world.settle()
    assert len(world.facts.admitted) == 1
    world.change(key, suspend=True)
    world.facts.away = True
    look_in_an_outage(world, key)
    world.clock.sleep(reconciler.OUTAGE_S)
    look_in_an_outage(world, key)
    assert world.conditions(key)["Reporting"] == ("False", "PlatformAway")
    assert world.status(key)["reason"] == "PlatformAway"
    world.facts.away = False
    world.settle()
    assert world.conditions(key)["Reporting"] == ("True", "Answered")
    assert len(world.facts.admitted) == 2


def look_in_an_outage(world: Any, key: meta.Key) -> None:
    with pytest.raises(errors.Unavailable):
        world.reconciler.reconcile(key)


@pytest.mark.parametrize("reason", ["SecretNotAllowed", "SecretNotFound"])
def test_a_secret_that_is_not_allowed_holds_an_experiment_back(
    gated: Any, secrets: Secrets, reason: str
) -> None:
    secrets.refused["wandb"] = reason
    gated.experiment("digits", secretRefs=[{"name": "fine"}, {"name": "wandb"}])
    gated.settle()
    assert gated.trials() == []
    assert gated.conditions(PARENT)["Accepted"] == ("False", reason)
    assert gated.status(PARENT)["reason"] == reason
    assert (
        "default/wandb is not for experiments. Hint: Label it." in gated.status(PARENT)["message"]
    )
    assert gated.reconciler.reconcile(PARENT) == turns.REFUSED_AGAIN_S
    assert gated.settle() == 0
    secrets.refused.clear()
    gated.settle()
    assert gated.conditions(PARENT)["Accepted"] == ("True", "Valid")
    (first, _) = gated.executor.replicas(gated.uid(gated.trial()))
    assert first.run.pod.variables_from == ("fine", "wandb")


def test_a_secret_that_is_taken_back_holds_the_next_attempt_back(
    gated: Any, secrets: Secrets
) -> None:
    key = gated.started(secretRefs=[{"name": "wandb"}])
    secrets.refused["wandb"] = "SecretNotAllowed"
    gated.end_agents(key, exit_code=1, reason="AgentLost")
    gated.settle()
    gated.clock.sleep(60)
    gated.settle()
    assert gated.status(key)["attempt"] == 2
    assert told(gated, key) == ("False", "SecretNotAllowed")
    assert {entry.attempt for entry in gated.executor.observe(gated.uid(key))} <= {1}
    secrets.refused.clear()
    gated.settle()
    assert 2 in {entry.attempt for entry in gated.executor.observe(gated.uid(key))}


def test_an_image_needs_a_runtime_that_allows_it(gated: Any) -> None:
    gated.resources.put("ClusterRuntime", "closed", image="example.com/trainer:1")
    gated.resources.put("ClusterRuntime", "open", image="example.com/trainer:1", allowImage=True)
    closed = gated.experiment("a", runtime="closed", image="example.com/mine:1")
    bare = gated.experiment("b", image="example.com/mine:1")
    opened = gated.experiment("c", runtime="open", image="example.com/mine:1")
    gated.settle()
    for key in (closed, bare):
        assert gated.conditions(key)["Accepted"] == ("False", "Refused")
        assert "image example.com/mine:1" in gated.status(key)["message"]
    (trial,) = gated.trials()
    assert trial.name.startswith(opened.name)
    assert gated.executor.replicas(gated.uid(trial))[0].run.pod.image == "example.com/mine:1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("secretRefs", [{"name": "wandb"}]),
        ("podOverrides", {"labels": [{"name": "team", "value": "vision"}]}),
    ],
)
def test_one_machine_refuses_what_only_pods_can_have(world: Any, field: str, value: Any) -> None:
    world.experiment("digits", **{field: value})
    world.settle()
    assert world.trials() == []
    assert world.conditions(PARENT)["Accepted"] == ("False", "Refused")
    assert f"spec.{field} is for pods" in world.status(PARENT)["message"]


def test_one_machine_runs_what_names_a_queue_and_an_image(world: Any) -> None:
    world.experiment("digits", queue="team", runtime="gpu", image="example.com/mine:1")
    world.settle()
    assert len(world.trials()) == 1


def test_an_experiment_that_names_none_gets_the_default(gated: Any) -> None:
    gated.resources.put("Queue", "all", default=True)
    gated.resources.put("Queue", "a-theirs", default=True, namespaces=["team-b"])
    gated.resources.put("Queue", "a-plain")
    gated.resources.put("ClusterRuntime", "cpu", default=True, image="example.com/cpu:1")
    gated.resources.put("ClusterRuntime", "cuda", image="example.com/cuda:1")
    gated.experiment("a")
    gated.experiment("b", queue="a-plain", runtime="cuda")
    gated.settle()
    found = {}
    for key in gated.trials():
        template = gated.resources.get(key)["spec"]["template"]
        pod = gated.executor.replicas(gated.uid(key))[0].run.pod
        found[key.name[0]] = (template["queue"], template["runtime"], pod.image)
    assert found == {
        "a": ("all", "cpu", "example.com/cpu:1"),
        "b": ("a-plain", "cuda", "example.com/cuda:1"),
    }
    assert gated.settle() == 0


def test_a_default_that_changes_leaves_trials_as_they_began(gated: Any) -> None:
    gated.experiment("a")
    gated.settle()
    (first,) = gated.trials()
    gated.resources.put("Queue", "all", default=True)
    gated.experiment("b")
    gated.settle()
    second = next(key for key in gated.trials() if key != first)
    gated.resources.put("Queue", "all")
    gated.settle()
    queues = [gated.resources.get(key)["spec"]["template"].get("queue") for key in (first, second)]
    assert queues == [None, "all"]
