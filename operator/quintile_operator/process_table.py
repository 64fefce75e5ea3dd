"""Processes of this machine as the kernel lists them, told apart by pid *and* start time.

Called by ``quintile_operator.executor_process``. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_PROC: Final = pathlib.Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """One process; ``start_ticks`` is when it started, in clock ticks since the machine booted."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class _Entry:
    """One line of the kernel's table."""

    process: ProcessId
    state: str
    parent: int
    session: int


def machine_boot_id() -> str:
    """Return what is different after every boot of this machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessId | None:
    """Return the process that has this pid now (a zombie too), None if there is none."""
    entry = _entry(pid)
    return entry.process if entry is not None else None


def is_alive(process: ProcessId) -> bool:
    """Return whether this very process exists and has not ended."""
    entry = _entry(process.pid)
    return entry is not None and entry.process == process and entry.state not in "ZX"


def send(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to this very process; nothing happens when it is gone."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def family(leader: ProcessId) -> tuple[ProcessId, ...]:
    """Return the living processes below this living one and those of its session, without it."""
    if not is_alive(leader):
        return ()
    entries = [entry for entry in _entries() if entry.state not in "ZX"]
    pids = {leader.pid}
    grown = True
    while grown:
        known = len(pids)
        pids |= {entry.process.pid for entry in entries if entry.parent in pids}
        grown = len(pids) > known
    return tuple(
        entry.process
        for entry in entries
        if entry.process != leader and (entry.process.pid in pids or entry.session == leader.pid)
    )


def left_behind(leader: ProcessId, *, mark: str) -> tuple[ProcessId, ...]:
    """Return the living rest of the session of a leader that counts as gone.

    Only itself and processes whose environment holds ``mark``: numbers of sessions come again.
    """
    return tuple(
        entry.process
        for entry in _entries()
        if entry.session == leader.pid
        and entry.process.start_ticks >= leader.start_ticks
        and entry.state not in "ZX"
        and (entry.process == leader or mark.encode() in _environment(entry.process.pid))
    )


def kill(processes: Iterable[ProcessId]) -> None:
    """Send SIGKILL to processes."""
    for process in processes:
        send(process, signal.SIGKILL)


def with_variable(assignment: str) -> ProcessId | None:
    """Return a living process of this user that was started with ``NAME=value``, if any."""
    wanted = assignment.encode()
    for entry in _entries():
        alive = entry.state not in "ZX"
        if alive and wanted in _environment(entry.process.pid).split(b"\0"):
            return entry.process
    return None


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""  # gone, or of another user


def _entries() -> Iterator[_Entry]:
    for path in _PROC.iterdir():
        if path.name.isdigit():
            entry = _entry(int(path.name))
            if entry is not None:
                yield entry


def _entry(pid: int) -> _Entry | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    return _Entry(
        process=ProcessId(pid=pid, start_ticks=int(fields[19])),
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
    )
