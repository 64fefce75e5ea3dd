"""Where the time of a step goes."""

from __future__ import annotations

import dataclasses
import time

import pytest

from quintile.core import trial_status
from quintile_trainer import breakdown

PARTS = [part.name for part in dataclasses.fields(breakdown.Spent)]


def test_a_window_is_the_mean_of_its_own_steps() -> None:
    times = breakdown.Breakdown()
    for _ in range(4):
        times.spent.data += 0.002
        times.spent.forward += 0.010
        times.step()
    first = times.window()
    assert first["step/data_ms"] == pytest.approx(2.0)
    assert first["step/forward_ms"] == pytest.approx(10.0)
    times.spent.data += 0.006
    times.step()
    second = times.window()
    assert second["step/data_ms"] == pytest.approx(6.0)
    assert second["step/forward_ms"] == 0.0
    assert list(second) == [f"step/{name}_ms" for name in PARTS]


def test_goodput_is_the_share_of_the_time_in_steps() -> None:
    times = breakdown.Breakdown(begun=time.perf_counter() - 10.0)
    with times.checkpoint():
        pass
    with times.evaluation():
        pass
    found = times.document(training_s=5.0)
    assert 0.4 < float(str(found["goodput"])) <= 0.5
    assert isinstance(found["seconds"], dict) and list(found["seconds"]) == PARTS
    assert times.spent.checkpoint > 0 and times.spent.evaluation > 0


def test_a_status_leaves_these_names_out() -> None:
    assert breakdown.PREFIX == trial_status.TIMES
    shown = trial_status.metric_texts({**breakdown.Breakdown().window(), "train/loss": 0.5})
    assert [entry.name for entry in shown] == ["train/loss"]
