"""Experiments and jobs through the notebook SDK, against the real API."""

from __future__ import annotations

import asyncio
import io
import json
import pathlib
import threading
import zipfile
from typing import Any

import httpx
import pytest

from quintile.core import errors, meta, names
from quintile.sdk import (
    AsyncExperiment,
    Estimator,
    Experiment,
    HParams,
    InsideWorker,
    Job,
    RunConfig,
    blocking,
    connect_async,
)
from quintile.testing import waiting
from quintile_api import facts


def model_fn(hparams: dict[str, Any]) -> object:
    return hparams


def input_fn(split: str, hparams: dict[str, Any]) -> tuple[list[int], list[int]]:
    del split, hparams
    return [1], [1]


def submit(name: str = "first", **changes: Any) -> Experiment:
    wanted: dict[str, Any] = {
        "experiment_name": name,
        "description": "a test",
        "estimator": Estimator.NewClassificationEstimator(model_fn=model_fn),
        "hyper_parameters": HParams(iterations=200, batch_size=10, extra={"width": 8}),
        "run_config": RunConfig(no_of_workers=2, checkpoint_frequency_in_steps=50),
        "input_function": input_fn,
    }
    return Experiment.run(**(wanted | changes))


def document(world: Any, name: str) -> meta.Document:
    return world.resources.get(meta.Key("Experiment", "default", name))


@pytest.fixture
def job(world: Any, session: blocking.Session) -> Job:
    del session
    run = submit()
    world.trial("first", phase="Running", progress={"step": 20, "totalSteps": 200, "percent": 10})
    return run.get_single_job()


@pytest.mark.usefixtures("session")
class TestSubmitting:
    def test_the_spec_is_what_was_asked_for(self, world: Any) -> None:
        submit()
        spec = document(world, "first")["spec"]
        assert spec["description"] == "a test"
        assert {one["name"]: one["value"] for one in spec["hparams"]} == {
            "iterations": "200",
            "batch_size": "10",
            "width": "8",
        }
        assert spec["run"]["workers"]["replicas"] == 2
        assert spec["checkpoint"]["everySteps"] == 50
        bundle = spec["estimator"]["functions"]["bundle"]
        stored = world.app.state.context.objects.get(names.bundle_key(bundle))
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            header = json.loads(archive.read("header.json"))
            assert "functions.pkl" in archive.namelist()
        assert (header["format"], header["kind"]) == (1, "functions")

    def test_a_script_travels_with_its_folder(self, world: Any, tmp_path: pathlib.Path) -> None:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "train.py").write_text("import part\n")
        (tmp_path / "code" / "part.py").write_text("")
        estimator = Estimator.script(tmp_path / "code" / "train.py", args=["--lr", "0.1"])
        submit("script", estimator=estimator, input_function=None)
        script = document(world, "script")["spec"]["estimator"]["script"]
        assert (script["entry"], script["args"]) == ("train.py", ["--lr", "0.1"])

    def test_parameter_servers(self, world: Any) -> None:
        config = RunConfig(no_of_ps=5, no_of_workers=20, consistency="ssp", staleness=8)
        submit("ps", run_config=config)
        run = document(world, "ps")["spec"]["run"]
        assert run["workers"]["replicas"] == 20
        assert run["ps"] == {"replicas": 5, "consistency": "ssp", "staleness": 8}
        submit("usual", run_config=RunConfig(no_of_ps=1))
        usual = document(world, "usual")["spec"]["run"]["ps"]
        assert usual == {"replicas": 1, "consistency": "sync"}

    def test_a_run_needs_data(self) -> None:
        with pytest.raises(errors.InvalidSpec, match="no data"):
            submit(input_function=None)

    def test_a_dataset_that_is_not_there(self) -> None:
        with pytest.raises(errors.NotFound, match="digits"):
            submit(dataset_version_split="digits:1/holdout", input_function=None)

    def test_a_taken_name(self) -> None:
        submit()
        with pytest.raises(errors.Conflict):
            submit()

    def test_a_search_is_refused(self) -> None:
        with pytest.raises(errors.InvalidSpec, match="search"):
            submit(search={"algorithm": "grid"})

    def test_inside_of_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QUINTILE_RUN", "/run.json")
        monkeypatch.setenv("QUINTILE_AGENT_PID", "1")
        with pytest.raises(InsideWorker):
            submit()


class TestJob:
    def test_progress_and_the_end(self, world: Any, job: Job, capsys: Any) -> None:
        assert (job.phase, job.has_finished()) == ("Running", False)
        assert job.progress().step == 20
        waited: list[Job] = []
        waiting = threading.Thread(target=lambda: waited.append(job.wait_until_finish(20)))
        waiting.start()
        world.set_status(job.name, phase="Succeeded", progress={"step": 200, "totalSteps": 200})
        waiting.join(20)
        assert waited == [job]
        assert job.has_finished()
        assert f"{job.name}: Succeeded" in capsys.readouterr().err

    def test_a_failure_says_where_and_why(self, world: Any, job: Job) -> None:
        failure = {"rank": 1, "reason": "UserError", "message": "ValueError: no"}
        world.set_status(job.name, phase="Failed", reason="UserError", lastFailure=failure)
        with pytest.raises(
            errors.RunFailed, match=r"failed \(UserError\): rank 1: ValueError: no"
        ) as caught:
            job.wait_until_finish(20)
        assert caught.value.reason == "UserError"

    def test_patience_ends(self, job: Job) -> None:
        with pytest.raises(TimeoutError):
            job.wait_until_finish(0.2, show_progress=False)

    def test_stop_for_good(self, world: Any, job: Job) -> None:
        context = world.app.state.context
        reader = facts.TrialFactsReader(context.database, context.outbox)
        uid = world.resources.get(meta.Key("Trial", "default", job.name))["metadata"]["uid"]
        stopping = threading.Thread(target=lambda: job.stop(checkpoint=False, timeout_s=20))
        stopping.start()
        waiting.until(lambda: reader.trial(uid).stop_requested)
        world.set_status(job.name, phase="Stopped")
        stopping.join(20)
        assert not stopping.is_alive()
        assert job.phase == "Stopped"

    def test_suspend_and_resume(self, world: Any, job: Job) -> None:
        world.set_status(job.name, phase="Suspended")
        job.stop(timeout_s=20)
        assert document(world, "first")["spec"]["suspend"] is True
        job.resume()
        assert document(world, "first")["spec"].get("suspend", False) is False
        with pytest.raises(errors.Conflict, match="not suspended"):
            job.resume(from_="best")
        with pytest.raises(errors.InvalidSpec, match="no such checkpoint"):
            job.resume(from_="worst")  # type: ignore[arg-type]

    def test_a_tensorboard_link_opens_it(self, world: Any, job: Job) -> None:
        link = job.get_tensorboard_url().replace("http://localhost", world.url)
        with httpx.Client(follow_redirects=True, trust_env=False) as browser:
            page = browser.get(link)
        assert (page.status_code, page.url.query) == (200, b"")
        assert "<title>TensorBoard</title>" in page.text

    def test_nothing_published_yet(self, job: Job) -> None:
        assert job.artifacts() == []
        with pytest.raises(errors.NotFound):
            job.report()

    def test_cards_are_safe_html(self, job: Job) -> None:
        assert "Running" in job._repr_html_()


def test_the_async_twins_do_the_same(world: Any) -> None:
    async def steps() -> tuple[str, str, list[str]]:
        async with connect_async(url=world.url, token=world.token()) as session:
            run = await AsyncExperiment.run(
                session,
                experiment_name="first",
                estimator=Estimator.NewClassificationEstimator(model_fn=model_fn),
                input_function=input_fn,
            )
            world.trial("first", phase="Succeeded", progress={"step": 9, "totalSteps": 9})
            job = await run.get_single_job()
            await job.wait_until_finish(20, show_progress=False)
            assert await job.has_finished()
            assert [line async for line in job.logs(follow=True, rank=0)] == []
            with pytest.raises(errors.NotFound, match="evaluated"):
                await run.best()
            others = await AsyncExperiment.list(session)
            return await job.phase(), job.name, [one.name for one in others]

    assert asyncio.run(steps()) == ("Succeeded", "first-t0-abcdef", ["first"])
