"""DistributedDataParallel through shared memory trains as it does through sockets."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # DDP imports it at its first use; the forked ranks find it here
from torch import distributed, nn
from torch.nn import parallel

from quintile.testing import forked
from quintile_trainer import failures, shm

pytestmark = pytest.mark.torch

Tell = Callable[[Any], None]
STEPS = 12
BATCH = 16
SMALL = shm.Settings(piece_bytes=16384, banks=4, direct_bytes=2048, deadline_s=60)


class Join:
    """The process group of one test, and the shared memory of its ranks."""

    def __init__(self, rank: int, world_size: int, folder: Path) -> None:
        torch.set_num_threads(1)
        store = distributed.FileStore(str(folder / "store"), world_size)
        shared = distributed.PrefixStore("shm", store)
        distributed.init_process_group(
            "gloo",
            store=distributed.PrefixStore("gloo", store),
            rank=rank,
            world_size=world_size,
        )
        self.group = shm.join(shared, rank, world_size, SMALL)

    def close(self) -> None:
        self.group.close()
        distributed.destroy_process_group()


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 200),
        nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10),
    )  # fmt: skip


def train(rank: int, group: shm.Group | None) -> list[float]:
    model = parallel.DistributedDataParallel(
        network(), bucket_cap_mb=0.1, gradient_as_bucket_view=True
    )
    if group is not None:
        shm.register(model, group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    made = torch.Generator().manual_seed(rank)
    for step in range(STEPS):
        images = torch.randn(BATCH, 1, 8, 8, generator=made)
        labels = torch.randint(0, 10, (BATCH,), generator=made)
        optimizer.zero_grad(set_to_none=True)
        if step % 3 == 0:  # accumulation: only the second backward communicates
            with model.no_sync():
                nn.functional.cross_entropy(model(images), labels).backward()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return torch.cat([value.detach().flatten() for value in model.parameters()]).tolist()


def train_both(tell: Tell, rank: int, world_size: int, folder: Path) -> list[list[float]]:
    joined = Join(rank, world_size, folder)
    found = [train(rank, joined.group), train(rank, joined.group), train(rank, None)]
    joined.close()
    return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_equals_gloo_and_repeats_bit_for_bit(world_size: int, tmp_path: Path) -> None:
    with forked.ranks(world_size, train_both, tmp_path) as ranks:
        results = [rank.result() for rank in ranks]
    first, again, by_gloo = (torch.tensor(values) for values in results[0])
    assert torch.equal(first, again)
    assert (first - by_gloo).abs().max() <= 1e-6
    for other in results[1:]:
        assert other[0] == results[0][0], "ranks have different weights"


def train_until_ended(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    joined = Join(rank, world_size, folder)
    model = parallel.DistributedDataParallel(network())
    shm.register(model, joined.group)
    tell("ready")
    try:
        while True:
            model(torch.randn(4, 1, 8, 8)).sum().backward()
    except BaseException as error:
        code, reason = failures.classify(error, world_size=world_size)
        tell([reason, failures.sentence(error)])
        raise


def test_a_killed_rank_ends_the_backward_pass_of_the_others(tmp_path: Path) -> None:
    with forked.ranks(2, train_until_ended, tmp_path) as ranks:
        assert [rank.told() for rank in ranks] == ["ready"] * 2
        ranks[1].signal(signal.SIGKILL)
        reason, message = ranks[0].told()
    assert reason == "PeerLost"
    assert "rank 1" in message
