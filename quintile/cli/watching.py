"""Watches a run until it ends: log lines to stdout, phase and progress to stderr."""

from __future__ import annotations

import asyncio
import contextlib

from quintile.core import experiment
from quintile.sdk import blocking, following, progress, waiting

GRACE_S = 5.0
"""How long the last log lines may come after the end."""


def watch(
    session: blocking.Session, trial: str, *, rank: int | None, timeout_s: float | None
) -> experiment.Trial:
    """Block until a trial has ended; return it.

    Raises:
        TimeoutError: It took longer than ``timeout_s``; it goes on.
    """
    with progress.Progress(trial) as shown:
        return session.run(_watch(session, trial, rank, timeout_s, shown))


async def _watch(
    session: blocking.Session,
    trial: str,
    rank: int | None,
    timeout_s: float | None,
    shown: progress.Progress,
) -> experiment.Trial:
    async def read() -> None:
        async for line in session.client.trials.follow(session.project, trial, rank=rank):
            shown.out(line.line)

    reading = asyncio.create_task(read())
    try:
        found = await waiting.until(
            lambda: session.client.trials.get(session.project, trial),
            lambda now: following.phase(now) in following.TERMINAL,
            what=f"Run {trial}",
            timeout_s=timeout_s,
            on_poll=following.shower(shown),
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), GRACE_S)
        return found
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
