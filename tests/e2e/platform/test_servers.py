"""The notebook of the beginning, word for word: 5 parameter servers, 20 workers, 2,000 images."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.sdk import Estimator, Experiment, HParams, RunConfig
from quintile.testing import instances

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


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[instances.Instance]:
    with instances.Instance(tmp_path / "home") as running:
        monkeypatch.setenv("QUINTILE_URL", running.url)
        monkeypatch.setenv("QUINTILE_TOKEN", running.token)
        yield running


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
