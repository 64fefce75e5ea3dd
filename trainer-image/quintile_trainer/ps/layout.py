"""Which part of the model lives on which server. Pure; every process computes the same answer.

Parameters are laid end to end, ordered by (dtype, optimizer group, name): one flat vector per
dtype. The vectors are cut into chunks of one size, of one dtype and group each, and placed by size.
A chunk is the unit of everything: frames, versions, updates.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quintile_trainer import failures

CHUNK_BYTES = 1 << 20
FINER = 64
BALANCE = 1.02
ITEM_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Parameter:
    """One tensor of the model; ``group`` numbers its optimizer settings."""

    name: str
    size: int
    dtype: str
    group: int = 0

    @property
    def size_bytes(self) -> int:
        """Return its bytes on the wire."""
        return self.size * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Chunk:
    """Elements ``start`` .. ``start + size`` of the flat vector of ``dtype``, on ``server``."""

    number: int
    server: int
    dtype: str
    group: int
    start: int
    size: int

    @property
    def size_bytes(self) -> int:
        """Return its bytes on the wire."""
        return self.size * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Piece:
    """The part of one parameter that one chunk holds; both starts are in elements."""

    name: str
    parameter_start: int
    chunk_start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Parameters in flat order and the chunks that hold them, by number."""

    parameters: tuple[Parameter, ...]
    chunks: tuple[Chunk, ...]
    servers: int
    chunk_bytes: int

    def of_server(self, server: int) -> tuple[Chunk, ...]:
        """Return the chunks of one server."""
        return tuple(chunk for chunk in self.chunks if chunk.server == server)

    def size(self, dtype: str) -> int:
        """Return the elements of one flat vector."""
        return sum(entry.size for entry in self.parameters if entry.dtype == dtype)

    @cached_property
    def starts(self) -> dict[str, int]:
        """Return where each parameter begins in the flat vector of its dtype."""
        ends = dict.fromkeys(ITEM_BYTES, 0)
        found = {}
        for entry in self.parameters:
            found[entry.name] = ends[entry.dtype]
            ends[entry.dtype] += entry.size
        return found

    def pieces(self, chunk: Chunk) -> tuple[Piece, ...]:
        """Return what a chunk holds, in order."""
        return self._pieces[chunk.number]

    @cached_property
    def _pieces(self) -> tuple[tuple[Piece, ...], ...]:
        found: list[list[Piece]] = [[] for _ in self.chunks]
        for dtype in ITEM_BYTES:
            chunks = [chunk for chunk in self.chunks if chunk.dtype == dtype]
            borders = [chunk.start for chunk in chunks]
            for entry in self.parameters:
                if entry.dtype != dtype:
                    continue
                start = self.starts[entry.name]
                end = start + entry.size
                for chunk in chunks[bisect.bisect_right(borders, start) - 1 :]:
                    if chunk.start >= end:
                        break
                    low, high = max(start, chunk.start), min(end, chunk.start + chunk.size)
                    piece = Piece(entry.name, low - start, low - chunk.start, high - low)
                    found[chunk.number].append(piece)
        return tuple(tuple(pieces) for pieces in found)

    @cached_property
    def server_bytes(self) -> tuple[int, ...]:
        """Return the bytes of each server."""
        totals = [0] * self.servers
        for chunk in self.chunks:
            totals[chunk.server] += chunk.size_bytes
        return tuple(totals)

    @property
    def imbalance(self) -> float:
        """Return the bytes of the fullest server over the mean."""
        return max(self.server_bytes) * self.servers / sum(self.server_bytes)

    def document(self) -> dict[str, Any]:
        """Return what ``parse`` needs, as JSON."""
        entries = [[entry.name, entry.size, entry.dtype, entry.group] for entry in self.parameters]
        return {"parameters": entries, "servers": self.servers, "chunk_bytes": self.chunk_bytes}

    @cached_property
    def digest(self) -> str:
        """Return a SHA-256 that equal layouts share."""
        return hashlib.sha256(json.dumps(self.document()).encode()).hexdigest()


def parse(document: dict[str, Any]) -> Layout:
    """Return the layout that ``Layout.document`` describes."""
    parameters = [Parameter(*entry) for entry in document["parameters"]]
    return plan(parameters, document["servers"], chunk_bytes=document["chunk_bytes"])


def plan(
    parameters: Sequence[Parameter], servers: int, *, chunk_bytes: int = CHUNK_BYTES
) -> Layout:
    """Return the layout with the largest chunks, up to ``chunk_bytes``, that is balanced.

    The fullest server holds at most ``BALANCE`` times the mean wherever single elements allow it.

    Raises:
        BadInput: There is nothing to place, a name comes twice, or a dtype is not supported.
    """
    _check(parameters)
    ordered = tuple(sorted(parameters, key=lambda entry: (entry.dtype, entry.group, entry.name)))
    total = sum(entry.size_bytes for entry in ordered)
    coarse = -(-total // (servers * chunk_bytes))
    best: Layout | None = None
    for per_server in range(coarse, coarse + FINER):
        sizes = _cut(ordered, -(-total // (servers * per_server)))
        found = Layout(ordered, _place(sizes, servers), servers, chunk_bytes)
        if best is None or found.imbalance < best.imbalance:
            best = found
        if found.imbalance <= BALANCE:
            break
    assert best is not None
    return best


def _check(parameters: Sequence[Parameter]) -> None:
    if not parameters:
        raise failures.BadInput("the model has no trainable parameters to place on servers")
    if len({entry.name for entry in parameters}) != len(parameters):
        raise failures.BadInput("two parameters of the model have one name")
    for entry in parameters:
        if entry.dtype not in ITEM_BYTES:
            raise failures.BadInput(
                f"parameter {entry.name} is {entry.dtype}; parameter servers take "
                f"{' and '.join(sorted(ITEM_BYTES))}"
            )


def _cut(ordered: Sequence[Parameter], target_bytes: int) -> list[Chunk]:
    """Return chunks without a server: every (dtype, group) is cut on its own."""
    totals: dict[tuple[str, int], int] = {}
    for entry in ordered:
        key = (entry.dtype, entry.group)
        totals[key] = totals.get(key, 0) + entry.size
    chunks: list[Chunk] = []
    ends = dict.fromkeys(ITEM_BYTES, 0)
    for (dtype, group), total in totals.items():
        step = max(1, -(-target_bytes // ITEM_BYTES[dtype]))
        for start in range(0, total, step):
            size = min(step, total - start)
            chunks.append(Chunk(len(chunks), -1, dtype, group, ends[dtype] + start, size))
        ends[dtype] += total
    return chunks


def _place(chunks: Sequence[Chunk], servers: int) -> tuple[Chunk, ...]:
    """Give the largest chunk left to the server with the least bytes."""
    loads = [(0, server) for server in range(servers)]
    placed = list(chunks)
    for chunk in sorted(chunks, key=lambda entry: (-entry.size_bytes, entry.number)):
        load, server = heapq.heappop(loads)
        heapq.heappush(loads, (load + chunk.size_bytes, server))
        placed[chunk.number] = Chunk(
            chunk.number, server, chunk.dtype, chunk.group, chunk.start, chunk.size
        )
    return tuple(placed)
