"""Port ``Executor`` on this machine: one agent process per replica, each in a session of its own.

Agents outlive the server: whatever an earlier executor started in the same folder is adopted when
lock, pid and start time agree. The token reaches the agent through its environment alone. Limits
of cpu and memory are not enforced here; the machine is shared. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from quintile import logs, ports
from quintile.core import errors, meta, runplan
from quintile_operator import exit_watch, process_table, replica_folder, revivals

LOOPBACK: Final = "127.0.0.1"
OWN_PREFIX: Final = "QUINTILE_"
LOG_LIMIT_BYTES: Final = 1024 * 1024
LOG_KEPT_BYTES: Final = 256 * 1024
CHUNK_BYTES: Final = 64 * 1024
POLL_S: Final = 0.02
_SAFE: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_LOG: Final = logs.get(__name__)

Place = tuple[str, str]
"""Uid of the trial and name of the replica."""


class ProcessExecutor:
    """Starts, sees, adopts and ends agents. Thread-safe; one per folder at a time.

    Args:
        runs: Folder of the state folders; made for this user alone.
        clock: The time, for the deadline of a replica that is asked to end.
        base_env: Environment that agents inherit, by default that of this process. Variables of
            the platform are left out: settings of the server are no business of a run.
        cache_dir: Where agents keep shards that several runs can use; unset = their own choice.
    """

    def __init__(
        self,
        runs: pathlib.Path,
        *,
        clock: ports.Clock,
        base_env: Mapping[str, str] | None = None,
        cache_dir: pathlib.Path | None = None,
    ) -> None:
        self._runs = runs
        self._clock = clock
        inherited = os.environ if base_env is None else base_env
        self._env = {
            name: value for name, value in inherited.items() if not name.startswith(OWN_PREFIX)
        }
        if cache_dir is not None:
            self._env["QUINTILE_CACHE_DIR"] = str(cache_dir)
        self._lock = threading.RLock()
        self._replicas: dict[Place, replica_folder.Replica] = {}
        self._live: dict[process_table.ProcessId, replica_folder.Replica] = {}
        self._ending: dict[Place, float] = {}
        self._revivals = revivals.Revivals()
        self._children: dict[process_table.ProcessId, subprocess.Popen[bytes]] = {}
        self._listeners: list[Callable[[meta.Key], None]] = []
        self._watch = exit_watch.ExitWatch(self, on_fault=_log_fault)
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs.chmod(0o700)
        self._adopt()
        self._watch.start()

    def subscribe(self, listener: Callable[[meta.Key], None]) -> None:
        """Call ``listener`` with the trial's key whenever one of its agents ended or is gone."""
        with self._lock:
            self._listeners.append(listener)

    def close(self) -> None:
        """Let go: agents stay as they are and are adopted by the next executor. Idempotent."""
        self._watch.stop()
        for child in self._children.values():
            # Not waited for on purpose; the handle must not complain when it is collected.
            child.returncode = child.returncode or 0
        self._children.clear()

    def suspend(self, *, grace_s: float) -> int:
        """Ask every agent to save its state and go; wait for it, then kill what is left.

        For a server that is about to end while its API still answers. State folders stay.

        Returns:
            How many agents ended by themselves.
        """
        agents = [agent for agent in map(_living_agent, self._all()) if agent is not None]
        for agent in agents:
            process_table.send(agent, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        left = agents
        while left and time.monotonic() < deadline:
            time.sleep(POLL_S)
            left = [agent for agent in left if process_table.is_alive(agent)]
        for agent in left:
            _kill_tree(agent)
        return len(agents) - len(left)

    def ensure(self, run: runplan.RunPlan) -> None:
        """Start the agents that are missing; see the port."""
        for replica in run.replicas:
            with self._lock:
                self._ensure(run, replica)
        if run.elastic:
            self._dismiss(run)

    def trials(self) -> Mapping[str, meta.Key]:
        """Return the key by uid of every trial that holds replicas."""
        with self._lock:
            return {uid: found.record.key for (uid, _), found in self._replicas.items()}

    def holders(self, key: meta.Key) -> Collection[str]:
        """Return the uids of trials that hold replicas under a key."""
        return {uid for uid, held in self.trials().items() if held == key}

    def observe(self, trial_uid: str) -> tuple[runplan.ObservedReplica, ...]:
        """Return the replicas of a trial as their folders tell."""
        found = []
        for replica in self._of(trial_uid):
            seen = replica.observe()
            # One that shall be forgotten and is dead only waits for its folder to be removed.
            if seen.state in ("pending", "running") or _place(replica) not in self._ending:
                found.append(seen)
        return tuple(sorted(found, key=lambda entry: (entry.attempt, entry.role, entry.index)))

    def delete(self, trial_uid: str, *, attempt: int | None = None, grace_s: float = 0.0) -> None:
        """End and forget replicas; see the port. A deadline is never moved to later."""
        for replica in self._of(trial_uid):
            if attempt in (None, replica.record.attempt):
                self._end(replica, grace_s=grace_s)
        self._watch.wake()

    def addresses(self, run: runplan.RunPlan) -> dict[str, str]:
        """Return the loopback address for every replica."""
        return {replica.name: LOOPBACK for replica in run.replicas}

    def logs(self, trial_uid: str, *, attempt: int, name: str) -> Iterator[bytes]:
        """Yield what an agent wrote to its output."""
        with self._lock:
            found = self._replicas.get((trial_uid, name))
        if found is None or found.record.attempt != attempt:
            raise errors.NotFound(
                f"There is no replica {name!r} of attempt {attempt} here.",
                hint="Replicas are forgotten when their trial goes on to another attempt.",
            )
        return _chunks(found.folder / "agent.log")

    def ended(self, process: process_table.ProcessId) -> None:
        """Reap an agent and tell who listens; called by the watch."""
        child = self._children.pop(process, None)
        if child is not None:
            child.wait()
        with self._lock:
            replica = self._live.pop(process, None)
            # Chores may have forgotten it before this, and another may live in its place.
            if replica is None or self._replicas.get(_place(replica)) is not replica:
                return
        process_table.kill(replica.left_behind())
        seen = replica.observe()
        if seen.exit_code == 0 and seen.reason == "Completed":
            replica.drop_state()  # everything was delivered; local checkpoints serve nobody
        _LOG.info("agent ended", replica=seen.name, state=seen.state, reason=seen.reason)
        self._tell(replica.record.key)

    def chores(self) -> bool:
        """Kill what was patient for long enough, forget what is dead; called by the watch."""
        with self._lock:
            ending = [(self._replicas[place], kill_s) for place, kill_s in self._ending.items()]
            live = list(self._live.values())
        for replica in live:
            _cap(replica.folder / "agent.log")
        left = [replica for replica, kill_s in ending if not self._try_to_forget(replica, kill_s)]
        return bool(left)

    def _ensure(self, run: runplan.RunPlan, wanted: runplan.ReplicaPlan) -> None:
        place = (run.trial_uid, wanted.name)
        if not all(_SAFE.match(part) for part in place):
            raise errors.InvalidSpec(f"{run.trial_uid}/{wanted.name} is not the name of a replica.")
        known = self._replicas.get(place)
        if known is not None:
            if place in self._ending:
                raise errors.Unavailable(f"{wanted.name} is still ending.", hint="Try again.")
            if not (run.elastic and self._revive(known)):
                return
        self._check_name(run, wanted.name)
        record = replica_folder.Record(
            namespace=run.namespace,
            trial=run.trial,
            trial_uid=run.trial_uid,
            attempt=run.attempt,
            name=wanted.name,
            role=wanted.role,
            index=wanted.index,
            machine_boot_id=process_table.machine_boot_id(),
        )
        folder = self._runs / run.trial_uid / wanted.name
        try:
            # Written before the process exists, so that one started just before a crash is found.
            replica = replica_folder.write(folder, record)
            replica = self._spawn(replica, run, wanted)
        except OSError as error:
            raise errors.Unavailable(
                f"The agent of {wanted.name} cannot be started: {error}.",
                hint="Free memory, processes or disk space; it is tried again.",
                retry_after_s=5.0,
            ) from error
        _LOG.info("agent started", replica=wanted.name, pid=replica.record.pid)

    def _revive(self, known: replica_folder.Replica) -> bool:
        """Make room for an ended replica of an elastic attempt to start again, if it may now."""
        seen, now_s = known.observe(), self._clock.now()
        if not self._revivals.is_due(_place(known), seen, now_s=now_s):
            return False
        process_table.kill(known.left_behind())
        known.drop_records()
        return True

    def _dismiss(self, run: runplan.RunPlan) -> None:
        """Ask the replicas of an elastic attempt to leave that its plan does not name any more."""
        named = {replica.name for replica in run.replicas}
        for replica in self._of(run.trial_uid):
            if replica.record.attempt == run.attempt and replica.record.name not in named:
                self._end(replica, grace_s=run.grace_s)
                self._revivals.forget(_place(replica))
        self._watch.wake()

    def _check_name(self, run: runplan.RunPlan, name: str) -> None:
        for (uid, other), replica in self._replicas.items():
            if other == name and uid != run.trial_uid and replica.is_alive():
                raise errors.Conflict(
                    f"The replica {name} of an older trial still runs.", hint="It is ending."
                )

    def _spawn(
        self,
        replica: replica_folder.Replica,
        run: runplan.RunPlan,
        wanted: runplan.ReplicaPlan,
    ) -> replica_folder.Replica:
        env = {
            **self._env,
            **dict(wanted.env),
            "QUINTILE_TOKEN": run.token,
            "QUINTILE_STATE_DIR": str(replica.folder),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        output = os.open(replica.folder / "agent.log", flags, 0o600)
        try:
            child = subprocess.Popen(
                list(wanted.argv),
                env=env,
                cwd=replica.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        process = process_table.identify(child.pid)
        assert process is not None, "a child that was not waited for is in the table"
        self._children[process] = child
        started = replica.started(process)
        self._keep(started, process)
        return started

    def _adopt(self) -> None:
        for path in sorted(self._runs.glob("*/*")):
            replica = replica_folder.read(path) if path.is_dir() else None
            if replica is None:
                continue
            agent = replica.agent()
            if agent is None:
                agent = process_table.with_variable(f"QUINTILE_STATE_DIR={path}")
                if agent is None:
                    replica.forget()  # the server ended before the agent began
                    continue
                replica = replica.started(agent)
            kill_s = replica.end_by()
            if kill_s is not None:
                self._ending[_place(replica)] = kill_s
            alive = replica.is_alive()
            self._keep(replica, agent if alive else None)
            if alive:
                _LOG.info("agent adopted", replica=replica.record.name, pid=agent.pid)

    def _keep(self, replica: replica_folder.Replica, agent: process_table.ProcessId | None) -> None:
        with self._lock:
            self._replicas[_place(replica)] = replica
            if agent is not None:
                self._live[agent] = replica
        if agent is not None:
            self._watch.add(agent)

    def _end(self, replica: replica_folder.Replica, *, grace_s: float) -> None:
        place = _place(replica)
        with self._lock:
            known_s, kill_s = self._ending.get(place), self._clock.now() + grace_s
            if place not in self._replicas:
                return  # forgotten meanwhile
            if known_s is None or kill_s < known_s:
                self._ending[place] = kill_s
                replica.note_ending(kill_s)
        agent = _living_agent(replica)
        if agent is None:
            return
        if grace_s <= 0:
            _kill_tree(agent)
        elif known_s is None:
            process_table.send(agent, signal.SIGTERM)

    def _try_to_forget(self, replica: replica_folder.Replica, kill_s: float) -> bool:
        agent = _living_agent(replica)
        if agent is not None:
            if self._clock.now() >= kill_s:
                _kill_tree(agent)
            return False
        orphans = replica.left_behind()
        if orphans:
            process_table.kill(orphans)
            return False
        # First, so that nobody of that name begins in the folder while it is removed.
        replica.forget()
        with self._lock:
            del self._replicas[_place(replica)]
            del self._ending[_place(replica)]
        self._tell(replica.record.key)
        return True

    def _tell(self, key: meta.Key) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(key)

    def _all(self) -> list[replica_folder.Replica]:
        with self._lock:
            return list(self._replicas.values())

    def _of(self, trial_uid: str) -> list[replica_folder.Replica]:
        with self._lock:
            return [found for (uid, _), found in self._replicas.items() if uid == trial_uid]


def _place(replica: replica_folder.Replica) -> Place:
    return (replica.record.trial_uid, replica.record.name)


def _living_agent(replica: replica_folder.Replica) -> process_table.ProcessId | None:
    return replica.agent() if replica.is_alive() else None


def _kill_tree(agent: process_table.ProcessId) -> None:
    # Listed before the agent dies: what it leaves behind is not below it any more.
    family = process_table.family(agent)
    process_table.kill((agent, *family))


def _chunks(path: pathlib.Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def _cap(path: pathlib.Path) -> None:
    """Cut a log to its last lines when it grew too long; its writer appends and never notices."""
    try:
        if path.stat().st_size <= LOG_LIMIT_BYTES:
            return
        kept = replica_folder.tail(path, LOG_KEPT_BYTES).partition(b"\n")[2]
        with path.open("r+b") as file:
            file.truncate(0)
        with path.open("ab") as file:
            file.write(b"[older output was dropped]\n" + kept)
    except FileNotFoundError:
        return


def _log_fault(error: BaseException) -> None:
    _LOG.error("the watch over agents failed once", exc_info=error)
