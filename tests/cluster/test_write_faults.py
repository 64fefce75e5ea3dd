"""Whatever goes wrong at any one write to the API server, the objects end up the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quintile.adapters import client_kube, documents_kube, events_kube, resource_kube
from quintile.core import errors, meta
from quintile.testing import clock as fake_clock
from quintile.testing import clusters, faults
from quintile.testing import executor as fake_executor
from quintile.testing import facts as fake_facts
from quintile_operator import parts, reconciler

ROUNDS = 40
TIMES = ("lastTransitionTime", "startTime", "completionTime", "updatedTime", "creationTimestamp")


class PlainMinter:
    def sign(self, claims: Any) -> str:
        return f"{claims.uid}/{claims.attempt}"


class World:
    """A reconciler on real resources and fake agents; its process may crash."""

    def __init__(self, namespace: str, at: int | None, fault: faults.Fault) -> None:
        self.namespace = namespace
        self.clean = resource_kube.KubeResourceStore(clusters.client(), (namespace,))
        self.client = client_kube.load(agent="quintile-operator")
        self.faulty = faults.FaultyWrites(self.client, at=at, fault=fault)
        self.clock = fake_clock.FakeClock()
        self.executor = fake_executor.FakeExecutor()
        self.facts = fake_facts.FakeFacts()
        self.fresh()

    def fresh(self) -> None:
        self.reconciler = reconciler.Reconciler(
            parts.Parts(
                resources=resource_kube.KubeResourceStore(self.client, (self.namespace,)),
                executor=self.executor,
                facts=self.facts,
                events=events_kube.KubeEventSink(self.client, self.clock, "quintile-operator"),
                clock=self.clock,
                minter=PlainMinter(),
                api_url="http://quintile.example.com",
                python="python",
            )
        )

    def settle(self) -> None:
        for _ in range(ROUNDS):
            before, quiet = len(self.faulty.writes), True
            for key in self.reconciler.known_keys():
                try:
                    self.reconciler.reconcile(key)
                except errors.QuintileError:
                    quiet = False
                except faults.Crash:
                    self.fresh()
                    quiet = False
            if quiet and len(self.faulty.writes) == before:
                return
        raise AssertionError("it does not settle")

    def only(self, kind: str) -> meta.Document:
        (found,) = self.clean.list(kind).items
        return found

    def live(self) -> dict[str, Any]:
        """Run one Experiment to its end; return what is left of it, without uids and times."""
        document = {
            "kind": "Experiment",
            "metadata": {"name": "digits", "namespace": self.namespace},
            "spec": {"estimator": {"builtin": {"model": "resnet8"}}},
        }
        made = self.clean.apply(document, manager="test")
        self.settle()
        trial = self.only("Trial")
        key, uid = meta.key_of(trial), str(trial["metadata"]["uid"])
        self.executor.set_running(uid)
        self.report(key, uid, attempt=1, generation=1, state="running")
        self.settle()
        for replica in self.executor.observe(uid):
            self.executor.finish(uid, replica.name, exit_code=0, reason="Completed")
        self.report(key, uid, state="succeeded")
        self.settle()
        left = {kind: self.only(kind) for kind in ("Experiment", "Trial")}
        text = json.dumps({"left": left, "started": self.executor.started})
        for own, word in (
            (str(made["metadata"]["uid"]), "EXPERIMENT"),
            (uid, "TRIAL"),
            (key.name, "NAME"),
        ):
            text = text.replace(own, word)
        return dict(_timeless(json.loads(text)))

    def report(self, key: meta.Key, uid: str, **known: Any) -> None:
        fresh = dataclasses.replace(self.facts.trial(uid), updated_s=self.clock.now(), **known)
        self.facts.put_trial(key, fresh)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        hidden = (*TIMES, "resourceVersion")
        return {key: _timeless(entry) for key, entry in value.items() if key not in hidden}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


Run = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    kube = clusters.client()
    with clusters.namespaces(kube, "faults") as (namespace,):

        def once(
            at: int | None = None, fault: faults.Fault = "broken"
        ) -> tuple[dict[str, Any], list[str]]:
            world = World(namespace, at, fault)
            try:
                return world.live(), world.faulty.writes
            finally:
                world.clean.delete(meta.Key("Experiment", namespace, "digits"))
                kube.delete(documents_kube.path("Trial", namespace))

        yield once


@pytest.fixture(scope="module")
def quiet(run: Run) -> tuple[dict[str, Any], list[str]]:
    """What is left after a run in which nothing goes wrong, and its writes."""
    return run()


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_one_fault_at_any_write_changes_nothing_in_the_end(
    run: Run, quiet: tuple[dict[str, Any], list[str]], fault: faults.Fault
) -> None:
    expected, writes = quiet
    assert expected["left"]["Trial"]["status"]["phase"] == "Succeeded"
    assert len(expected["started"]) == 1
    for at in range(len(writes)):
        assert run(at, fault)[0] == expected, f"{fault} at write {at}: {writes[at]}"
