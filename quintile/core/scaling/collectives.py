"""How long one sum over all workers takes, by its shape. Closed forms; sizes in bytes.

``add_bytes_per_s`` is how fast a worker adds what came to what it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CHUNK_BYTES = 1 << 20
"""Parameter servers keep parameters in chunks of this size, spread evenly."""


@dataclass(frozen=True)
class Link:
    """What joins two workers.

    Attributes:
        delay_s: What a message costs before its first byte.
        bytes_per_s: What a worker sends and, at the same time, receives after that.
        rates: (size of the sum, bytes per second) by size, where large sums are slower than small
            ones: through the memory of a host, whose caches they leave. Empty: all alike.
        limit: Bytes per second that no size exceeds.
    """

    delay_s: float
    bytes_per_s: float
    rates: tuple[tuple[float, float], ...] = ()
    limit: float = math.inf

    def rate(self, size_bytes: float) -> float:
        """Return the bytes per second of a sum of a size, between measured sizes on a line."""
        return min(self.limit, self._measured(size_bytes))

    def slowed(self, factor: float) -> Link:
        """Return a link whose every message takes ``factor`` times as long."""
        rates = tuple((size, rate / factor) for size, rate in self.rates)
        return Link(self.delay_s * factor, self.bytes_per_s / factor, rates, self.limit)

    def _measured(self, size_bytes: float) -> float:
        if not self.rates:
            return self.bytes_per_s
        below = [one for one in self.rates if one[0] <= size_bytes]
        above = [one for one in self.rates if one[0] > size_bytes]
        if not below or not above:
            return (below[-1] if below else above[0])[1]
        (small, quick), (large, slow) = below[-1], above[0]
        share = math.log(size_bytes / small) / math.log(large / small)
        return math.exp((1 - share) * math.log(quick) + share * math.log(slow))


@dataclass(frozen=True)
class Shape:
    """Workers by host: ``hosts`` hosts with up to ``per_host`` workers each."""

    hosts: int
    per_host: int


@dataclass(frozen=True)
class Team:
    """Workers, their parameter servers on hosts of their own, and the workers of one host."""

    workers: int
    servers: int
    per_host: int


def ring_s(size_bytes: float, workers: int, link: Link, add_bytes_per_s: float) -> float:
    """Return the seconds of a ring all-reduce: 2(n-1) messages of an n-th, half of them added."""
    if workers < 2:
        return 0.0
    share = (workers - 1) / workers
    wire_s = 2 * share * size_bytes / link.rate(size_bytes)
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
        moved_s = size_bytes * (1 + share) / inside.rate(size_bytes)
        seconds += 3 * inside.delay_s + moved_s + share * size_bytes / add_bytes_per_s
    return seconds


def servers_s(size_bytes: float, team: Team, link: Link, handling_s: float) -> float:
    """Return the seconds of pushes to parameter servers, with pulls beside them.

    A chunk comes back as soon as everybody has pushed it, so that both directions of the busiest
    link are used at once, but for the first chunk's push and the last one's pull. A server takes
    ``handling_s`` for each chunk of each worker.
    """
    chunks = math.ceil(size_bytes / CHUNK_BYTES / team.servers)
    one_way_s = size_bytes * servers_wire(team) / 2 / link.rate(size_bytes)
    handled_s = team.workers * chunks * handling_s
    return 2 * link.delay_s + one_way_s * (1 + 1 / chunks) + handled_s


def servers_wire(team: Team) -> float:
    """Return how many times the model's bytes pass the busiest link: pushes, then pulls.

    That link is a server's, which carries every worker's share of the model, or a host's, which
    carries the whole model for each of its workers.
    """
    return 2 * max(team.workers / team.servers, min(team.per_host, team.workers))


def ring_wire(workers: int) -> float:
    """Return how many times the model's bytes pass a link in a ring."""
    return 2 * (workers - 1) / workers
