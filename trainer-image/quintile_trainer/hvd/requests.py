"""What ranks ask for, and which of it can be done now. Pure.

As in Horovod, requests meet by name: ranks may ask in different orders, and one that has no data
left joins and takes part with zeros. Every rank sees the lists of all and concludes the same.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

AVERAGE: Final = 0
SUM: Final = 1
MINIMUM: Final = 3
MAXIMUM: Final = 4
PRODUCT: Final = 5
OPERATIONS: Final = {
    AVERAGE: "Average",
    SUM: "Sum",
    MINIMUM: "Min",
    MAXIMUM: "Max",
    PRODUCT: "Product",
}
"""Horovod's numbers; 2 is Adasum, which we do not have."""


class Kind(enum.StrEnum):
    """What can be asked for."""

    ALLREDUCE = "allreduce"
    ALLGATHER = "allgather"
    BROADCAST = "broadcast"
    ALLTOALL = "alltoall"
    REDUCESCATTER = "reducescatter"
    BARRIER = "barrier"
    JOIN = "join"
    SHUTDOWN = "shutdown"


_ENDS = (Kind.JOIN, Kind.SHUTDOWN)


@dataclass(frozen=True)
class Request:
    """One collective that a rank wants; several tensors of a type may go together.

    Attributes:
        name: The same on all ranks.
        kind: What to do.
        dtype: Of all tensors, as ``float32``.
        device: ``cpu`` or ``cuda``.
        shapes: One per tensor.
        op: Key of ``OPERATIONS``.
        prescale: Factor before, ``postscale`` after; an average's 1/size comes on top.
        root: Rank whose data counts.
        splits: Rows for each rank of an alltoall.
    """

    name: str
    kind: Kind
    dtype: str = ""
    device: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    op: int = SUM
    prescale: float = 1.0
    postscale: float = 1.0
    root: int = -1
    splits: tuple[int, ...] = ()

    @property
    def fusible(self) -> tuple[object, ...]:
        """Return what must be equal for two reductions to go as one."""
        return (self.kind, self.dtype, self.device, self.op, self.prescale, self.postscale)


@dataclass(frozen=True)
class Call:
    """A collective that every rank is ready for; by rank, None for one that has joined."""

    by_rank: tuple[Request | None, ...]

    @property
    def request(self) -> Request:
        """Return the request of the first rank that has one."""
        return next(request for request in self.by_rank if request is not None)


@dataclass(frozen=True)
class Agreement:
    """What all ranks do next.

    Attributes:
        calls: To be carried out, in this order.
        refused: Name and reason of requests that fail.
        joined: Ranks that only wait for the others.
        all_joined: Whether the joins are over.
        all_shut: Whether all ranks leave.
    """

    calls: tuple[Call, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    joined: frozenset[int] = frozenset()
    all_joined: bool = False
    all_shut: bool = False

    @property
    def moves(self) -> bool:
        """Return whether anything comes to an end."""
        return bool(self.calls or self.refused or self.all_joined or self.all_shut)


def encode(asked: Sequence[Request]) -> bytes:
    """Return the bytes of a list."""
    return json.dumps([asdict(request) for request in asked], separators=(",", ":")).encode()


def decode(data: bytes) -> tuple[Request, ...]:
    """Return the list in some bytes."""
    return tuple(
        Request(
            **{
                **fields,
                "kind": Kind(fields["kind"]),
                "shapes": tuple(tuple(shape) for shape in fields["shapes"]),
                "splits": tuple(fields["splits"]),
            }
        )
        for fields in json.loads(data)
    )


def agree(asked: Sequence[Sequence[Request]]) -> Agreement:
    """Return what to do, given what each rank asks for at the moment."""
    kinds = [[request.kind for request in rank] for rank in asked]
    if all(Kind.SHUTDOWN in rank for rank in kinds):
        return Agreement(all_shut=True)
    joined = frozenset(rank for rank, kind in enumerate(kinds) if kind == [Kind.JOIN])
    if len(joined) == len(asked):
        return Agreement(joined=joined, all_joined=True)
    tables = [
        {request.name: request for request in rank if request.kind not in _ENDS} for rank in asked
    ]
    active = [rank for rank in range(len(asked)) if rank not in joined]
    calls, refused = [], {}
    for name in tables[active[0]]:
        if all(name in tables[rank] for rank in active):
            call = Call(tuple(table.get(name) for table in tables))
            problem = _problem(call, joined)
            if problem:
                refused[name] = problem
            else:
                calls.append(call)
    left = [rank for rank in active if Kind.SHUTDOWN in kinds[rank]]
    for rank in left:
        for name in {name for table in tables for name in table} - set(tables[rank]):
            refused[name] = f"rank {rank} has shut Horovod down and does not take part in {name}"
    return Agreement(tuple(calls), refused, joined)


def fuse(calls: Sequence[Call], limit: int) -> list[list[Call]]:
    """Return neighbouring reductions that may go as one, of at most ``limit`` elements in all."""
    runs: list[list[Call]] = []
    size = 0
    for call in calls:
        request = call.request
        elements = sum(_elements(shape) for shape in request.shapes)
        fits = (
            runs
            and request.kind is Kind.ALLREDUCE
            and runs[-1][0].request.fusible == request.fusible
            and size + elements <= limit
        )
        if fits:
            runs[-1].append(call)
            size += elements
        else:
            runs.append([call])
            size = elements
    return runs


def waiting(asked: Sequence[Sequence[Request]]) -> str:
    """Return which ranks the first request that cannot go on waits for."""
    names = {request.name: None for rank in asked for request in rank if request.kind not in _ENDS}
    for name in names:
        missing = [
            rank for rank, table in enumerate(asked) if all(one.name != name for one in table)
        ]
        if missing:
            ranks = ", ".join(map(str, missing))
            return f"{name} waits for ranks {ranks}, which ask for something else"
    return "nothing waits"


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _problem(call: Call, joined: frozenset[int]) -> str:
    """Return why ranks cannot do this together, empty if they can."""
    first = call.request
    if joined and first.kind not in (Kind.ALLREDUCE, Kind.BARRIER):
        return f"{first.kind} is not possible once a rank has called join()"
    for rank, other in enumerate(call.by_rank):
        if other is None:
            continue
        for what in ("kind", "dtype", "device", "op", "prescale", "postscale", "root"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if mine != theirs:
                return f"{first.name}: {what} is {theirs} on rank {rank}, and {mine} elsewhere"
        if _fixed(first) != _fixed(other):
            mine, theirs = _text(first), _text(other)
            return f"{first.name}: shape is {theirs} on rank {rank}, and {mine} elsewhere"
    return ""


def _fixed(request: Request) -> list[tuple[int, ...]]:
    """Return the parts of the shapes that must be equal on all ranks."""
    if request.kind in (Kind.ALLGATHER, Kind.ALLTOALL):
        return [shape[1:] for shape in request.shapes]
    return list(request.shapes)


def _text(request: Request) -> str:
    return ", ".join(str(list(shape)) for shape in request.shapes) or "none"
