"""Carries agreed collectives out over a process group of torch. Called by the engine's thread."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import distributed

from quintile_trainer.hvd import requests
from quintile_trainer.hvd.requests import Call, Kind, Request

_FIRST_BYTES: Final = 1024
_LENGTH: Final = struct.Struct("<Q")
_REDUCTIONS: Final = {
    requests.AVERAGE: distributed.ReduceOp.SUM,
    requests.SUM: distributed.ReduceOp.SUM,
    requests.MINIMUM: distributed.ReduceOp.MIN,
    requests.MAXIMUM: distributed.ReduceOp.MAX,
    requests.PRODUCT: distributed.ReduceOp.PRODUCT,
}

Tensors = list[torch.Tensor]


class Carrier(Protocol):
    """How an engine reaches the other ranks."""

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the bytes of all ranks."""
        ...

    def carry_out(self, calls: Sequence[Call], tensors: Sequence[Tensors]) -> list[Tensors]:
        """Return the results of calls that go as one, given each call's tensors on this rank."""
        ...


class Alone:
    """A job of one process."""

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the bytes."""
        return [data]

    def carry_out(self, calls: Sequence[Call], tensors: Sequence[Tensors]) -> list[Tensors]:
        """Return the tensors themselves, scaled where that is asked for."""
        request = calls[0].request
        for tensor in (tensor for some in tensors for tensor in some):
            _scale(tensor, request.prescale * request.postscale)
        if request.kind is Kind.ALLTOALL:
            return [[tensors[0][0], torch.tensor(request.splits, dtype=torch.int32)]]
        return list(tensors)


class Transport:
    """One rank's end of a group of its own, so that a script's other collectives do not mix in."""

    def __init__(self, group: distributed.ProcessGroup, rank: int, size: int) -> None:
        self._group = group
        self._rank = rank
        self._size = size

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the bytes of all ranks; few go in one round."""
        head = _LENGTH.pack(len(data)) + data[: _FIRST_BYTES - _LENGTH.size]
        first = self._gather(head, _FIRST_BYTES)
        lengths = [_LENGTH.unpack_from(part)[0] for part in first]
        rest = max(lengths) - (_FIRST_BYTES - _LENGTH.size)
        found = [part[_LENGTH.size :] for part in first]
        if rest > 0:
            more = self._gather(data[_FIRST_BYTES - _LENGTH.size :], rest)
            found = [begin + end for begin, end in zip(found, more, strict=True)]
        return [part[:length] for part, length in zip(found, lengths, strict=True)]

    def carry_out(self, calls: Sequence[Call], tensors: Sequence[Tensors]) -> list[Tensors]:
        """Return the results of calls that go as one, given each call's tensors on this rank."""
        request = calls[0].request
        match request.kind:
            case Kind.ALLREDUCE:
                self._reduce(request, [tensor for some in tensors for tensor in some])
                return list(tensors)
            case Kind.BROADCAST:
                self._broadcast(request, tensors[0])
                return list(tensors)
            case Kind.ALLGATHER:
                return [self._allgather(calls[0], tensors[0])]
            case Kind.ALLTOALL:
                return [self._alltoall(calls[0], tensors[0])]
            case Kind.REDUCESCATTER:
                return [self._reducescatter(request, tensors[0])]
            case _:
                return [[]]

    def _gather(self, data: bytes, size: int) -> list[bytes]:
        mine = torch.frombuffer(bytearray(data.ljust(size, b"\0")), dtype=torch.uint8)
        found = [torch.empty(size, dtype=torch.uint8) for _ in range(self._size)]
        distributed.all_gather(found, mine, group=self._group)
        return [part.numpy().tobytes() for part in found]

    def _reduce(self, request: Request, tensors: Tensors) -> None:
        """Reduce tensors in place, all of them at once."""
        with _flat(tensors) as flat:
            _scale(flat, request.prescale)
            if flat.numel():
                distributed.all_reduce(flat, op=_REDUCTIONS[request.op], group=self._group)
            average = 1.0 / self._size if request.op == requests.AVERAGE else 1.0
            _scale(flat, average * request.postscale)

    def _broadcast(self, request: Request, tensors: Tensors) -> None:
        with _flat(tensors) as flat:
            if flat.numel():
                distributed.broadcast(flat, src=self._global(request.root), group=self._group)

    def _allgather(self, call: Call, tensors: Tensors) -> Tensors:
        return [self._join_rows(call, number, tensor) for number, tensor in enumerate(tensors)]

    def _join_rows(self, call: Call, number: int, tensor: torch.Tensor) -> torch.Tensor:
        rows = [one.shapes[number][0] for one in call.by_rank if one is not None]
        longest = max(rows)
        if longest == 0 or tensor.shape[1:].numel() == 0:
            return tensor.new_empty((sum(rows), *tensor.shape[1:]))
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in range(self._size)]
        distributed.all_gather(parts, padded, group=self._group)
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    def _alltoall(self, call: Call, tensors: Tensors) -> Tensors:
        """Return the received rows, and how many came from each rank."""
        splits = [one.splits for one in call.by_rank if one is not None]
        incoming = [rows[self._rank] for rows in splits]
        tensor = tensors[0].contiguous()
        received = tensor.new_empty((sum(incoming), *tensor.shape[1:]))
        distributed.all_to_all_single(
            received, tensor, incoming, list(splits[self._rank]), group=self._group
        )
        return [received, torch.tensor(incoming, dtype=torch.int32)]

    def _reducescatter(self, request: Request, tensors: Tensors) -> Tensors:
        self._reduce(request, tensors)
        found = []
        for tensor in tensors:
            even, more = divmod(tensor.shape[0], self._size)
            first = self._rank * even + min(self._rank, more)
            found.append(tensor[first : first + even + (self._rank < more)].clone())
        return found

    def _global(self, rank: int) -> int:
        return distributed.get_global_rank(self._group, rank)


class _flat:  # noqa: N801 - read as a statement: with _flat(tensors) as flat
    """Tensors of a type as one; what happens to it happens to them."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        alone = len(tensors) == 1 and tensors[0].is_contiguous()
        self._whole = (
            tensors[0].view(-1) if alone else torch.cat([one.reshape(-1) for one in tensors])
        )
        self._copied = not alone

    def __enter__(self) -> torch.Tensor:
        return self._whole

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self._copied or kind is not None:
            return
        start = 0
        for tensor in self._tensors:
            part = self._whole[start : start + tensor.numel()]
            tensor.copy_(part.view(tensor.shape))
            start += tensor.numel()


def _scale(tensor: torch.Tensor, factor: float) -> None:
    if factor == 1.0:
        return
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.mul_(factor)
    else:
        tensor.copy_(tensor.double().mul_(factor).trunc_())
