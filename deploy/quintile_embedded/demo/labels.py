"""The labeling job of the demo: scripted people, a certificate, and version 2."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from quintile.core import errors, labeling_job, tasks
from quintile.sdk import following, simulate
from quintile_embedded.demo import data, digits, show

JOB: Final = "digits-labels"
TARGET_ERROR: Final = 0.02
RANDOM: Final = 220
CHOSEN: Final = 60
BATCH: Final = 20
DECISIONS: Final = "50%"
"""Enough for every row that the certificate leaves to people; the report says what it took."""

OUTPUT_VERSION: Final = 2
MACHINE: Final = frozenset({"auto", "auto-uncertified", "propagated", "duplicate"})


@dataclass(frozen=True)
class Labels:
    """What came out, against the truth."""

    stats: tasks.JobStats
    certificate: tasks.CertificateView
    machine_accuracy: float
    true_error: float
    seconds: float


def spec(seed: int) -> dict[str, Any]:
    """Return the spec of the job."""
    return {
        "dataset": {"name": data.DATASET, "version": data.FIRST_VERSION},
        "task": "classification",
        "labels": list(digits.CLASSES),
        "target": {"error": str(TARGET_ERROR), "confidence": "0.95", "random": str(RANDOM)},
        "strategy": {"batch": str(BATCH), "lookahead": 0},
        "budget": {"maxHumanLabels": DECISIONS, "maxChosen": str(CHOSEN), "maxRounds": 20},
        "finish": {"uncovered": "people"},
        "output": {"version": OUTPUT_VERSION},
        "seed": seed,
    }


async def label(stage: data.Stage, step: show.Step) -> Labels:
    """Run the job to its end: people answer, the machine learns, version 2 appears.

    Raises:
        RunFailed: The job failed, or ended without a certificate.
    """
    begun_s = time.monotonic()
    calls = stage.client.labeling
    await calls.create(stage.project, {"name": JOB, "spec": spec(stage.seed)})
    annotator = simulate.Annotator(truth=dict(stage.digits.truth), seed=stage.seed)
    answering = asyncio.create_task(
        simulate.run(stage.client, stage.project, JOB, annotator), name="annotator"
    )
    try:
        await following.labeling_end(
            lambda: calls.get(stage.project, JOB), name=JOB, on_poll=lambda job: _tell(step, job)
        )
        await answering
    finally:
        answering.cancel()
    seconds = time.monotonic() - begun_s
    stats = await calls.stats(stage.project, JOB)
    certificate = await calls.certificate(stage.project, JOB)
    machine_accuracy, true_error = await _against_truth(stage)
    step.update(1, 1, f"{stats.human:,} by people, certified error {_shown(certificate)}")
    return Labels(stats, certificate, machine_accuracy, true_error, seconds)


async def _against_truth(stage: data.Stage) -> tuple[float, float]:
    """Return (share right among machine labels, share wrong among all rows) of version 2."""
    table = await stage.client.datasets.labels_csv(stage.project, data.DATASET, OUTPUT_VERSION)
    rows = data.read_rows(table)
    truth = stage.digits.truth
    wrong = [row for row in rows if row["label"] != truth[row["name"]]]
    machine = [row for row in rows if row["source"] in MACHINE]
    missed = [row for row in wrong if row["source"] in MACHINE]
    if not machine:
        raise errors.RunFailed("The machine labelled nothing.", reason="NothingCovered")
    return 1 - len(missed) / len(machine), len(wrong) / len(rows)


def _tell(step: show.Step, job: labeling_job.LabelingJob) -> None:
    status = job.status
    if status is None:
        return
    counts = status.counts
    done = counts.human + counts.auto
    words = f"{status.phase.lower()}, round {status.round}, {counts.human:,} by people"
    step.update(done, counts.items, words)


def _shown(certificate: tasks.CertificateView) -> str:
    return f"{certificate.certified_error:.2%} ({certificate.outcome})"
