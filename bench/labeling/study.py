"""How often certificates are wrong, over many seeds per cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pools
import protocol
from scipy import stats

from quintile.engine import certify

ERRORS = (0.01, 0.02, 0.05)
MODES = ("crossfit", "strict")


def run(*, seeds: int, only: str = "") -> list[dict[str, Any]]:
    """Return one row per cell (mode, e): violations, issued share, coverage."""
    pool = pools.digits()
    rows = []
    for mode in MODES:
        for error in ERRORS:
            if only and only != f"{mode}-{error:g}":
                continue
            rows.append(_cell(pool, mode, error, seeds))
    total = sum(row["violations"] for row in rows)
    issued = sum(row["issued"] for row in rows)
    limit = int(stats.binom.ppf(0.99, max(issued, 1), 0.05))
    print(f"pooled: {total} violations in {issued} issued, 99 % binomial limit {limit}")
    return rows


def smallest(n_items: int, error: float, *, allow_wrong: int, mode: str = "crossfit") -> int:
    """Return the smallest R that certifies ``error`` with some wrong items in it."""
    goal = certify.Target(error=error, mode=mode)
    return certify.smallest_sample(n_items, target=goal, allow_wrong=allow_wrong)


def _cell(pool: pools.Pool, mode: str, error: float, seeds: int) -> dict[str, Any]:
    random = smallest(len(pool), error, allow_wrong=1, mode=mode)
    plan = protocol.Plan(random=random, chosen=60, batch=20, error=error, mode=mode)
    runs = [protocol.certified(pool, plan, seed) for seed in range(seeds)]
    issued = [run for run in runs if run["outcome"] != "Uncertified"]
    violations = sum(run["true_error"] > error for run in issued)
    row = {
        "mode": mode,
        "error": error,
        "random": random,
        "seeds": seeds,
        "issued": len(issued),
        "violations": violations,
        "limit": int(stats.binom.ppf(0.99, max(1, len(issued)), 0.05)),
        "coverage": float(np.mean([run["coverage"] for run in issued])) if issued else 0.0,
        "human_label_fraction": float(np.median([run["human_label_fraction"] for run in runs])),
    }
    print(row)
    return row
