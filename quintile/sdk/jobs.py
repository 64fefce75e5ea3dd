"""``Job``: one trial of an experiment, for notebooks. Every call is one of ``AsyncJob``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quintile.sdk import async_jobs, blocking

if TYPE_CHECKING:
    from quintile.core import experiment
    from quintile.sdk import estimators, step_times, views

TERMINAL = async_jobs.TERMINAL


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
        self._aio = async_jobs.AsyncJob(session.aio, name, experiment=experiment, model_fn=model_fn)

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
        return self._session.run(self._aio.status())

    @property
    def phase(self) -> str:
        """Return Pending, Running, Restarting, Suspended, Succeeded, Failed or Stopped."""
        return self._session.run(self._aio.phase())

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
        self._session.run(self._aio.wait_until_finish(timeout_s, show_progress=show_progress))
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
        return self._session.iterate(self._aio.logs(follow=follow, rank=rank, tail=tail))

    def metrics(self, *names: str, max_points: int = 1000) -> async_jobs.Points:
        """Return (step, value) points by metric, along the steps that count; all by default."""
        return self._session.run(self._aio.metrics(*names, max_points=max_points))

    def breakdown(self) -> step_times.Breakdown:
        """Return where the time of a step goes, as last reported, and the goodput of the run.

        Raises:
            NotFound: The job has reported none; scripts never do.
        """
        return self._session.run(self._aio.breakdown())

    def to_dataframe(self, *names: str) -> Any:
        """Return the metrics as a pandas DataFrame: a row per step, a column per metric.

        Raises:
            InvalidSpec: pandas is not installed here.
        """
        return self._session.run(self._aio.to_dataframe(*names))

    def checkpoints(self) -> Sequence[views.Checkpoint]:
        """Return the committed checkpoints, newest first."""
        return self._session.run(self._aio.checkpoints())

    def stop(self, *, checkpoint: bool = True, timeout_s: float = 120.0) -> Job:
        """Stop the job and wait until it has stopped.

        Args:
            checkpoint: Keep it resumable: it is ``Suspended`` and ``resume`` goes on from the state
                that it saves. Without, it ends for good as ``Stopped``.
            timeout_s: How long to wait.

        Raises:
            TimeoutError: It did not stop in time; it was asked to all the same.
        """
        self._session.run(self._aio.stop(checkpoint=checkpoint, timeout_s=timeout_s))
        return self

    def resume(self, from_: Literal["newest", "best"] = "newest") -> Job:
        """Go on with a suspended job, as a new attempt.

        Args:
            from_: ``newest``, or ``best``: from the checkpoint with the best evaluation. The work
                after that one is given up, with its checkpoints and metric points.

        Raises:
            Conflict: The job has ended, or (``best``) it still runs or was never evaluated.
            InvalidSpec: Another checkpoint is asked for.
        """
        self._session.run(self._aio.resume(from_))
        return self

    def scale(self, workers: int) -> Job:
        """Give an elastic job another number of workers; it goes on from a checkpoint.

        Args:
            workers: How many, between ``min_workers`` and ``max_workers`` of its ``RunConfig``.

        Raises:
            Conflict: The job has ended.
            InvalidSpec: It is not elastic, or the number is out of bounds.
        """
        self._session.run(self._aio.scale(workers))
        return self

    def artifacts(self) -> Sequence[views.Artifact]:
        """Return what the job published: model, report, event files."""
        return self._session.run(self._aio.artifacts())

    def download_artifacts(self, folder: str | Path) -> list[Path]:
        """Write the published files into a folder; return their paths."""
        return self._session.run(self._aio.download_artifacts(folder))

    def report(self) -> dict[str, Any]:
        """Return the report of a finished job: steps, speed, metrics, evaluation.

        Raises:
            NotFound: The job has published none yet.
        """
        return self._session.run(self._aio.report())

    def load_model(self, model_fn: estimators.Function | None = None) -> Any:
        """Return the trained model, in evaluation mode.

        Args:
            model_fn: Builds the module; needed for a job of your own functions that another
                notebook submitted.

        Raises:
            NotFound: The job has published no model yet.
            InvalidSpec: torch is not installed here, or ``model_fn`` is missing.
        """
        return self._session.run(self._aio.load_model(model_fn))

    def get_tensorboard_url(self) -> str:
        """Start the experiment's TensorBoard unless it runs; return a link for a browser.

        The link works once and for ten minutes; the browser that opened it may look for as long as
        a sign-in lasts. TensorBoard ends when nobody looks at it for half an hour.

        Raises:
            Unavailable: The server has no TensorBoard, or it did not start.
        """
        return self._session.run(self._aio.get_tensorboard_url())


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
