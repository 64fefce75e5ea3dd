"""The executor and the real agent keep one format: identity, lock, exit record, signals."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import sys
from collections.abc import Iterator

import pytest

from quintile.adapters import clock
from quintile.core import experiment, meta, plan, runplan
from quintile.testing import coordinator, waiting
from quintile_operator import executor_process

UID = "trial-uid"
TOKEN = "a-token-of-this-trial"


@pytest.fixture
def control() -> Iterator[coordinator.FakeCoordinator]:
    made = coordinator.FakeCoordinator(UID, token=TOKEN)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield tmp_path / "runs"
    executor = open_executor(tmp_path / "runs")
    executor.delete(UID)
    waiting.until(lambda: not executor.trials())
    executor.close()


def open_executor(runs: pathlib.Path) -> executor_process.ProcessExecutor:
    return executor_process.ProcessExecutor(runs, clock=clock.SystemClock())


def one_of_two(control: coordinator.FakeCoordinator) -> runplan.RunPlan:
    """One replica of a run of two: it joins and waits for its peer, so no rank ever starts."""
    trial = experiment.Trial(
        metadata=meta.ObjectMeta(name="digits-t0-x", uid=UID),
        spec=experiment.TrialSpec(
            experiment="digits",
            experiment_uid="e",
            template=experiment.ExperimentSpec(
                estimator=experiment.EstimatorSpec(builtin=experiment.Builtin()),
                run=experiment.RunSpec(workers=experiment.Workers(replicas=2)),
                checkpoint=experiment.CheckpointSpec(grace_seconds=5),
            ),
        ),
    )
    made = plan.plan_trial(
        trial, attempt=1, api_url=control.url, python=sys.executable, token=TOKEN, hosts={}
    )
    return dataclasses.replace(made, replicas=made.replicas[:1])


def joined(
    executor: executor_process.ProcessExecutor, control: coordinator.FakeCoordinator
) -> None:
    executor.ensure(one_of_two(control))
    control.wait(lambda known: ("worker", 0) in known.joined, timeout_s=60)
    assert [entry.state for entry in executor.observe(UID)] == ["running"]


def test_the_agent_is_seen_adopted_and_leaves_with_a_record(
    control: coordinator.FakeCoordinator, runs: pathlib.Path
) -> None:
    first = open_executor(runs)
    joined(first, control)
    first.close()
    second = open_executor(runs)
    assert [entry.state for entry in second.observe(UID)] == ["running"]
    second.ensure(one_of_two(control))
    assert len(list(runs.glob("*/*/identity.json"))) == 1
    assert second.suspend(grace_s=30) == 1
    (seen,) = second.observe(UID)
    assert (seen.state, seen.exit_code, seen.reason) == ("exited", 75, "Preempted")
    output = b"".join(second.logs(UID, attempt=1, name=seen.name))
    assert b"Preempted" in output
    assert TOKEN.encode() not in output
    second.close()


def test_an_agent_that_is_killed_is_lost(
    control: coordinator.FakeCoordinator, runs: pathlib.Path
) -> None:
    executor = open_executor(runs)
    joined(executor, control)
    heard: list[meta.Key] = []
    executor.subscribe(heard.append)
    identity = json.loads(next(iter(runs.glob("*/*/identity.json"))).read_bytes())
    os.kill(int(identity["pid"]), signal.SIGKILL)
    waiting.until(lambda: heard)
    assert [entry.state for entry in executor.observe(UID)] == ["lost"]
    executor.close()


def test_an_agent_without_a_server_to_talk_to_lives_on(
    control: coordinator.FakeCoordinator, runs: pathlib.Path
) -> None:
    executor = open_executor(runs)
    joined(executor, control)
    control.go_away()
    assert [entry.state for entry in executor.observe(UID)] == ["running"]
    control.known.joined.clear()
    control.start()
    control.wait(lambda known: ("worker", 0) in known.joined, timeout_s=60)
    executor.close()
