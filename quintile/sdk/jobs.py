"""``Job``: one trial of an experiment, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quintile.core import errors
from quintile.sdk import blocking

if TYPE_CHECKING:
    from quintile.core import experiment
    from quintile.sdk import estimators, run_calls, views

TERMINAL: Final = ("Succeeded", "Failed", "Stopped")


class Job:
    """One set of hyperparameters being trained (a Trial on the server)."""

    def __init__(
        self,
        session: blocking.Session,
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
        return f"<Job {self.name}>"

    def _repr_html_(self) -> str:
        status = self.status()
        done = status.progress
        metrics = ", ".join(f"{one.name} {_short(one.value)}" for one in done.metrics)
        rows = {
            "phase": f"{status.phase} {status.message}".strip(),
            "step": f"{done.step:,} of {done.total_steps:,} ({done.percent} %)",
            "metrics": metrics or "none yet",
            "restarts": str(status.restarts + status.in_place_restarts),
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<b>{escape(self.name)}</b><table>{cells}</table>"

    def status(self) -> experiment.TrialStatus:
        """Return the state of now; one without a phase of its own while it is queued."""
        from quintile.core import experiment

        found = self._session.run(self._calls.get(self._session.project, self.name))
        return found.status or experiment.TrialStatus()

    @property
    def phase(self) -> str:
        """Return Pending, Running, Restarting, Suspended, Succeeded, Failed or Stopped."""
        return str(self.status().phase)

    def has_finished(self) -> bool:
        """Return whether the job has ended, well or not."""
        return self.phase in TERMINAL

    def progress(self) -> experiment.Progress:
        """Return step, total steps, percent, and the newest metrics."""
        return self.status().progress

    def wait_until_finish(
        self, timeout_s: float | None = None, *, show_progress: bool = True
    ) -> Job:
        """Block until the job has ended; show how far it is.

        Raises:
            RunFailed: It failed; says why.
            TimeoutError: It took longer than ``timeout_s``.
        """
        from quintile.sdk import following, progress

        with progress.Progress(self.name, shown=show_progress) as shown:
            following.wait_trial(
                self._session, self.name, timeout_s=timeout_s, on_poll=following.shower(shown)
            )
        return self

    def logs(
        self, *, follow: bool = False, rank: int | None = None, tail: int | None = None
    ) -> Iterator[str]:
        """Yield log lines.

        Args:
            follow: Go on with new lines until the job has ended.
            rank: Of one rank; None = all.
            tail: Begin with the last ``tail`` lines; None = at the start.
        """
        read = self._calls.follow if follow else self._calls.logs
        lines = read(self._session.project, self.name, rank=rank, tail=tail)
        for line in self._session.iterate(lines):
            yield line.line

    def metrics(self, *names: str, max_points: int = 1000) -> dict[str, list[tuple[int, float]]]:
        """Return (step, value) points by metric, along the steps that count; all by default."""
        found = self._session.run(
            self._calls.metrics(
                self._session.project, self.name, names=names, max_points=max_points
            )
        )
        return {
            series.name: [
                (step, value)
                for step, value in zip(series.steps, series.values, strict=True)
                if value is not None
            ]
            for series in found.series
        }

    def checkpoints(self) -> Sequence[views.Checkpoint]:
        """Return the committed checkpoints, newest first."""
        return self._session.run(self._calls.checkpoints(self._session.project, self.name))

    def stop(self, *, checkpoint: bool = True, timeout_s: float = 120.0) -> Job:
        """Stop the job and wait until it has stopped.

        Args:
            checkpoint: Keep it resumable: it is ``Suspended`` and ``resume`` goes on from the state
                that it saves. Without, it ends for good as ``Stopped``.
            timeout_s: How long to wait.

        Raises:
            TimeoutError: It did not stop in time; it was asked to all the same.
        """
        from quintile.sdk import following

        calls, project = self._session.client.experiments, self._session.project
        self._session.run(calls.stop(project, self.experiment, suspend=checkpoint))
        following.wait_trial(
            self._session, self.name, timeout_s=timeout_s, ends=(*TERMINAL, "Suspended"), fail=False
        )
        return self

    def resume(self, from_: str = "newest") -> Job:
        """Go on with a suspended job from its newest checkpoint.

        Raises:
            Conflict: The job has ended.
            InvalidSpec: Another checkpoint is asked for.
        """
        if from_ != "newest":
            raise errors.InvalidSpec(
                f"resume(from_={from_!r}) is not in this release.",
                hint="Leave it out: a job goes on from its newest checkpoint.",
                field="from_",
            )
        calls, project = self._session.client.experiments, self._session.project
        self._session.run(calls.resume(project, self.experiment))
        return self

    def artifacts(self) -> Sequence[views.Artifact]:
        """Return what the job published: model, report, event files."""
        return self._session.run(self._calls.artifacts(self._session.project, self.name))

    def download_artifacts(self, folder: str | Path) -> list[Path]:
        """Write the published files into a folder; return their paths."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        paths = []
        for one in self.artifacts():
            path = place / Path(one.name).name
            path.write_bytes(self._artifact(one.name))
            paths.append(path)
        return paths

    def report(self) -> dict[str, Any]:
        """Return the report of a finished job: steps, speed, metrics, evaluation.

        Raises:
            NotFound: The job has published none yet.
        """
        import json

        found: dict[str, Any] = json.loads(self._artifact("report.json"))
        return found

    def load_model(self, model_fn: estimators.Function | None = None) -> Any:
        """Return the trained model, in evaluation mode.

        Args:
            model_fn: Builds the module; needed for a job of your own functions that another
                notebook submitted.

        Raises:
            NotFound: The job has published no model yet.
            InvalidSpec: torch is not installed here, or ``model_fn`` is missing.
        """
        import json

        from quintile.sdk import trained

        about = json.loads(self._artifact("model.json"))
        found = self._session.run(self._calls.get(self._session.project, self.name))
        hparams = {one.name: one.value for one in found.spec.hparams}
        weights = self._artifact("model.safetensors")
        return trained.load(about, weights, hparams=hparams, model_fn=model_fn or self._model_fn)

    def get_tensorboard_url(self) -> str:
        """Start the experiment's TensorBoard unless it runs; return a link for a browser.

        The link works once and for ten minutes; the browser that opened it may look for as long as
        a sign-in lasts. TensorBoard ends when nobody looks at it for half an hour.

        Raises:
            Unavailable: The server has no TensorBoard, or it did not start.
        """
        calls, project = self._session.client.experiments, self._session.project
        return self._session.run(calls.tensorboard(project, self.experiment))

    @property
    def _calls(self) -> run_calls.TrialCalls:
        return self._session.client.trials

    def _artifact(self, name: str) -> bytes:
        return self._session.run(self._calls.artifact(self._session.project, self.name, name))


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
