"""Gradients of mode ``ddp`` through shared memory and over gloo: equal weights, each time."""

from __future__ import annotations

import dataclasses
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quintile.testing import forked, ranks
from quintile_trainer import failures, shm, worker_env
from quintile_trainer.modes import ddp
from quintile_trainer.shm import meeting

pytestmark = pytest.mark.torch
Tell = Callable[[Any], None]
STEPS = 8


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def env_of(
    folder: Path, rank: int, world_size: int, port: int, comm: str, generation: int = 1
) -> worker_env.WorkerEnv:
    """One rank's place; ranks have folders of their own, so that none reads a half-written file."""
    told = ranks.variables(
        folder / f"rank-{rank}",
        rank=rank,
        world_size=world_size,
        generation=generation,
        program={"run": {"comm": comm} if comm else {}},
    )
    return dataclasses.replace(worker_env.load(told), master_port=port)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 1200),
        nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(), nn.Linear(1200, 10),
    )  # fmt: skip


def train(rank: int, mode: ddp.Ddp, model: nn.Module) -> list[float]:
    mode.prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    made = torch.Generator().manual_seed(rank)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        for last in (False, True):  # accumulation: only the last backward pass communicates
            images = torch.randn(4, 1, 8, 8, generator=made)
            labels = torch.randint(0, 10, (4,), generator=made)
            dtype = next(model.parameters()).dtype
            with mode.sync(last=last):
                scores = model(images.to(dtype))
                nn.functional.cross_entropy(scores.float(), labels, reduction="sum").backward()
        optimizer.step()
    return [float(value.detach().double().sum()) for value in model.parameters()]


def trained(
    _tell: Tell, rank: int, world_size: int, folder: Path, port: int, comm: str
) -> tuple[bool, list[torch.Tensor]]:
    """Train; return whether memory was shared, and the weights."""
    torch.set_num_threads(1)
    mode = ddp.meet(env_of(folder, rank, world_size, port, comm))
    model = network()
    train(rank, mode, model)
    mode.close()
    # As bytes of numpy: tensors would travel by open files.
    return mode._group is not None, [value.detach().numpy() for value in model.parameters()]


def outcome(world_size: int, folder: Path, comm: str) -> tuple[bool, list[Any]]:
    with forked.ranks(world_size, trained, folder / (comm or "default"), free_port(), comm) as all_:
        results = [rank.result() for rank in all_]
    for _, weights in results[1:]:
        for mine, others in zip(results[0][1], weights, strict=True):
            assert (mine == others).all(), "ranks have different weights"
    return results[0]


@pytest.mark.parametrize("world_size", [2, 3])
def test_shared_memory_trains_as_gloo_does(world_size: int, tmp_path: Path) -> None:
    by_default, shared = outcome(world_size, tmp_path, "")
    asked_for, again = outcome(world_size, tmp_path, "shm")
    not_shared, by_gloo = outcome(world_size, tmp_path, "gloo")
    assert (by_default, asked_for, not_shared) == (True, True, False)
    for one, two, three in zip(shared, again, by_gloo, strict=True):
        assert (one == two).all(), "a repetition gave other bits"
        if world_size == 2:  # a sum of two has one order only
            assert (one == three).all()
        assert abs(one - three).max() <= 1e-5


def elsewhere(
    tell: Tell, rank: int, world_size: int, folder: Path, port: int, comm: str
) -> tuple[bool, list[float]]:
    """As ``trained``; rank 1 is on another host, as far as it can see."""
    torch.set_num_threads(1)
    if rank == 1:
        meeting._boot = lambda: "another start of another kernel"
    mode = ddp.meet(env_of(folder, rank, world_size, port, comm))
    weights = train(rank, mode, network())
    mode.close()
    return mode._group is not None, weights


def test_ranks_of_several_hosts_go_over_gloo_and_say_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with forked.ranks(3, elsewhere, tmp_path, free_port(), "auto") as all_:
        results = [rank.result() for rank in all_]
    assert [shared for shared, _ in results] == [False] * 3
    assert results[0] == results[1] == results[2]
    said = [line for line in capfd.readouterr().err.splitlines() if "gradients go" in line]
    assert said == [
        "[quintile] gradients go over gloo: rank 1 cannot share memory with rank 0: it runs on "
        "another host; use comm: gloo"
    ]


def test_what_was_asked_for_and_cannot_be_is_refused(tmp_path: Path) -> None:
    with forked.ranks(2, elsewhere, tmp_path, free_port(), "shm") as all_:
        for rank in all_:
            assert "NotOneHost: rank 1 cannot share memory" in rank.error()


def short_of_memory(
    tell: Tell, rank: int, world_size: int, folder: Path, port: int, comm: str
) -> tuple[bool, list[float]]:
    given = shm.Settings(piece_bytes=1 << 40, banks=2)
    ddp.shm.Settings = lambda **_: given  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    mode = ddp.meet(env_of(folder, rank, world_size, port, comm))
    weights = train(rank, mode, network())
    mode.close()
    return mode._group is not None, weights


def test_without_the_memory_gradients_go_over_gloo(tmp_path: Path) -> None:
    with forked.ranks(2, short_of_memory, tmp_path, free_port(), "auto") as all_:
        results = [rank.result() for rank in all_]
    assert [shared for shared, _ in results] == [False, False]
    assert results[0] == results[1]


def complex_sum(
    _tell: Tell, rank: int, world_size: int, folder: Path, port: int
) -> tuple[bool, list[complex]]:
    mode = ddp.meet(env_of(folder, rank, world_size, port, "auto"))
    model = nn.Linear(2, 1, dtype=torch.complex64)
    mode.prepare(model)
    with mode.sync(last=True):
        (model(torch.ones(1, 2, dtype=torch.complex64)).abs().sum() * (rank + 1)).backward()
    mode.close()
    assert model.bias.grad is not None
    return mode._group is not None, [complex(value) for value in model.bias.grad]


def test_numbers_that_shared_memory_does_not_sum_go_over_gloo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with forked.ranks(2, complex_sum, tmp_path, free_port()) as all_:
        results = [rank.result() for rank in all_]
    assert results[0] == results[1]
    assert abs(abs(results[0][1][0]) - 3.0) < 1e-5
    assert "gradients go over gloo: parameters of torch.complex64 on cpu" in capfd.readouterr().err


def until_killed(
    tell: Tell, rank: int, world_size: int, folder: Path, port: int, generation: int
) -> None:
    torch.set_num_threads(1)
    mode = ddp.meet(env_of(folder, rank, world_size, port, "shm", generation))
    model = network()
    mode.prepare(model)
    tell("trains")
    try:
        while True:
            with mode.sync(last=True):
                model(torch.randn(4, 1, 8, 8)).sum().backward()
    except failures.PeerLost as error:
        tell(str(error))


def shared_files() -> set[str]:
    """Names under which memory could be left behind."""
    found = {path.name for path in Path("/dev/shm").iterdir()}
    sockets = Path("/proc/net/unix").read_text().splitlines()
    return found | {line.split()[-1] for line in sockets if "quintile-shm" in line}


def test_killed_ranks_leave_nothing_and_the_next_generation_meets_anew(tmp_path: Path) -> None:
    before = shared_files()
    for generation in range(1, 4):
        with forked.ranks(2, until_killed, tmp_path, free_port(), generation) as all_:
            assert [rank.told() for rank in all_] == ["trains"] * 2
            victim = generation % 2
            all_[victim].signal(signal.SIGKILL)
            assert f"rank {victim}" in all_[1 - victim].told()
        assert shared_files() <= before
