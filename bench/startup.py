"""How long people wait at the start: the SDK's import, the command line, ``quintile up``.

    python bench/startup.py [--runs 7] [--out FILE]

Each figure is the median of fresh processes. Bars: SDK 150 ms, platform ready 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from quintile.testing import instances

SDK = "from quintile.sdk import Estimator, Experiment, HParams, RunConfig"
SDK_BAR_S, READY_BAR_S = 0.150, 5.0


def process_s(arguments: list[str]) -> float:
    """Return how long a Python process with these arguments runs."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def import_s(statement: str) -> float:
    """Return how long a statement takes in a fresh interpreter, its own start left out."""
    program = (
        f"import time; begun = time.perf_counter()\n{statement}\nprint(time.perf_counter() - begun)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def ready_s() -> float:
    """Return how long ``quintile up`` takes from nothing to answering ``/readyz``."""
    with tempfile.TemporaryDirectory() as folder:
        instance = instances.Instance(pathlib.Path(folder) / "home")
        begun = time.perf_counter()
        try:
            instance.start("--port", "0")
            return time.perf_counter() - begun
        finally:
            instance.stop()


def main() -> int:
    """Measure, print, and write the figures; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    wanted = parser.parse_args()
    cases: list[tuple[str, float | None, Callable[[], float]]] = [
        ("import quintile.sdk", SDK_BAR_S, lambda: import_s("import quintile.sdk")),
        ("import of the notebook's names", SDK_BAR_S, lambda: import_s(SDK)),
        ("quintile --help", None, lambda: process_s(["-m", "quintile.cli", "--help"])),
        ("quintile up, ready", READY_BAR_S, ready_s),
    ]
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {wanted.runs} runs each")
    results = []
    for name, bar_s, measure in cases:
        seconds = [measure() for _ in range(wanted.runs)]
        median = statistics.median(seconds)
        met = bar_s is None or median <= bar_s
        bar = f"bar {bar_s * 1000:.0f} ms" if bar_s else ""
        word = "" if met else "  MISSED"
        figures = f"median {median * 1000:6.0f} ms  least {min(seconds) * 1000:6.0f} ms"
        print(f"{name:32s} {figures}  {bar}{word}")
        results.append({"name": name, "median_s": median, "bar_s": bar_s, "met": met})
    if wanted.out:
        wanted.out.write_text(json.dumps(results, indent=1))
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
