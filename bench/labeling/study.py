"""How often certificates are wrong, over many seeds per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pools
import protocol
from scipy import stats

from quintile.engine import certify


@dataclass(frozen=True)
class Cell:
    """One kind of job, played with many seeds.

    ``noise`` is the share of wrong answers of people; what they answer is the reference.
    ``copies`` is the share of items that have a near-duplicate.
    """

    mode: str
    error: float
    noise: float = 0.0
    copies: float = 0.0

    @property
    def name(self) -> str:
        """Return what ``--cell`` takes, as crossfit-0.02."""
        extras = [f"noise-{self.noise:g}"] * bool(self.noise)
        extras += [f"copies-{self.copies:g}"] * bool(self.copies)
        return "-".join([self.mode, f"{self.error:g}", *extras])


CELLS = (
    *(Cell("crossfit", error) for error in (0.01, 0.02, 0.05)),
    *(Cell("strict", error) for error in (0.01, 0.02, 0.05)),
    Cell("crossfit", 0.02, copies=0.2),
    Cell("crossfit", 0.05, noise=0.02),
)


def run(*, seeds: int, only: str = "") -> list[dict[str, Any]]:
    """Return one row per cell: violations, issued share, coverage.

    Raises:
        SystemExit: There is no cell named ``only``.
    """
    wanted = [cell for cell in CELLS if only in ("", cell.name)]
    if not wanted:
        raise SystemExit(f"no cell {only}; there are {', '.join(cell.name for cell in CELLS)}")
    rows = [_cell(cell, seeds) for cell in wanted]
    total = sum(row["violations"] for row in rows)
    issued = sum(row["issued"] for row in rows)
    print(f"pooled: {total} violations in {issued} issued, 99 % binomial limit {_limit(issued)}")
    return rows


def smallest(n_items: int, error: float, *, allow_wrong: int, mode: str = "crossfit") -> int:
    """Return the smallest R that certifies ``error`` with some wrong items in it."""
    goal = certify.Target(error=error, mode=mode)
    return certify.smallest_sample(n_items, target=goal, allow_wrong=allow_wrong)


def _cell(cell: Cell, seeds: int) -> dict[str, Any]:
    pool = pools.digits(copies=cell.copies)
    random = smallest(len(pool), cell.error, allow_wrong=1, mode=cell.mode)
    plan = protocol.Plan(random=random, chosen=60, batch=20, error=cell.error, mode=cell.mode)
    runs = [protocol.certified(pool, plan, seed, noise=cell.noise) for seed in range(seeds)]
    issued = [run for run in runs if run["outcome"] != "Uncertified"]
    violations = sum(run["true_error"] > cell.error for run in issued)
    row = {
        "cell": cell.name,
        "random": random,
        "seeds": seeds,
        "issued": len(issued),
        "violations": violations,
        "limit": _limit(len(issued)),
        "coverage": float(np.mean([run["coverage"] for run in issued])) if issued else 0.0,
        "human_label_fraction": float(np.median([run["human_label_fraction"] for run in runs])),
        "true_error": float(np.mean([run["true_error"] for run in runs])),
    }
    print(row, flush=True)
    return row


def _limit(issued: int) -> int:
    return int(stats.binom.ppf(0.99, issued, 0.05)) if issued else 0
