"""Whatever goes wrong at any one write, the objects end up the same; nothing starts twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from quintile.core import errors, meta

FAULTS = ("conflict", "away", "lost answer", "crash before", "crash after")
ROUNDS = 40


class Crash(Exception):
    """The process of the reconciler ends here."""


class Writes:
    """Writes of a reconciler, counted; one of them goes wrong."""

    def __init__(self, world: Any, at: int | None, fault: str) -> None:
        self.names: list[str] = []
        self.at = at
        self.fault = fault
        for port, names in (
            (world.resources, ("apply", "patch_status")),
            (world.executor, ("ensure", "delete")),
            (world.events, ("emit",)),
        ):
            for name in names:
                setattr(port, name, self.around(name, getattr(port, name)))

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **named: Any) -> Any:
            if named.get("manager") == "test":
                return call(*args, **named)
            number = len(self.names)
            self.names.append(name)
            if number != self.at:
                return call(*args, **named)
            if self.fault == "conflict":
                raise errors.Conflict("injected") if name != "emit" else errors.Unavailable("full")
            if self.fault == "away":
                raise errors.Unavailable("injected")
            if self.fault == "crash before":
                raise Crash
            call(*args, **named)
            if self.fault == "crash after":
                raise Crash
            raise errors.Unavailable("the answer was lost")

        return guarded


def settle(world: Any, writes: Writes) -> None:
    for _ in range(ROUNDS):
        before, quiet = len(writes.names), True
        for key in world.reconciler.known_keys():
            try:
                world.reconciler.reconcile(key)
            except errors.QuintileError:
                quiet = False
            except Crash:
                world.fresh()
                quiet = False
        if quiet and len(writes.names) == before:
            return
    raise AssertionError("it does not settle")


def lived(world: Any, at: int | None = None, fault: str = "") -> tuple[dict[str, Any], Writes]:
    """Run an experiment with one restart to its end; return what is left, and its writes."""
    writes = Writes(world, at, fault)
    parent = world.experiment()
    settle(world, writes)
    key = world.trial()
    uid = world.uid(key)
    world.executor.set_running(uid)
    world.report(key, attempt=1, generation=1, state="running")
    settle(world, writes)
    world.executor.lose(uid, f"{key.name}-a1-worker-0")
    settle(world, writes)
    world.clock.sleep(100)
    settle(world, writes)
    world.executor.leave()
    settle(world, writes)
    world.executor.set_running(uid)
    world.report(key, attempt=2, generation=1, state="running")
    settle(world, writes)
    world.end_agents(key)
    world.report(key, state="succeeded")
    settle(world, writes)
    left = {kind: world.resources.get(k) for kind, k in (("parent", parent), ("trial", key))}
    started = sorted(set(world.executor.started))
    assert len(world.executor.started) == len(started)
    text = json.dumps({"left": left, "started": started})
    for own, word in ((world.uid(parent), "PARENT"), (uid, "TRIAL"), (key.name, "NAME")):
        text = text.replace(own, word)
    return dict(plain(json.loads(text))), writes


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        hidden = ("resourceVersion", "lastTransitionTime", "time")
        return {key: plain(entry) for key, entry in value.items() if key not in hidden}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_any_write_changes_nothing_in_the_end(
    make_world: Callable[[], Any], fault: str
) -> None:
    expected, writes = lived(make_world())
    status: meta.Document = expected["left"]["trial"]["status"]
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Succeeded", 2, 1)
    for at in range(len(writes.names)):
        found, _ = lived(make_world(), at, fault)
        assert found == expected, f"{fault} at write {at}: {writes.names[at]}"
