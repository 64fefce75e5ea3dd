"""``kubectl scale experiment`` on a real cluster: 2 -> 4 -> 2 workers, every sample once.

Every rank prints which samples it takes. Between the sizes all ranks leave at a checkpoint, so
nothing is done twice, and each sample must be in the logs once per epoch, however many pods
shared it.
"""

from __future__ import annotations

import collections
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
NAME = "elastic"
ITEMS = 60
BATCH = 4
"""Of one worker; with the two that are submitted a step has 8 samples, and an epoch 8 steps."""
EPOCHS = 100


def model_fn(_hparams: Any) -> Any:
    from torch import nn

    return nn.Linear(4, 2)


def input_fn(split: str, _hparams: Any) -> Any:
    import time

    import torch

    class Printed(torch.utils.data.Dataset[Any]):
        """Prints every sample that is taken."""

        def __len__(self) -> int:
            return 60

        def __getitem__(self, item: int) -> Any:
            time.sleep(0.02)
            print(f"taken {item}", flush=True)  # noqa: T201
            return torch.full((4,), float(item)), item % 2

    return Printed() if split == "train" else None


model_fn.__module__ = input_fn.__module__ = "__main__"


@pytest.fixture
def job(platform: Any) -> Iterator[Any]:
    """A run of two workers that may become four."""
    session = blocking.connect(url=platform.url, token=platform.token, project=platform.namespace)
    made = Experiment.run(
        experiment_name=NAME,
        estimator=Estimator.NewClassificationEstimator(model_fn=model_fn),
        hyper_parameters=HParams(batch_size=BATCH, epochs=EPOCHS),
        run_config=RunConfig(
            mode="ddp",
            no_of_workers=2,
            min_workers=1,
            max_workers=4,
            checkpoint_frequency_in_steps=50,
            deterministic=True,
            run_eval=False,
            memory="1Gi",
        ),
        input_function=input_fn,
    )
    yield made.get_single_job()
    session.close()
    blocking.forget()
    platform.remove(NAME)


def scale(platform: Any, replicas: int) -> None:
    words = ("kubectl", "--namespace", platform.namespace, "scale", "experiment", NAME)
    subprocess.run([*words, f"--replicas={replicas}"], check=True, capture_output=True)


def until_workers(platform: Any, count: int) -> dict[str, Any]:
    """Wait until so many workers take steps; return the status."""

    def told(status: dict[str, Any]) -> bool:
        return status.get("phase") == "Running" and status.get("workers") == count

    step = platform.until_told(NAME, told)["progress"]["step"]
    found: dict[str, Any] = platform.until_told(
        NAME, lambda status: told(status) and status["progress"]["step"] > step
    )
    return found


def test_a_run_is_scaled_from_two_pods_to_four_and_back(platform: Any, job: Any) -> None:
    until_workers(platform, 2)
    scale(platform, 4)
    grown = until_workers(platform, 4)
    assert len(platform.pods(NAME)) == 4
    message = platform.condition(NAME, "Resized")["message"]
    assert message == "2 -> 4 workers: with worker-2, worker-3"
    scale(platform, 2)
    shrunk = until_workers(platform, 2)
    message = platform.condition(NAME, "Resized")["message"]
    assert message == "4 -> 2 workers: without worker-2, worker-3"
    assert shrunk["generation"] > grown["generation"] > 1
    path = platform.path("experiments", f"{NAME}/scale")
    platform.until(lambda: platform.kube.get(path)["status"]["replicas"] == 2)
    status = platform.until_phase(NAME, "Succeeded")
    assert (status["attempt"], status.get("restarts", 0)) == (1, 0)
    assert status["progress"]["step"] == 8 * EPOCHS
    taken = collections.Counter(re.findall(r"taken (\d+)", "\n".join(job.logs())))
    assert taken == {str(item): EPOCHS for item in range(ITEMS)}
