"""The state folder of one replica as the executor sees it. Formats are those of the agent.

::

    replica.json                 what the executor started: for whom, and as which process
    ending.json                  that the replica shall end and be forgotten, and when patience ends
    agent.log                    the agent's own output
    identity.json exit.json lock written and held by the agent; see ``quintile_trainer.agent``

Everything is below folders that only this user can enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from quintile.core import meta, runplan
from quintile_operator import process_table

LAST_WORDS: Final = 300


@dataclass(frozen=True)
class Record:
    """``replica.json``: written before the process is started (``pid`` 0) and after."""

    namespace: str
    trial: str
    trial_uid: str
    attempt: int
    name: str
    role: str
    index: int
    machine_boot_id: str
    pid: int = 0
    start_ticks: int = 0

    @property
    def key(self) -> meta.Key:
        """The trial's key."""
        return meta.Key("Trial", self.namespace, self.trial)

    @property
    def process(self) -> process_table.ProcessId | None:
        """The process that was started, None when it is not known."""
        return process_table.ProcessId(self.pid, self.start_ticks) if self.pid else None


@dataclass(frozen=True)
class Replica:
    """A state folder and what the executor wrote into it."""

    folder: pathlib.Path
    record: Record

    def started(self, process: process_table.ProcessId) -> Replica:
        """Note the process; return the replica with it."""
        record = replace(self.record, pid=process.pid, start_ticks=process.start_ticks)
        return write(self.folder, record)

    def agent(self) -> process_table.ProcessId | None:
        """Return the agent's process, whether it lives or not; None if none was ever seen."""
        identity = self._identity()
        if identity is not None:
            return process_table.ProcessId(int(identity["pid"]), int(identity["start_time"]))
        return self.record.process

    def is_alive(self) -> bool:
        """Return whether the agent lives: pid, start time and, once it is taken, lock agree."""
        agent = self.agent()
        if agent is None or self.record.machine_boot_id != process_table.machine_boot_id():
            return False
        if not process_table.is_alive(agent):
            return False
        return self._identity() is None or _is_locked(self.folder / "lock")

    def left_behind(self) -> tuple[process_table.ProcessId, ...]:
        """Return the processes of an agent that counts as gone; itself when only its lock is."""
        agent = self.agent()
        if agent is None or self.record.machine_boot_id != process_table.machine_boot_id():
            return ()
        return process_table.left_behind(agent, mark=str(self.folder))

    def observe(self) -> runplan.ObservedReplica:
        """Return what became of the replica."""
        # Liveness first: what an agent wrote before it ended is read afterwards.
        alive = self.is_alive()
        end = self._exit()
        if end is not None:
            return self._observed(
                "exited",
                exit_code=int(end["exit_code"]),
                reason=str(end.get("reason", "")),
                message=str(end.get("message", "")),
            )
        if alive:
            seen = self._observed("running" if self._identity() is not None else "pending")
            return replace(seen, started_s=self._started_s())
        words = self._last_words()
        message = f"the agent of {self.record.name} is gone without an exit record"
        return self._observed(
            "lost",
            reason="AgentLost",
            message=f"{message}; its last words: {words}" if words else message,
        )

    def end_by(self) -> float | None:
        """Return when patience ends (seconds since the epoch), None if the replica shall stay."""
        found = _read_json(self.folder / "ending.json")
        return float(found["kill_s"]) if found is not None else None

    def note_ending(self, kill_s: float) -> None:
        """Write down that the replica shall end and be forgotten."""
        _write_json(self.folder / "ending.json", {"kill_s": kill_s})

    def drop_state(self) -> None:
        """Remove everything but the records and the agent's output."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

    def drop_records(self) -> None:
        """Remove what an ended agent wrote about itself, so that another can begin here."""
        for name in ("identity.json", "exit.json"):
            (self.folder / name).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the folder, and that of the trial when it was the last one."""
        # The record goes last: a folder that is half removed is still known after a crash.
        self.drop_state()
        (self.folder / "replica.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another replica lives beside it
            self.folder.parent.rmdir()

    def _identity(self) -> dict[str, Any] | None:
        found = _read_json(self.folder / "identity.json")
        if found is None:
            return None
        mine = (self.record.trial_uid, self.record.attempt, self.record.name)
        claimed = (found.get("trial_uid"), found.get("attempt"), found.get("name"))
        return found if claimed == mine else None

    def _exit(self) -> dict[str, Any] | None:
        found, identity = _read_json(self.folder / "exit.json"), self._identity()
        if found is None or identity is None or found.get("boot_id") != identity.get("boot_id"):
            return None
        return found

    def _started_s(self) -> float:
        """Return when the record of the process was written; 0 when it is just being removed."""
        with contextlib.suppress(OSError):
            return (self.folder / "replica.json").stat().st_mtime
        return 0.0

    def _last_words(self) -> str:
        lines = tail(self.folder / "agent.log", LAST_WORDS * 4).decode(errors="replace").split("\n")
        kept = [line.strip() for line in lines if line.strip()]
        return kept[-1][-LAST_WORDS:] if kept else ""

    def _observed(
        self,
        state: runplan.ReplicaState,
        *,
        exit_code: int | None = None,
        reason: str = "",
        message: str = "",
    ) -> runplan.ObservedReplica:
        record = self.record
        return runplan.ObservedReplica(
            trial_uid=record.trial_uid,
            attempt=record.attempt,
            name=record.name,
            role=record.role,
            index=record.index,
            state=state,
            exit_code=exit_code,
            reason=reason,
            message=message,
        )


def write(folder: pathlib.Path, record: Record) -> Replica:
    """Make the folder, for this user alone, and write its record."""
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:  # the last replica of an older attempt was forgotten just now
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    _write_json(folder / "replica.json", asdict(record))
    return Replica(folder, record)


def read(folder: pathlib.Path) -> Replica | None:
    """Return the replica of a folder; None when the executor never got to write its record."""
    found = _read_json(folder / "replica.json")
    return Replica(folder, Record(**found)) if found is not None else None


def tail(path: pathlib.Path, size_bytes: int) -> bytes:
    """Return the last bytes of a file; nothing if there is no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size_bytes))
            return file.read(size_bytes)
    except FileNotFoundError:
        return b""


def _is_locked(path: pathlib.Path) -> bool:
    # Only asked once the agent has its lock, so that the question never keeps one from taking it.
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
