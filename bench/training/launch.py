"""How long a start takes: from the command to the first finished step, beside ``horovodrun``.

    python bench/training/launch.py [--quick] [--out FILE]

One Horovod script with two ranks over Gloo is submitted to the platform (``quintile up``, a real
experiment: bundle, reconciler, agents, then ranks) and started by stock ``horovodrun``. The sides
take turns, each to the end of its run.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import pairs

from quintile.sdk import Estimator, Experiment, RunConfig, blocking
from quintile.testing import instances

SCRIPT = pathlib.Path(__file__).with_name("launching") / "train.py"
WORLD, BAR, PATIENCE_S = 2, 1.0, 120.0


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/launch.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with instances.Instance(folder / "home") as running:
            session = blocking.connect(url=running.url, token=running.token)
            try:
                row = measure(folder, starts=3 if asked.quick else 7)
            finally:
                session.close()
                blocking.forget()
    pairs.tell([row], asked.out)


def measure(folder: pathlib.Path, *, starts: int) -> pairs.Row:
    """Return the row; the first start of each side is a warm-up."""
    sides: dict[str, Callable[[pathlib.Path], None]] = {"ours": submit, "peer": horovodrun}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for block in range(starts + 1):
        for side in sides if block % 2 else reversed(sides):
            note = folder / f"{side}-{block}"
            begun = time.time()
            sides[side](note)
            times[side].append(float(note.read_text()) - begun)
    name = f"start -> first step, horovod x {WORLD} script, vs horovodrun"
    return pairs.row(name, times["ours"][1:], times["peer"][1:], unit="s", bar=BAR)


def submit(note: pathlib.Path) -> None:
    """Run the script on the platform."""
    job = Experiment.run(
        experiment_name=note.name,
        estimator=Estimator.script(SCRIPT, args=[str(note)]),
        run_config=RunConfig(no_of_workers=WORLD, mode="horovod"),
    ).get_single_job()
    job.wait_until_finish(PATIENCE_S, show_progress=False)


def horovodrun(note: pathlib.Path) -> None:
    """Run the script under the launcher that Horovod brings."""
    launcher = pathlib.Path(sys.executable).with_name("horovodrun")
    command = [launcher, "--gloo", "-np", str(WORLD), sys.executable, SCRIPT, note]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


if __name__ == "__main__":
    main()
