"""What every Executor does, as tests; called by tests/contract and tests/cluster.

A subclass of ``Contract`` gives the fixture ``hand``.
"""

# ruff: noqa: D102  (names of tests are sentences)

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from quintile import ports
from quintile.core import errors, meta, runplan
from quintile.testing import fake_agent, waiting

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
NAME = "digits-t0"


@dataclass(frozen=True)
class Site:
    """Where the replicas of a contract run, as which trial, and what they run."""

    namespace: str = "default"
    uid: str = UID
    agent: tuple[str, ...] = (sys.executable, "-S", fake_agent.__file__)

    @property
    def key(self) -> meta.Key:
        """Return the key of the trial."""
        return meta.Key("Trial", self.namespace, NAME)


HERE = Site()


def plan(
    attempt: int = 1,
    *,
    workers: int = 2,
    words: str = "",
    uid: str | None = None,
    site: Site = HERE,
) -> runplan.RunPlan:
    """Return an attempt of workers that run the fake agent."""
    trial_uid = site.uid if uid is None else uid
    env = (
        ("FAKE_AGENT", words),
        ("QUINTILE_ATTEMPT", str(attempt)),
        ("QUINTILE_TRIAL_UID", trial_uid),
    )
    replicas = tuple(
        runplan.ReplicaPlan(
            name=f"{NAME}-a{attempt}-worker-{index}",
            role="worker",
            index=index,
            argv=site.agent,
            env=env,
        )
        for index in range(workers)
    )
    return runplan.RunPlan(
        namespace=site.namespace,
        trial=NAME,
        trial_uid=trial_uid,
        attempt=attempt,
        mode="ddp",
        replicas=replicas,
        token="secret-token",
    )


class Hand:
    """Lets things happen to replicas; subclasses say how."""

    executor: ports.Executor
    site: Site = HERE
    patience_s: float = 20.0

    def plan(self, attempt: int = 1, **more: Any) -> runplan.RunPlan:
        """Return an attempt at this site; see ``plan``."""
        return plan(attempt, site=self.site, **more)

    def until(self, look: Callable[[], Any]) -> Any:
        """Wait for something."""
        return waiting.until(look, timeout_s=self.patience_s)

    def run(self, uid: str) -> None:
        """Wait until all replicas of a trial run."""
        self.until(lambda: set(states(self.executor, uid)) == {"running"})

    def finish(self, uid: str, name: str) -> None:
        """Let an agent end well."""
        raise AssertionError(f"nobody ends {uid}/{name}")

    def lose(self, uid: str, name: str) -> None:
        """Let an agent vanish."""
        raise AssertionError(f"nobody loses {uid}/{name}")

    def leave(self) -> None:
        """Let agents that were asked to end do so; real ones do by themselves."""

    def replace_trial(self) -> str:
        """Return the uid of another trial of the same name, which now takes its place."""
        return "another-uid"


def states(executor: ports.Executor, uid: str = UID) -> list[str]:
    """Return the states of the replicas of a trial."""
    return [entry.state for entry in executor.observe(uid)]


class Contract:
    """What every Executor does; a subclass gives the fixture ``hand``."""

    def test_every_replica_of_a_plan_runs(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        seen = hand.executor.observe(hand.site.uid)
        assert [(entry.attempt, entry.role, entry.index, entry.state) for entry in seen] == [
            (1, "worker", 0, "running"),
            (1, "worker", 1, "running"),
        ]
        assert seen[0].name == "digits-t0-a1-worker-0"
        assert all(entry.started_s > 0 for entry in seen)
        assert hand.executor.trials() == {hand.site.uid: hand.site.key}

    def test_ensuring_again_starts_nothing(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        before = hand.executor.observe(hand.site.uid)
        hand.executor.ensure(hand.plan())
        assert hand.executor.observe(hand.site.uid) == before

    def test_ensuring_starts_what_is_missing(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(workers=1))
        hand.executor.ensure(hand.plan(workers=3))
        hand.run(hand.site.uid)
        assert states(hand.executor, hand.site.uid) == ["running"] * 3

    def test_an_ended_replica_stays_ended(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        hand.finish(hand.site.uid, "digits-t0-a1-worker-1")
        hand.until(lambda: states(hand.executor, hand.site.uid) == ["running", "exited"])
        hand.executor.ensure(hand.plan())
        ended = hand.executor.observe(hand.site.uid)[1]
        assert (ended.state, ended.exit_code, ended.reason) == ("exited", 0, "Completed")

    def test_a_replica_without_an_exit_record_is_lost(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        hand.lose(hand.site.uid, "digits-t0-a1-worker-0")
        hand.until(lambda: states(hand.executor, hand.site.uid) == ["lost", "running"])
        hand.executor.ensure(hand.plan())
        assert states(hand.executor, hand.site.uid) == ["lost", "running"]

    def test_attempts_are_ordered_and_deleted_apart(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(2, workers=1))
        hand.executor.ensure(hand.plan(1, workers=1))
        hand.run(hand.site.uid)
        assert [entry.attempt for entry in hand.executor.observe(hand.site.uid)] == [1, 2]
        hand.executor.delete(hand.site.uid, attempt=1)
        hand.until(lambda: len(hand.executor.observe(hand.site.uid)) == 1)
        assert hand.executor.observe(hand.site.uid)[0].attempt == 2

    def test_deleting_forgets_live_and_ended_replicas(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        hand.finish(hand.site.uid, "digits-t0-a1-worker-1")
        hand.executor.delete(hand.site.uid)
        hand.executor.delete(hand.site.uid)
        hand.until(lambda: not hand.executor.trials())
        assert hand.executor.observe(hand.site.uid) == ()

    def test_a_grace_lets_agents_end_by_themselves(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan())
        hand.run(hand.site.uid)
        hand.executor.delete(hand.site.uid, grace_s=60)
        hand.executor.delete(hand.site.uid, grace_s=60)
        hand.leave()
        hand.until(lambda: not hand.executor.trials())

    def test_no_grace_after_a_grace_ends_at_once(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(words="stubborn"))
        hand.run(hand.site.uid)
        hand.executor.delete(hand.site.uid, grace_s=3600)
        assert states(hand.executor, hand.site.uid) == ["running", "running"]
        hand.executor.delete(hand.site.uid)
        hand.until(lambda: not hand.executor.trials())

    def test_a_replica_that_is_ending_is_not_started_again(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(words="stubborn"))
        hand.run(hand.site.uid)
        hand.executor.delete(hand.site.uid, grace_s=3600)
        with pytest.raises(errors.Unavailable, match="still ending"):
            hand.executor.ensure(hand.plan())
        hand.executor.delete(hand.site.uid)

    def test_a_name_of_another_living_trial_conflicts(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(workers=1))
        hand.run(hand.site.uid)
        with pytest.raises(errors.Conflict):
            hand.executor.ensure(hand.plan(workers=1, uid="another-uid"))
        hand.executor.delete(hand.site.uid)
        hand.until(lambda: not hand.executor.trials())
        uid = hand.replace_trial()
        hand.executor.ensure(hand.plan(workers=1, uid=uid))
        assert list(hand.executor.trials()) == [uid]

    def test_nothing_is_known_of_an_unknown_trial(self, hand: Hand) -> None:
        assert hand.executor.observe("unknown") == ()
        hand.executor.delete("unknown")
        assert "unknown" not in hand.executor.trials()

    def test_addresses_are_known_before_anything_starts(self, hand: Hand) -> None:
        wanted = hand.plan()
        assert sorted(hand.executor.addresses(wanted)) == [r.name for r in wanted.replicas]
        assert hand.executor.observe(hand.site.uid) == ()

    def test_the_output_of_an_agent_can_be_read(self, hand: Hand) -> None:
        hand.executor.ensure(hand.plan(workers=1))
        hand.run(hand.site.uid)
        name = "digits-t0-a1-worker-0"

        def output() -> bytes:
            return b"".join(hand.executor.logs(hand.site.uid, attempt=1, name=name))

        assert hand.until(output).startswith(b"agent of ")
        for attempt, other in ((2, name), (1, "nobody")):
            with pytest.raises(errors.NotFound):
                hand.executor.logs(hand.site.uid, attempt=attempt, name=other)
