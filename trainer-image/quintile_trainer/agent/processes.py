"""The ranks as processes: start, watch, signal, kill to the last descendant.

Only the main thread starts ranks: the kernel's parent-death signal follows the *thread* that
forked. Ranks arm it themselves first thing (``quintile_trainer.main``), so nothing runs between
fork and exec here. Those that a zygote forked are our children all the same: we are the nearest
subreaper when the process between them and the zygote ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quintile_trainer.agent import nursery, output

PR_SET_CHILD_SUBREAPER = 36
RANK_MODULE = "quintile_trainer.main"


@dataclass
class RankProcess:
    """One rank; its process group has its pid. ``status`` is the wait status once it ended.

    ``process`` is the handle of a rank with an interpreter of its own.
    """

    rank: int
    local_rank: int
    pid: int
    lines: output.RankOutput
    process: subprocess.Popen[bytes] | None = None
    status: int | None = None

    @property
    def ended(self) -> bool:
        """Return whether the rank was reaped."""
        return self.status is not None


@dataclass
class RankSet:
    """The ranks of one generation in this replica."""

    generation: int
    nursery: nursery.Nursery
    ranks: list[RankProcess] = field(default_factory=list)

    @property
    def live(self) -> list[RankProcess]:
        """Return the ranks that still run."""
        return [rank for rank in self.ranks if not rank.ended]

    def start(
        self, rank: int, local_rank: int, env: Mapping[str, str], lines: output.RankOutput
    ) -> RankProcess:
        """Start one rank in its own process group, forked if that can be. Main thread only."""
        born = self.nursery.fork(rank, env)
        if born is not None:
            lines.attach(born.stdout, born.stderr)
            started = RankProcess(rank, local_rank, born.pid, lines)
        else:
            started = self._start_fresh(rank, local_rank, env, lines)
        self.ranks.append(started)
        return started

    def _start_fresh(
        self, rank: int, local_rank: int, env: Mapping[str, str], lines: output.RankOutput
    ) -> RankProcess:
        process = subprocess.Popen(
            # -P: a file of the working directory never stands in for a module.
            [sys.executable, "-P", "-m", RANK_MODULE],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            bufsize=0,
        )
        assert process.stdout is not None and process.stderr is not None
        lines.attach(process.stdout, process.stderr)
        return RankProcess(rank, local_rank, process.pid, lines, process)

    def note(self, reaped: Mapping[int, int]) -> list[RankProcess]:
        """Take over the wait statuses of reaped children; return the ranks among them."""
        fresh = [rank for rank in self.live if rank.pid in reaped]
        for rank in fresh:
            rank.status = reaped[rank.pid]
            if rank.process is not None:
                # The status was taken with waitpid; the handle must not wait again.
                rank.process.returncode = os.waitstatus_to_exitcode(reaped[rank.pid])
        return fresh

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the groups of all ranks that run."""
        for rank in self.live:
            _send_group(rank.pid, number)

    def kill(self, only: Collection[int] | None = None) -> None:
        """Kill all groups (or those of some ranks), also of ranks that left children behind."""
        for rank in self.ranks:
            if only is None or rank.rank in only:
                _send_group(rank.pid, signal.SIGKILL)


def become_subreaper() -> None:
    """Make orphans of the ranks our children, so that none is left behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap() -> dict[int, int]:
    """Return the wait status by pid of every child that has ended; never blocks."""
    reaped: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return reaped
        if pid == 0:
            return reaped
        reaped[pid] = status


def kill_children(keep: Iterable[int] = ()) -> list[int]:
    """Kill every child but ``keep``; return the pids. Descendants follow as they become ours."""
    kept = set(keep)
    found = [pid for pid in children(os.getpid()) if pid not in kept]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def children(parent: int) -> list[int]:
    """Return the pids of the children of a process, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def _send_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
