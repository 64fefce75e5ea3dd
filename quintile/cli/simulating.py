"""``quintile label simulate`` on the screen."""

from __future__ import annotations

from quintile.sdk import blocking, progress, simulate


def run(session: blocking.Session, job: str, annotator: simulate.Annotator) -> simulate.Tally:
    """Answer until the job has finished; show how many answers, and what it waits for."""
    with progress.Progress(f"{annotator.name} answers {job}") as shown:
        return session.run(
            simulate.run(
                session.client,
                session.project,
                job,
                annotator,
                on_progress=lambda tally: shown.update(tally.answered, 0, words(tally)),
            )
        )


def words(tally: simulate.Tally) -> str:
    """Return what is going on, in one line."""
    going = f"waits: {tally.waiting}" if tally.waiting else f"{tally.ready:,} ready"
    return f"{tally.answered:,} answered, {going}"
