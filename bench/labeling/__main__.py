"""``python bench/labeling``: the labeling engine on pools with known truth, without a server.

Without options: the digits protocol (R = 220 random + 60 chosen labels, e = 2 %) over seeds 0..9
and the uncertified curve. ``--data DIR`` adds a pool of your own; ``--study`` counts how often
certificates are wrong.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pools
import protocol
import study

SHARES = [0.025, 0.05, 0.075, 0.1]


def main() -> None:
    """Run what was asked for; print it, and store it as JSON with ``--out``."""
    asked = _arguments()
    report: dict[str, Any] = {}
    if asked.study:
        report["study"] = study.run(seeds=asked.seeds or 200, only=asked.cell)
    elif asked.data:
        pool = pools.folder(asked.data, size=asked.size, seed=0)
        report[pool.name] = _own(pool, asked)
    else:
        report["digits"] = _digits(asked.seeds or 10)
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/labeling", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder with idx files, or labels.csv + images.tar"
    )
    parser.add_argument("--size", type=int, default=13_000, help="items drawn from idx files")
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds (0..n-1)")
    parser.add_argument("--study", action="store_true", help="violation study on the digits")
    parser.add_argument("--cell", default="", help="one cell of the study, as crossfit-0.02")
    parser.add_argument("--error", type=float, nargs="*", default=[0.05, 0.02])
    parser.add_argument("--out", type=Path, help="where to write the report as JSON")
    return parser.parse_args()


def _digits(seeds: int) -> dict[str, Any]:
    pool = pools.digits()
    plan = protocol.Plan(random=220, chosen=60, batch=20)
    runs = []
    print("seed  human  auto-acc  certified  true    outcome")
    for seed in range(seeds):
        run = protocol.certified(pool, plan, seed)
        runs.append(run)
        print(
            f"{seed:4}  {run['human_label_fraction']:.4f} {run['auto_label_accuracy'] or 0:.4f}"
            f"    {run['certified_error']:.4f}     {run['true_error']:.4f}  {run['outcome']}"
        )
    human = np.array([run["human_label_fraction"] for run in runs])
    bad = sum(run["true_error"] > run["certified_error"] for run in runs)
    print(
        f"human fraction: median {np.median(human):.4f}, quartiles "
        f"{np.quantile(human, 0.25):.4f} {np.quantile(human, 0.75):.4f}, violations {bad}"
    )
    inside = [run["forecast"][-1][0] <= run["coverage"] <= run["forecast"][-1][2] for run in runs]
    print(f"last forecast holds the coverage: {sum(inside)} of {len(inside)}")
    curves = [protocol.curve(pool, SHARES, seed) for seed in range(min(seeds, 5))]
    print("uncertified, rows right at", SHARES, np.round(np.median(curves, axis=0), 4))
    print(
        "slowest seconds",
        {k: round(max(r["seconds"][k] for r in runs), 2) for k in runs[0]["seconds"]},
    )
    return {"runs": runs, "curve": {"shares": SHARES, "rows_right": curves}}


def _own(pool: pools.Pool, asked: argparse.Namespace) -> dict[str, Any]:
    shares = [0.01, 0.03, 0.05, 0.09, 0.11, 0.15, 0.19, 0.21, 0.25, 0.3, 0.33, 0.36]
    found: dict[str, Any] = {"items": len(pool)}
    for strategy in ("auto", "random"):
        rows = protocol.curve(pool, shares, 0, strategy=strategy)
        found[strategy] = rows
        print(f"{pool.name} {len(pool)}: rows right, {strategy}")
        print("   ".join(f"{s:.0%} {r:.4f}" for s, r in zip(shares, rows, strict=True)), flush=True)
    found["certified"] = []
    for error in asked.error:
        size = stratum_size(len(pool), error)
        chosen = round(0.1 * len(pool))
        plan = protocol.Plan(random=size, chosen=chosen, batch=max(1, chosen // 4), error=error)
        for seed in range(asked.seeds or 1):
            run = protocol.certified(pool, plan, seed)
            found["certified"].append(run)
            print({key: value for key, value in run.items() if key != "forecast"})
    return found


def stratum_size(n_items: int, error: float) -> int:
    """Return R for these runs: room for ten wrong items, so that coverage can be high."""
    return study.smallest(n_items, error, allow_wrong=10)


if __name__ == "__main__":
    main()
