"""Killed again and again at random, a run ends with the very bits of an undisturbed one.

Equal bits are the proof of the accounting: a sample that counted twice, or never, would show in
them. ``KILLS=20 pytest tests/e2e/platform/test_soak.py -s`` kills each kind of process 20 times;
without ``KILLS`` it is left out, since single kills of each kind are in the tests beside this one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from quintile.sdk import Estimator, Experiment, HParams, RunConfig
from quintile.testing import agents, instances
from quintile_trainer import progress

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        "KILLS" not in os.environ, reason="takes minutes: KILLS=20 says how often to kill"
    ),
]
KILLS = int(os.environ.get("KILLS", "1"))
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
LIMIT_S = 120 + 60 * KILLS
EVERY = 50
STEPS = 2000 + 900 * KILLS
SHAPES: dict[str, dict[str, Any]] = {
    "ddp": {"no_of_workers": 2},
    "ps": {"no_of_workers": 2, "no_of_ps": 2},
}
VICTIMS = {"ddp": ("rank", "agent", "platform"), "ps": ("server", "rank")}


def my_model_fn(_hparams: Any) -> Any:
    import time

    from torch import nn

    class Slowly(nn.Module):
        """Leave time between two steps for a kill."""

        def forward(self, inputs: Any) -> Any:
            time.sleep(0.005)
            return inputs

    layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    return nn.Sequential(Slowly(), *layers)


def input_fn(split: str, _hparams: Any) -> Any:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    chosen = slice(1500, None) if split == "eval" else slice(1500)
    return images[chosen], digits.target[chosen]


my_model_fn.__module__ = input_fn.__module__ = "__main__"


def begin(name: str, mode: str) -> Any:
    exper = Experiment.run(
        experiment_name=name,
        estimator=Estimator.NewClassificationEstimator(model_fn=my_model_fn),
        hyper_parameters=HParams(iterations=STEPS, batch_size=10),
        run_config=RunConfig(
            **SHAPES[mode],
            deterministic=True,
            run_eval=False,
            summary_save_frequency=EVERY,
            checkpoint_frequency_in_steps=EVERY,
            max_restarts=100,
        ),
        input_function=input_fn,
    )
    return exper.get_single_job()


def strike(server: instances.Instance, job: Any, victim: str, chance: random.Random) -> None:
    """Kill one process of a kind."""
    if victim == "platform":
        server.kill()
        server.start()
        return
    role = "ps" if victim == "server" else "worker"
    attempt = job.status().attempt
    [agent] = wait_for(
        "the agent", lambda: server.agents(f"{job.name}-a{attempt}-{role}-{chance.randrange(2)}")
    )
    if victim == "agent":
        os.kill(agent, signal.SIGKILL)
        return
    [rank] = wait_for("its rank", lambda: list(ranks_of(agent)))
    os.kill(rank, signal.SIGKILL)


def ranks_of(agent: int) -> Iterator[int]:
    """Yield the ranks of an agent, not what will become a zygote."""
    for pid in agents.children(agent):
        with contextlib.suppress(OSError, StopIteration):
            agents.rank_of(pid)
            yield pid


def newest(server: instances.Instance, job: Any) -> progress.Mark:
    """Return what a rank told last; the status of a run is some seconds behind."""
    paths = server.home.glob(f"runs/*/{job.name}-a*-worker-*/g*/rank-*.progress")
    marks = (progress.mark(path) for path in paths)
    return max(marks, key=lambda mark: mark.time_s, default=progress.Mark())


@pytest.mark.timeout(LIMIT_S * 3)
@pytest.mark.parametrize("mode", SHAPES)
def test_kills_change_no_bit(server: instances.Instance, mode: str) -> None:
    sys.stdout.write(f"KILL_SEED={SEED}\n")
    chance = random.Random(SEED)
    calm = begin("calm", mode)
    calm.wait_until_finish(LIMIT_S)
    job = begin("struck", mode)
    wait_for("steps", lambda: newest(server, job).step > 0)
    victims = [victim for victim in VICTIMS[mode] for _ in range(KILLS)]
    chance.shuffle(victims)
    waits = []
    for victim in victims:
        before = (job.status().attempt, job.status().generation)
        ahead = newest(server, job).step + chance.randrange(10, 3 * EVERY)
        wait_for(f"step {ahead}", lambda ahead=ahead: newest(server, job).step >= ahead)
        assert newest(server, job).step < STEPS, "the run is too short for so many kills"
        begun = time.time()
        strike(server, job, victim, chance)
        if victim != "platform":
            wait_for(
                f"a restart after {victim}",
                lambda before=before: (job.status().attempt, job.status().generation) > before,
            )
        again = time.time()
        wait_for("a step", lambda again=again: newest(server, job).time_s > again)
        waits.append((victim, round(newest(server, job).time_s - begun, 2)))
    job.wait_until_finish(LIMIT_S)
    sys.stdout.write(f"{mode}: {len(victims)} kills, seconds to more steps {waits}\n")
    status = job.status()
    assert (status.phase, status.progress.step) == ("Succeeded", STEPS)
    assert same(calm.load_model(), job.load_model())
    lines = "\n".join(job.logs())
    starts = [int(step) for step in re.findall(r"starts at step (\d+)", lines)]
    assert all(step % EVERY == 0 for step in starts), starts


def same(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (value := found()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return value
