"""Predicted against measured: rows of a table, and how they are printed."""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Sequence

from pairs import Row

from quintile.core.scaling import fit

BAR = 1.10


def row(name: str, said_s: float, times_s: Sequence[float], *, busy: bool) -> Row:
    """Return the row of a run; on a busy machine its lower quartile counts, else its median."""
    chance = random.Random(0)
    typical = fit.undisturbed if busy else statistics.median
    measured_s = typical(times_s)
    drawn = sorted(said_s / typical(chance.choices(times_s, k=len(times_s))) for _ in range(400))
    ratio = said_s / measured_s
    met = abs(ratio - 1) <= BAR - 1
    said_ms, measured_ms = 1000 * said_s, 1000 * measured_s
    return Row(
        f"predicted / measured {name}",
        said_ms,
        measured_ms,
        ratio,
        drawn[10],
        drawn[389],
        BAR,
        met,
        "ms",
    )


def table(rows: Sequence[Row]) -> None:
    """Print rows and how far off they are together."""
    for row in rows:
        print(
            f"  {row.name:64} {row.ours:8.1f} {row.peer:8.1f} ms  {row.ratio - 1:+6.1%}  "
            f"[{row.low - 1:+.1%}, {row.high - 1:+.1%}]  {'' if row.met else 'MISSED'}"
        )
    errors = sorted(abs(row.ratio - 1) for row in rows)
    print(
        f"  error: median {statistics.median(errors):.1%}, worst {errors[-1]:.1%}, within 10 %: "
        f"{sum(row.met for row in rows)} of {len(rows)}"
    )


def say(line: str) -> None:
    """Print a heading with the load of the machine."""
    print(f"\n{line}  (load {os.getloadavg()[0]:.1f})")
