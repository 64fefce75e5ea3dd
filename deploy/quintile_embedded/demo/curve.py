"""How many rows are right without a certificate, after each round of a second, smaller job.

Its people work in lockstep: they answer what is served, wait for the round, and only then the rows
are compared with the truth. So each point is exact: these labels, this model.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, Final

from quintile.core import errors, tasks
from quintile_embedded.demo import data, digits, report, show

JOB: Final = "digits-curve"
RANDOM: Final = 11
BATCH: Final = 39
ROUNDS: Final = 4
"""11 random and 2 x 39 chosen labels are 4.95 % of the images, 4 x 39 are 9.3 %."""

LOOSE_ERROR: Final = "0.25"
"""The least that 11 random labels could certify; this job is not about certificates."""

LEASES: Final = 25
POLL_S: Final = 0.1
DEADLINE_S: Final = 300.0


def spec(seed: int) -> dict[str, Any]:
    """Return the spec of the job."""
    return {
        "dataset": {"name": data.DATASET, "version": data.FIRST_VERSION},
        "labels": list(digits.CLASSES),
        "target": {"error": LOOSE_ERROR, "random": str(RANDOM)},
        "strategy": {"batch": str(BATCH), "lookahead": 0},
        "budget": {
            "maxHumanLabels": "20%",
            # One batch more than is answered: the job is never finished, so it exports nothing.
            "maxChosen": str(BATCH * (ROUNDS + 1)),
            "maxRounds": ROUNDS + 1,
        },
        "finish": {"uncovered": "leave"},
        "seed": seed,
    }


async def draw(stage: data.Stage, step: show.Step) -> list[report.CurvePoint]:
    """Run the job round by round and return a point per round.

    Raises:
        RunFailed: A round did not come in time.
    """
    await stage.client.labeling.create(stage.project, {"name": JOB, "spec": spec(stage.seed)})
    points: list[report.CurvePoint] = []
    for number in range(1, ROUNDS + 1):
        human = await _answer_round(stage, number)
        await _await_round(stage, number)
        table = await stage.client.labeling.labels_csv(stage.project, JOB, uncertified=True)
        rows = data.read_rows(table)
        right = sum(row["label"] == stage.digits.truth[row["name"]] for row in rows)
        points.append(report.CurvePoint(human / len(rows), right / len(rows)))
        words = f"{points[-1].accuracy:.2%} right at {points[-1].human_label_fraction:.1%}"
        step.update(number, ROUNDS, words)
    await stage.client.labeling.suspend(stage.project, JOB)
    return points


async def _answer_round(stage: data.Stage, number: int) -> int:
    """Answer until round ``number`` closes; return how many images people labelled by then."""
    calls = stage.client.labeling
    wanted = tasks.NextRequest(count=LEASES, client="demo", fresh=True)
    deadline = time.monotonic() + DEADLINE_S
    # An answer that completes a round closes it at once, so no task of the next one is taken.
    while not await _is(stage, number, ("closed", "ingested")):
        served = await calls.next_tasks(stage.project, JOB, wanted)
        if served.tasks:
            answers = [_answer(stage, task) for task in served.tasks]
            await calls.annotate(stage.project, JOB, answers)
        elif time.monotonic() > deadline:
            raise _late(number)
        else:
            await asyncio.sleep(POLL_S)
    return (await calls.stats(stage.project, JOB)).human


async def _await_round(stage: data.Stage, number: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await _is(stage, number, ("ingested",)):
        if time.monotonic() > deadline:
            raise _late(number)
        await asyncio.sleep(POLL_S)


async def _is(stage: data.Stage, number: int, states: tuple[str, ...]) -> bool:
    rounds = await stage.client.labeling.rounds(stage.project, JOB)
    return any(one.number == number and one.state in states for one in rounds)


def _answer(stage: data.Stage, task: tasks.Task) -> tasks.Answer:
    label = digits.CLASSES.index(stage.digits.truth[task.name])
    return tasks.Answer(
        client_id=uuid.uuid4().hex,
        slot_id=task.slot_id,
        lease=task.lease,
        item_id=task.item_id,
        base_revision=task.base_revision,
        payload=tasks.Payload(labels=[label]),
        via="simulate",
    )


def _late(number: int) -> errors.RunFailed:
    return errors.RunFailed(
        f"Round {number} of labeling job {JOB} was not done within {DEADLINE_S:.0f} s.",
        hint="Look at the platform's log.",
        reason="RoundLate",
    )
