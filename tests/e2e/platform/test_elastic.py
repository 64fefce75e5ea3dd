"""Elastic runs on a real server: scaled from 2 to 4 and back, and shrunk by the loss of an agent.

Every sample that a rank takes is noted in a file. Between the sizes all ranks leave at a
checkpoint, so nothing is done twice, and each sample must be there once per epoch, however many
ranks shared it.
"""

from __future__ import annotations

import collections
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from quintile.sdk import Estimator, Experiment, HParams, RunConfig
from quintile.testing import instances

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]
DEADLINE_S = 240.0
ITEMS = 60
BATCH = 4
"""Of one worker; with the two that are submitted a step has 8 samples, and an epoch 8 steps."""
EPOCHS = 80
PACE = {
    "QUINTILE_API__ELASTIC_WINDOW_S": "4",
    "QUINTILE_API__ELASTIC_COOLDOWN_S": "1",
    "QUINTILE_API__HEARTBEAT_FLUSH_S": "0.5",
}
IMPATIENT = {**PACE, "QUINTILE_API__AGENT_SILENCE_S": "5"}


class Counted(torch.utils.data.Dataset[Any]):
    """Notes every sample that is taken."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 60

    def __getitem__(self, item: int) -> Any:
        import os
        import time

        time.sleep(0.003)
        with open(f"{self.folder}/taken-{os.getpid()}", "a") as file:  # noqa: PTH123
            file.write(f"{item}\n")
        return torch.full((4,), float(item)), item % 2


def model_fn(_hparams: Any) -> Any:
    return torch.nn.Linear(4, 2)


def input_fn(split: str, hparams: Any) -> Any:
    return Counted(hparams["folder"]) if split == "train" else None


Counted.__module__ = model_fn.__module__ = input_fn.__module__ = "__main__"


@pytest.fixture
def server(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[instances.Instance]:
    """A server; the parameter is its environment."""
    with instances.connected(tmp_path / "home", env=getattr(request, "param", PACE)) as running:
        yield running


def begin(folder: pathlib.Path, *, epochs: int, mode: str = "ddp", **bounds: int) -> Any:
    """Submit a run of two workers."""
    folder.mkdir()
    made = Experiment.run(
        experiment_name="elastic",
        estimator=Estimator.NewClassificationEstimator(model_fn=model_fn),
        hyper_parameters=HParams(batch_size=BATCH, epochs=epochs, extra={"folder": str(folder)}),
        run_config=RunConfig(
            mode=mode,
            checkpoint_frequency_in_steps=50,
            summary_save_frequency=10,
            deterministic=True,
            run_eval=False,
            **{"no_of_workers": 2, **bounds},
        ),
        input_function=input_fn,
    )
    return made.get_single_job()


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.1)


def trains(job: Any, size: int, folder: pathlib.Path, *, ranks: int) -> None:
    """Wait until so many workers train, and so many ranks have taken samples since the start."""

    def holds() -> bool:
        status = job.status()
        assert status.phase not in ("Failed", "Stopped"), status
        return bool(status.workers == size and len(list(folder.glob("taken-*"))) >= ranks)

    until(f"{size} workers", holds)


def taken(folder: pathlib.Path) -> dict[str, int]:
    """How often each sample was taken, by all ranks."""
    found: collections.Counter[str] = collections.Counter()
    for path in folder.glob("taken-*"):
        found.update(path.read_text().split())
    return dict(found)


def said(server: instances.Instance, job: Any) -> list[tuple[str, str]]:
    """What people were told of the size of a run, oldest first."""
    query = f"/projects/default/events?kind=Trial&name={job.name}"
    items = server.request("GET", query).json()["items"]
    found = [(item["reason"], item["message"]) for item in reversed(items)]
    return [pair for pair in found if pair[0] in ("Resized", "Shrunk")]


@pytest.mark.parametrize("mode", ["ddp", "horovod"])
def test_from_two_workers_to_four_and_back_every_sample_counts_once(
    server: instances.Instance, tmp_path: pathlib.Path, mode: str
) -> None:
    if mode == "horovod":
        pytest.importorskip("horovod.torch", reason="make horovod builds the wheel")
    folder = tmp_path / "taken"
    job = begin(folder, epochs=EPOCHS, mode=mode, min_workers=1, max_workers=4)
    trains(job, 2, folder, ranks=2)
    job.scale(4)
    trains(job, 4, folder, ranks=6)
    job.scale(2)
    trains(job, 2, folder, ranks=8)
    job.wait_until_finish(DEADLINE_S)
    assert taken(folder) == {str(item): EPOCHS for item in range(ITEMS)}
    status = job.status()
    assert (status.restarts, status.in_place_restarts, status.attempt) == (0, 0, 1)
    assert (status.progress.step, status.workers) == (8 * EPOCHS, 2)
    assert said(server, job) == [
        ("Resized", "2 -> 4 workers: with worker-2, worker-3"),
        ("Resized", "4 -> 2 workers: without worker-2, worker-3"),
    ]


@pytest.mark.parametrize("server", [IMPATIENT], indirect=True)
def test_it_goes_on_without_a_worker_that_is_killed_again_and_again(
    server: instances.Instance, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "taken"
    job = begin(folder, epochs=EPOCHS, min_workers=1)
    trains(job, 2, folder, ranks=2)

    def shrunk() -> bool:
        for agent in server.agents(f"{job.name}-a1-worker-1"):
            os.kill(agent, signal.SIGKILL)
        return bool(job.status().workers == 1)

    until("one worker", shrunk)
    # It is started again after a pause, and is let in when it stays.
    until("two workers again", lambda: job.status().workers == 2)
    job.wait_until_finish(DEADLINE_S)
    status = job.status()
    assert (status.phase, status.attempt, status.restarts) == ("Succeeded", 1, 0)
    assert status.progress.step == 8 * EPOCHS
    assert set(taken(folder)) == {str(item) for item in range(ITEMS)}
    assert min(taken(folder).values()) >= EPOCHS
    shrink, growth = said(server, job)
    assert shrink[0] == "Shrunk"
    assert shrink[1].startswith("2 -> 1 workers: without worker-1")
    assert growth == ("Resized", "1 -> 2 workers: with worker-1")
