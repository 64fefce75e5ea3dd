"""The server is away for much longer than it waits for silent agents; the run does not notice."""

from __future__ import annotations

import collections
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import agents, instances

STEPS = 300
PAUSE_S = 0.06
AWAY_STEPS = 200
SILENCE_S = 4.0
"""The server gives up agents that are silent for so long (20 s by default)."""

SCRIPT = f"""
    import os, pathlib, time
    from quintile_trainer import context

    run = context.current()
    marks = pathlib.Path(os.environ["FOLDER"]) / f"rank-{{run.rank}}"
    for step in range(1, {STEPS} + 1):
        time.sleep({PAUSE_S})
        run.log(step=step, loss=1 / step)
        run.progress(step, {STEPS})
        print(f"step {{step}} of rank {{run.rank}}", flush=True)
        marks.write_text(str(step))
"""


@pytest.mark.timeout(120)
def test_nothing_is_lost_or_doubled_while_the_server_is_away(tmp_path: pathlib.Path) -> None:
    code = tmp_path / "code" / "train.py"
    code.parent.mkdir()
    code.write_text(textwrap.dedent(SCRIPT))
    settings = {"QUINTILE_API__AGENT_SILENCE_S": str(SILENCE_S)}
    with instances.Instance(tmp_path / "home", env=settings) as server:
        session = blocking.connect(url=server.url, token=server.token)
        exper = Experiment.run(
            experiment_name="away",
            estimator=Estimator.script(code),
            hyper_parameters=HParams(),
            run_config=RunConfig(no_of_workers=2, env={"FOLDER": str(tmp_path)}),
        )
        job = exper.get_single_job()
        agents.until(lambda: least(tmp_path) >= 10, what="ten steps")
        server.kill()
        away = least(tmp_path)
        agents.until(lambda: least(tmp_path) >= away + AWAY_STEPS, what="steps on their own")
        server.start()
        job.wait_until_finish(180)
        check(job, request=server.request)
        session.close()
        blocking.forget()


def least(folder: pathlib.Path) -> int:
    """Steps that both ranks have done."""
    texts = [path.read_text() for path in folder.glob("rank-?")]
    return min((int(text or 0) for text in texts), default=0) if len(texts) == 2 else 0


def check(job: Any, *, request: Callable[..., Any]) -> None:
    status = job.status()
    assert status.phase == "Succeeded", [*status.conditions, *job.logs()][-20:]
    assert (status.attempt, status.restarts, status.in_place_restarts) == (1, 0, 0)
    assert (status.generation, status.last_failure) == (1, None)
    path = f"/projects/default/trials/{job.name}/metrics"
    series = request("GET", path).json()["series"]
    [loss] = [one for one in series if one["name"] == "loss"]
    assert loss["steps"] == list(range(1, STEPS + 1))
    said = collections.Counter(line for line in job.logs() if line.startswith("step "))
    assert set(said.values()) == {1}
    assert len(said) == 2 * STEPS
