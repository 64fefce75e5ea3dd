"""Waiting for trials and labeling jobs, and the words that are shown meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from quintile.core import conditions, errors, experiment, labeling_job
from quintile.sdk import waiting

if TYPE_CHECKING:
    from quintile.sdk import async_session, progress
    from quintile.sdk.client import AsyncClient

OnTrial = Callable[[experiment.Trial], None]
TERMINAL = ("Succeeded", "Failed", "Stopped")
SEEN_S = 60.0
"""How long a new experiment may take until its first trial is there."""


async def trial_end(
    session: async_session.AsyncSession,
    name: str,
    *,
    timeout_s: float | None = None,
    ends: Sequence[str] = TERMINAL,
    fail: bool = True,
    on_poll: OnTrial | None = None,
) -> experiment.Trial:
    """Wait until a trial is in one of the phases ``ends``.

    Raises:
        RunFailed: It failed, and ``fail`` is set.
        TimeoutError: It took longer than ``timeout_s``.
    """

    async def load() -> experiment.Trial:
        return await session.client.trials.get(session.project, name)

    found = await waiting.until(
        load,
        lambda trial: phase(trial) in ends,
        what=f"Job {name}",
        timeout_s=timeout_s,
        on_poll=on_poll,
    )
    if fail:
        refuse_failure(found)
    return found


async def first_trial(client: AsyncClient, project: str, experiment_name: str) -> str:
    """Return the name of the first trial of an experiment; the reconciler makes it.

    Raises:
        RunFailed: The experiment failed without one.
        TimeoutError: None came.
    """

    async def load() -> tuple[experiment.Experiment, str]:
        parent = await client.experiments.get(project, experiment_name)
        names = [one.metadata.name async for one in client.trials.list(project, of=experiment_name)]
        return parent, names[0] if names else ""

    parent, name = await waiting.until(
        load,
        lambda found: bool(found[1]) or _phase(found[0].status) in TERMINAL,
        what=f"The first trial of experiment {experiment_name}",
        timeout_s=SEEN_S,
    )
    if not name:
        refuse_failure(parent)
        raise errors.NotFound(f"Experiment {experiment_name!r} has no trial.")
    return name


def phase(resource: experiment.Trial | experiment.Experiment) -> str:
    """Return the phase, Pending while there is no status."""
    return _phase(resource.status)


def refuse_failure(resource: experiment.Trial | experiment.Experiment) -> None:
    """Check that a run has not failed.

    Raises:
        RunFailed: It has; carries reason, message and the first error line.
    """
    status = resource.status
    if status is None or status.phase != "Failed":
        return
    last = getattr(status, "last_failure", None)
    told = status.message or (f"rank {last.rank}: {last.message}" if last is not None else "")
    name = resource.metadata.name
    raise errors.RunFailed(
        f"{resource.kind} {name} failed ({status.reason}): "
        f"{told.rstrip('.') or 'no reason was given'}.",
        hint="Read its log for the whole story: job.logs(), or `quintile experiment logs NAME`.",
        reason=status.reason,
    )


def shower(shown: progress.Progress) -> OnTrial:
    """Return a callback that shows a trial's progress and says every change of phase."""
    before = ""

    def show(trial: experiment.Trial) -> None:
        nonlocal before
        if trial.status is not None:
            done = trial.status.progress
            shown.update(done.step, done.total_steps, metric_words(done))
        now = phase(trial)
        if now != before:
            why = trial.status.message if trial.status is not None else ""
            shown.say(f"{trial.metadata.name}: {now}" + (f" ({why})" if why else ""))
            before = now

    return show


def metric_words(done: experiment.Progress) -> str:
    """Return the newest metrics in one line."""
    words = []
    for one in done.metrics:
        try:
            words.append(f"{one.name} {float(one.value):.4g}")
        except ValueError:
            words.append(f"{one.name} {one.value}")
    return ", ".join(words)


async def labeling_end(
    load: Callable[[], Awaitable[labeling_job.LabelingJob]],
    *,
    name: str,
    timeout_s: float | None = None,
    on_poll: Callable[[labeling_job.LabelingJob], None] | None = None,
) -> labeling_job.LabelingJob:
    """Return a labeling job once it has ended.

    Raises:
        RunFailed: It failed, or a round of it did, which people have to look at.
        TimeoutError: It took longer than ``timeout_s``.
    """
    found = await waiting.until(
        load,
        lambda job: job.status is not None and (is_stuck(job) or job.status.phase == "Succeeded"),
        what=f"Labeling job {name}",
        timeout_s=timeout_s,
        on_poll=on_poll,
    )
    refuse_stuck(found)
    return found


def is_stuck(job: labeling_job.LabelingJob) -> bool:
    """Return whether a labeling job failed, or waits until people look at a round that failed."""
    status = job.status
    if status is None:
        return False
    return status.phase == "Failed" or conditions.is_true(status.conditions, "RoundFailed")


def refuse_stuck(job: labeling_job.LabelingJob) -> None:
    """Check that a labeling job goes on by itself.

    Raises:
        RunFailed: It does not.
    """
    if job.status is None or not is_stuck(job):
        return
    what = "failed" if job.status.phase == "Failed" else "cannot go on"
    raise errors.RunFailed(
        f"Labeling job {job.metadata.name} {what} ({job.status.reason}): {job.status.message}",
        hint=f"Its answers are safe; see `quintile label status {job.metadata.name}`.",
        reason=job.status.reason,
    )


def _phase(
    status: experiment.TrialStatus | experiment.ExperimentStatus | None,
) -> str:
    return "Pending" if status is None else str(status.phase)
