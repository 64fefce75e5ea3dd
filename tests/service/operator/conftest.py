"""One reconciler on fakes: a test says what agents, people and processes do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quintile.adapters import tokens_ed25519
from quintile.core import facts, meta
from quintile.testing import clock as fake_clock
from quintile.testing import events as fake_events
from quintile.testing import executor as fake_executor
from quintile.testing import facts as fake_facts
from quintile.testing import resources as fake_resources
from quintile_operator import parts, reconciler

SPEC: dict[str, Any] = {
    "estimator": {"builtin": {"model": "resnet8"}},
    "run": {"workers": {"replicas": 2}},
}
JOB: dict[str, Any] = {"dataset": {"name": "digits", "version": 1}, "labels": ["0", "1"]}


class PlainMinter:
    """Tokens that say what they claim."""

    def sign(self, claims: tokens_ed25519.TrialClaims) -> str:
        return f"{claims.uid}/{claims.attempt}/{claims.expires_s}"


class World:
    """Fakes, a reconciler, and short words for what a test does with them."""

    def __init__(self, *, lingering: bool = False) -> None:
        self.clock = fake_clock.FakeClock()
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.executor = fake_executor.FakeExecutor(lingering=lingering)
        self.facts = fake_facts.FakeFacts()
        self.events = fake_events.FakeEventSink(clock=self.clock)
        self.reconciler = self.fresh()

    def fresh(self) -> reconciler.Reconciler:
        """A reconciler that remembers nothing, as after a restart."""
        self.reconciler = reconciler.Reconciler(
            parts.Parts(
                resources=self.resources,
                executor=self.executor,
                facts=self.facts,
                events=self.events,
                clock=self.clock,
                minter=PlainMinter(),
                api_url="http://localhost:8420",
                python="python",
            )
        )
        return self.reconciler

    def experiment(self, name: str = "digits", **spec: Any) -> meta.Key:
        document = {"kind": "Experiment", "metadata": {"name": name}, "spec": {**SPEC, **spec}}
        return meta.key_of(self.resources.apply(document, manager="test"))

    def job(self, name: str = "parts", **spec: Any) -> meta.Key:
        document = {"kind": "LabelingJob", "metadata": {"name": name}, "spec": {**JOB, **spec}}
        return meta.key_of(self.resources.apply(document, manager="test"))

    def change(self, key: meta.Key, **spec: Any) -> None:
        document = self.resources.get(key)
        document["spec"] |= spec
        self.resources.apply(document, manager="test")

    def uid(self, key: meta.Key) -> str:
        return str(self.resources.get(key)["metadata"]["uid"])

    def status(self, key: meta.Key) -> dict[str, Any]:
        found: dict[str, Any] = self.resources.get(key).get("status") or {}
        return found

    def phase(self, key: meta.Key) -> str:
        return str(self.status(key).get("phase", ""))

    def conditions(self, key: meta.Key) -> dict[str, tuple[str, str]]:
        return {
            entry["type"]: (entry["status"], entry["reason"])
            for entry in self.status(key).get("conditions", [])
        }

    def trials(self) -> list[meta.Key]:
        return [meta.key_of(document) for document in self.resources.list("Trial").items]

    def trial(self) -> meta.Key:
        (only,) = self.trials()
        return only

    def settle(self, rounds: int = 12) -> int:
        """Look at everything until nothing is written or started; return how many writes."""
        before = self.resources.writes
        for _ in range(rounds):
            mark = self._mark()
            for key in self.reconciler.known_keys():
                if self.reconciler.reconcile(key) is None:
                    self.look_in_vain(key)
            if mark == self._mark():
                return self.resources.writes - before
        raise AssertionError("it does not settle")

    def look_in_vain(self, key: meta.Key) -> None:
        """Look again at what wanted no look: nothing may follow, for nobody may come again."""
        mark = self._mark()
        self.reconciler.reconcile(key)
        assert mark == self._mark(), f"{key} wanted another look and did not say so"

    def _mark(self) -> tuple[object, ...]:
        return self.resources.writes, len(self.executor.started), self.executor.trials()

    def report(self, key: meta.Key, **known: Any) -> None:
        """Let agents report about a trial; what is not given stays."""
        uid = self.uid(key)
        before = vars(self.facts.trial(uid))
        fields = {**before, "updated_s": self.clock.now(), **known}
        self.facts.put_trial(key, facts.TrialFacts(**fields))

    def started(self, **spec: Any) -> meta.Key:
        """An experiment whose trial runs in generation 1; return the trial's key."""
        self.experiment(**spec)
        self.settle()
        key = self.trial()
        self.executor.set_running(self.uid(key))
        self.report(key, attempt=1, generation=1, state="running", started_s=self.clock.now())
        self.settle()
        return key

    def end_agents(self, key: meta.Key, *, exit_code: int = 0, reason: str = "Completed") -> None:
        uid = self.uid(key)
        for entry in self.executor.observe(uid):
            self.executor.finish(uid, entry.name, exit_code=exit_code, reason=reason)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[[], World]:
    return World
