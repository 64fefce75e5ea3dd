"""``AsyncJob``: one trial of an experiment, for code that awaits. ``Job`` is its blocking twin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from quintile.core import errors

if TYPE_CHECKING:
    from quintile.core import experiment
    from quintile.sdk import async_session, estimators, run_calls, step_times, views

TERMINAL: Final = ("Succeeded", "Failed", "Stopped")
Points = dict[str, list[tuple[int, float]]]


class AsyncJob:
    """One set of hyperparameters being trained (a Trial on the server).

    The methods are those of ``Job``, to be awaited; what they raise is said there.
    """

    def __init__(
        self,
        session: async_session.AsyncSession,
        name: str,
        *,
        experiment: str,
        model_fn: estimators.Function | None = None,
    ) -> None:
        self._session = session
        self.name = name
        self.experiment = experiment
        self._model_fn = model_fn

    def __repr__(self) -> str:
        return f"<AsyncJob {self.name}>"

    async def status(self) -> experiment.TrialStatus:
        """Return the state of now; one without a phase of its own while it is queued."""
        from quintile.core import experiment

        found = await self._calls.get(self._project, self.name)
        return found.status or experiment.TrialStatus()

    async def phase(self) -> str:
        """Return Pending, Running, Restarting, Suspended, Succeeded, Failed or Stopped."""
        return str((await self.status()).phase)

    async def has_finished(self) -> bool:
        """Return whether the job has ended, well or not."""
        return await self.phase() in TERMINAL

    async def progress(self) -> experiment.Progress:
        """Return step, total steps, percent, and the newest metrics."""
        return (await self.status()).progress

    async def wait_until_finish(
        self, timeout_s: float | None = None, *, show_progress: bool = True
    ) -> AsyncJob:
        """Wait until the job has ended; show how far it is."""
        from quintile.sdk import following, progress

        with progress.Progress(self.name, shown=show_progress) as shown:
            await following.trial_end(
                self._session, self.name, timeout_s=timeout_s, on_poll=following.shower(shown)
            )
        return self

    async def logs(
        self, *, follow: bool = False, rank: int | None = None, tail: int | None = None
    ) -> AsyncIterator[str]:
        """Yield log lines; with ``follow``, until the job has ended."""
        read = self._calls.follow if follow else self._calls.logs
        async for line in read(self._project, self.name, rank=rank, tail=tail):
            yield line.line

    async def metrics(self, *names: str, max_points: int = 1000) -> Points:
        """Return (step, value) points by metric, along the steps that count; all by default."""
        found = await self._calls.metrics(
            self._project, self.name, names=names, max_points=max_points
        )
        return {
            series.name: [
                (step, value)
                for step, value in zip(series.steps, series.values, strict=True)
                if value is not None
            ]
            for series in found.series
        }

    async def breakdown(self) -> step_times.Breakdown:
        """Return where the time of a step goes, as last reported, and the goodput of the run."""
        from quintile.sdk import step_times

        return step_times.read(await self.metrics(max_points=1), job=self.name)

    async def to_dataframe(self, *names: str) -> Any:
        """Return the metrics as a pandas DataFrame: a row per step, a column per metric."""
        from quintile.sdk import frames

        return frames.of_metrics(await self.metrics(*names, max_points=10_000))

    async def checkpoints(self) -> Sequence[views.Checkpoint]:
        """Return the committed checkpoints, newest first."""
        return await self._calls.checkpoints(self._project, self.name)

    async def stop(self, *, checkpoint: bool = True, timeout_s: float = 120.0) -> AsyncJob:
        """Stop the job and wait until it has stopped; ``checkpoint`` keeps it resumable."""
        from quintile.sdk import following

        calls = self._session.client.experiments
        await calls.stop(self._project, self.experiment, suspend=checkpoint)
        ends = (*TERMINAL, "Suspended")
        await following.trial_end(
            self._session, self.name, timeout_s=timeout_s, ends=ends, fail=False
        )
        return self

    async def resume(self, from_: Literal["newest", "best"] = "newest") -> AsyncJob:
        """Go on with a suspended job from its newest or its best checkpoint."""
        if from_ not in ("newest", "best"):
            raise errors.InvalidSpec(
                f"resume(from_={from_!r}): there is no such checkpoint.",
                hint='Use "newest" or "best".',
                field="from_",
            )
        await self._session.client.experiments.resume(self._project, self.experiment, start=from_)
        return self

    async def scale(self, workers: int) -> AsyncJob:
        """Give an elastic job another number of workers; it goes on from a checkpoint."""
        calls = self._session.client.experiments
        await calls.scale(self._project, self.experiment, workers=workers)
        return self

    async def artifacts(self) -> Sequence[views.Artifact]:
        """Return what the job published: model, report, event files."""
        return await self._calls.artifacts(self._project, self.name)

    async def download_artifacts(self, folder: str | Path) -> list[Path]:
        """Write the published files into a folder; return their paths."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        paths = []
        for one in await self.artifacts():
            path = place / Path(one.name).name
            await asyncio.to_thread(path.write_bytes, await self._artifact(one.name))
            paths.append(path)
        return paths

    async def report(self) -> dict[str, Any]:
        """Return the report of a finished job: steps, speed, metrics, evaluation."""
        found: dict[str, Any] = json.loads(await self._artifact("report.json"))
        return found

    async def load_model(self, model_fn: estimators.Function | None = None) -> Any:
        """Return the trained model, in evaluation mode."""
        from quintile.sdk import trained

        about: Mapping[str, Any] = json.loads(await self._artifact("model.json"))
        found = await self._calls.get(self._project, self.name)
        hparams = {one.name: one.value for one in found.spec.hparams}
        weights = await self._artifact("model.safetensors")
        return trained.load(about, weights, hparams=hparams, model_fn=model_fn or self._model_fn)

    async def get_tensorboard_url(self) -> str:
        """Start the experiment's TensorBoard unless it runs; return a link for a browser."""
        return await self._session.client.experiments.tensorboard(self._project, self.experiment)

    @property
    def _project(self) -> str:
        return self._session.project

    @property
    def _calls(self) -> run_calls.TrialCalls:
        return self._session.client.trials

    async def _artifact(self, name: str) -> bytes:
        return await self._calls.artifact(self._project, self.name, name)
