"""Parameters, optimizer state and any objects from one rank to all, or from all to all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any, cast

import cloudpickle
import torch

from quintile_trainer.hvd import gathering, world
from quintile_trainer.hvd.requests import Kind

Parameters = Mapping[str, Any] | Iterable[torch.Tensor | tuple[str, Any]]


def broadcast_parameters(params: Parameters, root_rank: int) -> None:
    """Overwrite parameters with those of a rank.

    Args:
        params: ``model.state_dict()``, ``model.named_parameters()`` or ``model.parameters()``.
        root_rank: Whose values all ranks get.

    Raises:
        ValueError: There is something else than tensors.
    """
    if isinstance(params, Mapping):
        pairs = sorted(params.items())
    else:
        pairs = [one if isinstance(one, tuple) else ("", one) for one in params]
    tensors = []
    for name, value in pairs:
        if not torch.is_tensor(value):
            raise ValueError(
                f"invalid params of type: {type(value).__name__} ({name or 'unnamed'})"
            )
        tensors.append(value)
    if tensors:
        gathering.broadcast_all(tensors, root_rank, "parameters")


def broadcast_optimizer_state(
    optimizer: torch.optim.Optimizer, root_rank: int, model: torch.nn.Module | None = None
) -> None:
    """Give all ranks the state and the options of a rank's optimizer.

    An optimizer without state makes it first, as in Horovod: with a step of zero gradients.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("cannot broadcast torch.optim.LBFGS state")
    if not optimizer.state_dict()["state"]:
        _make_state(optimizer, _sparse_parameters(model))
    found = broadcast_object(optimizer.state_dict(), root_rank, "optimizer")
    if world.rank() != root_rank:
        optimizer.load_state_dict(found)


def broadcast_object(
    obj: Any,
    root_rank: int = 0,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> Any:
    """Return a rank's object on all ranks; it travels by cloudpickle.

    Horovod's default name is the type of the object, and waits for ever when types differ.
    """
    name = name or world.current().name(Kind.BROADCAST, None)
    mine = world.rank() == root_rank
    data = _pack(obj) if mine else torch.empty(0, dtype=torch.uint8)
    size = torch.tensor([data.numel()])
    gathering.broadcast_(size, root_rank, f"{name}.sz", process_set)
    if not mine:
        data = torch.empty(int(size), dtype=torch.uint8)
    gathering.broadcast_(data, root_rank, f"{name}.t", process_set)
    return obj if mine else _unpack(data)


def allgather_object(
    obj: Any, name: str | None = None, process_set: object = world.global_process_set
) -> list[Any]:
    """Return the objects of all ranks, in rank order."""
    name = name or world.current().name(Kind.ALLGATHER, None)
    data = _pack(obj)
    size = torch.tensor([data.numel()])
    sizes = gathering.allgather(size, f"{name}.sz", process_set).tolist()
    gathered = gathering.allgather(data, f"{name}.t", process_set)
    return [_unpack(part) for part in torch.split(gathered, sizes)]


def _pack(obj: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    cloudpickle.dump(obj, buffer)
    return torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8)


def _unpack(data: torch.Tensor) -> Any:
    return cloudpickle.loads(data.numpy().tobytes())


def _sparse_parameters(model: torch.nn.Module | None) -> set[int]:
    """Return the ids of parameters whose gradients are sparse."""
    modules = model.modules() if model is not None else ()
    return {
        id(parameter)
        for module in modules
        if isinstance(module, torch.nn.Embedding) and module.sparse
        for parameter in module.parameters()
    }


def _make_state(optimizer: torch.optim.Optimizer, sparse: set[int]) -> None:
    for group in optimizer.param_groups:
        for parameter in cast("list[torch.nn.Parameter]", group["params"]):
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter)
                wants_sparse = isinstance(optimizer, torch.optim.SparseAdam) or (
                    isinstance(optimizer, torch.optim.SGD) and id(parameter) in sparse
                )
                parameter.grad = gradient.to_sparse() if wants_sparse else gradient
    # The step of the user's own class: a distributed one would wait for the other ranks.
    step = getattr(optimizer, "step_alone", optimizer.step)
    step()
