"""A script that writes TensorBoard's event files itself: its curves are metrics of the run."""

from __future__ import annotations

from typing import Any

SCRIPT = """
    import os, pathlib, time
    from quintile_trainer import event_files
    from quintile_trainer import context

    folder = pathlib.Path(os.environ["QUINTILE_TENSORBOARD"])
    path = folder / "events.out.tfevents.1"
    file = event_files.EventFile(path, time_s=time.time(), purge_step=None)
    for step in range(1, 4):
        value = step * 0.5 + context.current().rank * 100
        file.add({"loss/train": value}, step=step, time_s=time.time())
    file.close()
"""


def test_curves_of_rank_0_are_metrics(bench: Any) -> None:
    run = bench.script(SCRIPT, workers=2)
    assert [agent.wait() for agent in run.start()] == [0, 0]
    assert run.points(1) == [(step, {"loss/train": step * 0.5}) for step in (1, 2, 3)]
    assert run.points(1, rank=1) == []
