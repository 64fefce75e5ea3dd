"""``allreduce`` and its variants, with Horovod's names and arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack, cast

import torch

from quintile_trainer.hvd import compression as compression_module
from quintile_trainer.hvd import options, requests, world
from quintile_trainer.hvd.options import Options, Reduction
from quintile_trainer.hvd.requests import Kind, Request

_none = compression_module.Compression.none


def begin(
    tensors: Sequence[torch.Tensor], name: str | None, how: Reduction, kind: Kind = Kind.ALLREDUCE
) -> int:
    """Begin a reduction of tensors of one type in place; its result is their list."""
    engine = world.current()
    details = describe(tensors)
    request = Request(name=engine.name(kind, name), kind=kind, **details, **how)
    return engine.ask(request, [tensor.detach() for tensor in tensors], lambda found: found)


def describe(tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Return type, device and shapes of tensors as fields of a ``Request``.

    Raises:
        ValueError: There is none, or they are not of one type.
    """
    kinds = {(tensor.dtype, tensor.device.type) for tensor in tensors}
    if len(kinds) != 1:
        raise ValueError("a group needs one or more tensors of one type on one device")
    dtype, device = kinds.pop()
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "shapes": tuple(tuple(tensor.shape) for tensor in tensors),
    }


def synchronize(handle: int | Callable[[], object]) -> Any:
    """Wait for an asynchronous operation; return its result."""
    if callable(handle):
        return handle()
    return world.current().wait(handle)


def poll(handle: int) -> bool:
    """Return whether ``synchronize`` would return at once."""
    return world.current().poll(handle)


def allreduce_async_(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> int:
    """Begin to replace a tensor by its average or sum over the ranks; return a handle."""
    how = options.read(op, average, **given)
    return _single(tensor, tensor, name, how)


def allreduce_async(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> int:
    """Begin to compute the average or sum of a tensor over the ranks; return a handle."""
    how = options.read(op, average, **given)
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return _single(copy, copy, name, how)


def allreduce_(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> torch.Tensor:
    """Replace a tensor by its average or sum over the ranks; return it."""
    return cast(torch.Tensor, synchronize(allreduce_async_(tensor, average, name, op, **given)))


def allreduce(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    compression: type[compression_module.Compressor] = _none,
    op: int | None = None,
    **given: Unpack[Options],
) -> torch.Tensor:
    """Return the average or sum of a tensor over the ranks; gradients flow through it."""
    how = options.read(op, average, **given)
    small, form = compression.compress(tensor)
    return compression.decompress(_apply(name, how, small)[0], form)


def grouped_allreduce_async_(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> int | Callable[[], list[torch.Tensor]]:
    """Begin to replace several tensors by their averages or sums; return a handle."""
    return group(tensors, name, options.read(op, average, **given))


def grouped_allreduce_async(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> int | Callable[[], list[torch.Tensor]]:
    """Begin to compute the averages or sums of several tensors; return a handle."""
    copies = [tensor.detach().clone() for tensor in tensors]
    return group(copies, name, options.read(op, average, **given))


def grouped_allreduce_(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    **given: Unpack[Options],
) -> list[torch.Tensor]:
    """Replace several tensors by their averages or sums; return them."""
    handle = grouped_allreduce_async_(tensors, average, name, op, **given)
    return cast("list[torch.Tensor]", synchronize(handle))


def grouped_allreduce(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    compression: type[compression_module.Compressor] = _none,
    op: int | None = None,
    **given: Unpack[Options],
) -> list[torch.Tensor]:
    """Return the averages or sums of several tensors; gradients flow through it."""
    how = options.read(op, average, **given)
    pairs = [compression.compress(tensor) for tensor in tensors]
    found = _apply(name, how, *(small for small, _ in pairs))
    return [
        compression.decompress(tensor, form) for tensor, (_, form) in zip(found, pairs, strict=True)
    ]


def group(
    tensors: Sequence[torch.Tensor], name: str | None, how: Reduction
) -> int | Callable[[], list[torch.Tensor]]:
    """Begin a reduction of tensors of any types in place; return what gives their list."""
    types = sorted({str(tensor.dtype) for tensor in tensors})
    if len(types) == 1:
        return begin(tensors, name, how)
    handles = {}
    for dtype in types:
        part = [tensor for tensor in tensors if str(tensor.dtype) == dtype]
        handles[dtype] = begin(part, f"{name}.{dtype}" if name else None, how)

    def wait() -> list[torch.Tensor]:
        for handle in handles.values():
            synchronize(handle)
        return list(tensors)

    return wait


def sparse_allreduce_async(
    tensor: torch.Tensor, name: str, op: int, process_set: object = world.global_process_set
) -> Callable[[], torch.Tensor]:
    """Begin to average or sum a sparse tensor; return the function that gives the result."""
    from quintile_trainer.hvd import gathering

    world.whole(process_set)
    indices = gathering.allgather_async(tensor._indices().t().contiguous(), f"{name}.indices")
    values = gathering.allgather_async(tensor._values(), f"{name}.values")

    def wait() -> torch.Tensor:
        found = synchronize(values)
        if op == requests.AVERAGE:
            found = found / world.size()
        where = synchronize(indices).t()
        return torch.sparse_coo_tensor(where, found, tensor.size(), check_invariants=True)

    return wait


def _single(source: torch.Tensor, result: torch.Tensor, name: str | None, how: Reduction) -> int:
    engine = world.current()
    request = Request(
        name=engine.name(Kind.ALLREDUCE, name), kind=Kind.ALLREDUCE, **describe([source]), **how
    )
    return engine.ask(request, [source.detach()], lambda _found: result)


class _Allreduce(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, name: str | None, how: Reduction, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.how = how
        copies = [tensor.detach().clone() for tensor in tensors]
        return tuple(synchronize(group(copies, name, how)))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        return (None, None, *_apply(None, ctx.how, *gradients))


_apply: Callable[..., Any] = _Allreduce.apply
