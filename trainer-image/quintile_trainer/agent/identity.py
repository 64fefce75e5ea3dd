"""Who the agent is and how it ended, as files that the Executor reads.

``identity.json`` at the start, ``exit.json`` at the end, ``lock`` held for life: an agent whose
lock is free and that left no ``exit.json`` is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quintile_trainer import spool
from quintile_trainer.agent import environment


class Occupied(Exception):
    """Another agent lives in the state folder."""


@dataclass(frozen=True)
class Outcome:
    """How an agent ends.

    ``code``: 0 all ranks are done, 1 the user's code failed, 70 a fault of the agent, 75 asked to
    leave (state is saved), 76 fenced by a newer attempt, 77 the API was away for too long.
    """

    code: int
    reason: str
    message: str = ""


def claim(env: environment.AgentEnv, boot_id: str) -> IO[bytes]:
    """Take the lock and write ``identity.json``; the caller keeps the file open for life.

    Raises:
        Occupied: Another agent holds the lock.
    """
    env.state_dir.mkdir(parents=True, exist_ok=True)
    lock = (env.state_dir / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Occupied(f"another agent holds the lock of {env.state_dir}") from error
    pid = os.getpid()
    record = {
        "pid": pid,
        "start_time": start_ticks(pid),
        "boot_id": boot_id,
        "trial_uid": env.trial_uid,
        "attempt": env.attempt,
        "name": env.state_dir.name,
    }
    (env.state_dir / "exit.json").unlink(missing_ok=True)
    spool.write_atomically(env.state_dir / "identity.json", json.dumps(record).encode())
    return lock


def record_exit(
    state_dir: Path, boot_id: str, outcome: Outcome, *, copy: Path | None = None
) -> None:
    """Write ``exit.json``, whole or not at all; and ``copy``, if that can be written."""
    record = {
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "message": outcome.message[:1024],
        "boot_id": boot_id,
        "time": time.time(),
    }
    data = json.dumps(record).encode()
    spool.write_atomically(state_dir / "exit.json", data)
    if copy is not None:
        with contextlib.suppress(OSError):
            # In place: in a pod it is a file that the kubelet put there.
            copy.write_bytes(data)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (field 22 of its stat file)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])
