"""Every mode with every kind of estimator, on digits, through the SDK of a running platform."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from quintile.core import datasets
from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import digit_imports, instances

pytestmark = [pytest.mark.torch, pytest.mark.timeout(120)]
LIMIT_S = 100
EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"
HOROVOD = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="no Horovod here: run `make horovod`"
)
MPI = pytest.mark.skipif(
    shutil.which("mpirun") is None, reason="no Open MPI here: apt-get install openmpi-bin"
)
PS = {"no_of_ps": 2, "no_of_workers": 2}
MODES = [
    pytest.param({"mode": "single"}, id="single"),
    pytest.param({"mode": "ddp", "no_of_workers": 2}, id="ddp"),
    pytest.param({"mode": "horovod", "no_of_workers": 2}, id="horovod-gloo", marks=HOROVOD),
    pytest.param(
        {"mode": "horovod", "no_of_workers": 2, "horovod_controller": "mpi"},
        id="horovod-mpi",
        marks=[HOROVOD, MPI],
    ),
    pytest.param({"mode": "mpi", "no_of_workers": 2}, id="mpi", marks=[HOROVOD, MPI]),
    pytest.param({**PS, "consistency": "sync"}, id="ps-sync"),
    pytest.param({**PS, "consistency": "ssp"}, id="ps-ssp"),
    pytest.param({**PS, "consistency": "async"}, id="ps-async"),
]
SCRIPTS = {
    "horovod": ("horovod", []),
    "mpi": ("horovod", []),
    "servers": ("servers", ["--steps", "100"]),
}


def my_model_fn(hparams: Any) -> Any:
    from torch import nn

    width = hparams.get("width", 32)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


def input_fn(split: str, _hparams: Any) -> Any:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    held_out = np.arange(len(images)) % 5 == 0
    chosen = held_out if split == "eval" else ~held_out
    return images[chosen], digits.target[chosen]


my_model_fn.__module__ = input_fn.__module__ = "__main__"


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A platform with the digits, their labels and a split."""
    with instances.Instance(tmp_path_factory.mktemp("modes") / "home") as running:

        async def prepare() -> None:
            async with running.client() as client:
                await digit_imports.import_digits(client, items=1797, labelled=True)
                split = datasets.SplitCreate(name="holdout", parts={"test": "0.2"})
                await client.datasets.create_split("default", "digits", 1, split)

        anyio.run(prepare)
        session = blocking.connect(url=running.url, token=running.token)
        yield
        session.close()
        blocking.forget()


def finished(name: str, **words: Any) -> Any:
    """Run to the end; return the job, which succeeded."""
    job = Experiment.run(experiment_name=name, **words).get_single_job()
    job.wait_until_finish(LIMIT_S)
    status = job.status()
    assert status.phase == "Succeeded", [*status.conditions, *job.logs()][-40:]
    return job


@pytest.mark.usefixtures("_server")
@pytest.mark.parametrize("shape", MODES)
def test_a_built_in_model(shape: dict[str, Any], request: pytest.FixtureRequest) -> None:
    job = finished(
        f"builtin-{request.node.callspec.id}",
        estimator=Estimator.builtin("resnet8"),
        hyper_parameters=HParams(iterations=160, batch_size=32),
        run_config=RunConfig(**shape),
        dataset_version_split="digits:1/holdout",
    )
    report = job.report()
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.8
    assert 0 < report["breakdown"]["goodput"] < 1
    found = job.breakdown()
    assert found.goodput is not None and 0 < found.goodput < 1
    assert found.parts.keys() == report["breakdown"]["seconds"].keys()


@pytest.mark.usefixtures("_server")
@pytest.mark.parametrize("shape", MODES)
def test_functions(shape: dict[str, Any], request: pytest.FixtureRequest) -> None:
    job = finished(
        f"functions-{request.node.callspec.id}",
        estimator=Estimator.NewClassificationEstimator(model_fn=my_model_fn),
        hyper_parameters=HParams(iterations=120, batch_size=32),
        run_config=RunConfig(**shape),
        input_function=input_fn,
    )
    assert job.report()["evaluation"]["metrics"]["accuracy"] >= 0.8


@pytest.mark.usefixtures("_server")
@pytest.mark.parametrize("shape", MODES)
def test_a_script(shape: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """The scripts of the examples: each in the way of its own library."""
    mode = "servers" if "no_of_ps" in shape else shape["mode"]
    folder, arguments = SCRIPTS.get(mode, ("script", ["--steps", "60"]))
    job = finished(
        f"script-{request.node.callspec.id}",
        estimator=Estimator.script(EXAMPLES / folder / "train.py", args=arguments),
        hyper_parameters=HParams(),
        run_config=RunConfig(**shape),
    )
    assert any("accuracy" in line for line in job.logs())
