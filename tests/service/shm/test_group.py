"""Real processes that sum through shared memory: right, repeatable, and never stuck."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from quintile.testing import forked, waiting
from quintile_trainer import shm

pytestmark = pytest.mark.torch

Tell = Callable[[Any], None]
SMALL = shm.Settings(piece_bytes=16384, banks=3, direct_bytes=4096, deadline_s=60)
"""Few small banks: a tensor of 100 kB goes round several times."""
SIZES = (1, 7, 1000, 1024, 1025, 4097, 30_000)
DTYPES = (torch.float32, torch.bfloat16)


def join(rank: int, world_size: int, folder: Path, given: shm.Settings = SMALL) -> shm.Group:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), world_size)
    return shm.join(distributed.PrefixStore("shm", store), rank, world_size, given)


def values(rank: int, elements: int, dtype: torch.dtype) -> torch.Tensor:
    """Return numbers of many sizes, so that another order gives other bits."""
    made = torch.Generator().manual_seed(1000 * rank + elements)
    scale = 10.0 ** torch.randint(-3, 4, (elements,), generator=made)
    return (torch.randn(elements, generator=made) * scale).to(dtype)


def serial(world_size: int, elements: int, dtype: torch.dtype) -> torch.Tensor:
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    total = values(0, elements, dtype).to(wide)
    for rank in range(1, world_size):
        total = total + values(rank, elements, dtype).to(wide)
    return total.to(dtype)


def numbers(tensor: torch.Tensor) -> list[float]:
    return tensor.double().tolist()


def sum_all(tell: Tell, rank: int, world_size: int, folder: Path, *, dither: bool) -> list[Any]:
    """Sum tensors of all sizes, each by itself and all together; return what came out."""
    delays = random.Random(rank if dither else 0)
    found = []
    with join(rank, world_size, folder) as group:
        for elements in SIZES:
            for dtype in DTYPES:
                tensor = values(rank, elements, dtype)
                busy(delays.random() * 0.004 if dither else 0)
                group.all_reduce(tensor)
                found.append(numbers(tensor))
        together = [values(rank, elements, torch.float32) for elements in SIZES]
        for tensor in together:
            busy(delays.random() * 0.004 if dither else 0)
            group.submit(tensor)
        group.finish()
        found += [numbers(tensor) for tensor in together]
    return found


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_equals_the_serial_sum_in_rank_order(world_size: int, tmp_path: Path) -> None:
    expected = [
        numbers(serial(world_size, elements, dtype)) for elements in SIZES for dtype in DTYPES
    ] + [numbers(serial(world_size, elements, torch.float32)) for elements in SIZES]
    for name, body in (("steady", steady), ("dithered", dithered)):
        folder = tmp_path / name
        folder.mkdir()
        with forked.ranks(world_size, body, folder) as ranks:
            for rank in ranks:
                assert rank.result() == expected


def steady(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    return sum_all(tell, rank, world_size, folder, dither=False)


def dithered(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    return sum_all(tell, rank, world_size, folder, dither=True)


def other_operations(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    with join(rank, world_size, folder) as group:
        mean = torch.full((3000,), float(rank))
        group.all_reduce(mean, shm.Operation.MEAN)
        highest = torch.arange(6, dtype=torch.int64) * (1 if rank else -1)
        group.all_reduce(highest, shm.Operation.HIGHEST)
        turned = torch.arange(6.0).view(2, 3).t()
        group.all_reduce(turned)
        nothing = torch.zeros(0)
        group.all_reduce(nothing)
    return [mean.unique().tolist(), highest.tolist(), turned.tolist(), nothing.tolist()]


def test_mean_maximum_strides_and_empty_tensors(tmp_path: Path) -> None:
    with forked.ranks(3, other_operations, tmp_path) as ranks:
        for rank in ranks:
            assert rank.result() == [
                [1.0],
                [0, 1, 2, 3, 4, 5],
                [[0.0, 9.0], [3.0, 12.0], [6.0, 15.0]],
                [],
            ]


def sum_until_ended(
    tell: Tell, rank: int, world_size: int, folder: Path, given: shm.Settings
) -> None:
    with join(rank, world_size, folder, given) as group:
        tell("joined")
        tensor = torch.ones(20_000)
        while True:
            group.all_reduce(tensor, shm.Operation.MEAN)


def test_a_killed_rank_is_named_at_once(tmp_path: Path) -> None:
    given = shm.Settings(deadline_s=50)
    with forked.ranks(3, sum_until_ended, tmp_path, given) as ranks:
        assert [rank.told() for rank in ranks] == ["joined"] * 3
        begun = time.monotonic()
        ranks[1].signal(signal.SIGKILL)
        errors = [ranks[0].error(), ranks[2].error()]
        assert time.monotonic() - begun < given.deadline_s / 2
    for error in errors:
        assert error.startswith("quintile_trainer.shm.problems.LateRank"), error
        assert "rank 1" in error
    assert any("its process is gone" in error for error in errors)


def test_a_stopped_rank_is_named_at_the_deadline(tmp_path: Path) -> None:
    given = shm.Settings(deadline_s=0.5)
    with forked.ranks(3, sum_until_ended, tmp_path, given) as ranks:
        assert [rank.told() for rank in ranks] == ["joined"] * 3
        ranks[2].signal(signal.SIGSTOP)
        errors = [ranks[0].error(), ranks[1].error()]
    for error in errors:
        assert "rank 2" in error, error
    assert any("within 0.5 s" in error and "alive" in error for error in errors)


def fail_in_the_middle(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    with join(rank, world_size, folder) as group:
        group.all_reduce(torch.ones(10))
        if rank == 1:
            raise ValueError("no luck")
        group.all_reduce(torch.ones(10))


def leave_early(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    with join(rank, world_size, folder) as group:
        group.all_reduce(torch.ones(10))
        if rank == 0:
            group.all_reduce(torch.ones(10))
        tell("left")
        if rank == 1:
            group.close()
            signal.pause()


def test_ranks_that_fail_or_leave_are_named(tmp_path: Path) -> None:
    with forked.ranks(2, fail_in_the_middle, tmp_path) as ranks:
        assert ranks[1].error() == "ValueError: no luck"
        assert "rank 1" in ranks[0].error()
    folder = tmp_path / "again"
    folder.mkdir()
    with forked.ranks(2, leave_early, folder) as ranks:
        assert ranks[1].told() == "left"
        assert "rank 1 does not come to sum 2 of 10 values: it left" in ranks[0].error()


def give_other_sizes(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    with join(rank, world_size, folder) as group:
        group.all_reduce(torch.ones(10 + rank))


def test_different_tensors_are_an_error_not_a_sum(tmp_path: Path) -> None:
    with forked.ranks(2, give_other_sizes, tmp_path) as ranks:
        errors = [rank.error() for rank in ranks]
    assert any("10 x float32 (sum)" in error and "11 x float32" in error for error in errors)


def end_in_the_middle(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    with join(rank, world_size, folder, shm.Settings(folder=folder / "memory")) as group:
        group.all_reduce(torch.ones(100_000))
        tell("joined")
        signal.pause()


def test_nothing_is_left_in_any_folder_after_a_crash(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    shared = set(Path("/dev/shm").iterdir())
    with forked.ranks(2, end_in_the_middle, tmp_path) as ranks:
        assert [rank.told() for rank in ranks] == ["joined"] * 2
        assert not list((tmp_path / "memory").iterdir())
        assert set(Path("/dev/shm").iterdir()) <= shared
        for rank in ranks:
            rank.signal(signal.SIGKILL)
    assert not list((tmp_path / "memory").iterdir())


def test_one_rank_needs_no_other(tmp_path: Path) -> None:
    with join(0, 1, tmp_path) as group:
        tensor = torch.arange(10_000.0)
        group.all_reduce(tensor, shm.Operation.MEAN)
    assert torch.equal(tensor, torch.arange(10_000.0))


@pytest.mark.parametrize("world_size", [2, 3])
def test_killed_at_any_instant_nobody_is_stuck(world_size: int, tmp_path: Path) -> None:
    chance = random.Random(world_size)
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        victim = chance.randrange(world_size)
        with forked.ranks(world_size, sum_until_ended, folder, shm.Settings()) as ranks:
            assert [rank.told() for rank in ranks] == ["joined"] * world_size
            busy(chance.random() * 0.01)
            ranks[victim].signal(signal.SIGKILL)
            for rank in ranks[:victim] + ranks[victim + 1 :]:
                assert f"rank {victim}" in rank.error()


def sum_twice(tell: Tell, rank: int, world_size: int, folder: Path) -> float:
    with join(rank, world_size, folder) as group:
        tensor = torch.ones(5000)
        group.all_reduce(tensor)
        tell("first")
        if rank == 1:
            signal.raise_signal(signal.SIGSTOP)
        group.all_reduce(tensor)
        return tensor[0].item()


def test_a_rank_that_comes_late_but_in_time_is_waited_for(tmp_path: Path) -> None:
    with forked.ranks(2, sum_twice, tmp_path) as ranks:
        assert [rank.told() for rank in ranks] == ["first"] * 2
        state = Path(f"/proc/{ranks[1].pid}/stat")
        waiting.until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
        ranks[1].signal(signal.SIGCONT)
        assert [rank.result() for rank in ranks] == [4.0, 4.0]
