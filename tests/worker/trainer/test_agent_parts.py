"""Parts of the agent that need no process: environment, plan to ranks, bundles, lines, identity."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quintile_trainer import layout, parent_death, spool
from quintile_trainer.agent import (
    bundles,
    environment,
    identity,
    inbox,
    launching,
    output,
    resume,
)


def variables(folder: Path, **changes: str | None) -> dict[str, str]:
    given = {
        "QUINTILE_API_URL": "http://127.0.0.1:1/",
        "QUINTILE_TOKEN": "secret",
        "QUINTILE_TRIAL_UID": "uid",
        "QUINTILE_ATTEMPT": "2",
        "QUINTILE_ROLE": "worker",
        "QUINTILE_INDEX": "1",
        "QUINTILE_MEMBERS": '{"worker": 2}',
        "QUINTILE_PROCS": "2",
        "QUINTILE_MODE": "ddp",
        "QUINTILE_MAX_IN_PLACE": "10",
        "QUINTILE_PROGRAM": json.dumps(
            {
                "estimator": {"script": {}, "env": [{"name": "MINE", "value": "yes"}]},
                "hparams": [{"name": "lr", "value": "0.1"}],
            }
        ),
        "QUINTILE_STATE_DIR": str(folder),
    }
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def test_the_environment_is_read_once(tmp_path: Path) -> None:
    env = environment.load(variables(tmp_path, HOME=str(tmp_path)))
    assert (env.api_url, env.attempt, env.members) == ("http://127.0.0.1:1", 2, {"worker": 2})
    assert (env.host, env.grace_s, env.heartbeat_s) == ("127.0.0.1", 60.0, 2.0)
    assert env.cache_dir == tmp_path / ".cache" / "quintile-shards"
    elsewhere = environment.load(variables(tmp_path, HOME=None))
    assert elsewhere.cache_dir == tmp_path / "cache"


BAD = {
    "missing": ({"QUINTILE_TOKEN": None}, "QUINTILE_TOKEN is not set"),
    "no number": ({"QUINTILE_INDEX": "one"}, "QUINTILE_INDEX is 'one'; expected a whole number"),
    "no JSON": ({"QUINTILE_PROGRAM": "{"}, "QUINTILE_PROGRAM holds no JSON"),
    "a list": ({"QUINTILE_MEMBERS": "[]"}, "QUINTILE_MEMBERS holds list; expected a JSON object"),
    "no seconds": ({"QUINTILE_GRACE_S": "soon"}, "QUINTILE_GRACE_S is 'soon'; expected seconds"),
    "no time": ({"QUINTILE_GRACE_S": "-1"}, "expected seconds above 0"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_a_wrong_environment_names_its_variable(
    tmp_path: Path, changes: dict[str, str | None], words: str
) -> None:
    with pytest.raises(environment.BadEnvironment, match=words):
        environment.load(variables(tmp_path, **changes))


PLAN: dict[str, Any] = {
    "attempt": 2,
    "generation": 3,
    "world_size": 4,
    "ranks": [
        {"rank": rank, "role": "worker", "index": rank // 2, "local_rank": rank % 2}
        for rank in range(4)
    ],
    "master_host": "127.0.0.1",
    "master_port": 4242,
}


class TestLaunching:
    """What the ranks of a replica are told."""

    def test_a_replica_starts_its_own_ranks(self) -> None:
        found = launching.slots(PLAN, role="worker", index=1)
        assert found == (launching.Slot(2, 0), launching.Slot(3, 1))
        assert launching.slots(PLAN, role="ps", index=0) == ()

    def test_ranks_on_the_loopback_share_the_machine(self) -> None:
        assert launching.ranks_on_host(PLAN, "127.0.0.1", 2) == 4
        assert launching.ranks_on_host(PLAN, "10.0.0.7", 2) == 2

    def test_the_batch_is_that_of_the_submitted_workers(self) -> None:
        program = {"run": {"workers": {"replicas": 20}}}
        assert launching.submitted_workers(program) == 20
        assert launching.submitted_workers({}) == 1

    def test_no_rank_sees_the_token(self, tmp_path: Path) -> None:
        env = environment.load(variables(tmp_path))
        ready = inbox.Ready(1, PLAN, "", None)
        base = {**variables(tmp_path), "PATH": "/bin", "HTTP_PROXY": "x"}
        found = launching.rank_env(base, env, ready, launching.Slot(3, 1), "/run.json")
        assert "secret" not in " ".join(found.values())
        own = {name: value for name, value in found.items() if name.startswith("QUINTILE_")}
        assert own == {
            "QUINTILE_RUN": "/run.json",
            "QUINTILE_AGENT_PID": str(os.getpid()),
            "QUINTILE_HPARAMS": '{"lr": "0.1"}',
        }
        assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("3", "4", "1")
        assert (found["MINE"], found["PATH"]) == ("yes", "/bin")
        assert found["GLOO_SOCKET_IFNAME"] == "lo"

    def test_a_labeling_round_is_ours_and_may_ask_the_api(self, tmp_path: Path) -> None:
        program = json.dumps({"estimator": {"labelingRound": {"job": "j"}}})
        env = environment.load(variables(tmp_path, QUINTILE_PROGRAM=program))
        ready = inbox.Ready(1, PLAN, "", None)
        found = launching.rank_env({}, env, ready, launching.Slot(0, 0), "/run.json")
        assert found["QUINTILE_TOKEN"] == "secret"

    def test_user_variables_never_change_ours(self, tmp_path: Path) -> None:
        program = json.dumps({"estimator": {"script": {}, "env": [{"name": "RANK", "value": "9"}]}})
        env = environment.load(variables(tmp_path, QUINTILE_PROGRAM=program))
        ready = inbox.Ready(1, PLAN, "", None)
        found = launching.rank_env({}, env, ready, launching.Slot(2, 0), "/run.json")
        assert found["RANK"] == "2"


def archive(members: dict[str, bytes], *, link: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            bundle.writestr(info, "/etc/passwd")
    return stream.getvalue()


GOOD = {"header.json": b"{}", "train.py": b"print()", "data/x.txt": b"x"}
BUNDLES = {
    "no zip": (b"hello", "is no zip file"),
    "no header": (archive({"train.py": b""}), "holds no header.json"),
    "an absolute path": (archive({**GOOD, "/etc/x": b""}), "'/etc/x', which leaves its folder"),
    "a path upward": (archive({**GOOD, "a/../../x": b""}), "which leaves its folder"),
    "a link": (archive(GOOD, link="sneaky"), "'sneaky', which is no plain file"),
}


@pytest.mark.parametrize(("data", "words"), BUNDLES.values(), ids=BUNDLES)
def test_bundles_that_are_not_ours_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    with pytest.raises(bundles.BadBundle, match=words):
        bundles.unpack(path, tmp_path / "bundle")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "UNPACKED_LIMIT_BYTES", 1000)
    path = tmp_path / "bundle.zip"
    path.write_bytes(archive({**GOOD, "big": bytes(2000)}))
    with pytest.raises(bundles.BadBundle, match="unpacks to 2010 bytes, over 1000"):
        bundles.unpack(path, tmp_path / "bundle")


def test_a_bundle_is_unpacked_once_and_checked(tmp_path: Path) -> None:
    sources = resume.Sources(layout.StateFolder(tmp_path))
    data = archive(GOOD)
    digest = resume.hashlib.sha256(data).hexdigest()
    assert not sources.has_bundle(digest)
    with pytest.raises(bundles.BadBundle, match="not 000000000000"):
        sources.keep_bundle("0" * 64, data)
    sources.keep_bundle(digest, data)
    assert sources.has_bundle(digest)
    assert (tmp_path / "bundle" / "data" / "x.txt").read_bytes() == b"x"


@pytest.fixture
def pump() -> Iterator[output.Pump]:
    made = output.Pump()
    threading.Thread(target=made.run, daemon=True).start()
    return made


class TestOutput:
    """Lines of a rank on their way into the spool."""

    def lines(self, folder: Path) -> list[str]:
        return [entry["line"] for entry in spool.Reader(folder).batch(1000)]

    def fed(self, folder: Path, pump: output.Pump, *pieces: bytes) -> output.RankOutput:
        found = output.RankOutput(spool.Writer(folder), pump)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        found.attach(os.fdopen(out_read, "rb", 0), os.fdopen(err_read, "rb", 0))
        for piece in pieces:
            os.write(out_write, piece)
        os.close(out_write)
        os.close(err_write)
        assert found.closed.wait(10)
        return found

    def test_lines_are_split_across_pieces(self, tmp_path: Path, pump: output.Pump) -> None:
        self.fed(tmp_path, pump, b"one\ntw", b"o\n\nlast without end")
        assert self.lines(tmp_path) == ["one", "two", "", "last without end"]

    def test_a_progress_bar_shows_its_newest_state(self, tmp_path: Path, pump: output.Pump) -> None:
        self.fed(tmp_path, pump, b"10%\r20%\r30%\r\n\rdone\n")
        assert self.lines(tmp_path) == ["30%", "done"]

    def test_bytes_that_are_no_text_do_no_harm(self, tmp_path: Path, pump: output.Pump) -> None:
        self.fed(tmp_path, pump, b"\xff\xfea\x00b\n")
        assert self.lines(tmp_path) == ["\ufffd\ufffdab"]

    def test_endless_lines_come_in_pieces(self, tmp_path: Path, pump: output.Pump) -> None:
        self.fed(tmp_path, pump, b"x" * 40_000 + b"\n")
        found = self.lines(tmp_path)
        assert "".join(found) == "x" * 40_000
        assert max(len(line) for line in found) <= output.LINE_LIMIT

    def test_lines_that_a_full_disk_drops_are_counted(
        self, tmp_path: Path, pump: output.Pump
    ) -> None:
        writer = spool.Writer(tmp_path, reserve_bytes=2**62)
        found = output.RankOutput(writer, pump)
        for number in range(3):
            found.say(f"lost {number}", "stderr")
        writer._reserve_bytes = 0
        found.say("there is room again")
        assert self.lines(tmp_path) == [
            "[quintile] 3 lines dropped: the disk of the worker was full",
            "there is room again",
        ]
        assert list(found.tail) == ["lost 0", "lost 1", "lost 2"]


class TestIdentity:
    """Files by which the Executor knows an agent."""

    def test_one_agent_at_a_time(self, tmp_path: Path) -> None:
        env = environment.load(variables(tmp_path / "replica"))
        with identity.claim(env, "boot-1"):
            with pytest.raises(identity.Occupied, match="another agent holds the lock"):
                identity.claim(env, "boot-2")
            record = json.loads((env.state_dir / "identity.json").read_text())
            assert record == {
                "pid": os.getpid(),
                "start_time": identity.start_ticks(os.getpid()),
                "boot_id": "boot-1",
                "trial_uid": "uid",
                "attempt": 2,
                "name": "replica",
            }
        identity.claim(env, "boot-2").close()

    def test_a_new_life_forgets_the_old_end(self, tmp_path: Path) -> None:
        env = environment.load(variables(tmp_path))
        with identity.claim(env, "boot-1"):
            identity.record_exit(tmp_path, "boot-1", identity.Outcome(1, "UserError", "m" * 9999))
        record = json.loads((tmp_path / "exit.json").read_text())
        assert (record["exit_code"], record["reason"], record["boot_id"]) == (
            1,
            "UserError",
            "boot-1",
        )
        assert len(record["message"]) == 1024
        with identity.claim(env, "boot-2"):
            assert not (tmp_path / "exit.json").exists()


class TestInbox:
    """Events for the main thread."""

    def test_events_come_in_order_and_wake_at_once(self) -> None:
        box = inbox.Inbox()
        events = [inbox.Delivered(1, rank) for rank in range(3)]
        for event in events:
            box.post(event)
        assert box.wait(60.0) == events
        assert box.wait(0.0) == []

    def test_a_thread_that_breaks_is_an_event(self) -> None:
        box = inbox.Inbox()

        def work() -> None:
            raise KeyError("x")

        inbox.start_thread("courier", work, box)
        [event] = box.wait(60.0)
        assert event == inbox.Broken("AgentInternal", "thread courier: KeyError: 'x'")


@pytest.mark.parametrize(("agent_is_alive", "code"), [(True, 0), (False, 7)])
def test_a_rank_does_not_begin_without_its_agent(agent_is_alive: bool, code: int) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            parent_death.arm(parent if agent_is_alive else parent + 1)
        except parent_death.Orphaned:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == code


ASKED_EARLY = """
import os, signal, sys, types
from quintile_trainer.agent import __main__ as entry
stub = types.ModuleType("quintile_trainer.agent.replica")
stub.run = lambda _variables: os.kill(os.getpid(), signal.SIGTERM)
sys.modules[stub.__name__] = stub
import quintile_trainer.agent
quintile_trainer.agent.replica = stub
entry.main()
"""


def test_an_agent_that_is_asked_to_leave_before_it_has_begun_yields() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED_EARLY], check=False, timeout=60)
    assert done.returncode == 75
