"""A rank stands still on a running platform: found in time, stacks in the log, the run goes on."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from quintile.core import conditions
from quintile.sdk import client as clients
from quintile.sdk import following
from quintile.testing import agents, digit_imports, instances

PROJECT = "default"
RUN = "still"
LIMIT_S = 3
FOUND_WITHIN_S = 20.0
"""The bar: so long after the limit a stall is found at the latest."""
STEPS = 200
SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "estimator": {"builtin": {"model": "resnet8"}},
    "hparams": [{"name": "iterations", "value": str(STEPS)}],
    "run": {"mode": "ddp", "workers": {"replicas": 2}, "deterministic": True, "runEval": False},
    "checkpoint": {"everySteps": 20},
    "telemetry": {"summaryEverySteps": 20, "progressTimeoutSeconds": LIMIT_S},
}


async def until(holds: Callable[[], Awaitable[Any]], *, what: str) -> Any:
    deadline = time.monotonic() + 180
    while not (found := await holds()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        await anyio.sleep(0.05)
    return found


def rank_of(agent: int, number: int) -> int:
    """The pid of a rank that an agent started."""
    for pid in agents.children(agent):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == f"rank-{number}":
                return pid
            if f"RANK={number}".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(
                b"\0"
            ):
                return pid
    raise LookupError(f"agent {agent} has no rank {number}")


@pytest.mark.torch
@pytest.mark.timeout(180)
def test_a_stopped_rank_is_found_named_and_replaced(tmp_path: pathlib.Path) -> None:
    async def story() -> None:
        with instances.Instance(tmp_path / "home") as instance:
            async with instance.client() as client:
                await digit_imports.import_digits(client, items=300, labelled=True)
                await client.experiments.create(PROJECT, {"name": RUN, "spec": SPEC})
                await check(instance, client)

    anyio.run(story)


async def check(instance: instances.Instance, client: clients.AsyncClient) -> None:
    async def status() -> Any:
        name = await following.first_trial(client, PROJECT, RUN)
        return (await client.trials.get(PROJECT, name)).status

    async def saved() -> bool:
        found = await status()
        return found is not None and found.checkpoint is not None

    async def replaced() -> Any:
        found = await status()
        return found if found.generation == 2 else None

    async def ended() -> Any:
        found = await status()
        return found if found.completion_time else None

    await until(saved, what="a checkpoint")
    trial = await following.first_trial(client, PROJECT, RUN)
    [agent] = instance.agents(f"{trial}-a1-worker-1")
    os.kill(rank_of(agent, 1), signal.SIGSTOP)
    begun = time.monotonic()
    found = await until(replaced, what="generation 2")
    assert time.monotonic() - begun <= LIMIT_S + FOUND_WITHIN_S
    assert (found.last_failure.reason, found.last_failure.rank) == ("Stalled", 1)
    assert "rank 1 (worker-1) is late, after step " in found.last_failure.message
    assert "its process is stopped (state T)" in found.last_failure.message
    restarting = conditions.find(found.conditions, "Restarting")
    assert restarting is not None
    assert "its process is stopped" in restarting.message or restarting.status == "False"
    found = await until(ended, what="the end")
    assert (found.phase, found.attempt, found.in_place_restarts) == ("Succeeded", 1, 1)
    assert found.progress.step == STEPS
    lines = "\n".join([one.line async for one in client.trials.logs(PROJECT, trial)])
    assert "rank 1 stands still: its process is stopped (state T), so it gives no stack" in lines
    assert "rank 0 stands still: it is in " in lines
    assert "(most recent call first):" in lines
