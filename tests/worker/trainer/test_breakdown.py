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
    times = breakdown.Breakdown(begun_s=time.time() - 10.0)
    with times.checkpoint():
        pass
    with times.evaluation():
        pass
    times.training = 5.0
    found = times.document()
    assert 0.4 < float(str(found["goodput"])) <= 0.5
    assert isinstance(found["seconds"], dict) and list(found["seconds"]) == PARTS
    assert times.spent.checkpoint > 0 and times.spent.evaluation > 0


def test_a_restart_takes_up_the_steps_that_count_and_pays_for_the_others() -> None:
    begun_s = time.time() - 100.0
    first = breakdown.Breakdown(begun_s=begun_s)
    first.training, first.spent.forward, first.spent.checkpoint = 30.0, 20.0, 2.0
    saved = first.state()
    # Killed after 10 more seconds of steps, which are done again.
    first.training += 10.0
    second = breakdown.Breakdown(begun_s=begun_s)
    second.restore(saved)
    second.spent.forward += 8.0
    second.step()
    second.training += 20.0
    assert second.window()["step/forward_ms"] == pytest.approx(8000.0)
    found = second.document()
    assert (found["training_seconds"], second.spent.forward) == (50.0, 28.0)
    assert found["goodput"] == pytest.approx(0.5, abs=0.01)
    assert found["lost_seconds"] == pytest.approx(48.0, abs=1.0)


def test_a_checkpoint_of_an_earlier_release_holds_no_times() -> None:
    times = breakdown.Breakdown()
    times.restore({})
    assert (times.training, times.spent) == (0.0, breakdown.Spent())


def test_a_status_leaves_these_names_out() -> None:
    assert breakdown.PREFIX == trial_status.TIMES
    shown = trial_status.metric_texts({**breakdown.Breakdown().window(), "train/loss": 0.5})
    assert [entry.name for entry in shown] == ["train/loss"]
