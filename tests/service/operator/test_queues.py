"""Queues and runtimes: what may not begin waits and says why; what must give way saves first."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from quintile.core import meta
from quintile.testing import admins
from quintile_operator import gate, reconciler
from quintile_operator.manifests import pods

GPU: dict[str, Any] = {"run": {"useGpu": True, "workers": {"replicas": 2}}}


@pytest.fixture
def queued(world: Any) -> Any:
    world.resources = admins.AdminStore(clock=world.clock)
    world.marked = []
    return restarted(world)


def restarted(world: Any) -> Any:
    """The same world after its operator began anew."""
    plain = world.fresh()
    made = gate.Gate(world.resources, world.marked.append)
    world.reconciler = reconciler.Reconciler(dataclasses.replace(plain._parts, gate=made))
    return world


def trial_of(world: Any, parent: meta.Key) -> meta.Key:
    keys = [key for key in world.trials() if key.name.startswith(f"{parent.name}-t")]
    assert len(keys) == 1
    return keys[0]


def reserved(world: Any, key: meta.Key) -> tuple[str, str]:
    found: tuple[str, str] = world.conditions(key).get("QuotaReserved", ("", ""))
    return found


def starts(world: Any, key: meta.Key) -> int:
    return len([r for r in world.executor.replicas(world.uid(key)) if not r.asked_to_end])


def add(world: Any, name: str, **spec: Any) -> meta.Key:
    parent = world.experiment(name, **{**GPU, "queue": "gpu", **spec})
    world.settle()
    world.clock.sleep(1)
    return trial_of(world, parent)


def go(world: Any, key: meta.Key, *, attempt: int = 1) -> None:
    world.executor.set_running(world.uid(key))
    world.report(key, attempt=attempt, generation=1, state="running")
    world.settle()


def test_what_does_not_fit_waits_and_begins_when_there_is_room(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    first, second = add(queued, "a"), add(queued, "b")
    assert (starts(queued, first), starts(queued, second)) == (2, 0)
    assert reserved(queued, first) == ("True", "Admitted")
    assert reserved(queued, second) == ("False", "WaitsInQueue")
    assert "2 gpu (1 of 3 free)" in queued.status(second)["message"]
    parent = meta.Key("Experiment", "default", "b")
    assert reserved(queued, parent) == ("False", "WaitsInQueue")
    go(queued, first)
    queued.end_agents(first)
    queued.report(first, state="succeeded")
    queued.settle()
    assert queued.phase(first) == "Succeeded"
    assert second in queued.marked
    assert reserved(queued, second) == ("True", "Admitted")
    assert starts(queued, second) == 2


def test_waiting_costs_no_writes(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    add(queued, "a")
    add(queued, "b")
    assert queued.settle() == 0


def test_places_outlast_a_restart(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    first, second = add(queued, "a"), add(queued, "b")
    restarted(queued)
    # The one that waits is looked at first; it must not take the place of the one at work.
    queued.reconciler.reconcile(second)
    queued.settle()
    assert (starts(queued, first), starts(queued, second)) == (2, 0)


def test_a_deleted_trial_gives_its_place_back(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    first, second = add(queued, "a"), add(queued, "b")
    queued.resources.delete(meta.Key("Experiment", "default", "a"))
    queued.reconciler.reconcile(first)
    queued.settle()
    assert starts(queued, second) == 2


def test_a_suspended_trial_gives_its_place_back(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    first, second = add(queued, "a"), add(queued, "b")
    go(queued, first)
    queued.change(meta.Key("Experiment", "default", "a"), suspend=True)
    queued.settle()
    assert starts(queued, second) == 0
    queued.executor.leave()
    queued.settle()
    assert queued.phase(first) == "Suspended"
    assert starts(queued, second) == 2
    queued.change(meta.Key("Experiment", "default", "a"), suspend=False)
    queued.settle()
    assert reserved(queued, first) == ("False", "WaitsInQueue")


def test_a_higher_priority_takes_the_place_of_a_lower_one(queued: Any) -> None:
    words = [{"name": "high", "value": 10}, {"name": "low", "value": 0}]
    quota = [{"resource": "gpu", "amount": "3"}]
    queued.resources.put("Queue", "gpu", quota=quota, priorities=words, preemption="Lower")
    first = add(queued, "a", priority="low")
    go(queued, first)
    second = add(queued, "b", priority="high")
    queued.settle()
    replicas = queued.executor.replicas(queued.uid(first))
    assert all(replica.asked_to_end for replica in replicas)
    assert starts(queued, second) == 0
    assert queued.phase(first) == "Pending"
    queued.executor.leave()
    queued.settle()
    assert queued.status(first)["attempt"] == 2
    assert reserved(queued, first)[0] == "False"
    assert reserved(queued, second) == ("True", "Admitted")
    assert starts(queued, second) == 2
    assert queued.status(first)["restarts"] == 0
    reasons = {event.reason for event in queued.events.seen}
    assert {"Preempted", "Admitted", "WaitsInQueue"} <= reasons


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"queue": "cpu"}, ["There is no queue cpu", "gpu"]),
        ({"runtime": "none"}, ["There is no runtime none", "cuda"]),
        ({"priority": "soon"}, ["no priority soon", "high"]),
        ({"queue": "theirs"}, ["not for project default", "team-b"]),
        ({"runtime": "cuda", "run": {"mode": "ps", "ps": {"replicas": 1}}}, ["mode ps"]),
        (
            {"runtime": "cuda", "run": {"mode": "ddp", "resources": {"memory": "9Gi"}}},
            ["memory", "4Gi"],
        ),
    ],
)
def test_an_experiment_that_names_what_is_not_there_is_told_what_is(
    queued: Any, spec: dict[str, Any], words: list[str]
) -> None:
    queued.resources.put("Queue", "gpu", priorities=[{"name": "high", "value": 1}])
    queued.resources.put("Queue", "theirs", namespaces=["team-b"])
    runtime = {"image": "example.com/trainer@sha256:1", "modes": ["ddp"]}
    queued.resources.put("ClusterRuntime", "cuda", **runtime, limits={"memory": "4Gi"})
    parent = queued.experiment("a", **{"run": {"mode": "ddp"}, "queue": "gpu", **spec})
    queued.settle()
    assert queued.trials() == []
    assert queued.conditions(parent)["Accepted"] == ("False", "Refused")
    assert all(word in queued.status(parent)["message"] for word in words)
    assert queued.phase(parent) == "Pending"
    assert queued.settle() == 0


def test_an_experiment_is_accepted_once_its_queue_is_made(queued: Any) -> None:
    parent = queued.experiment("a", queue="gpu")
    queued.settle()
    assert queued.conditions(parent)["Accepted"] == ("False", "Refused")
    queued.resources.put("Queue", "gpu")
    queued.settle()
    assert queued.conditions(parent)["Accepted"] == ("True", "Valid")
    assert starts(queued, trial_of(queued, parent)) == 2


def test_more_than_the_whole_quota_never_begins_and_says_so(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "1"}])
    key = add(queued, "a")
    assert reserved(queued, key) == ("False", "ExceedsQuota")
    assert starts(queued, key) == 0


def test_a_runtime_fills_in_what_the_user_left_open(queued: Any) -> None:
    runtime = {
        "image": "example.com/trainer@sha256:1",
        "defaults": {"cpu": "2", "memory": "3Gi"},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "shmSize": "2Gi",
    }
    queued.resources.put("ClusterRuntime", "cuda", **runtime)
    queued.experiment("a", runtime="cuda")
    queued.settle()
    key = trial_of(queued, meta.Key("Experiment", "default", "a"))
    (first, _) = queued.executor.replicas(queued.uid(key))
    assert (first.plan.cpu_millis, first.plan.memory_bytes) == (2000, 3 * 2**30)
    site = pods.site_of(first.run, pods.PodSite(image="other", tolerations=({"key": "all"},)))
    assert (site.image, site.memory_bytes) == ("example.com/trainer@sha256:1", 2 * 2**30)
    assert site.node_selector == {"pool": "gpu"}
    assert site.tolerations == ({"key": "all"}, {"key": "gpu", "operator": "Exists"})
    assert len(queued.status(key)["runtimeSha256"]) == 64
    assert queued.settle() == 0


def test_a_queue_says_what_it_holds(queued: Any) -> None:
    queued.resources.put("Queue", "gpu", quota=[{"resource": "gpu", "amount": "3"}])
    add(queued, "a")
    add(queued, "b")
    again_s = queued.reconciler.reconcile(meta.Key("Queue", "default", "gpu"))
    assert again_s == gate.STATUS_EVERY_S
    status = queued.resources.statuses["gpu"]
    assert (status["admitted"], status["pending"]) == (1, 1)
    assert status["used"] == [{"resource": "gpu", "amount": "2"}]
    assert queued.reconciler.reconcile(meta.Key("Queue", "default", "none")) is None
