"""One generation under Open MPI, in one agent: its daemon, its ranks, and on worker 0 ``mpirun``.

Ranks stay children of the agent, as in every other mode; what the daemon starts for a rank only
waits for its end. ``mpirun`` decides: what it says of a run in which all ranks were content is the
word on rank 0. Everything here is called by the main thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quintile_trainer import exit_codes, tied
from quintile_trainer.agent import (
    doors,
    environment,
    exits,
    horovod,
    inbox,
    launching,
    limits,
    mpi_command,
    output,
    wire,
)
from quintile_trainer.mpi import challenge, remote_shell

DAEMON = "orted"
PROGRAMS = ("mpirun", DAEMON)
REASON = "MpiFailed"
LAST_WORDS_S = 0.5
HINT = "install Open MPI (Debian and Ubuntu: apt-get install openmpi-bin), or use mode ddp"
StartRank = Callable[[int, Mapping[str, str]], None]


def is_wanted(env: environment.AgentEnv) -> bool:
    """Return whether ``mpirun`` starts the ranks of a run."""
    return horovod.is_under_mpi(env.mode, env.program)


def missing() -> str:
    """Return what of Open MPI is not on this machine, as a sentence; empty when all is."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{absent[0]} is not installed; {HINT}" if absent else ""


class Said(output.RankOutput):
    """What a helper prints: lines of the agent in the log of a rank, the newest kept."""

    def say(self, line: str, stream: str = "agent") -> None:
        """Spool one line."""
        del stream
        if line.strip():
            self.tail.append(line)
            super().say(f"[mpi] {line}", "agent")


@dataclass(frozen=True)
class Crew:
    """What a job works with.

    Attributes:
        slots: The ranks of this replica.
        start_rank: Starts one of them, with variables of Open MPI.
        said: Makes a reader of what one helper prints.
    """

    slots: Sequence[launching.Slot]
    start_rank: StartRank
    said: Callable[[], Said]


@dataclass
class _Helper:
    """``mpirun`` or the daemon; ``code`` as a shell would say it, None while it runs."""

    process: subprocess.Popen[bytes]
    said: Said
    code: int | None = None


@dataclass
class _State:
    """What became of whom; ``over`` says why no rank begins any more."""

    launcher: _Helper | None = None
    daemon: _Helper | None = None
    daemon_call: doors.Call | None = None
    callers: dict[int, doors.Call] = field(default_factory=dict)
    left: dict[int, float] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    held: list[wire.RankEnd] = field(default_factory=list)
    over: str = ""


class Job:
    """See the module."""

    def __init__(
        self, env: environment.AgentEnv, plan: wire.Json, folder: Path, *, crew: Crew
    ) -> None:
        self._env = env
        self._plan = plan
        self._folder = folder / "mpi"
        self._crew = crew
        self._doors: list[doors.Door] = []
        self._now = _State()
        self._begun = time.monotonic()

    @property
    def leads(self) -> bool:
        """Return whether ``mpirun`` runs here."""
        return any(slot.rank == 0 for slot in self._crew.slots)

    def begin(self, box: inbox.Inbox) -> None:
        """Open the doors and, on worker 0, start ``mpirun``."""
        generation = int(self._plan["generation"])
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)
        shell = self._folder / mpi_command.SHELL
        shell.write_text(mpi_command.shell_file())
        shell.chmod(0o700)

        def told(do: Callable[[doors.Call], None]) -> Callable[[doors.Call], None]:
            return lambda call: box.post(inbox.Errand(generation, lambda: do(call)))

        listener = doors.Listener(told(self._asked), told(self._left))
        secret = challenge.key(self._env.token)
        own = next(
            agent
            for agent in self._plan["agents"]
            if (agent["role"], agent["index"]) == (self._env.role, self._env.index)
        )
        host = self._env.host if launching.is_loopback(self._env.host) else ""
        address = (host, int(own["port"]))
        self._doors = [doors.local(self._folder, listener)]
        try:
            door = doors.network(address, listener, secret=secret, generation=generation)
        except OSError as error:
            self._now.over = f"port {address[1]} for Open MPI's daemon cannot be had: {error}"
            return
        self._doors.append(door)
        if self.leads:
            self._now.launcher = self._launch(secret)

    def _launch(self, secret: str) -> _Helper:
        (self._folder / mpi_command.HOSTS).write_text(mpi_command.hosts_file(self._plan))
        addresses = self._folder / "peers.json"
        addresses.write_text(json.dumps(mpi_command.peers(self._plan)))
        variables = mpi_command.daemon_variables(os.environ, self._folder)
        told = {
            remote_shell.KEY: secret,
            remote_shell.PEERS: str(addresses),
            remote_shell.GENERATION: str(self._plan["generation"]),
        }
        command = mpi_command.command(self._plan, self._folder, interface=self._env.interface)
        return self._start(command, {**variables, **told})

    def _start(self, command: list[str], variables: Mapping[str, str]) -> _Helper:
        process = subprocess.Popen(
            tied.command(command),
            env=dict(variables),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            bufsize=0,
        )
        assert process.stdout is not None and process.stderr is not None
        said = self._crew.said()
        said.attach(process.stdout, process.stderr)
        return _Helper(process, said)

    def _asked(self, call: doors.Call) -> None:
        if "command" in call.request:
            self._start_daemon(call)
        else:
            self._start_rank(call)

    def _start_daemon(self, call: doors.Call) -> None:
        command = [str(word) for word in call.request["command"]]
        if self._now.daemon is not None or not command or Path(command[0]).name != DAEMON:
            call.hang_up()
            return
        variables = mpi_command.daemon_variables(os.environ, self._folder)
        self._now.daemon = self._start(command, variables)
        self._now.daemon_call = call
        # No other follows; and the port is free for what the ranks do with it.
        self._doors.pop().close()

    def _start_rank(self, call: doors.Call) -> None:
        told = {str(name): str(value) for name, value in call.request["variables"].items()}
        rank = int(told.get("OMPI_COMM_WORLD_RANK", "-1"))
        mine = rank in {slot.rank for slot in self._crew.slots}
        if not mine or rank in self._now.callers:
            call.hang_up()
            return
        self._now.callers[rank] = call
        self._crew.start_rank(rank, told)

    def _left(self, call: doors.Call) -> None:
        """Take that a caller is gone: nobody waits any more for what was started for it."""
        daemon = self._now.daemon
        if daemon is not None and self._now.daemon_call is call and daemon.code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(daemon.process.pid, signal.SIGKILL)
        for rank, caller in self._now.callers.items():
            if caller is call:
                self._now.left.setdefault(rank, time.monotonic())

    def note(self, reaped: Mapping[int, int]) -> None:
        """Take over the wait statuses of reaped children."""
        for helper in (self._now.launcher, self._now.daemon):
            if helper is None or helper.process.pid not in reaped:
                continue
            code = os.waitstatus_to_exitcode(reaped[helper.process.pid])
            helper.process.returncode = code
            helper.code = code if code >= 0 else exits.SIGNAL_BASE - code
            if helper is self._now.launcher:
                self._conclude(helper, killed=code < 0)
            elif self._now.daemon_call is not None:
                self._now.daemon_call.answer(helper.code)

    def _conclude(self, launcher: _Helper, *, killed: bool) -> None:
        launcher.said.closed.wait(LAST_WORDS_S)
        why = mpi_command.complaint(list(launcher.said.tail))
        self._now.over = f"mpirun ended with code {launcher.code}" + (f": {why}" if why else "")
        if killed:
            # It had no time to end its ranks.
            self._now.left.update(dict.fromkeys(self._now.callers, -math.inf))

    def abandoned(self) -> list[int]:
        """Return the ranks to kill: Open MPI gave them up, a grace period ago."""
        oldest = time.monotonic() - self._env.grace_s
        found = [
            rank
            for rank, since in self._now.left.items()
            if since < oldest and rank not in self._now.ended
        ]
        self._now.given_up.update(found)
        return found

    def settle(self, ends: Sequence[wire.RankEnd]) -> list[wire.RankEnd]:
        """Return the ends to report now, as ``mpirun`` sees them."""
        now = self._now
        self._lose_patience()
        for end in ends:
            now.ended.add(end.rank)
            if end.rank in now.callers:
                now.callers[end.rank].answer(end.exit_code)
        # A rank that is content waits for the word of mpirun.
        waits = self.leads and not now.over
        now.held += [end for end in ends if end.exit_code == 0]
        ready = [self._explained(end) for end in ends if end.exit_code != 0]
        if not waits:
            ready += [self._judged(end) for end in now.held]
            now.held = []
        return ready + (self._unborn() if now.over else [])

    def _lose_patience(self) -> None:
        """Take that ranks which have not begun by now never will: ``mpirun`` or a daemon hangs."""
        now, limit_s = self._now, limits.start_timeout_s(self._env.program)
        waited_s = time.monotonic() - self._begun
        unborn = [slot.rank for slot in self._crew.slots if slot.rank not in now.callers]
        if now.over or not unborn or not 0 < limit_s < waited_s:
            return
        said = mpi_command.complaint(list(now.launcher.said.tail)) if now.launcher else ""
        now.over = (
            f"mpirun has not started rank {unborn[0]} in {waited_s:.0f} s "
            f"(telemetry.startTimeoutSeconds is {limit_s:g})" + (f": {said}" if said else "")
        )

    def _explained(self, end: wire.RankEnd) -> wire.RankEnd:
        if end.rank not in self._now.given_up:
            return end
        why = self._now.over or "mpirun ended the job before this rank was done"
        code = exit_codes.PEER_LOST
        return dataclasses.replace(end, exit_code=code, reason=REASON, first_error=why)

    def _judged(self, end: wire.RankEnd) -> wire.RankEnd:
        launcher = self._now.launcher
        if end.rank != 0 or launcher is None or not launcher.code:
            return end
        why = self._now.over
        return dataclasses.replace(end, exit_code=launcher.code, reason=REASON, first_error=why)

    def _unborn(self) -> list[wire.RankEnd]:
        """Return ends of ranks that never began, and never will."""
        never = [
            slot.rank
            for slot in self._crew.slots
            if slot.rank not in self._now.callers and slot.rank not in self._now.ended
        ]
        self._now.ended.update(never)
        code, why = exit_codes.INTERNAL, self._now.over
        return [wire.RankEnd(rank, code, 0, REASON, why) for rank in never]

    def close(self) -> None:
        """Close the doors and let go of callers; processes are the supervisor's to kill."""
        while self._doors:
            self._doors.pop().close()
        for call in (*self._now.callers.values(), self._now.daemon_call):
            if call is not None:
                call.hang_up()
        for helper in (self._now.launcher, self._now.daemon):
            if helper is not None:
                # Reaped with all other children; the handle must not complain.
                helper.process.returncode = helper.process.returncode or 0
        shutil.rmtree(self._folder, ignore_errors=True)
