"""A trial in every mode runs to its end in pods of a real cluster."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from quintile.core import datasets
from quintile.testing import digit_imports

pytestmark = pytest.mark.timeout(300)
WORKERS = {"workers": {"replicas": 2}}
MODES = [
    pytest.param({"mode": "single"}, id="single"),
    pytest.param({"mode": "ddp", **WORKERS}, id="ddp"),
    pytest.param({"mode": "horovod", **WORKERS}, id="horovod-gloo"),
    pytest.param(
        {"mode": "horovod", "horovod": {"controller": "mpi"}, **WORKERS}, id="horovod-mpi"
    ),
    pytest.param({"mode": "mpi", **WORKERS}, id="mpi"),
    pytest.param({"mode": "ps", "ps": {"replicas": 2}, **WORKERS}, id="ps"),
]


@pytest.fixture(scope="module")
def digits(platform: Any) -> str:
    """The dataset, its labels and a split."""

    async def prepare() -> None:
        async with platform.client() as client:
            await digit_imports.import_digits(
                client, items=600, labelled=True, project=platform.namespace
            )
            split = datasets.SplitCreate(name="holdout", parts={"test": "0.2"})
            await client.datasets.create_split(platform.namespace, "digits", 1, split)

    anyio.run(prepare)
    return "digits"


@pytest.mark.parametrize("shape", MODES)
def test_a_built_in_model_learns_in_pods(
    platform: Any, digits: str, shape: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = f"digits-{request.node.callspec.id}"
    spec = {
        "dataset": {"name": digits, "version": 1, "split": "holdout"},
        "estimator": {"builtin": {"model": "resnet8"}},
        "hparams": [
            {"name": "iterations", "value": "60"},
            {"name": "batch_size", "value": "32"},
        ],
        "run": {**shape, "resources": {"memory": "1Gi"}},
        "checkpoint": {"graceSeconds": 5},
    }
    platform.submit(name, spec)
    status = platform.until_phase(name, "Succeeded")
    assert (status["attempt"], status.get("restarts", 0)) == (1, 0)
    assert status["progress"]["step"] == 60
    platform.remove(name)
