"""Executor: the fake and the process executor keep the contract; processes are safe besides."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from quintile import ports
from quintile.adapters import clock
from quintile.core import errors, meta
from quintile.testing import elastic_contract, executor_contract, fake_agent, waiting
from quintile.testing import executor as fake_executor
from quintile.testing.executor_contract import UID, plan, states
from quintile_operator import executor_process, exit_watch, process_table


class FakeHand(executor_contract.Hand):
    """The fake does what it is told at once."""

    def __init__(self) -> None:
        self.fake = fake_executor.FakeExecutor()
        self.executor: ports.Executor = self.fake

    def run(self, uid: str) -> None:
        self.fake.set_running(uid, started_s=1.0)

    def finish(self, uid: str, name: str) -> None:
        self.fake.finish(uid, name)

    def lose(self, uid: str, name: str) -> None:
        self.fake.lose(uid, name)

    def leave(self) -> None:
        self.fake.leave()


class TestFake(executor_contract.Contract, elastic_contract.ElasticContract):
    @pytest.fixture
    def hand(self) -> executor_contract.Hand:
        return FakeHand()


class ProcessHand(executor_contract.Hand):
    """Real processes of a fake agent, in a folder that several executors open in turn."""

    def __init__(self, runs: pathlib.Path) -> None:
        self.runs = runs
        self.processes = self.open()
        self.executor: ports.Executor = self.processes

    def open(self) -> executor_process.ProcessExecutor:
        return executor_process.ProcessExecutor(self.runs, clock=clock.SystemClock())

    def restart(self) -> executor_process.ProcessExecutor:
        """A new server on the same folder; nobody ended the agents."""
        self.processes.close()
        self.processes = self.executor = self.open()
        return self.processes

    def folder(self, index: int = 0, *, attempt: int = 1, uid: str = UID) -> pathlib.Path:
        return self.runs / uid / f"digits-t0-a{attempt}-worker-{index}"

    def pid(self, index: int = 0) -> int:
        return int(json.loads((self.folder(index) / "replica.json").read_bytes())["pid"])

    def run(self, uid: str) -> None:
        waiting.until(lambda: set(states(self.executor, uid)) == {"running"})

    def finish(self, uid: str, name: str) -> None:
        self._send(uid, name, signal.SIGUSR1)

    def lose(self, uid: str, name: str) -> None:
        self._send(uid, name, signal.SIGKILL)

    def leave(self) -> None:
        """Agents leave by themselves."""

    def end(self) -> None:
        for uid in self.processes.trials():
            self.processes.delete(uid)
        waiting.until(lambda: not self.processes.trials())
        self.processes.close()

    def _send(self, uid: str, name: str, number: signal.Signals) -> None:
        record = json.loads((self.runs / uid / name / "replica.json").read_bytes())
        os.kill(int(record["pid"]), number)


@pytest.fixture
def real(tmp_path: pathlib.Path) -> Iterator[ProcessHand]:
    made = ProcessHand(tmp_path / "runs")
    yield made
    made.end()


class TestProcesses(executor_contract.Contract, elastic_contract.ElasticContract):
    @pytest.fixture
    def hand(self, real: ProcessHand) -> executor_contract.Hand:
        return real


def gone(pid: int) -> bool:
    found = process_table.identify(pid)
    return found is None or not process_table.is_alive(found)


def test_folders_are_for_this_user_alone_and_hold_no_token(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    for folder in (real.runs, real.runs / UID, real.folder()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in real.folder().rglob("*"):
        assert b"secret-token" not in (path.read_bytes() if path.is_file() else b"")
    environment = pathlib.Path(f"/proc/{real.pid()}/environ").read_bytes().split(b"\0")
    assert b"QUINTILE_TOKEN=secret-token" in environment
    assert f"QUINTILE_STATE_DIR={real.folder()}".encode() in environment


def test_settings_of_the_server_do_not_reach_agents(tmp_path: pathlib.Path) -> None:
    base = {**os.environ, "QUINTILE_HOME": "/srv/quintile", "MINE": "kept"}
    executor = executor_process.ProcessExecutor(
        tmp_path / "runs", clock=clock.SystemClock(), base_env=base, cache_dir=tmp_path / "cache"
    )
    executor.ensure(plan(workers=1))
    waiting.until(lambda: states(executor) == ["running"])
    record = json.loads(next((tmp_path / "runs").glob("*/*/replica.json")).read_bytes())
    environment = pathlib.Path(f"/proc/{record['pid']}/environ").read_bytes().split(b"\0")
    assert b"MINE=kept" in environment
    assert f"QUINTILE_CACHE_DIR={tmp_path / 'cache'}".encode() in environment
    assert not [entry for entry in environment if entry.startswith(b"QUINTILE_HOME")]
    executor.delete(UID)
    waiting.until(lambda: not executor.trials())
    executor.close()


def test_agents_outlive_the_server_and_are_adopted(real: ProcessHand) -> None:
    real.executor.ensure(plan())
    real.run(UID)
    pids = {real.pid(0), real.pid(1)}
    again = real.restart()
    assert states(again) == ["running", "running"]
    again.ensure(plan())
    assert {real.pid(0), real.pid(1)} == pids
    heard: list[meta.Key] = []
    again.subscribe(heard.append)
    real.finish(UID, "digits-t0-a1-worker-0")
    waiting.until(lambda: heard)
    assert heard == [executor_contract.HERE.key]
    assert states(again) == ["exited", "running"]


def test_what_happened_while_no_server_was_there_is_seen(real: ProcessHand) -> None:
    real.executor.ensure(plan())
    real.run(UID)
    pids = [real.pid(0), real.pid(1)]
    real.processes.close()
    real.finish(UID, "digits-t0-a1-worker-0")
    real.lose(UID, "digits-t0-a1-worker-1")
    waiting.until(lambda: all(gone(pid) for pid in pids))
    again = real.restart()
    assert states(again) == ["exited", "lost"]


def test_a_deletion_under_way_goes_on_after_a_restart(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="stubborn"))
    real.run(UID)
    pid = real.pid()
    real.executor.delete(UID, grace_s=0.2)
    again = real.restart()
    waiting.until(lambda: not again.trials() and not (real.runs / UID).exists())
    assert gone(pid)


def test_an_agent_that_was_started_but_not_written_down_is_found(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="silent"))
    pid = real.pid()
    real.processes.close()
    path = real.folder() / "replica.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "pid": 0, "start_ticks": 0}))
    again = real.restart()
    assert states(again) == ["pending"]
    assert real.pid() == pid


def test_a_record_without_a_process_is_as_if_it_never_was(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    path = real.folder() / "replica.json"
    record = {**json.loads(path.read_bytes()), "name": "digits-t0-a1-worker-7", "pid": 0}
    other = real.folder(7)
    other.mkdir()
    (other / "replica.json").write_text(json.dumps(record))
    again = real.restart()
    assert states(again) == ["running"]
    assert not other.exists()


@pytest.mark.parametrize("field", ["start_time", "pid", "trial_uid", "attempt", "name", "lock"])
def test_an_agent_is_only_adopted_when_everything_agrees(real: ProcessHand, field: str) -> None:
    """What agrees in number only is never signalled; what is ours beyond doubt is ended."""
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    pid, folder = real.pid(), real.folder()
    real.processes.close()
    if field == "lock":
        (folder / "lock").unlink()
        (folder / "lock").touch()
    else:
        path = folder / "identity.json"
        found = json.loads(path.read_bytes())
        other = found[field] + 1 if isinstance(found[field], int) else "other"
        path.write_text(json.dumps({**found, field: other}))
        record = json.loads((folder / "replica.json").read_bytes())
        (folder / "replica.json").write_text(json.dumps({**record, "start_ticks": 1}))
    again = real.restart()
    assert states(again) == ["lost"]
    again.delete(UID)
    waiting.until(lambda: not again.trials())
    if field in ("start_time", "pid"):
        assert not gone(pid)
        os.kill(pid, signal.SIGKILL)
    waiting.until(lambda: gone(pid))


def test_a_record_of_another_boot_of_the_machine_is_lost(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    pid = real.pid()
    real.processes.close()
    path = real.folder() / "replica.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "machine_boot_id": "before"}))
    assert states(real.restart()) == ["lost"]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("words", ["parent", "runaway", "parent runaway stubborn"])
def test_killing_takes_every_descendant_along(real: ProcessHand, words: str) -> None:
    real.executor.ensure(plan(workers=1, words=words))
    real.run(UID)
    children = [
        int(json.loads((real.folder() / f"{word}.json").read_bytes())["pid"])
        for word in words.split()
        if word != "stubborn"
    ]
    assert not any(map(gone, children))
    real.executor.delete(UID)
    waiting.until(lambda: not real.executor.trials() and all(map(gone, children)))


def test_children_of_a_lost_agent_are_killed(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="parent"))
    real.run(UID)
    child = int(json.loads((real.folder() / "parent.json").read_bytes())["pid"])
    # What shares the session's number but not its folder is somebody else's.
    real.lose(UID, "digits-t0-a1-worker-0")
    waiting.until(lambda: gone(child))
    assert states(real.executor) == ["lost"]


def test_patience_ends_with_a_kill(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="stubborn"))
    real.run(UID)
    pid = real.pid()
    real.executor.delete(UID, grace_s=0.1)
    real.executor.delete(UID, grace_s=3600)  # never moves the deadline to later
    waiting.until(lambda: not real.executor.trials())
    assert gone(pid)


def test_listeners_hear_of_every_end_and_no_zombie_stays(real: ProcessHand) -> None:
    heard: list[meta.Key] = []
    real.processes.subscribe(heard.append)
    real.executor.ensure(plan())
    real.run(UID)
    pids = [real.pid(0), real.pid(1)]
    real.finish(UID, "digits-t0-a1-worker-0")
    real.lose(UID, "digits-t0-a1-worker-1")
    waiting.until(lambda: len(heard) == 2)
    assert heard == [executor_contract.HERE.key, executor_contract.HERE.key]
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_ends_are_noticed_where_the_kernel_gives_no_pidfd(
    real: ProcessHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(exit_watch, "IDLE_S", 0.02)
    heard: list[meta.Key] = []
    real.processes.subscribe(heard.append)
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    real.lose(UID, "digits-t0-a1-worker-0")
    waiting.until(lambda: heard == [executor_contract.HERE.key])


def test_an_agent_that_cannot_start_is_lost_with_its_last_words(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="crash"))
    waiting.until(lambda: states(real.executor) == ["lost"])
    found = real.executor.observe(UID)[0]
    assert found.reason == "AgentLost"
    assert found.message.endswith("its last words: fake agent: nothing works here")


def test_a_missing_interpreter_is_unavailable_and_tried_again(real: ProcessHand) -> None:
    with pytest.raises(errors.Unavailable, match="cannot be started"):
        real.executor.ensure(
            plan(workers=1, site=executor_contract.Site(agent=("/nonexistent/python",)))
        )
    assert real.executor.observe(UID) == ()
    real.executor.ensure(plan(workers=1))
    real.run(UID)


@pytest.mark.parametrize("uid", ["../outside", "", "a/b", ".hidden", "x" * 200])
def test_names_that_leave_the_folder_are_refused(real: ProcessHand, uid: str) -> None:
    with pytest.raises(errors.InvalidSpec):
        real.executor.ensure(plan(workers=1, uid=uid))
    assert list(real.runs.iterdir()) == []


def first_line(path: pathlib.Path) -> str:
    with path.open() as file:
        return file.readline()


def test_the_output_of_an_agent_is_capped(
    real: ProcessHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_watch, "IDLE_S", 0.05)
    real.executor.ensure(plan(workers=1, words="loud"))
    real.run(UID)
    log = real.folder() / "agent.log"
    # Empty at first, then beyond the limit for a moment.
    waiting.until(lambda: first_line(log) == "[older output was dropped]\n")
    waiting.until(lambda: log.stat().st_size < executor_process.LOG_LIMIT_BYTES)
    lines = log.read_text().splitlines()
    assert set(lines[1:-1]) == {"a line of output"}


def test_what_an_agent_delivered_is_not_kept_twice(real: ProcessHand) -> None:
    real.executor.ensure(plan())
    real.run(UID)
    for index in (0, 1):
        (real.folder(index) / "checkpoints").mkdir()
    real.finish(UID, "digits-t0-a1-worker-0")
    real.lose(UID, "digits-t0-a1-worker-1")
    waiting.until(lambda: not (real.folder(0) / "checkpoints").exists())
    assert (real.folder(0) / "agent.log").exists()
    assert (real.folder(1) / "checkpoints").exists()


def test_a_server_that_ends_can_suspend_everything(real: ProcessHand) -> None:
    real.executor.ensure(plan())
    real.run(UID)
    assert real.processes.suspend(grace_s=60) == 2
    assert [entry.exit_code for entry in real.restart().observe(UID)] == [75, 75]


def test_suspending_ends_what_does_not_want_to_go(real: ProcessHand) -> None:
    real.executor.ensure(plan(workers=1, words="stubborn parent"))
    real.run(UID)
    child = int(json.loads((real.folder() / "parent.json").read_bytes())["pid"])
    assert real.processes.suspend(grace_s=0.05) == 0
    waiting.until(lambda: states(real.executor) == ["lost"])
    waiting.until(lambda: gone(child))


def test_who_lives_in_the_place_of_a_forgotten_agent_is_not_killed_with_it(
    real: ProcessHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chores may forget a dead agent before its end is told, and the next one begin at once."""
    told: list[process_table.ProcessId] = []
    monkeypatch.setattr(real.processes, "ended", told.append)
    real.executor.ensure(plan(workers=1))
    real.run(UID)
    real.executor.delete(UID)
    waiting.until(lambda: not real.executor.observe(UID) and not real.processes.trials())
    real.executor.ensure(plan(workers=1, words="silent"))
    monkeypatch.undo()
    for process in told:
        real.processes.ended(process)
    assert states(real.executor) == ["pending"]


def test_agents_survive_a_killed_server(tmp_path: pathlib.Path) -> None:
    """The server is a process of its own here, and gets SIGKILL."""
    script = """
import sys, pathlib, time
from quintile.adapters import clock
from quintile.core import runplan
from quintile_operator import executor_process
executor = executor_process.ProcessExecutor(pathlib.Path(sys.argv[1]), clock=clock.SystemClock())
env = (("QUINTILE_ATTEMPT", "1"), ("QUINTILE_TRIAL_UID", sys.argv[2]))
argv = (sys.executable, "-S", sys.argv[3])
replica = runplan.ReplicaPlan("digits-t0-a1-worker-0", "worker", 0, argv, env)
executor.ensure(
    runplan.RunPlan("default", "digits-t0", sys.argv[2], 1, "single", (replica,), "token")
)
print("started", flush=True)
sys.stdin.read()
"""
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "runs"), UID, fake_agent.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None and server.stdin is not None
    assert b"started" in server.stdout.readline() + server.stdout.readline()
    server.kill()
    server.wait()
    server.stdin.close()
    server.stdout.close()
    hand = ProcessHand(tmp_path / "runs")
    hand.run(UID)
    hand.end()
