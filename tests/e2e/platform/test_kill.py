"""The server is killed five times during labeling and training; nothing is lost, all goes on."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import pathlib
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from quintile.sdk import client as clients
from quintile.sdk import following, simulate
from quintile.testing import digit_imports, instances, recording

ITEMS = 300
KILLS = 5
SURE_ANSWERS = 75
"""The random and the chosen items; each is answered, however the rounds turn out."""

AGENT_KILL = 1
"""At this kill the training agent dies too, as when the machine loses power."""

DEADLINE_S = 240.0
PROJECT = "default"
JOB = "labels"
RUN = "train"
TRAINING_DATA = "known"
JOB_SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "labels": [str(digit) for digit in range(10)],
    "target": {"error": "0.1", "random": "45"},
    "strategy": {"batch": "15", "lookahead": 0},
    "budget": {"maxHumanLabels": "90%", "maxChosen": "30", "maxRounds": 8},
    "finish": {"uncovered": "people"},
    "output": {"version": 2},
    "seed": 7,
}
RUN_SPEC: dict[str, Any] = {
    "dataset": {"name": TRAINING_DATA, "version": 1},
    "estimator": {"builtin": {"model": "resnet8"}},
    "hparams": [{"name": "iterations", "value": "900"}],
    "run": {"mode": "single", "deterministic": True},
    "checkpoint": {"everySteps": 20},
    "telemetry": {"summaryEverySteps": 20},
}


def annotator(seconds: float) -> simulate.Annotator:
    return simulate.Annotator(truth=digit_imports.truth(ITEMS), seconds=seconds)


async def exported(client: clients.AsyncClient) -> list[tuple[str, str, str]]:
    table = await client.datasets.labels_csv(PROJECT, digit_imports.DATASET, 2)
    rows = csv.DictReader(io.StringIO(table.decode()))
    return sorted((row["name"], row["label"], row["source"]) for row in rows)


async def label_to_the_end(client: clients.AsyncClient, *, seconds: float) -> None:
    await simulate.run(client, PROJECT, JOB, annotator(seconds))
    await following.labeling_end(
        lambda: client.labeling.get(PROJECT, JOB), name=JOB, timeout_s=DEADLINE_S
    )


async def undisturbed(home: pathlib.Path) -> list[tuple[str, str, str]]:
    with instances.Instance(home) as instance:
        async with instance.client() as client:
            await digit_imports.import_digits(client, items=ITEMS, labelled=False)
            await client.labeling.create(PROJECT, {"name": JOB, "spec": JOB_SPEC})
            await label_to_the_end(client, seconds=0.0)
            return await exported(client)


async def until(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def committed(client: clients.AsyncClient) -> list[tuple[int, int]]:
    """Return (attempt, step) of the committed checkpoints, newest first."""
    names = [one.metadata.name async for one in client.trials.list(PROJECT, of=RUN)]
    if not names:
        return []
    found = await client.trials.checkpoints(PROJECT, names[0])
    return [(one.attempt, one.step) for one in found]


async def disturb(
    instance: instances.Instance,
    client: clients.AsyncClient,
    *,
    chance: random.Random,
    answered: Callable[[], int],
) -> int:
    """Kill and restart the server; return the newest checkpoint before the agent's death."""
    newest = 0
    for number, count in enumerate(sorted(chance.sample(range(1, SURE_ANSWERS), KILLS))):
        await until(f"{count} answers", lambda count=count: _truth(answered() >= count))
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        if number == AGENT_KILL:
            await until("a checkpoint", lambda: has_checkpoint(client))
            newest = max(step for _attempt, step in await committed(client))
        instance.kill()
        if number == AGENT_KILL:
            assert instance.kill_agents(of=RUN) == 1
        await anyio.to_thread.run_sync(instance.start)
    return newest


async def _truth(value: bool) -> bool:
    return value


async def has_checkpoint(client: clients.AsyncClient) -> bool:
    return bool(await committed(client))


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_five_crashes_lose_nothing(tmp_path: pathlib.Path) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
    sys.stdout.write(f"KILL_SEED={seed}\n")

    async def story() -> None:
        expected = await undisturbed(tmp_path / "calm")
        with instances.Instance(tmp_path / "home") as instance:
            recorder = recording.Recorder()
            async with (
                clients.AsyncClient(
                    instance.url, token=instance.token, transport=recorder
                ) as person,
                instance.client() as client,
            ):
                await prepare(client)
                labeling = asyncio.create_task(label_to_the_end(person, seconds=0.05))
                newest = await disturb(
                    instance,
                    client,
                    chance=random.Random(seed),
                    answered=lambda: len(recorder.answers),
                )
                await labeling
                assert instance.starts == KILLS + 1
                await check_labels(client, recorder)
                assert await exported(client) == expected
                await check_training(client, newest)

    anyio.run(story)


async def prepare(client: clients.AsyncClient) -> None:
    await digit_imports.import_digits(client, items=ITEMS, labelled=False)
    await digit_imports.import_digits(client, items=ITEMS, labelled=True, dataset=TRAINING_DATA)
    await client.experiments.create(PROJECT, {"name": RUN, "spec": RUN_SPEC})
    await client.labeling.create(PROJECT, {"name": JOB, "spec": JOB_SPEC})


async def check_labels(client: clients.AsyncClient, recorder: recording.Recorder) -> None:
    """Every acknowledged answer is there, once."""
    items = {one.item_id: one async for one in client.labeling.items(PROJECT, JOB)}
    stats = await client.labeling.stats(PROJECT, JOB)
    answers = recorder.answers.values()
    assert {one.outcome for one in answers} <= {"accepted", "repeated"}
    assert len({one.item_id for one in answers}) == len(answers) == stats.decisions == stats.human
    for one in answers:
        item = items[one.item_id]
        assert (item.label, item.source, item.annotations) == (str(one.label), "human", 1)


async def check_training(client: clients.AsyncClient, newest: int) -> None:
    """The run went on from the newest complete checkpoint of the attempt that died."""

    async def ended() -> bool:
        run = await client.experiments.get(PROJECT, RUN)
        following.refuse_failure(run)
        return following.phase(run) == "Succeeded"

    await until("the end of the training", ended)
    trial = await following.first_trial(client, PROJECT, RUN)
    lines = [one.line async for one in client.trials.logs(PROJECT, trial)]
    starts = [int(step) for step in re.findall(r"starts at step (\d+)", "\n".join(lines))]
    before = max(step for attempt, step in await committed(client) if attempt == 1)
    assert starts == [before], "\n".join(lines)
    assert before >= newest > 0
