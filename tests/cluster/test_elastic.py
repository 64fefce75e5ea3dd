"""``kubectl scale experiment`` on a real cluster: workers come in and leave at a checkpoint."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from quintile.testing import digit_imports

pytestmark = pytest.mark.timeout(400)
NAME = "elastic"
SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "version": 1},
    "estimator": {"builtin": {"model": "resnet8"}},
    "hparams": [
        {"name": "iterations", "value": "100000"},
        {"name": "batch_size", "value": "8"},
    ],
    "run": {
        "mode": "ddp",
        "workers": {"replicas": 1, "max": 2, "min": 1},
        "resources": {"memory": "1Gi"},
        "runEval": False,
    },
    "checkpoint": {"graceSeconds": 20, "everySteps": 50},
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


def scale(platform: Any, replicas: int) -> None:
    """What ``kubectl scale experiment elastic --replicas=...`` sends."""
    path = platform.path("experiments", f"{NAME}/scale")
    platform.kube.patch(path, {"spec": {"replicas": replicas}})


def until_workers(platform: Any, count: int) -> dict[str, Any]:
    """Wait until so many workers train; return the status."""

    def told(status: dict[str, Any]) -> bool:
        return status.get("phase") == "Running" and status.get("workers") == count

    found: dict[str, Any] = platform.until_told(NAME, told)
    return found


@pytest.mark.usefixtures("digits")
def test_a_run_is_scaled_by_the_scale_subresource(platform: Any) -> None:
    platform.submit(NAME, SPEC)
    until_workers(platform, 1)
    scale(platform, 2)
    grown = until_workers(platform, 2)
    assert platform.condition(NAME, "Resized")["message"] == "1 -> 2 workers: with worker-1"
    platform.until_told(NAME, lambda status: status["progress"]["step"] > 0)
    scale(platform, 1)
    shrunk = until_workers(platform, 1)
    assert platform.condition(NAME, "Resized")["message"] == "2 -> 1 workers: without worker-1"
    assert (shrunk["attempt"], shrunk.get("restarts", 0)) == (1, 0)
    assert shrunk["generation"] > grown["generation"] > 1
    platform.until(lambda: len(platform.pods(NAME)) == 1)
    path = platform.path("experiments", f"{NAME}/scale")
    platform.until(lambda: platform.kube.get(path)["status"]["replicas"] == 1)
    platform.remove(NAME)
