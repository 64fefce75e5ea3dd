"""``hvd.DistributedOptimizer``: what a script may rely on besides equal weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # optimizers import it at their first use; the forked ranks find it here
from torch import distributed, nn

from quintile.testing import forked
from quintile_trainer.hvd import api as hvd

pytestmark = pytest.mark.torch

Tell = Callable[[Any], None]


@contextmanager
def job(rank: int, world_size: int, folder: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    store = distributed.FileStore(str(folder / "store"), world_size)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    hvd.init()
    yield
    hvd.shutdown()
    distributed.destroy_process_group()


def results(world_size: int, body: Callable[..., Any], folder: Path) -> list[Any]:
    with forked.ranks(world_size, body, folder) as ranks:
        return [rank.result() for rank in ranks]


def fixed(value: float = 0.0) -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


def step_in_all_ways(tell: Tell, rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    with job(rank, world_size, folder):
        found = {}
        for name, given in {
            "average": {},
            "sum": {"op": hvd.Sum},
            "divided first": {"gradient_predivide_factor": 2.0},
            "grouped": {"num_groups": 1, "groups": 2},
        }.items():
            layer = fixed()
            optimizer = hvd.DistributedOptimizer(
                torch.optim.SGD(layer.parameters(), lr=1.0), layer.named_parameters(), **given
            )
            layer(torch.tensor([[1.0, 2.0]]) * (rank + 1)).sum().backward()
            optimizer.step()
            found[name] = [*layer.weight.flatten().tolist(), layer.bias.item()]
        return found


def test_the_ways_to_combine(tmp_path: Path) -> None:
    for found in results(2, step_in_all_ways, tmp_path):
        assert found["average"] == found["divided first"] == found["grouped"] == [-1.5, -3.0, -1.0]
        assert found["sum"] == [-3.0, -6.0, -2.0]


def keep_the_class(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    with job(rank, world_size, folder):
        layer = fixed()
        plain = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
        optimizer = hvd.DistributedOptimizer(plain)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
        assert isinstance(optimizer, torch.optim.SGD)
        assert type(optimizer).__name__ == "SGD"
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step(lambda: None)
        scheduler.step()
        state = optimizer.state_dict()
        optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=True)
        return [state["param_groups"][0]["lr"], len(state["state"]), optimizer.defaults["momentum"]]


def test_it_is_still_the_users_optimizer(tmp_path: Path) -> None:
    for found in results(2, keep_the_class, tmp_path):
        assert found == [pytest.approx(0.05), 2, 0.9]


def use_it_wrongly(tell: Tell, rank: int, world_size: int, folder: Path) -> list[str]:
    with job(rank, world_size, folder):
        layer = fixed()
        plain = torch.optim.SGD(layer.parameters(), lr=1.0)
        named = list(layer.named_parameters())
        optimizer = hvd.DistributedOptimizer(plain, named)
        layer(torch.ones(1, 2)).sum().backward()
        found = []
        for mistake in (
            lambda: optimizer.zero_grad(),
            lambda: layer(torch.ones(1, 2)).sum().backward(),
            lambda: hvd.DistributedOptimizer(plain, named[:1]),
            lambda: hvd.DistributedOptimizer(plain, [("a", value) for _, value in named]),
            lambda: hvd.DistributedOptimizer(plain, layer.parameters()),
            lambda: hvd.DistributedOptimizer(plain, named, backward_passes_per_step=0),
            lambda: hvd.DistributedOptimizer(plain, named, op=hvd.Min, gradient_predivide_factor=2),
            lambda: hvd.DistributedOptimizer(plain, named, compresion=None),
            lambda: hvd.broadcast_optimizer_state(torch.optim.LBFGS(layer.parameters()), 0),
            lambda: hvd.broadcast_parameters({"a": 1}, 0),
        ):
            try:
                mistake()
            except (AssertionError, ValueError, TypeError) as error:
                found.append(f"{type(error).__name__}: {error}")
        optimizer.synchronize()
        with pytest.warns(UserWarning, match="skip_synchronize"):
            optimizer.step()
        return found


def test_wrong_use_is_said(tmp_path: Path) -> None:
    expected = (
        "AssertionError: optimizer.zero_grad() was called after loss.backward()",
        "AssertionError: Gradients were computed more than backward_passes_per_step times",
        "ValueError: named_parameters was specified, but one or more model parameters were not",
        "ValueError: Parameter names in named_parameters must be unique. Found duplicates: a",
        "ValueError: named_parameters should be a sequence of tuples",
        "ValueError: backward_passes_per_step must be > 0",
        "ValueError: gradient_predivide_factor not supported with op != Average",
        "TypeError: unexpected arguments: compresion",
        "ValueError: cannot broadcast torch.optim.LBFGS state",
        "ValueError: invalid params of type: int (a)",
    )
    for found in results(2, use_it_wrongly, tmp_path):
        assert len(found) == len(expected), found
        for text, begin in zip(found, expected, strict=True):
            assert text.startswith(begin), text


class Branching(nn.Module):
    """Each rank uses another part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([fixed(1.0), fixed(1.0)])
        self.table = nn.Embedding(4, 2, sparse=True)
        nn.init.ones_(self.table.weight)

    def forward(self, inputs: torch.Tensor, part: int) -> torch.Tensor:
        return self.parts[part](inputs) + self.table(torch.tensor([part + 1])).sum()


def train_parts(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    with job(rank, world_size, folder):
        found = []
        for dense in (False, True):
            model = Branching()
            optimizer = hvd.DistributedOptimizer(
                torch.optim.SGD(model.parameters(), lr=1.0),
                model.named_parameters(),
                sparse_as_dense=dense,
            )
            hvd.broadcast_parameters(model.named_parameters(), root_rank=0)
            model(torch.ones(1, 2), rank).sum().backward()
            optimizer.step()
            found.append([value.flatten().tolist() for value in model.parameters()])
        return found


def test_parameters_used_on_some_ranks_only_and_sparse_ones(tmp_path: Path) -> None:
    for sparse, dense in results(2, train_parts, tmp_path):
        assert sparse == dense
        assert sparse == [[0.5, 0.5], [0.5], [0.5, 0.5], [0.5], [1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1]]
