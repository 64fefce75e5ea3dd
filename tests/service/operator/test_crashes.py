"""Whatever crashes, dies or is asked for in between: it converges, and never does too much."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st

from quintile.core import errors, facts, meta, runplan

PARENT = meta.Key("Experiment", "default", "digits")
LIVE = ("pending", "running")
FINAL = ("Succeeded", "Failed", "Stopped")
RESTARTS = 1
WORKERS = 2


class Crash(Exception):
    """The reconciler's process ends here."""


class Fuse:
    """Crashes the reconciler at the n-th edge of a write or action from now on."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Crash

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = call(*args, **kwargs)
            self.burn()
            return result

        return guarded


class Chaos:
    """A world whose reconciler can crash anywhere, with rules that hold at every moment."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.fuse = Fuse()
        self.final: dict[str, str] = {}
        for port, names in (
            (world.resources, ("apply", "patch_status")),
            (world.executor, ("delete",)),
            (world.events, ("emit",)),
        ):
            for name in names:
                setattr(port, name, self.fuse.around(getattr(port, name)))
        self._ensure = world.executor.ensure
        world.executor.ensure = self.ensure
        world.experiment(failure={"maxRestarts": RESTARTS})

    def ensure(self, run: runplan.RunPlan) -> None:
        """Start one replica after the other, with an edge between any two."""
        for replica in run.replicas:
            self.fuse.burn()
            self._ensure(dataclasses.replace(run, replicas=(replica,)))
        self.fuse.burn()

    def look(self, edge: int) -> None:
        """Look at every key; crash at an edge (beyond the last one: not at all)."""
        self.fuse.left = edge
        try:
            for key in self.world.reconciler.known_keys():
                self.world.reconciler.reconcile(key)
        except Crash:
            self.world.fresh()
        except (errors.Conflict, errors.Unavailable):
            pass  # what the loop tries again
        self.fuse.left = None

    def run(self, _n: int) -> None:
        """Agents begin; when all of an attempt are there, a generation forms."""
        for key in self.world.trials():
            uid = self.world.uid(key)
            self.world.executor.set_running(uid)
            live = [e for e in self.world.executor.observe(uid) if e.state == "running"]
            attempt = max((entry.attempt for entry in live), default=0)
            known = self.world.facts.trial(uid)
            if len([entry for entry in live if entry.attempt == attempt]) == WORKERS:
                state = known.state if known.attempt == attempt else "running"
                generation = max(1, known.generation if known.attempt == attempt else 1)
                self.world.report(key, attempt=attempt, generation=generation, state=state)

    def lose(self, n: int) -> None:
        """One agent dies without a word."""
        for uid, entry in self._pick(n):
            self.world.executor.lose(uid, entry.name)

    def exit(self, n: int) -> None:
        """One agent ends with some code."""
        code, reason = [
            (1, "UserError"),
            (70, "AgentInternal"),
            (75, "Preempted"),
            (76, "Fenced"),
            (77, "ApiUnreachable"),
            (0, "Completed"),
        ][n % 6]
        for uid, entry in self._pick(n):
            self.world.executor.finish(uid, entry.name, exit_code=code, reason=reason)

    def regenerate(self, _n: int) -> None:
        """A rank dies and the agents begin again in place."""
        for key in self.world.trials():
            known = self.world.facts.trial(self.world.uid(key))
            if known.state == "running":
                rank = facts.RankFact(0, "exited", 137, "OutOfMemory", "killed", 5)
                self.world.report(key, generation=known.generation + 1, failure=rank)

    def fail(self, _n: int) -> None:
        """The coordinator gives the attempt up, for a cause that a restart may mend."""
        self._state("failed", facts.RankFact(1, "exited", 74, "PeerLost", "peer", 5))

    def succeed(self, _n: int) -> None:
        """All ranks are done."""
        self._state("succeeded", None)

    def leave(self, _n: int) -> None:
        """Agents that were asked to end do."""
        self.world.executor.leave()

    def sleep(self, n: int) -> None:
        """Time goes by."""
        self.world.clock.sleep(float(n * n))

    def suspend(self, n: int) -> None:
        """Somebody suspends or resumes the experiment."""
        self.world.change(PARENT, suspend=bool(n % 2))

    def delete_trial(self, _n: int) -> None:
        """Somebody deletes the trial."""
        for key in self.world.trials():
            self.world.resources.delete(key)

    def stop(self, n: int) -> None:
        """Somebody stops the trial for good; rarely."""
        if n == 8:
            for key in self.world.trials():
                self.world.report(key, stop_requested=True)

    def idle(self, _n: int) -> None:
        """Nothing happens but the looks."""

    def restart(self, _n: int) -> None:
        """A new reconciler that remembers nothing."""
        self.world.fresh()

    def check(self) -> None:
        """Assert what holds at every moment."""
        trials = self.world.trials()
        assert len(trials) <= 1
        for uid, key in self.world.executor.trials().items():
            live = [e for e in self.world.executor.observe(uid) if e.state in LIVE]
            attempts = {entry.attempt for entry in live}
            assert len(attempts) <= 1, f"{attempts} live at once"
            assert len(live) <= WORKERS
            if key in trials and self.world.uid(key) == uid:
                status = self.world.status(key)
                assert all(attempt <= status["attempt"] for attempt in attempts)
                assert status["restarts"] <= RESTARTS
        for key in (*trials, PARENT):
            uid, phase = self.world.uid(key), self.world.phase(key)
            assert self.final.get(uid, phase) == phase
            if phase in FINAL:
                self.final[uid] = phase

    def end_well(self) -> None:
        """No more harm: everything goes well from now on, and it must come to an end."""
        self.world.change(PARENT, suspend=False)
        for _ in range(12):
            self.look(edge=10_000)
            self.check()
            if self.world.phase(PARENT) in FINAL:
                break
            self.world.clock.sleep(100)
            self.run(0)
            self.leave(0)
            self.look(edge=10_000)
            self.succeed(0)
            for key in self.world.trials():
                if self.world.facts.trial(self.world.uid(key)).state == "succeeded":
                    self.world.end_agents(key)
        self.leave(0)
        self.world.clock.sleep(100)
        self.world.settle()
        self.leave(0)
        self.world.settle()
        self.check()

    def _state(self, state: str, rank: facts.RankFact | None) -> None:
        for key in self.world.trials():
            known = self.world.facts.trial(self.world.uid(key))
            if known.state == "running":
                self.world.report(key, state=state, failure=rank)

    def _pick(self, n: int) -> list[tuple[str, runplan.ObservedReplica]]:
        live = [
            (uid, entry)
            for uid in self.world.executor.trials()
            for entry in self.world.executor.observe(uid)
            if entry.state in LIVE
        ]
        return [live[n % len(live)]] if live else []


NAMES = (
    "idle",
    "run",
    "run",
    "lose",
    "lose",
    "exit",
    "regenerate",
    "fail",
    "succeed",
    "leave",
    "leave",
    "sleep",
    "sleep",
    "suspend",
    "suspend",
    "delete_trial",
    "stop",
    "restart",
)
EDGES = st.sampled_from((*range(8), *range(8), *[10_000] * 16))
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 8), EDGES), min_size=12, max_size=40
)


@hypothesis.settings(
    max_examples=80,
    deadline=None,
    # Shrinking forty steps takes minutes; the steps are printed as they are.
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate),
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(steps=STEPS, running=st.booleans(), lingering=st.booleans())
def test_it_converges_and_never_does_too_much(
    make_world: Callable[..., Any],
    steps: list[tuple[str, int, int]],
    running: bool,
    lingering: bool,
) -> None:
    chaos = Chaos(make_world(lingering=lingering))
    world = chaos.world
    if running:
        world.settle()
        chaos.run(0)
        world.settle()
    for name, n, edge in steps:
        getattr(chaos, name)(n)
        chaos.look(edge)
        chaos.check()
    chaos.end_well()
    assert world.phase(PARENT) in FINAL
    live = [
        entry
        for uid in world.executor.trials()
        for entry in world.executor.observe(uid)
        if entry.state in LIVE
    ]
    assert live == []
    world.fresh()
    assert world.settle() == 0
