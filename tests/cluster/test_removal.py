"""A project is deleted in the middle of its runs, and no operator is there to help."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from quintile.core import errors
from quintile.testing import digit_imports, waiting

pytestmark = pytest.mark.timeout(600)
REMOVED_S = 120.0
WORKERS = {"workers": {"replicas": 2}}
SHAPES: dict[str, dict[str, Any]] = {
    "single": {"mode": "single"},
    "ddp": {"mode": "ddp", **WORKERS},
    "elastic": {"mode": "ddp", "workers": {"replicas": 2, "min": 1, "max": 2}},
    "horovod-gloo": {"mode": "horovod", **WORKERS},
    "horovod-mpi": {"mode": "horovod", "horovod": {"controller": "mpi"}, **WORKERS},
    "mpi": {"mode": "mpi", **WORKERS},
    "ps": {"mode": "ps", "ps": {"replicas": 1}, **WORKERS},
}


@pytest.fixture
def digits(platform: Any) -> None:
    """The dataset and its labels."""

    async def prepare() -> None:
        async with platform.client() as client:
            await digit_imports.import_digits(
                client, items=300, labelled=True, project=platform.namespace
            )

    anyio.run(prepare)


@pytest.mark.usefixtures("digits")
def test_a_project_goes_with_its_runs_while_no_operator_works(platform: Any) -> None:
    for name, shape in SHAPES.items():
        spec = {
            "dataset": {"name": "digits", "version": 1},
            "estimator": {"builtin": {"model": "resnet8"}},
            "hparams": [{"name": "iterations", "value": "100000"}],
            "run": {"resources": {"memory": "1Gi"}, "runEval": False, **shape},
            "checkpoint": {"graceSeconds": 20},
        }
        platform.submit(name, spec)
    for name in SHAPES:
        platform.until_phase(name, "Running")
    assert platform.driver.stop()
    platform.executor.close()
    platform.kube.delete(f"/api/v1/namespaces/{platform.namespace}")
    waiting.until(lambda: gone(platform), timeout_s=REMOVED_S, look_s=0.5)


def gone(platform: Any) -> bool:
    try:
        platform.kube.get(f"/api/v1/namespaces/{platform.namespace}")
    except errors.NotFound:
        return True
    return False
