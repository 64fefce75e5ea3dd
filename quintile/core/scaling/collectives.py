"""How long one sum over all workers takes, by its shape. Closed forms; sizes in bytes.

``delay_s`` is what a message costs before its first byte, ``bytes_per_s`` what a worker sends (and,
at the same time, receives) after that, ``add_bytes_per_s`` how fast it adds what came.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What joins two workers."""

    delay_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Shape:
    """Workers by host: ``hosts`` hosts with up to ``per_host`` workers each."""

    hosts: int
    per_host: int


def ring_s(size_bytes: float, workers: int, link: Link, add_bytes_per_s: float) -> float:
    """Return the seconds of a ring all-reduce: 2(n-1) messages of an n-th, half of them added."""
    if workers < 2:
        return 0.0
    share = (workers - 1) / workers
    wire_s = 2 * share * size_bytes / link.bytes_per_s
    return 2 * (workers - 1) * link.delay_s + wire_s + share * size_bytes / add_bytes_per_s


def two_level_s(
    size_bytes: float, shape: Shape, inside: Link, across: Link, add_bytes_per_s: float
) -> float:
    """Return the seconds of a sum inside hosts through memory, then a ring across hosts.

    Inside, each worker adds its share of everybody's values and then reads the other shares.
    """
    seconds = ring_s(size_bytes, shape.hosts, across, add_bytes_per_s)
    if shape.per_host > 1:
        share = (shape.per_host - 1) / shape.per_host
        moved = size_bytes * (1 + share) / inside.bytes_per_s + share * size_bytes / add_bytes_per_s
        seconds += 3 * inside.delay_s + moved
    return seconds


def servers_s(size_bytes: float, shape: Shape, workers: int, servers: int, link: Link) -> float:
    """Return the seconds of pushes to parameter servers, with pulls beside them.

    A chunk comes back as soon as everybody has pushed it, so that both directions of the busiest
    link are used at once; only the first chunk has nothing to come back beside it.
    """
    one_way = servers_wire(shape, workers, servers) / 2
    return 2 * link.delay_s + size_bytes * one_way / link.bytes_per_s


def servers_wire(shape: Shape, workers: int, servers: int) -> float:
    """Return how many times the model's bytes pass the busiest link: pushes, then pulls.

    That link is a server's, which carries every worker's share of the model, or a host's, which
    carries the whole model for each of its workers.
    """
    return 2 * max(workers / servers, min(shape.per_host, workers))


def ring_wire(workers: int) -> float:
    """Return how many times the model's bytes pass a link in a ring."""
    return 2 * (workers - 1) / workers
