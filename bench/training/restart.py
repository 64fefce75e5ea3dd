"""How long a killed rank costs: from SIGKILL to the next finished step, beside torchrun.

    python bench/training/restart.py [--quick] [--out FILE]

One script of DistributedDataParallel with two ranks runs on the platform (``quintile up``, a real
experiment) and under ``torchrun --max-restarts`` at the same time; ranks of the side that is not
measured are stopped. The sides take turns. Built-in training has no peer: it is held against 1 s.

Horovod elastic is not comparable: it goes on with fewer ranks, from the survivors' memory, and bars
the host of the one that was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio
import pairs

from quintile.core import datasets
from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import agents, digit_imports, instances
from quintile_trainer import progress

SCRIPT = pathlib.Path(__file__).with_name("restarting") / "train.py"
WORLD = 2
BAR, LIMIT_S = 5.0, 1.0
BLOCKS = {True: 5, False: 9}
"""Kills by ``--quick``; ten restarts in place are what a run has by default."""
PATIENCE_S = 180.0
SETTLE_STEPS = 60


@dataclass
class Script:
    """The script under some launcher, with its state in ``folder``."""

    folder: pathlib.Path
    times: list[float] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Return the newest process of each rank."""
        return [int((self.folder / f"rank-{rank}").read_text()) for rank in range(WORLD)]

    def steps(self) -> list[tuple[float, int, int]]:
        """Return (time, process, step) of every finished step."""
        path = self.folder / "steps"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [(float(a), int(b), int(c)) for a, b, c in map(str.split, lines)]

    def train(self, steps: int) -> None:
        """Return after so many further steps."""
        begun = len(self.steps())
        agents.until(lambda: len(self.steps()) >= begun + steps, what="steps", timeout_s=PATIENCE_S)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Hold the ranks."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def kill_one(self) -> None:
        """Kill the last rank and note how long it took until rank 0 had finished another step."""
        self.train(SETTLE_STEPS)
        before = set(self.pids())
        killed = time.time()
        os.kill(self.pids()[-1], signal.SIGKILL)

        def again() -> list[float]:
            return [at for at, pid, _ in self.steps()[-50:] if pid not in before]

        agents.until(again, what="a step after the kill", timeout_s=PATIENCE_S)
        self.times.append(again()[0] - killed)


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/restart.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer kills")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with instances.Instance(folder / "home") as running:
            session = blocking.connect(url=running.url, token=running.token)
            try:
                rows = measure(running, folder, kills=BLOCKS[asked.quick])
            finally:
                session.close()
                blocking.forget()
    pairs.tell(rows, asked.out)


def measure(running: instances.Instance, folder: pathlib.Path, *, kills: int) -> list[pairs.Row]:
    """Return the rows of scripts and of built-in training."""
    mine, theirs = in_turns(running, folder, kills=kills)
    name = f"rank killed -> next finished step, ddp x {WORLD} script, vs torchrun --max-restarts"
    rows = [pairs.row(name, mine, theirs, unit="s", bar=BAR)]
    anyio.run(_import_digits, running)
    for workers in (1, WORLD):
        times = built_in(running, workers=workers, kills=kills)
        shape = f"ddp x {workers}" if workers > 1 else "single"
        name = f"rank killed -> next finished step, built-in {shape}, vs {LIMIT_S:.0f} s"
        rows.append(pairs.row(name, times, [LIMIT_S] * len(times), unit="s", bar=1.0))
    return rows


def in_turns(
    running: instances.Instance, folder: pathlib.Path, *, kills: int
) -> tuple[list[float], list[float]]:
    """Return the times of ours and of torchrun."""
    ours, peer = Script(folder / "ours"), Script(folder / "peer")
    for side in (ours, peer):
        side.folder.mkdir()
    job = _run(
        "restarting-script",
        estimator=Estimator.script(SCRIPT, args=[str(ours.folder)]),
        hyper_parameters=HParams(),
        run_config=RunConfig(no_of_workers=WORLD, mode="ddp"),
    )
    _await_zygotes(running, WORLD)
    with ours.still():
        launcher = _torchrun(peer)
        peer.train(1)
    try:
        for block in range(kills):
            turns = [(ours, peer), (peer, ours)]
            for side, other in turns if block % 2 else turns[::-1]:
                with other.still():
                    side.kill_one()
    finally:
        launcher.terminate()
        launcher.wait()
        job.stop()
    return ours.times, peer.times


def _torchrun(side: Script) -> subprocess.Popen[bytes]:
    command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    options = ["--max-restarts=100", str(SCRIPT), str(side.folder)]
    # Without it, torch 2.13 meets at the addresses of the processes that were killed.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    log = side.folder.with_suffix(".log").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", *command, *options], env=env, stdout=log, stderr=log
        )


def built_in(running: instances.Instance, *, workers: int, kills: int) -> list[float]:
    """Return the times of our own loop on the digits."""
    job = _run(
        f"restarting-built-in-{workers}",
        estimator=Estimator.builtin("resnet8"),
        hyper_parameters=HParams(iterations=1_000_000, batch_size=32),
        run_config=RunConfig(no_of_workers=workers, checkpoint_frequency_in_steps=50),
        dataset_version_split="digits:1/holdout",
    )
    _await_zygotes(running, workers)
    times = []
    for generation in range(1, kills + 1):
        _await_step(running, generation, more=SETTLE_STEPS)
        victim = _ranks(running)[workers - 1]
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        _await_step(running, generation + 1, more=1)
        times.append(time.time() - killed)
    job.stop()
    return times


def _run(name: str, **words: object) -> blocking.Job:
    return Experiment.run(experiment_name=name, **words).get_single_job()  # type: ignore[arg-type]


def _logs(running: instances.Instance) -> list[pathlib.Path]:
    """Return what the living agents say."""
    living = {int(pid) for pid in running.agents()}
    return [
        path.with_name("agent.log")
        for path in running.home.glob("runs/*/*/identity.json")
        if int(json.loads(path.read_bytes())["pid"]) in living
    ]


def _await_zygotes(running: instances.Instance, count: int) -> None:
    """Return when every agent has one: scripts that tell no steps are watched for 30 s before."""

    def ready() -> bool:
        logs = [path.read_text() for path in _logs(running)]
        return len(logs) == count and all("zygote is ready" in log for log in logs)

    agents.until(ready, what="zygotes", timeout_s=PATIENCE_S)


def _ranks(running: instances.Instance) -> dict[int, int]:
    """Return the living ranks."""
    found = {}
    for pid in running.agents():
        for child in agents.children(pid):
            with contextlib.suppress(OSError, StopIteration):
                found[agents.rank_of(child)] = child
    return found


def _await_step(running: instances.Instance, generation: int, *, more: int) -> None:
    """Return when rank 0 has finished so many steps of a generation."""

    def done() -> bool:
        for log in _logs(running):
            folder = log.parent / f"g{generation}"
            step, _ = progress.read(folder / "rank-0.progress")
            if step >= 0:
                run = json.loads((folder / "run.json").read_text())
                begun = run["plan"]["resume"]["step"] if run["resume_dir"] else 0
                return step >= begun + more
        return False

    agents.until(done, what=f"steps of generation {generation}", timeout_s=PATIENCE_S)


async def _import_digits(running: instances.Instance) -> None:
    async with running.client() as client:
        await digit_imports.import_digits(client, items=1797, labelled=True)
        split = datasets.SplitCreate(name="holdout", parts={"test": "0.2"})
        await client.datasets.create_split("default", "digits", 1, split)


if __name__ == "__main__":
    main()
