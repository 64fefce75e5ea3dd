"""What user code may ask and tell while it runs in a rank. Standard library only.

::

    from quintile_trainer import context
    run = context.current()
    run.log(step=10, loss=0.3)
    run.progress(10, 100)
    run.checkpoint(10, "my-folder")      # any files; a restart finds the newest one
    folder = run.restored_folder()       # None at the first start
    if run.should_stop(): ...
    optimizer = run.parameter_servers(model, optimizer)  # mode ps; see ps.drop_in
    reader = run.reader(script_data.Wanted(batch_size=32))  # or quintile.data.reader(...)
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintile_trainer import hyper, layout, opaque, reporter, worker_env

if TYPE_CHECKING:
    import torch

    from quintile_trainer import commits, own_curves, script_data
    from quintile_trainer.ps import drop_in


class NotInRank(RuntimeError):
    """This process is no rank of a run."""


class Context:
    """The running rank.

    Attributes:
        rank: From 0.
        world_size: Number of ranks.
        hparams: By name; numbers and booleans where the text reads so.
    """

    def __init__(self, env: worker_env.WorkerEnv, report: reporter.Reporter) -> None:
        self._env = env
        self._report = report
        self._asked = False
        self._lock = threading.Lock()
        self._servers: drop_in.ServerOptimizer | None = None
        self._reader: script_data.Reader | None = None
        self._commits: commits.Commits | None = None
        self._told_step = -1
        self.rank = env.rank
        self.world_size = env.world_size
        self.hparams: Mapping[str, hyper.Value] = hyper.values(env.hparams)

    def log(self, *, step: int, **metrics: float) -> None:
        """Report metrics at a step; those of rank 0 are shown."""
        self._report.log(step, metrics)

    def progress(self, step: int, total_steps: int = 0) -> None:
        """Tell how many steps are done, and of how many (0 = unknown)."""
        self._told_step = int(step)
        self._report.progress(step, total_steps)

    def checkpoint(self, step: int, folder: str | Path, **metrics: float) -> None:
        """Save the files of a folder as the state after ``step`` steps; only rank 0 writes.

        Raises:
            ValueError: The folder has subfolders, too many files, or names with odd characters.
        """
        if self.rank != 0:
            return
        with self._lock:
            opaque.save(self._env, Path(folder), step=step, metrics=metrics, place=self.place(step))

    def reader(self, wanted: script_data.Wanted) -> script_data.Reader:
        """Return the experiment's dataset, from the sample after the newest checkpoint on.

        Raises:
            RankFailure: See ``script_data``.
            ValueError: The rank has one already.
        """
        from quintile_trainer import script_data

        if self._reader is not None:
            raise ValueError("reader was called before; a rank reads its dataset once")
        self._reader = script_data.Reader(self._env, wanted)
        return self._reader

    def checkpoint_here(self, folder: str | Path, **metrics: float) -> None:
        """Save the files of a folder as the state after the reader's newest batch.

        Raises:
            ValueError: There is no reader; or as ``checkpoint``.
        """
        if self._reader is None:
            raise ValueError(
                "only a script that reads through quintile.data.reader() has a step of its own; "
                "name it: quintile.checkpoint(folder, step=...)"
            )
        self.checkpoint(self._reader.step, folder, **metrics)

    def keep_commits(self, state: Any, any_rank: commits.AnyRank) -> commits.Commits:
        """Return what keeps the commits of a state of ``hvd.elastic``, now as at the newest one.

        From now on SIGTERM means that the rank leaves at a commit. A rank has one such state; what
        it commits of others is its own matter.
        """
        if self._commits is None:
            from quintile_trainer import commits

            if threading.current_thread() is threading.main_thread():
                self.listen()
            self._commits = commits.Commits(self._env, self, state, any_rank)
            self._commits.restore()
        return self._commits

    @property
    def reads(self) -> bool:
        """Whether the script reads its dataset through us."""
        return self._reader is not None

    def place(self, step: int) -> tuple[int, int]:
        """Return epoch and position of the sample after so many steps; zeros without a reader."""
        if self._reader is None:
            return 0, 0
        cursor = self._reader.place(step)
        return cursor.epoch, cursor.position

    def newest_step(self) -> int:
        """Return the newest step that the script read, told or logged; -1 while there is none."""
        if self._reader is not None:
            return self._reader.step
        return self._told_step if self._told_step >= 0 else self._report.newest_step

    def count_commits(self, count: int) -> None:
        """Tell commits as steps of an elastic run, which must see that all its ranks have begun.

        Not of a script that tells its steps itself; and of no other run, since commits may be rare
        and ranks whose steps are rare stand still.
        """
        if self._env.elastic and self._told_step < 0:
            self._report.progress(count, 0)

    def tell_accounting(self) -> None:
        """Say it when nobody knows which samples this script learnt. At its good end."""
        if self._reader is None and self._env.access is not None and self.rank == 0:
            sys.stderr.write(
                "[quintile] sampleAccounting: unmanaged; which samples were learnt is known for "
                "scripts that read through quintile.data.reader()\n"
            )

    def restored_folder(self) -> Path | None:
        """Return the files of the newest checkpoint, None at the first start. Read-only."""
        return self._env.resume_dir

    def restored_step(self) -> int:
        """Return the step of the newest checkpoint, -1 at the first start."""
        if self._env.resume_dir is None:
            return -1
        manifest: dict[str, Any] = json.loads((self._env.resume_dir / "manifest.json").read_text())
        return int(manifest["step"])

    def parameter_servers(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, step: int = 0
    ) -> drop_in.ServerOptimizer:
        """Return what takes the place of a torch optimizer in mode ``ps``. Once per rank.

        Raises:
            RankFailure: See ``ps.drop_in``.
        """
        from quintile_trainer.ps import drop_in

        if self._servers is not None:
            raise ValueError("parameter_servers was called before; a rank has one optimizer there")
        self._servers = drop_in.ServerOptimizer(self._env, model, optimizer, step=step)
        return self._servers

    def leave_servers(self) -> None:
        """Say goodbye to the parameter servers. Called at the good end of a script."""
        if self._servers is not None:
            self._servers.close()
        elif self._env.servers:
            sys.stderr.write(
                "[quintile] the script never used its parameter servers; it gets them from "
                "context.current().parameter_servers(model, optimizer)\n"
            )

    def follow_curves(self, folder: Path) -> own_curves.Follower:
        """Report the scalars of event files in a folder from now on."""
        from quintile_trainer import own_curves

        found = own_curves.Follower(folder, self._report.log)
        found.start()
        return found

    def should_stop(self) -> bool:
        """Return whether this rank was asked to save its state and leave (with exit code 75)."""
        return self._asked

    def listen(self) -> None:
        """Let SIGTERM mean ``should_stop`` from now on, instead of ending the process."""
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, _number: int, _frame: Any) -> None:
        self._asked = True


_current: Context | None = None


def begin(env: worker_env.WorkerEnv, report: reporter.Reporter | None = None) -> Context:
    """Make the context of this process. Called by the programs of a rank."""
    global _current
    step = -1 if env.resume_dir is None else _step_of(env.resume_dir)
    _current = Context(env, report or reporter.Reporter(env, resume_step=max(step, 0)))
    return _current


def end() -> None:
    """Write everything out. Called by the programs of a rank."""
    global _current
    if _current is not None:
        _current._report.close()
    _current = None


def current() -> Context:
    """Return the context of this rank.

    Raises:
        NotInRank: This process was not started by an agent.
    """
    if _current is None:
        raise NotInRank(
            "quintile_trainer.context works in the ranks of a run; start one with quintile run"
        )
    return _current


def _step_of(folder: Path) -> int:
    manifest = json.loads((folder / layout.MANIFEST).read_text())
    return int(manifest["step"])
