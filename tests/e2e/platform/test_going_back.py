"""On a running platform: back to the best checkpoint, and a script that reads exactly."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import anyio
import pytest

from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import digit_imports, instances, waiting

pytestmark = [pytest.mark.torch, pytest.mark.timeout(120)]
LIMIT_S = 100
SCRIPT = pathlib.Path(__file__).parents[3] / "examples" / "reader" / "train.py"


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with instances.Instance(tmp_path_factory.mktemp("back") / "home") as running:

        async def prepare() -> None:
            async with running.client() as client:
                await digit_imports.import_digits(client, items=300, labelled=True)

        anyio.run(prepare)
        session = blocking.connect(url=running.url, token=running.token)
        yield
        session.close()
        blocking.forget()


@pytest.mark.usefixtures("_server")
def test_a_job_goes_on_from_its_best_checkpoint() -> None:
    run = Experiment.run(
        experiment_name="back",
        estimator=Estimator.builtin("resnet8"),
        # Nothing is learnt at such a rate: the first checkpoint stays the best, or near it.
        hyper_parameters=HParams(
            iterations=100_000, batch_size=8, learning_rate=1e-9, eval_every=10
        ),
        run_config=RunConfig(checkpoint_frequency_in_steps=10),
        dataset_version_split="digits:1",
    )
    job = run.get_single_job()
    waiting.until(lambda: job.progress().step >= 60, timeout_s=60)
    job.stop(timeout_s=60)
    assert job.phase == "Suspended"
    rated = [one for one in job.checkpoints() if "eval/accuracy" in one.metrics]
    best = max(rated, key=lambda one: (one.metrics["eval/accuracy"], -one.step))
    newest = job.checkpoints()[0]
    assert best.step < newest.step
    job.resume(from_="best")
    waiting.until(lambda: job.status().attempt == 2 and job.phase == "Running", timeout_s=60)
    assert [one.step for one in job.checkpoints() if one.attempt == 1][:1] == [best.step]
    waiting.until(lambda: any(one.attempt == 2 for one in job.checkpoints()), timeout_s=60)
    first = min(one.step for one in job.checkpoints() if one.attempt == 2)
    assert best.step < first
    job.stop(checkpoint=False, timeout_s=60)


@pytest.mark.usefixtures("_server")
def test_a_script_reads_the_dataset_and_its_checkpoints_know_the_place() -> None:
    job = Experiment.run(
        experiment_name="reader",
        estimator=Estimator.script(SCRIPT, args=["--epochs", "3"]),
        run_config=RunConfig(mode="ddp", no_of_workers=2),
        dataset_version_split="digits:1",
    ).get_single_job()
    job.wait_until_finish(LIMIT_S, show_progress=False)
    last = job.checkpoints()[0]
    assert (last.epoch, last.step % 3) == (3, 0)
    assert job.status().sample_accounting == "exact"
    lines = list(job.logs())
    assert sum("right on this rank" in line for line in lines) == 2
    assert not any("sampleAccounting" in line for line in lines)
