"""``allgather``, ``broadcast``, ``join`` and ``barrier``, with Horovod's names and arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from quintile_trainer.hvd import options, reducing, requests, world
from quintile_trainer.hvd.reducing import describe, synchronize
from quintile_trainer.hvd.requests import Kind, Request


def grouped_allgather_async(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> int:
    """Begin to join the rows of all ranks' tensors; return a handle."""
    return _gather(tensors, name, process_set, single=False)


def allgather_async(
    tensor: torch.Tensor, name: str | None = None, process_set: object = world.global_process_set
) -> int:
    """Begin to join the rows of all ranks' tensors; return a handle."""
    return _gather([tensor], name, process_set, single=True)


def allgather(
    tensor: torch.Tensor, name: str | None = None, process_set: object = world.global_process_set
) -> torch.Tensor:
    """Return the rows of all ranks' tensors, in rank order; gradients flow through it."""
    return cast(torch.Tensor, _allgather(name, process_set, tensor)[0])


def grouped_allgather(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> list[torch.Tensor]:
    """Return the rows of all ranks for several tensors; gradients flow through it."""
    return list(_allgather(name, process_set, *tensors))


def broadcast_async_(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> int:
    """Begin to overwrite a tensor with that of a rank; return a handle."""
    world.whole(process_set)
    _check_root(root_rank)
    engine = world.current()
    request = Request(
        name=engine.name(Kind.BROADCAST, name),
        kind=Kind.BROADCAST,
        root=root_rank,
        **describe([tensor]),
    )
    return engine.ask(request, [tensor.detach()], lambda _found: tensor)


def broadcast_async(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> int:
    """Begin to get a rank's tensor; return a handle."""
    return broadcast_async_(tensor.detach().clone(), root_rank, name, process_set)


def broadcast_(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> torch.Tensor:
    """Overwrite a tensor with that of a rank; return it."""
    handle = broadcast_async_(tensor, root_rank, name, process_set)
    return cast(torch.Tensor, synchronize(handle))


def broadcast(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> torch.Tensor:
    """Return a rank's tensor; gradients flow back to it."""
    world.whole(process_set)
    return cast(torch.Tensor, _broadcast(tensor, root_rank, name))


def broadcast_all(tensors: Sequence[torch.Tensor], root_rank: int, name: str) -> None:
    """Overwrite tensors of any types with those of a rank, few messages for all of them."""
    _check_root(root_rank)
    engine = world.current()
    handles = []
    for dtype in sorted({str(tensor.dtype) for tensor in tensors}):
        part = [tensor.detach() for tensor in tensors if str(tensor.dtype) == dtype]
        full_name = engine.name(Kind.BROADCAST, f"{name}.{dtype}")
        request = Request(name=full_name, kind=Kind.BROADCAST, root=root_rank, **describe(part))
        handles.append(engine.ask(request, part, lambda found: found))
    for handle in handles:
        synchronize(handle)


def join(device: int = -1) -> int:
    """Say that this rank has no data left and wait for the others; return the last rank to come.

    Until then it takes part in their reductions with zeros.
    """
    del device
    engine = world.current()
    handle = engine.ask(Request(Kind.JOIN, Kind.JOIN), [], lambda found: int(found[0]))
    return cast(int, engine.wait(handle))


def barrier(process_set: object = world.global_process_set) -> None:
    """Wait until all ranks are here."""
    world.whole(process_set)
    engine = world.current()
    request = Request(engine.name(Kind.BARRIER, None), Kind.BARRIER)
    engine.wait(engine.ask(request, [], lambda _found: None))


def _gather(
    tensors: Sequence[torch.Tensor], name: str | None, process_set: object, *, single: bool
) -> int:
    world.whole(process_set)
    if any(tensor.dim() == 0 for tensor in tensors):
        raise ValueError("allgather joins rows; a tensor needs one dimension or more")
    engine = world.current()
    request = Request(
        name=engine.name(Kind.ALLGATHER, name), kind=Kind.ALLGATHER, **describe(tensors)
    )
    inputs = [tensor.detach().clone() for tensor in tensors]
    return engine.ask(request, inputs, (lambda found: found[0]) if single else list)


def _check_root(root_rank: int) -> None:
    if not 0 <= root_rank < world.size():
        raise ValueError(f"root_rank is {root_rank}; expected 0 to {world.size() - 1}")


class _Allgather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, name: str | None, process_set: object, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        found = synchronize(grouped_allgather_async(tensors, name, process_set))
        ctx.rows = [tensor.shape[0] for tensor in tensors]
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        how = options.read(requests.AVERAGE, None)
        copies = [gradient.detach().clone() for gradient in gradients]
        reduced = synchronize(reducing.group(copies, None, how))
        counts = synchronize(allgather_async(torch.tensor([ctx.rows])))
        starts = counts[: world.rank()].sum(dim=0).tolist()
        parts = zip(reduced, starts, ctx.rows, strict=True)
        return (None, None, *(part.narrow(0, start, rows) for part, start, rows in parts))


class _Broadcast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, root_rank: int, name: str | None) -> torch.Tensor:
        ctx.root_rank = root_rank
        return cast(torch.Tensor, synchronize(broadcast_async(tensor, root_rank, name)))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        reduced = reducing.allreduce_(gradients[0].detach().clone(), op=requests.AVERAGE)
        if world.rank() != ctx.root_rank:
            reduced.zero_()
        return reduced, None, None


_allgather: Callable[..., Any] = _Allgather.apply
_broadcast: Callable[..., Any] = _Broadcast.apply
