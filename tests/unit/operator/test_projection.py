"""What the operator remembers of resources: never older than what it wrote, no request to look."""

from __future__ import annotations

from typing import Any

import pytest

from quintile import ports
from quintile.core import errors, meta
from quintile.testing import clock as fake_clock
from quintile.testing import resources as fake_resources
from quintile_operator import canary, projection

KEY = meta.Key("Experiment", "team", "digits")


class Counted(fake_resources.FakeResourceStore):
    """A store that counts what is read of it."""

    reads = 0

    def get(self, key: meta.Key) -> meta.Document:
        self.reads += 1
        return super().get(key)


class World:
    """A projection, and what really is stored."""

    def __init__(self) -> None:
        self.store = Counted(clock=fake_clock.FakeClock())
        self.canary = canary.Canary(monotonic=lambda: self.now_s)
        self.now_s = 0.0
        self.projection = projection.Projection(self.store, self.canary)

    def apply(self, *, to: ports.ResourceStore | None = None, **run: Any) -> meta.Document:
        document = {
            "kind": KEY.kind,
            "metadata": {"name": KEY.name, "namespace": KEY.namespace},
            "spec": {"estimator": {"builtin": {"model": "resnet8"}}, "run": run},
        }
        return (to or self.store).apply(document, manager="test")

    def phase(self, phase: str, *, uid: str) -> meta.Document:
        return self.projection.patch_status(KEY, {"phase": phase}, uid=uid)


@pytest.fixture
def world() -> World:
    return World()


def test_what_the_watch_told_is_read_without_a_request(world: World) -> None:
    made = world.apply()
    assert world.projection.seen("ADDED", made)
    assert world.projection.get(KEY) == made
    assert world.store.reads == 0


def test_what_was_never_seen_is_asked_for_once(world: World) -> None:
    made = world.apply()
    assert world.projection.get(KEY) == world.projection.get(KEY) == made
    assert world.store.reads == 1
    with pytest.raises(errors.NotFound):
        world.projection.get(KEY._replace(name="other"))


def test_own_writes_are_read_back_and_their_events_are_no_news(world: World) -> None:
    made = world.apply()
    world.projection.seen("ADDED", made)
    after = world.phase("Running", uid=made["metadata"]["uid"])
    assert world.projection.get(KEY) == after
    assert not world.projection.seen("MODIFIED", after)
    assert not world.projection.seen("MODIFIED", made)
    assert world.projection.get(KEY) == after


def test_what_was_made_by_another_look_is_news(world: World) -> None:
    made = world.apply(to=world.projection)
    assert world.projection.seen("ADDED", made)


def test_a_change_that_was_not_known_when_a_status_was_written_is_news(world: World) -> None:
    made = world.apply()
    world.projection.seen("ADDED", made)
    spec = {**made["spec"], "suspend": True}
    changed = world.store.apply({**made, "spec": spec}, manager="somebody")
    after = world.phase("Running", uid=made["metadata"]["uid"])
    assert world.projection.seen("MODIFIED", changed)
    assert world.projection.seen("MODIFIED", after)
    assert world.projection.get(KEY)["spec"]["suspend"]


def test_what_is_deleted_is_forgotten_and_does_not_come_back(world: World) -> None:
    made = world.apply()
    world.projection.seen("ADDED", made)
    world.store.delete(KEY)
    last = {**made, "metadata": {**made["metadata"], "resourceVersion": "90"}}
    assert world.projection.seen("DELETED", last)
    world.projection.seen("MODIFIED", made)
    with pytest.raises(errors.NotFound):
        world.projection.get(KEY)


def test_a_status_of_a_resource_that_is_gone_forgets_it(world: World) -> None:
    made = world.apply()
    world.projection.seen("ADDED", made)
    world.store.delete(KEY)
    with pytest.raises(errors.NotFound):
        world.phase("Running", uid=made["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        world.projection.get(KEY)


def test_a_list_forgets_what_went_unseen(world: World) -> None:
    made = world.apply()
    world.projection.seen("ADDED", made)
    world.store.delete(KEY)
    assert world.projection.list(KEY.kind, namespace="other").items == ()
    assert world.projection.get(KEY) == made
    assert world.projection.list(KEY.kind).items == ()
    with pytest.raises(errors.NotFound):
        world.projection.get(KEY)


def test_the_watch_owes_what_is_written_and_listed(world: World) -> None:
    made = world.apply(to=world.projection)
    world.now_s = 1
    assert world.canary.silent_s() == 1
    world.projection.seen("ADDED", made)
    patched = world.phase("Running", uid=made["metadata"]["uid"])
    world.now_s = 2
    assert world.canary.silent_s() == 1
    world.projection.seen("MODIFIED", patched)
    world.store.patch_status(KEY, {"phase": "Failed"}, uid=made["metadata"]["uid"])
    assert world.canary.silent_s() == 0
    world.projection.list(KEY.kind)
    world.now_s = 3
    assert world.canary.silent_s() == 1
