"""Parts of the zygote that need no fork: when it is worth it, what it is told, whether it may."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from quintile_trainer.agent import nursery, wire
from quintile_trainer.zygote import fitness, newborn
from quintile_trainer.zygote import wire as talk


def view(step: int, total: int = 0, state: str = "running") -> wire.RankView:
    return wire.RankView(rank=0, pid=1, state=state, step=step, total_steps=total)


class TestWorthIt:
    """When training has gone on for 10 s and will for 10 s more."""

    def due(self, *looks: tuple[float, list[wire.RankView]]) -> list[bool]:
        watch = nursery.Watch(begun=0.0)
        return [nursery.is_due(watch, ranks, now=now, after_s=10.0) for now, ranks in looks]

    def test_a_short_run_never_pays_for_one(self) -> None:
        assert self.due((1, [view(1, 100)]), (9, [view(80, 100)]), (11, [view(99, 100)])) == [
            False,
            False,
            False,
        ]

    def test_a_long_run_does_once_it_goes_well(self) -> None:
        assert self.due((1, [view(1, 900)]), (9, [view(80, 900)]), (11, [view(100, 900)])) == [
            False,
            False,
            True,
        ]

    def test_time_counts_from_the_first_step_of_every_rank(self) -> None:
        late = [view(5), view(-1, state="starting")]
        assert self.due((5, late), (50, late), (51, [view(90), view(1)]), (62, [view(99)] * 2)) == [
            False,
            False,
            False,
            True,
        ]

    def test_a_run_without_a_known_end_has_one(self) -> None:
        assert self.due((1, [view(1)]), (12, [view(2)])) == [False, True]

    def test_silent_scripts_must_live_longer(self) -> None:
        silent = [view(-1, state="starting")]
        assert self.due((29, silent), (31, silent)) == [False, True]

    def test_ranks_that_leave_get_none(self) -> None:
        assert self.due((1, [view(1)]), (12, [view(2, state="exited")])) == [False, False]


def test_a_zygote_knows_nothing_of_one_rank() -> None:
    of_rank = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "A": "b"}
    more = {"QUINTILE_TEAM_SECRET": "s", "HOROVOD_RANK": "1", "OMP_NUM_THREADS": "8"}
    found = nursery.zygote_env(of_rank | more)
    assert found["A"] == "b"
    assert found["OMP_NUM_THREADS"] == found["OPENBLAS_NUM_THREADS"] == "1"
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not {name for name in found if name.startswith(nursery.OF_A_RANK)}
    assert nursery.zygote_env({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"


class TestTalk:
    """Messages with open files."""

    def test_a_message_brings_its_files(self) -> None:
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        with ours, theirs:
            message = {"env": {"LONG": "x" * 300_000}}
            send = threading.Thread(target=talk.send, args=(ours, message, [writer]))
            send.start()
            got, files = talk.receive(theirs)
            send.join()
        assert got == message
        assert not os.get_inheritable(files[0])
        os.write(files[0], b"hello")
        assert os.read(reader, 9) == b"hello"
        for file in (reader, writer, *files):
            os.close(file)

    def test_an_end_is_no_message(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.sendall(b'{"half":')
            ours.close()
            with pytest.raises(EOFError):
                talk.receive(theirs)


def test_threads_forbid_a_fork() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert "threads (" in fitness.reason_against()
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize(
    ("opened", "reason"),
    [("/dev/nvidia0", "it has touched a GPU"), ("/dev/null", "")],
)
def test_an_open_gpu_forbids_a_fork(tmp_path: Path, opened: str, reason: str) -> None:
    (tmp_path / "task" / "1").mkdir(parents=True)
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "3").symlink_to(opened)
    assert fitness.reason_against(tmp_path) == reason


def test_the_user_decides_about_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, int]] = [("3", 3), ("4,2", 4), ("", 7), ("many", 7), ("0", 7)]
    for text, count in given:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert newborn.wanted("OMP_NUM_THREADS", 7) == count
