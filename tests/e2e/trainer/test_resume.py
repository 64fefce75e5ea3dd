"""Interrupted at any step, killed, or on another number of workers: the same run to the bit."""

from __future__ import annotations

import collections
import os
import random
import signal
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from quintile.testing import agents

pytestmark = pytest.mark.torch
STEPS = 80


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(shared_workshop: Any) -> Any:
    """An undisturbed run."""
    run = shared_workshop.run(iterations=STEPS, every=10)
    run.finish()
    return run


def test_interrupted_and_killed_alone_it_ends_with_the_same_bits(
    workshop: Any, whole: Any, chance: random.Random
) -> None:
    run = workshop.run(iterations=STEPS, every=10)
    saved = run.interrupt(run.start(), at=chance.randrange(5, 40))
    assert saved < STEPS
    [agent] = run.start()
    run.until_step(saved + chance.randrange(5, 25))
    os.kill(agent.ranks()[0], signal.SIGKILL)
    run.finish([agent])
    assert (run.fake.known.attempt, run.fake.known.generation) == (2, 2)
    resumed = [plan.resume.step for plan in run.fake.known.plans if plan.resume is not None]
    assert resumed[0] == saved
    assert resumed[1] == saved or resumed[1] % 10 == 0
    assert equal(run.weights(), whole.weights())
    curve = whole.curve()
    assert run.curve() == curve
    assert sorted(curve) == list(range(5, STEPS + 1, 5))


def test_a_killed_worker_of_two_changes_nothing(workshop: Any, chance: random.Random) -> None:
    undisturbed = workshop.run(workers=2, iterations=40, every=10)
    undisturbed.finish()
    run = workshop.run(workers=2, iterations=40, every=10)
    both = run.start()
    run.until_step(chance.randrange(12, 25))
    # Neither the rendezvous nor the ranks' own sockets can be reached from another machine.
    assert agents.listening(both[0].ranks()[0]) == {"0100007F"}
    victim = chance.randrange(2)
    os.kill(both[victim].ranks()[victim], signal.SIGKILL)
    run.finish(both)
    assert run.fake.known.generation == 2
    assert equal(run.weights(), undisturbed.weights())
    causes = {end.reason for end in run.fake.known.exits if end.exit_code}
    assert "Killed" in causes
    assert causes <= {"Killed", "PeerLost"}


class Counted(torch.utils.data.Dataset[Any]):
    """Notes every sample that is taken, in a file of the run's folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 52

    def __getitem__(self, item: int) -> Any:
        with open(f"{self.folder}/taken", "a") as file:  # noqa: PTH123
            file.write(f"{item}\n")
        return torch.full((4,), float(item)), item % 2


def test_on_other_numbers_of_workers_every_sample_counts_once(
    workshop: Any, chance: random.Random
) -> None:
    """Two workers, then three, then one: the global batch stays that of the two submitted."""

    def model_fn(_hparams: Mapping[str, Any]) -> Any:
        return torch.nn.Linear(4, 2)

    def input_fn(split: str, hparams: Mapping[str, Any]) -> Any:
        return Counted(hparams["folder"]) if split == "train" else None

    model_fn.__module__ = input_fn.__module__ = Counted.__module__ = "__main__"
    digest, data = workshop.functions({"model_fn": model_fn, "input_fn": input_fn})
    estimator = {"functions": {"bundle": digest}}
    folder = workshop.folder / "counted"
    folder.mkdir()
    epochs = 60
    run = workshop.run(
        workers=2, estimator=estimator, every=7, batch_size=4, epochs=epochs, folder=folder
    )
    run.fake.known.bundles[digest] = data
    first = run.interrupt(run.start(), at=chance.randrange(3, 30))
    three = run.start(workers=3)
    second = run.interrupt(three, at=first + chance.randrange(3, 30))
    assert second > first
    one = run.start(workers=1)
    run.finish(one)
    assert [plan.world_size for plan in run.fake.known.plans] == [2, 3, 1]
    taken = collections.Counter((folder / "taken").read_text().split())
    assert taken == {str(item): epochs for item in range(52)}
    last = run.fake.known.commits[-1].manifest
    # 52 samples in steps of 8: seven steps an epoch, the last one of 4.
    assert (last.step, last.epoch, last.cursor) == (epochs * 7, epochs, 0)


def test_a_whole_run_survives_an_api_that_comes_and_goes(workshop: Any, whole: Any) -> None:
    run = workshop.run(iterations=STEPS, every=10)
    [agent] = run.start()
    run.until_step(10)
    run.fake.go_away()
    run.until_step(STEPS)
    run.fake.start()
    run.finish([agent])
    assert run.fake.known.generation == 1
    assert equal(run.weights(), whole.weights())
    assert run.curve() == whole.curve()
