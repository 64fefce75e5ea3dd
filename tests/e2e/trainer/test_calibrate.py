"""The calibration program on this machine, and what the planner reads from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quintile.core.scaling import collectives, outlook, predict, records
from quintile_trainer.calibration import ranks, steps

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> records.Calibration:
    path = tmp_path_factory.mktemp("calibration") / "deep" / "calibration.json"
    given = ["--model", "resnet8", "--batch", "2", "--image", "8x8x1", "--seconds", "1"]
    command = [sys.executable, "-m", "quintile_trainer.calibrate", *given, "--out", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return records.Calibration.model_validate_json(path.read_text())


def test_it_measures_steps_alone_apart_and_together(calibration: records.Calibration) -> None:
    ways = {(run.way, run.ranks) for run in calibration.steps}
    assert ways == {("alone", 1), ("wrapped", 1), ("apart", 2), ("ddp", 2)}
    (profile,) = calibration.profiles
    assert (profile.model, profile.batch, profile.image) == ("resnet8", 2, [8, 8, 1])
    assert profile.gradient_bytes == 4 * profile.parameters
    shares = [bucket.ready for bucket in profile.buckets]
    assert shares == sorted(shares)
    assert calibration.loader is not None


def test_larger_sums_take_longer(calibration: records.Calibration) -> None:
    times = {run.size_bytes: min(run.times_s) for run in calibration.sums}
    assert times[max(times)] > times[min(times)]


def test_the_planner_predicts_from_it(calibration: records.Calibration) -> None:
    name = calibration.profiles[0].name
    wish = outlook.Wish(name, predict.Plan(), 4, collectives.Link(5e-5, 1.25e9))
    found = outlook.look(calibration, wish)
    assert [point.step.workers for point in found.points][-1] == 1024
    assert all(point.step.images_per_s > 0 for point in found.points)
    assert json.loads(calibration.model_dump_json())["format"] == records.FORMAT


def test_a_rank_that_fails_is_named(tmp_path: Path) -> None:
    with (
        ranks.team(1, tmp_path, threads=1) as team,
        pytest.raises(ranks.RankFailed, match="rank 0 of the calibration failed"),
    ):
        team.call(1, steps.timed, steps.Wanted("no-such-model", 1, (8, 8, 1), 2), "alone", 1, 1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(100, 0.5)], [(100, 0.5)]),
        ([(600 << 10, 0.1), (600 << 10, 0.2), (5, 1.0)], [(1200 << 10, 0.2), (5, 1.0)]),
        (
            [(2 << 20, 0.1), (20 << 20, 0.5), (20 << 20, 0.9), (1, 1.0)],
            [(2 << 20, 0.1), (40 << 20, 0.9), (1, 1.0)],
        ),
    ],
)
def test_gradients_are_cut_as_torch_does(
    sizes: list[tuple[int, float]], expected: list[tuple[int, float]]
) -> None:
    assert steps.cut(sizes) == expected
