"""What an agent says of its ranks before their first step, and what it measures them by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quintile.testing import agents
from quintile_trainer import layout, progress
from quintile_trainer.agent import limits, processes, witness

SCRIPT = {"script": {"entry": "train.py"}}
BUILTIN = {"builtin": {"model": "resnet8"}}


def program(estimator: dict[str, Any], **telemetry: int) -> dict[str, Any]:
    return {"estimator": estimator, "telemetry": telemetry}


@pytest.mark.parametrize(
    ("given", "limit_s", "must_tell"),
    [
        (program(BUILTIN), limits.START_S, True),
        (program(SCRIPT), limits.START_S, False),
        (program(SCRIPT, startTimeoutSeconds=60), 60.0, True),
        (program(SCRIPT, startTimeoutSeconds=0), 0.0, False),
        (program({"labelingRound": {"job": "a"}}, startTimeoutSeconds=0), 0.0, False),
    ],
    ids=["built-in", "script", "script with a limit", "script without one", "round"],
)
def test_what_a_start_is_measured_by(
    given: dict[str, Any], limit_s: float, *, must_tell: bool
) -> None:
    assert limits.start_timeout_s(given) == limit_s
    assert limits.must_tell_steps(given) is must_tell


@pytest.fixture
def rank() -> Iterator[processes.RankProcess]:
    """A process that only waits, in the place of a rank."""
    code = "import signal; signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        lines: Any = None
        yield processes.RankProcess(0, 0, process.pid, lines)
        process.kill()


def watch_of(
    folder: Path, rank: processes.RankProcess, *, must_tell: bool
) -> tuple[witness.Watch, layout.GenerationFolder]:
    nursery: Any = None
    place = layout.StateFolder(folder).generation(1)
    place.root.mkdir(parents=True)
    ranks = processes.RankSet(1, nursery, [rank])
    return witness.Watch(ranks, place, must_tell_steps=must_tell), place


@pytest.mark.parametrize(
    ("must_tell", "stages"),
    [(True, ["starting", "starting", "running"]), (False, ["starting", "running", "running"])],
    ids=["until its first step", "until it runs"],
)
def test_how_long_a_rank_starts(
    tmp_path: Path, rank: processes.RankProcess, stages: list[str], *, must_tell: bool
) -> None:
    watch, place = watch_of(tmp_path, rank, must_tell=must_tell)
    seen = [watch.views()[0].state]
    counter = progress.Counter(place.progress(0))
    seen.append(watch.views()[0].state)
    counter.set(1, 10)
    seen.append(watch.views()[0].state)
    assert seen == stages


def test_a_process_that_was_stopped_just_now_has_not_stood_still_before(
    tmp_path: Path, rank: processes.RankProcess
) -> None:
    watch, _ = watch_of(tmp_path, rank, must_tell=False)
    watch.views()
    watch._looks[0].still_s = 500.0
    assert watch.views()[0].still_s >= 500.0
    os.kill(rank.pid, signal.SIGSTOP)
    seen = []

    def is_stopped() -> bool:
        seen.extend(watch.views())
        return seen[-1].state == "stopped"

    agents.until(is_stopped, what="it is stopped")
    assert seen[-1].still_s == 0.0
