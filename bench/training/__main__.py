"""``python bench/training``: every table of distributed training, gathered in one file.

    python bench/training [--quick] [--only NAME ...]     writes bench/results/training.json

Each table is a program of its own beside this file and can be run alone. A row is
``{name, ours, peer, ratio, low, high, bar, met, unit}``; a bar is met when the bad end of the
interval of 95 % meets it. A table that fails makes the exit code 1; the others are still written.
With ``--only`` the rows of the other tables stay as the file has them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).parent
OUT = HERE.parent / "results" / "training.json"
TABLES = (
    *("loop", "frameworks", "loader", "saving", "shm", "efficiency"),
    *("launch", "restart", "ps", "simulator"),
)


def main() -> int:
    """Run the tables one after another; return 1 when one failed."""
    parser = argparse.ArgumentParser(prog="bench/training", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of twenty")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    failed = []
    for name in asked.only:
        print(f"\n== {name} (load {os.getloadavg()[0]:.1f}) ==", flush=True)
        found = run(name, quick=asked.quick)
        if found is None:
            failed.append(name)
        else:
            rows += found
    OUT.parent.mkdir(exist_ok=True)
    kept = json.loads(OUT.read_text()) if len(asked.only) < len(TABLES) and OUT.exists() else []
    whole = {row["name"]: row for row in [*kept, *rows]}
    OUT.write_text(json.dumps([*whole.values()], indent=1) + "\n")
    show(rows)
    for name in failed:
        print(f"{name}: failed; its message is above")
    print(f"Written to {OUT}")
    return 1 if failed else 0


def run(name: str, *, quick: bool) -> list[dict[str, Any]] | None:
    """Return the rows of one table; None when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--out", str(out)]
        # The tables share modules of their own folder.
        env = {name: text for name, text in os.environ.items() if name != "PYTHONSAFEPATH"}
        done = subprocess.run([*command, *(["--quick"] if quick else [])], env=env, check=False)
        if done.returncode or not out.exists():
            return None
        found: list[dict[str, Any]] = json.loads(out.read_text())
        return found


def show(rows: list[dict[str, Any]]) -> None:
    """Print all rows."""
    print(f"\n{'what':62} {'ours':>10} {'peer':>10} {'ratio':>6}  95 % interval    bar  met  unit")
    for row in rows:
        print(
            f"{row['name']:62} {row['ours']:10.4g} {row['peer']:10.4g} {row['ratio']:6.2f}  "
            f"{row['low']:6.2f} - {row['high']:5.2f}  {row['bar']:5.2f}  "
            f"{'yes' if row['met'] else 'NO':3}  {row['unit']}"
        )


if __name__ == "__main__":
    sys.exit(main())
