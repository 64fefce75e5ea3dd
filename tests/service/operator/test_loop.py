"""The local driver on fakes: what changes is looked at, and threads start and stop cleanly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.core import meta
from quintile.testing import waiting
from quintile_operator import loop, sources

PARENT = meta.Key("Experiment", "default", "digits")
FAST = loop.Pace(workers=3, resync_s=60, slice_s=0.05, retry_s=0.01)


@pytest.fixture
def driven(world: Any) -> Iterator[Any]:
    world.loop = drive(world)
    yield world
    assert world.loop.stop()


def over(world: Any, looks: loop.Looks, pace: loop.Pace) -> loop.Loop:
    return loop.Loop(looks, sources.local(world.resources, world.facts, pace), pace=pace)


def drive(world: Any, pace: loop.Pace = FAST) -> loop.Loop:
    made = over(world, world.reconciler, pace)
    made.start()
    return made


def test_an_experiment_runs_to_its_end_by_changes_alone(driven: Any) -> None:
    driven.experiment()
    waiting.until(lambda: len(driven.executor.started) == 2)
    key = driven.trial()
    driven.executor.set_running(driven.uid(key))
    driven.report(key, attempt=1, generation=1, state="running")
    waiting.until(lambda: driven.phase(PARENT) == "Running")
    driven.end_agents(key)
    driven.report(key, state="succeeded")
    waiting.until(lambda: driven.phase(PARENT) == "Succeeded")


def test_what_exists_already_is_looked_at_after_the_start(world: Any) -> None:
    world.experiment()
    driver = drive(world)
    waiting.until(lambda: len(world.executor.started) == 2)
    assert driver.stop()


def test_processes_of_a_trial_deleted_while_nobody_looked_are_ended(world: Any) -> None:
    key = world.started()
    world.resources.delete(PARENT)
    driver = drive(world)
    waiting.until(lambda: all(r.asked_to_end for r in world.executor.replicas(_uid(world))))
    assert driver.stop()
    assert key in world.executor.trials().values()


def _uid(world: Any) -> str:
    return next(iter(world.executor.trials()))


def test_a_deleted_experiment_ends_its_processes(driven: Any) -> None:
    driven.experiment()
    waiting.until(lambda: len(driven.executor.started) == 2)
    driven.resources.delete(PARENT)
    waiting.until(lambda: all(r.asked_to_end for r in driven.executor.replicas(_uid(driven))))


def test_a_deleted_trial_is_made_again(driven: Any) -> None:
    driven.experiment()
    waiting.until(lambda: len(driven.executor.started) == 2)
    key, uid = driven.trial(), _uid(driven)
    driven.resources.delete(key)
    waiting.until(lambda: all(r.asked_to_end for r in driven.executor.replicas(uid)))
    driven.executor.leave()
    waiting.until(lambda: driven.trials() == [key] and driven.uid(key) != uid)
    waiting.until(lambda: list(driven.executor.trials()) == [driven.uid(key)])


def test_an_agents_end_is_looked_at_when_the_executor_says_so(driven: Any) -> None:
    driven.experiment(failure={"maxRestarts": 0})
    waiting.until(lambda: len(driven.executor.started) == 2)
    key = driven.trial()
    driven.executor.lose(driven.uid(key), f"{key.name}-a1-worker-0")
    driven.loop.mark(key)
    waiting.until(lambda: driven.phase(PARENT) == "Failed")


def test_facts_that_are_away_are_waited_for(world: Any) -> None:
    world.facts.away = True
    driver = drive(world)
    world.experiment()
    waiting.until(lambda: len(world.trials()) == 1)
    world.facts.away = False
    waiting.until(lambda: len(world.executor.started) == 2)
    assert driver.stop()


class Stub:
    """A reconciler that counts looks, and breaks for one key."""

    def __init__(self, *keys: meta.Key, bad: meta.Key | None = None) -> None:
        self.keys = keys
        self.bad = bad
        self.looks: list[meta.Key] = []
        self.lock = threading.Lock()

    def known_keys(self) -> tuple[meta.Key, ...]:
        return self.keys

    def reconcile(self, key: meta.Key) -> float | None:
        with self.lock:
            self.looks.append(key)
        if key == self.bad:
            raise ValueError("a document of another age")
        return None


def test_one_broken_resource_does_not_stop_the_others(world: Any) -> None:
    good, bad = PARENT, PARENT._replace(name="bad")
    stub = Stub(good, bad, bad=bad)
    driver = over(world, stub, FAST)
    driver.start()
    waiting.until(lambda: stub.looks.count(bad) >= 2)
    before = stub.looks.count(good)
    driver.mark(good)
    waiting.until(lambda: stub.looks.count(good) > before)
    assert driver.stop()


def test_everything_is_looked_at_again_from_time_to_time(world: Any) -> None:
    stub = Stub(PARENT)
    pace = loop.Pace(workers=1, resync_s=0.05, slice_s=0.01)
    driver = over(world, stub, pace)
    driver.start()
    waiting.until(lambda: len(stub.looks) >= 4)
    assert driver.stop()


def test_nothing_is_looked_at_when_nothing_happens(world: Any) -> None:
    stub = Stub(PARENT)
    slices = threading.Semaphore(0)

    class Counted(type(world.facts)):  # type: ignore[misc]
        def changed(self, since: str, *, wait_s: float) -> Any:
            slices.release()
            return super().changed(since, wait_s=wait_s)

    pace = loop.Pace(workers=3, resync_s=60, slice_s=0.005)
    driver = loop.Loop(stub, sources.local(world.resources, Counted(), pace), pace=pace)
    driver.start()
    for _ in range(20):  # twenty slices of the tail go by
        assert slices.acquire(timeout=20)
    other = PARENT._replace(name="other")
    driver.mark(other)
    waiting.until(lambda: other in stub.looks)
    assert 1 <= stub.looks.count(PARENT) <= 2
    assert driver.stop()


def test_stopping_lets_a_look_under_way_finish(world: Any) -> None:
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    class Slow(Stub):
        def reconcile(self, key: meta.Key) -> float | None:
            entered.set()
            release.wait(20)
            done.set()
            return super().reconcile(key)

    stub = Slow(PARENT)
    driver = over(world, stub, FAST)
    driver.start()
    assert entered.wait(20)
    assert not driver.stop(timeout_s=0.05)
    release.set()
    assert driver.stop()
    assert done.is_set()


def test_owners_are_looked_at_too() -> None:
    document: dict[str, Any] = {
        "kind": "Trial",
        "metadata": {
            "namespace": "a",
            "name": "digits-t0",
            "ownerReferences": [
                {"kind": "Experiment", "name": "digits", "uid": "1"},
                {"kind": "Node", "name": "other", "uid": "2"},
            ],
        },
    }
    assert list(sources.touched(document)) == [
        meta.Key("Trial", "a", "digits-t0"),
        meta.Key("Experiment", "a", "digits"),
    ]
