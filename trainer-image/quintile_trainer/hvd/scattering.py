"""``alltoall`` and ``reducescatter``, with Horovod's names and arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch

from quintile_trainer.hvd import compression as compression_module
from quintile_trainer.hvd import gathering, options, requests, world
from quintile_trainer.hvd.options import Options, Reduction
from quintile_trainer.hvd.reducing import describe, synchronize
from quintile_trainer.hvd.requests import Kind, Request

_none = compression_module.Compression.none


def alltoall_async(
    tensor: torch.Tensor,
    splits: torch.Tensor | Sequence[int] | None = None,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> int:
    """Begin to send rows to each rank; return a handle.

    The result is the received rows and, if ``splits`` is given, how many came from each rank.
    """
    world.whole(process_set)
    rows = _rows(tensor, splits)
    engine = world.current()
    request = Request(
        name=engine.name(Kind.ALLTOALL, name),
        kind=Kind.ALLTOALL,
        splits=rows,
        **describe([tensor]),
    )
    finish = (lambda found: found[0]) if splits is None else tuple
    return engine.ask(request, [tensor.detach().clone()], finish)


def alltoall(
    tensor: torch.Tensor,
    splits: torch.Tensor | Sequence[int] | None = None,
    name: str | None = None,
    process_set: object = world.global_process_set,
) -> Any:
    """Return the rows that all ranks send here; gradients flow through it."""
    world.whole(process_set)
    received, counts = _alltoall(tensor, _rows(tensor, splits), name)
    return received if splits is None else (received, counts)


def reducescatter_async(
    tensor: torch.Tensor, name: str | None = None, op: int | None = None, **given: Unpack[Options]
) -> int:
    """Begin to reduce a tensor and keep this rank's rows; return a handle."""
    return _scatter([tensor], name, options.read(op, None, **given), single=True)


def grouped_reducescatter_async(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> int:
    """Begin to reduce tensors and keep this rank's rows of each; return a handle."""
    return _scatter(tensors, name, options.read(op, None, **given), single=False)


def reducescatter(
    tensor: torch.Tensor,
    name: str | None = None,
    compression: type[compression_module.Compressor] = _none,
    op: int | None = None,
    **given: Unpack[Options],
) -> torch.Tensor:
    """Return this rank's rows of the reduced tensor; gradients flow through it."""
    return grouped_reducescatter([tensor], name, compression, op, **given)[0]


def grouped_reducescatter(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    compression: type[compression_module.Compressor] = _none,
    op: int | None = None,
    **given: Unpack[Options],
) -> list[torch.Tensor]:
    """Return this rank's rows of several reduced tensors; gradients flow through it."""
    how = options.read(op, None, **given)
    pairs = [compression.compress(tensor) for tensor in tensors]
    found = _reducescatter(name, how, *(small for small, _ in pairs))
    return [
        compression.decompress(tensor, form) for tensor, (_, form) in zip(found, pairs, strict=True)
    ]


def _scatter(
    tensors: Sequence[torch.Tensor], name: str | None, how: Reduction, *, single: bool
) -> int:
    if how["op"] not in (requests.AVERAGE, requests.SUM):
        raise ValueError("reducescatter has the operations Average and Sum")
    if any(tensor.dim() == 0 for tensor in tensors):
        raise ValueError("reducescatter shares rows; a tensor needs one dimension or more")
    engine = world.current()
    request = Request(
        name=engine.name(Kind.REDUCESCATTER, name),
        kind=Kind.REDUCESCATTER,
        **describe(tensors),
        **how,
    )
    inputs = [tensor.detach().clone() for tensor in tensors]
    return engine.ask(request, inputs, (lambda found: found[0]) if single else list)


def _rows(tensor: torch.Tensor, splits: torch.Tensor | Sequence[int] | None) -> tuple[int, ...]:
    if splits is not None:
        rows = tuple(int(count) for count in splits)
    else:
        even, left = divmod(tensor.shape[0], world.size())
        if left:
            raise ValueError(
                f"{tensor.shape[0]} rows cannot be shared by {world.size()} ranks; give splits"
            )
        rows = (even,) * world.size()
    if len(rows) != world.size() or sum(rows) != tensor.shape[0] or min(rows) < 0:
        raise ValueError(
            f"splits {list(rows)} do not share {tensor.shape[0]} rows between {world.size()} ranks"
        )
    return rows


class _Alltoall(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, rows: tuple[int, ...], name: str | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        received, counts = synchronize(alltoall_async(tensor, rows, name))
        ctx.counts = tuple(counts.tolist())
        ctx.mark_non_differentiable(counts)
        return received, counts

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        returned, _ = synchronize(alltoall_async(gradients[0].contiguous(), ctx.counts))
        return returned, None, None


class _Reducescatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, name: str | None, how: Reduction, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.how = how
        return tuple(synchronize(_scatter(tensors, name, how, single=False)))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        factor = ctx.how["prescale"] * ctx.how["postscale"]
        if ctx.how["op"] == requests.SUM:
            factor *= world.size()
        scaled = [gradient.detach() * factor for gradient in gradients]
        return (None, None, *synchronize(gathering.grouped_allgather_async(scaled)))


_alltoall: Callable[..., Any] = _Alltoall.apply
_reducescatter: Callable[..., Any] = _Reducescatter.apply
