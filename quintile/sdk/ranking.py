"""Which of several jobs is the best, by a metric of its evaluation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from quintile.core import errors

USUAL: Final = ("eval/accuracy", "eval/agreement", "eval/loss")
LOWER_IS_BETTER: Final = ("loss", "error")
Points = Mapping[str, Sequence[tuple[int, float]]]


def best(
    jobs: Mapping[str, Points], *, metric: str = "", higher_is_better: bool | None = None
) -> str:
    """Return the name of the job that reached the best value of a metric; the first of equals.

    Args:
        jobs: Metric points by name of the job.
        metric: Empty = the first of ``USUAL`` that any job reported.
        higher_is_better: None = by its name: less is better for losses and errors.

    Raises:
        NotFound: No job reported it.
    """
    known = sorted({name for points in jobs.values() for name, series in points.items() if series})
    chosen = metric or next((name for name in USUAL if name in known), "")
    if chosen not in known:
        raise errors.NotFound(
            f"No job reported {chosen}." if chosen else "No job was evaluated yet.",
            hint=f"Reported: {', '.join(known) or 'nothing'}; name one: best(metric=...).",
        )
    up = higher_is_better
    if up is None:
        up = not chosen.rpartition("/")[2].startswith(LOWER_IS_BETTER)
    reached = {
        name: max(value if up else -value for _step, value in points[chosen])
        for name, points in jobs.items()
        if points.get(chosen)
    }
    return max(reached, key=lambda name: reached[name])
