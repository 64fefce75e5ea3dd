"""Where the time of a job's steps goes, from the metrics that it reports. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from quintile.core import errors, trial_status

GOODPUT: Final = "goodput"
_ENDING: Final = "_ms"


@dataclass(frozen=True)
class Breakdown:
    """Where the time of a step went, as last reported.

    Attributes:
        step: The step of the report.
        parts: Milliseconds of a step by part (``data``, ``forward``, ``backward``,
            ``communication``, ``optimizer``, ``checkpoint``, ``evaluation``), mean since the report
            before.
        goodput: Share of the run's time in steps that count, over all restarts; None where an
            earlier release trained.
    """

    step: int
    parts: Mapping[str, float]
    goodput: float | None

    @property
    def total_ms(self) -> float:
        """Return the milliseconds of all parts."""
        return sum(self.parts.values())

    def shares(self) -> dict[str, float]:
        """Return the share of each part in the step; 0 where nothing took time."""
        total = self.total_ms
        return {name: value / total if total else 0.0 for name, value in self.parts.items()}


def read(points: Mapping[str, Sequence[tuple[int, float]]], *, job: str) -> Breakdown:
    """Return the newest breakdown among (step, value) points by metric.

    Raises:
        NotFound: The job has reported none.
    """
    newest = {name: series[-1] for name, series in points.items() if series}
    times = {name: point for name, point in newest.items() if name.startswith(trial_status.TIMES)}
    if not times:
        raise errors.NotFound(
            f"Job {job} has not reported where the time of its steps goes.",
            hint="Built-in models and functions report it every telemetry.summaryEverySteps steps; "
            "scripts do not.",
        )
    parts = {
        name.removeprefix(trial_status.TIMES).removesuffix(_ENDING): value
        for name, (_, value) in times.items()
    }
    known = newest.get(GOODPUT)
    return Breakdown(
        step=max(step for step, _ in times.values()),
        parts=dict(sorted(parts.items(), key=lambda part: -part[1])),
        goodput=known[1] if known is not None else None,
    )
