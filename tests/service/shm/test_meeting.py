"""Ranks come to share memory, or every one of them is told why not."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from quintile.testing import forked
from quintile_trainer import shm

pytestmark = pytest.mark.torch

Tell = Callable[[Any], None]
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PATIENT = shm.Settings(piece_bytes=4096, banks=2, direct_bytes=0, meeting_s=30, deadline_s=30)


def board(folder: Path, world_size: int) -> distributed.Store:
    store = distributed.FileStore(str(folder / "store"), world_size)
    return distributed.PrefixStore("shm", store)


def total(rank: int, world_size: int, folder: Path, given: shm.Settings) -> float:
    with shm.join(board(folder, world_size), rank, world_size, given) as group:
        tensor = torch.full((100,), rank + 1.0)
        group.all_reduce(tensor)
        return tensor[0].item()


def leave_the_network() -> bool:
    """Move this process to a network of its own, as a container has one."""
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    return ctypes.CDLL(None).unshare(flags) == 0


def meet_apart(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    os.environ["LOCAL_WORLD_SIZE"] = str(world_size)
    if rank == 1 and not leave_the_network():
        os._exit(7)
    return total(rank, world_size, folder, PATIENT)


def can_leave(tell: Tell) -> bool:
    return leave_the_network()


def test_ranks_in_separate_containers_are_refused(tmp_path: Path) -> None:
    probe = forked.start(can_leave)
    allowed = probe.result()
    probe.end()
    if not allowed:
        pytest.skip("this system lets nobody make a network namespace")
    with forked.ranks(3, meet_apart, tmp_path) as ranks:
        for rank in ranks:
            error = rank.error()
            assert error.startswith("quintile_trainer.shm.problems.NotOneHost"), error
            assert "rank 1 cannot share memory with rank 0" in error


def come_or_not(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    if rank == 2:
        return 0.0
    given = shm.Settings(piece_bytes=4096, banks=2, direct_bytes=0, meeting_s=0.5)
    return total(rank, world_size, folder, given)


def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    with forked.ranks(3, come_or_not, tmp_path) as ranks:
        for rank in ranks[:2]:
            assert "rank 2 did not come to share memory in time" in rank.error()


def host_does_not_come(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    if rank == 0:
        return 0.0
    given = shm.Settings(piece_bytes=4096, banks=2, direct_bytes=0, meeting_s=0.3)
    return total(rank, world_size, folder, given)


def test_a_missing_rank_0_is_named(tmp_path: Path) -> None:
    with forked.ranks(2, host_does_not_come, tmp_path) as ranks:
        assert "rank 0 did not offer shared memory in time" in ranks[1].error()


def have_other_settings(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    given = shm.Settings(piece_bytes=4096 * (1 + rank), banks=2, direct_bytes=0, meeting_s=20)
    return total(rank, world_size, folder, given)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with forked.ranks(2, have_other_settings, tmp_path) as ranks:
        assert "give all ranks the same shm settings" in ranks[1].error()
        assert "rank" in ranks[0].error()


def ask_for_too_much(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    given = shm.Settings(piece_bytes=1 << 38, banks=2, direct_bytes=0, meeting_s=20)
    return total(rank, world_size, folder, given)


def test_too_much_memory_is_refused_before_it_is_used(tmp_path: Path) -> None:
    with forked.ranks(2, ask_for_too_much, tmp_path) as ranks:
        for rank in ranks:
            assert "bytes of shared memory for 2 ranks are more than half" in rank.error()


def meet_behind_a_stranger(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    if rank == 1:
        store = board(folder, world_size)
        store.wait(["offer"], timedelta(seconds=20))
        name = json.loads(store.get("offer"))["name"]
        for greeting in (b"", b"no json\n", b'{"rank": 1, "token": "guess"}\n'):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect("\0" + name)
                stranger.sendall(greeting)
                stranger.shutdown(socket.SHUT_WR)
                assert stranger.recv(1) == b""
    return total(rank, world_size, folder, PATIENT)


def test_strangers_get_nothing(tmp_path: Path) -> None:
    with forked.ranks(2, meet_behind_a_stranger, tmp_path) as ranks:
        assert [rank.result() for rank in ranks] == [3.0, 3.0]
