"""The driver of a cluster on a real API server: kopf marks, the reconciler writes little."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quintile.adapters import client_kube, clock, documents_kube, events_kube, resource_kube
from quintile.core import facts, meta
from quintile.testing import clusters, waiting
from quintile.testing import executor as fake_executor
from quintile.testing import facts as fake_facts
from quintile_operator import (
    canary,
    gate,
    handlers,
    loop,
    parts,
    projection,
    reconciler,
    sources,
    turns,
)

WRITES_OF_A_TRIAL = 8
"""To an Experiment and its Trial from the first look to the last, progress apart."""

EVENTS_OF_A_TRIAL = 2
Place = tuple[client_kube.KubeClient, str]


class PlainMinter:
    def sign(self, claims: Any) -> str:
        return f"{claims.uid}/{claims.attempt}"


class Driven:
    """An operator without processes: real resources, a real watch, fake agents."""

    def __init__(self, kube: client_kube.KubeClient, namespace: str) -> None:
        self.namespace = namespace
        self.writes: list[tuple[str, str]] = []
        self.store = resource_kube.KubeResourceStore(kube, (namespace,))
        self.executor = fake_executor.FakeExecutor()
        self.facts = fake_facts.FakeFacts()
        self.canary = canary.Canary()
        self.kopf_kinds: list[str] = []
        own = client_kube.load(agent="quintile-operator")
        own.subscribe(self._requested)
        watched = resource_kube.KubeResourceStore(own, (namespace,))
        seen = self.projection = projection.Projection(watched, self.canary)
        looks = reconciler.Reconciler(
            parts.Parts(
                resources=seen,
                executor=self.executor,
                facts=self.facts,
                events=events_kube.KubeEventSink(own, clock.SystemClock(), "quintile-operator"),
                clock=clock.SystemClock(),
                minter=PlainMinter(),
                api_url="http://quintile.example.com",
                python="python",
                gate=gate.Gate(seen, lambda key: self.loop.mark(key)),
            )
        )
        pace = loop.Pace(workers=2, slice_s=0.05)
        kinds = (*reconciler.KINDS, *gate.KINDS)
        source = handlers.KopfSource((namespace,), kinds, seen=self._seen)
        origins = (source, sources.FactsTail(self.facts, pace), sources.Resync(pace))
        self.loop = loop.Loop(looks, origins, pace=pace)

    def _requested(self, method: str, path: str, status: int, _seconds: float) -> None:
        if method != "GET":
            self.writes.append((method, f"{path.partition('?')[0]} {status}"))

    def _seen(self, event: str, document: meta.Document) -> bool:
        self.kopf_kinds.append(document["kind"])
        return self.projection.seen(event, document)

    @property
    def idle(self) -> bool:
        return self.loop.depth == self.loop.busy == 0 and self.canary.silent_s() == 0

    def experiment(self, name: str, **spec: Any) -> meta.Key:
        document = {
            "kind": "Experiment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"estimator": {"builtin": {"model": "resnet8"}}, **spec},
        }
        return meta.key_of(self.store.apply(document, manager="test"))

    def phase(self, key: meta.Key) -> str:
        return str((self.store.get(key).get("status") or {}).get("phase", ""))

    def words(self, key: meta.Key) -> str:
        """What the status says about the place in the queue."""
        found = (self.store.get(key).get("status") or {}).get("conditions", [])
        return next((str(c["message"]) for c in found if c["type"] == turns.RESERVED), "")

    def trial_of(self, key: meta.Key) -> meta.Key:
        def find() -> list[meta.Key]:
            items = self.store.list("Trial").items
            return [meta.key_of(d) for d in items if d["spec"]["experiment"] == key.name]

        return waiting.until(find)[0]

    def uids(self, key: meta.Key) -> set[str]:
        items = self.store.list(key.kind).items
        return {str(d["metadata"]["uid"]) for d in items if meta.key_of(d) == key}

    def started(self, name: str, **spec: Any) -> tuple[meta.Key, meta.Key, str]:
        """An experiment whose trial runs: its key, the trial's key and uid."""
        parent = self.experiment(name, **spec)
        trial = self.trial_of(parent)
        uid = str(self.store.get(trial)["metadata"]["uid"])
        waiting.until(lambda: self.executor.replicas(uid))
        self.executor.set_running(uid)
        self.report(trial, uid, attempt=1, generation=1, state="running")
        waiting.until(lambda: self.phase(parent) == "Running")
        return parent, trial, uid

    def report(self, trial: meta.Key, uid: str, **known: Any) -> None:
        before = self.facts.trial(uid)
        fresh = dataclasses.replace(before, updated_s=clock.SystemClock().now(), **known)
        assert isinstance(fresh, facts.TrialFacts)
        self.facts.put_trial(trial, fresh)

    def finish(self, trial: meta.Key, uid: str) -> None:
        for replica in self.executor.observe(uid):
            self.executor.finish(uid, replica.name, exit_code=0, reason="Completed")
        self.report(trial, uid, state="succeeded")


@pytest.fixture(scope="module")
def driven() -> Iterator[Driven]:
    kube = clusters.client()
    handlers.quieten()
    with clusters.namespaces(kube, "driver") as (namespace,):
        made = Driven(kube, namespace)
        made.loop.start()
        try:
            yield made
        finally:
            assert made.loop.stop()


def settled(driven: Driven, quiet: Callable[[], bool]) -> int:
    """Return how many writes there were once ``quiet`` and nothing waits for a look."""
    waiting.until(lambda: quiet() and driven.idle)
    return len(driven.writes)


def test_an_experiment_runs_to_its_end_in_few_writes(driven: Driven) -> None:
    before = len(driven.writes)
    parent, trial, uid = driven.started("digits")
    driven.finish(trial, uid)
    settled(driven, lambda: driven.phase(parent) == "Succeeded")
    notes = [write for write in driven.writes[before:] if "/events" in write[1]]
    own = [write for write in driven.writes[before:] if write not in notes]
    assert len(own) <= WRITES_OF_A_TRIAL, own
    assert len(notes) <= EVENTS_OF_A_TRIAL, notes


def test_a_settled_object_costs_no_write(driven: Driven) -> None:
    parent, trial, uid = driven.started("settled")
    driven.finish(trial, uid)
    before = settled(driven, lambda: driven.phase(parent) == "Succeeded")
    for _ in range(3):
        driven.loop.mark_all()
        waiting.until(lambda: driven.loop.depth == 0)
    assert settled(driven, lambda: True) == before


def test_a_deleted_experiment_ends_its_processes(driven: Driven) -> None:
    parent, _, uid = driven.started("cut")
    driven.store.delete(parent)
    waiting.until(lambda: all(r.asked_to_end for r in driven.executor.replicas(uid)))


def test_a_deleted_trial_is_made_again(driven: Driven) -> None:
    _, trial, uid = driven.started("again")
    driven.store.delete(trial)
    waiting.until(lambda: all(r.asked_to_end for r in driven.executor.replicas(uid)))
    driven.executor.leave()
    made = waiting.until(lambda: driven.uids(trial) - {uid})
    waiting.until(lambda: driven.executor.replicas(next(iter(made))))


@pytest.fixture
def queue(driven: Driven) -> Iterator[str]:
    """A queue for one trial at a time."""
    kube, name = clusters.client(), driven.namespace
    body = {
        "apiVersion": meta.API_VERSION,
        "kind": "Queue",
        "metadata": {"name": name},
        "spec": {"namespaces": [name], "quota": [{"resource": "trials", "amount": "1"}]},
    }
    kube.create(documents_kube.path("Queue"), body)
    waiting.until(lambda: "Queue" in driven.kopf_kinds)
    yield name
    kube.delete(documents_kube.path("Queue", None, name))


def test_what_does_not_fit_its_queue_waits_until_there_is_room(driven: Driven, queue: str) -> None:
    first, trial, uid = driven.started("goes", queue=queue)
    second = driven.experiment("waits", queue=queue)
    waiting.until(lambda: "needs 1 trials (0 of 1 free)" in driven.words(second))
    status = driven.store.get(meta.Key("Queue", "default", queue)).get("status") or {}
    assert status.get("admitted", 0) <= 1
    driven.finish(trial, uid)
    waiting.until(lambda: driven.phase(first) == "Succeeded")
    other = driven.trial_of(second)
    (found,) = driven.uids(other)
    waiting.until(lambda: driven.executor.replicas(found))
    waiting.until(lambda: driven.words(second) == f"queue {queue}")


def test_kopf_leaves_nothing_on_what_it_watches(driven: Driven) -> None:
    parent, _, _ = driven.started("clean")
    path = documents_kube.path("Experiment", parent.namespace, parent.name)
    found = clusters.client().get(path)["metadata"]
    assert "finalizers" not in found
    assert not any("kopf" in name for name in found.get("annotations", {}))
    managers = {entry["manager"] for entry in found["managedFields"]}
    assert managers == {"test", "quintile-operator"}


def test_a_watch_of_what_may_not_be_watched_says_so(driven: Driven) -> None:
    """A source that ends is followed again; what it raises is an error of ours."""
    stopped = threading.Event()
    stopped.set()
    source = handlers.KopfSource((driven.namespace,), ("Trial",), seen=lambda *_: True)
    source.follow(driven.loop, stopped)
