"""The zygote from the agent's side: when it is worth starting, what to ask of it, and why not.

Everything here is called by the main thread. Whatever goes wrong has one outcome: the rank starts
in a fresh interpreter, and the agent says why.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quintile_trainer import layout, memory
from quintile_trainer.agent import environment, horovod, shipper, wire
from quintile_trainer.zygote import preloading
from quintile_trainer.zygote import wire as talk

MODULE = "quintile_trainer.zygote"
ANSWER_S = 5.0
STARTS = 3
"""A zygote that ended so often is not started again."""
SILENT = 3
"""Ranks that tell no steps must have run so many times as long."""
FREE_BYTES = 1 << 30
"""With less free memory there is no zygote; it takes about 160 MB of its own."""
OF_A_RANK = ("QUINTILE_", "HOROVOD_", "RANK", "LOCAL_RANK", "MASTER_", "WORLD_SIZE")
EARLY = "training has gone on for too short a time to have a zygote"


@dataclass(frozen=True)
class Born:
    """A forked rank, which is our child, and its output."""

    pid: int
    stdout: IO[bytes]
    stderr: IO[bytes]


@dataclass
class _Zygote:
    """A process that loads, or waits for requests once it is ready."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    ready: bool = False


@dataclass
class Watch:
    """What was seen of the ranks of a generation; times are of the monotonic clock."""

    begun: float
    stepped_at: float | None = None
    stepped: int = 0


class Refused(Exception):
    """The zygote does not fork; the text says why."""


class Nursery:
    """One per agent."""

    def __init__(self, env: environment.AgentEnv) -> None:
        self._env = env
        self._zygote: _Zygote | None = None
        self._watch: Watch | None = None
        self._model: dict[str, str] = {}
        self._starts = 0
        self._restarts = -1
        self._why = EARLY
        self._never = math.isinf(env.zygote_after_s) or not is_possible(env)

    @property
    def _patience_s(self) -> float:
        """How long ranks train first. Servers tell no steps, but serve from the start on."""
        after_s = self._env.zygote_after_s
        return after_s / SILENT if self._env.role == layout.SERVERS else after_s

    @property
    def pids(self) -> list[int]:
        """Return the pid of the zygote, if there is one."""
        return [self._zygote.process.pid] if self._zygote is not None else []

    def begin(self) -> None:
        """Take that a generation begins."""
        self._watch = Watch(time.monotonic())
        self._restarts += 1

    def fork(self, rank: int, env: Mapping[str, str]) -> Born | None:
        """Return a rank from the zygote; None when it must be started in a fresh interpreter."""
        self._model = dict(env)
        if self._never or self._restarts < 1:
            return None
        try:
            born = self._ask(rank, env)
        except Refused as refused:
            self._why = str(refused)
        except (OSError, EOFError, ValueError, KeyError) as error:
            self.close(f"the zygote does not answer ({type(error).__name__}: {error})")
        else:
            shipper.note(f"rank {rank} is forked from the zygote")
            return born
        shipper.note(f"rank {rank} starts in a fresh interpreter: {self._why}")
        return None

    def consider(self, ranks: Sequence[wire.RankView]) -> None:
        """Start a zygote when that is worth it; called now and then while ranks run."""
        if self._never or self._watch is None or not ranks:
            return
        if self._zygote is not None:
            self._hear(self._zygote)
        elif is_due(self._watch, ranks, now=time.monotonic(), after_s=self._patience_s):
            kinds = self._kinds(ranks[0].pid)
            if not kinds and self._watch.stepped_at is None:
                # A rank that has told no step may not have loaded it yet.
                return
            if not kinds:
                self._give_up("the program of the ranks does not use torch")
            elif memory.free_bytes() < FREE_BYTES:
                self._give_up("too little memory is free for a zygote")
            elif self._starts >= STARTS:
                self._give_up(f"{self._starts} zygotes have ended before")
            else:
                self._start(kinds)

    def note(self, reaped: Mapping[int, int]) -> None:
        """Take over the wait statuses of reaped children."""
        for pid in self.pids:
            if pid in reaped:
                code = os.waitstatus_to_exitcode(reaped[pid])
                self._forget(code, f"the zygote has ended ({code})")

    def close(self, why: str) -> None:
        """End the zygote, if there is one."""
        if self._zygote is not None:
            with contextlib.suppress(ProcessLookupError):
                self._zygote.process.kill()
            self._forget(-signal.SIGKILL, why)

    def _kinds(self, pid: int) -> list[str]:
        """Return what to load, as far as a rank of before has it loaded."""
        if self._env.role == layout.SERVERS:
            return ["servers"]
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text()
            if "/libtorch" in maps:
                script = self._env.program["estimator"].get("script")
                more = [preloading.HOROVOD] if "/horovod/" in maps else []
                return ["script" if script else "training", *more]
        return []

    def _start(self, kinds: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_S)
        words = [str(os.getpid()), str(theirs.fileno()), *kinds]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, *words],
            env=zygote_env(self._model),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        self._starts += 1
        self._zygote = _Zygote(process, ours)
        self._why = "the zygote is still loading"

    def _hear(self, zygote: _Zygote) -> None:
        """Take what the zygote said about itself, if it has said so."""
        if zygote.ready or not select.select([zygote.connection], [], [], 0)[0]:
            return
        try:
            reason = str(talk.receive(zygote.connection)[0]["ready"])
        except (OSError, EOFError, ValueError, KeyError):
            # It has ended; the kernel tells us.
            return
        zygote.ready = not reason
        if reason:
            self._give_up(f"the zygote cannot fork: {reason}")
        else:
            shipper.note("the zygote is ready: a restart will be quick")

    def _ask(self, rank: int, env: Mapping[str, str]) -> Born:
        zygote = self._zygote
        if zygote is not None:
            self._hear(zygote)
        if zygote is None or not zygote.ready:
            raise Refused(self._why)
        request = {"rank": rank, "cwd": str(Path.cwd()), "env": dict(env)}
        with contextlib.ExitStack() as mine, contextlib.ExitStack() as theirs:
            pipes = [_pipe(mine, theirs) for _ in ("stdout", "stderr")]
            go = _pipe(theirs, mine)
            talk.send(zygote.connection, request, [pipes[0][1], pipes[1][1], go[0]])
            answer, _ = talk.receive(zygote.connection)
            if "pid" not in answer:
                raise Refused(f"the zygote does not fork: {answer['refused']}")
            # Only now does it begin: were we gone by now, it would end.
            os.write(go[1], talk.GO)
            files = [os.fdopen(os.dup(reader), "rb", buffering=0) for reader, _ in pipes]
        return Born(int(answer["pid"]), files[0], files[1])

    def _give_up(self, why: str) -> None:
        shipper.note(f"no zygote: {why}")
        self._never = True
        self.close(why)

    def _forget(self, code: int, why: str) -> None:
        assert self._zygote is not None
        # Reaped with all other children; the handle must not wait again.
        self._zygote.process.returncode = code
        self._zygote.connection.close()
        self._zygote, self._why = None, why


def is_possible(env: environment.AgentEnv) -> bool:
    """Return whether ranks of a run may be forked: not under mpirun, nor where torch stays out."""
    under_mpi = horovod.is_under_mpi(env.mode, env.program)
    return not under_mpi and not env.program["estimator"].get("labelingRound")


def is_due(watch: Watch, ranks: Sequence[wire.RankView], *, now: float, after_s: float) -> bool:
    """Return whether a zygote is worth its start, and note the first steps.

    All ranks of this replica must have trained for a while, and be about to train as long again.
    Ranks that tell no steps must have lived for a multiple of it.
    """
    if any(rank.state == "exited" for rank in ranks):
        return False
    told = [rank for rank in ranks if rank.step >= 0]
    if not told:
        return now - watch.begun >= SILENT * after_s
    least = min(rank.step for rank in told)
    if len(told) < len(ranks) or least < 1:
        return False
    if watch.stepped_at is None:
        watch.stepped_at, watch.stepped = now, least
    trained_s = now - watch.stepped_at
    if trained_s < after_s:
        return False
    totals = [rank.total_steps for rank in told if rank.total_steps > 0]
    if not totals:
        return True
    pace = (least - watch.stepped) / trained_s
    return (min(totals) - least) >= after_s * pace


def zygote_env(of_rank: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a zygote: a rank's, but for what is one rank's own.

    What the user set works from the start of the process on, as it does in a fresh interpreter.
    """
    kept = {name: value for name, value in of_rank.items() if not name.startswith(OF_A_RANK)}
    return {"OMP_WAIT_POLICY": "PASSIVE", **kept, **preloading.SINGLE_THREADED}


def _pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe whose ends are closed with two stacks."""
    reader, writer = os.pipe()
    reads.callback(os.close, reader)
    writes.callback(os.close, writer)
    return reader, writer
