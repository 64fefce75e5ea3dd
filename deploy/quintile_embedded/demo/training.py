"""Training runs of the demo: the same model on version 2, with one worker and with two."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from quintile.core import errors, experiment
from quintile.sdk import following, waiting
from quintile_embedded.demo import data, labels, report, show

SINGLE: Final = "digits-single"
PAIR: Final = "digits-ddp"
DEADLINE_S: Final = 600.0
REPORT_FILE: Final = "report.json"


def spec(*, mode: str, workers: int, seed: int) -> dict[str, Any]:
    """Return the spec of a run."""
    return {
        "description": f"Digits version 2, {mode}",
        "dataset": {
            "name": data.DATASET,
            "version": labels.OUTPUT_VERSION,
            "split": data.SPLIT,
            "train": "train",
            "evaluate": data.TEST_PART,
        },
        "estimator": {"builtin": {"task": "classification", "model": "resnet8"}},
        "hparams": [{"name": "seed", "value": str(seed)}],
        "run": {"mode": mode, "workers": {"replicas": workers}, "deterministic": True},
        "checkpoint": {"everySteps": 100},
        "telemetry": {"summaryEverySteps": 20},
    }


async def train(
    stage: data.Stage, step: show.Step, *, name: str, mode: str, workers: int
) -> report.ExperimentFigures:
    """Run one experiment to its end.

    Raises:
        RunFailed: It did not succeed.
    """
    begun_s = time.monotonic()
    calls = stage.client.experiments
    document = {"name": name, "spec": spec(mode=mode, workers=workers, seed=stage.seed)}
    await calls.create(stage.project, document)
    found = await waiting.until(
        lambda: calls.get(stage.project, name),
        lambda run: following.phase(run) in following.TERMINAL,
        what=f"Experiment {name}",
        timeout_s=DEADLINE_S,
        on_poll=lambda run: _tell(step, run),
    )
    seconds = time.monotonic() - begun_s
    following.refuse_failure(found)
    measured = await _measured(stage, name)
    accuracy = measured["evaluation"]["metrics"].get("accuracy")
    if accuracy is None:
        raise errors.RunFailed(
            f"Experiment {name} was not judged on true labels.", reason="NoAccuracy"
        )
    step.update(1, 1, f"accuracy {accuracy:.2%}")
    return report.ExperimentFigures(
        name=name,
        mode=mode,
        workers=workers,
        phase=following.phase(found),
        eval_accuracy=accuracy,
        images_per_second=measured["images_per_second"],
        seconds=round(seconds, 2),
    )


async def _measured(stage: data.Stage, name: str) -> dict[str, Any]:
    trial = await following.first_trial(stage.client, stage.project, name)
    content = await stage.client.trials.artifact(stage.project, trial, REPORT_FILE)
    found: dict[str, Any] = json.loads(content)
    return found


def _tell(step: show.Step, run: experiment.Experiment) -> None:
    if run.status is None:
        return
    done = run.status.progress
    words = following.metric_words(done) or run.status.phase.lower()
    step.update(done.step, done.total_steps, words)
