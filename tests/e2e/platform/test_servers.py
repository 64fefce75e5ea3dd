"""The notebook of the beginning, word for word: 5 parameter servers, 20 workers, 2,000 images."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from quintile.sdk import Estimator, Experiment, HParams, RunConfig
from quintile.testing import agents, instances

pytestmark = pytest.mark.torch
LIMIT_S = 400


def my_model_fn(hparams: Any) -> Any:
    from torch import nn

    width = hparams.get("width", 16)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


def input_fn(split: str, _hparams: Any) -> Any:
    """Return 2,000 images to train on: 1,500 digits, and 500 of them once more with noise."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    if split == "eval":
        return images[1500:], digits.target[1500:]
    noise = np.random.default_rng(0).normal(scale=0.05, size=images[:500].shape)
    noisy = (images[:500] + noise).astype(np.float32)
    return (
        np.concatenate([images[:1500], noisy]),
        np.concatenate([digits.target[:1500], digits.target[:500]]),
    )


my_model_fn.__module__ = input_fn.__module__ = "__main__"


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.usefixtures("server")
def test_five_servers_and_twenty_workers() -> None:
    estimator = Estimator.NewClassificationEstimator(model_fn=my_model_fn)
    estimator = Estimator.create("hello", "Hello", estimator)
    exper = Experiment.run(
        experiment_name="hello",
        description="5 x 20",
        estimator=estimator,
        hyper_parameters=HParams(iterations=60, batch_size=10),
        run_config=RunConfig(
            no_of_ps=5,
            no_of_workers=20,
            summary_save_frequency=20,
            run_eval=True,
            use_gpu=False,
            checkpoint_frequency_in_steps=30,
        ),
        dataset_version_split=None,
        input_function=input_fn,
    )
    job = exper.get_single_job()
    job.wait_until_finish(LIMIT_S)
    status, report = job.status(), job.report()
    assert (status.phase, status.mode, status.restarts) == ("Succeeded", "ps", 0)
    assert status.progress.step == 60
    assert (report["world_size"], report["train_samples"]) == (20, 2000)
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.85
    told = report["parameter_servers"]
    assert (told["servers"], len(told["server_bytes"])) == (5, 5)
    assert told["imbalance"] <= 1.02
    assert told["pushes"] == [60] * 20


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("consistency", ["sync", "async"])
def test_killed_servers_are_survived(
    server: instances.Instance, consistency: Literal["sync", "async"]
) -> None:
    """First the rank of a server (in place), then the agent of one (another attempt)."""
    exper = Experiment.run(
        experiment_name="killed",
        description="2 x 2",
        estimator=Estimator.NewClassificationEstimator(model_fn=my_model_fn),
        hyper_parameters=HParams(iterations=6000, batch_size=10),
        run_config=RunConfig(
            no_of_ps=2,
            no_of_workers=2,
            summary_save_frequency=100,
            checkpoint_frequency_in_steps=100,
            consistency=consistency,
        ),
        input_function=input_fn,
    )
    job = exper.get_single_job()
    wait_for("the first checkpoint", lambda: job.status().checkpoint)
    [agent] = server.agents(f"{job.name}-a1-ps-1")
    [rank] = agents.trainers(agent)
    os.kill(rank, signal.SIGKILL)
    wait_for("the second generation", lambda: job.status().generation == 2)
    before = job.progress().step
    wait_for("more steps", lambda: job.progress().step > before + 100)
    assert server.kill_agents(f"{job.name}-a1-ps-0") == 1
    job.wait_until_finish(LIMIT_S)
    status, report = job.status(), job.report()
    assert (status.phase, status.mode) == ("Succeeded", "ps")
    assert status.progress.step == 6000
    assert (status.attempt, status.restarts) == (2, 1)
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.85
    starts = [line for line in job.logs() if "starts at step" in line]
    assert len(starts) >= 2


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LIMIT_S / 4
    while not (value := found()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return value
