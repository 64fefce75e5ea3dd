"""Who takes part in one generation, how updates are ordered, and how long anything may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quintile_trainer import failures

Ordering = Literal["sync", "ssp", "async"]


@dataclass(frozen=True)
class Limits:
    """Every wait ends; these are the seconds.

    Attributes:
        meeting_s: Until all servers and workers have met.
        handshake_s: From a connection to its welcome.
        reconnect_s: A lost connection may be made anew within it; then its peer counts as lost.
        answer_s: The longest wait for another worker's push.
        cut_s: From the naming of a cut to its snapshot.
        slice_s: A server looks at its deadlines at least this often.
    """

    meeting_s: float = 120.0
    handshake_s: float = 10.0
    reconnect_s: float = 10.0
    answer_s: float = 1800.0
    cut_s: float = 60.0
    slice_s: float = 0.25


@dataclass(frozen=True)
class Team:
    """One generation: ``host`` and ``port`` are those of server 0, where all others ask."""

    servers: int
    workers: int
    generation: int
    host: str
    port: int
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.servers < 1 or self.workers < 1:
            raise failures.BadInput(
                f"a parameter server run needs servers and workers, got {self.servers} and "
                f"{self.workers}"
            )


@dataclass(frozen=True)
class Consistency:
    """How pushes of different workers are ordered.

    ``sync``: one update per step, from the sum over all workers in rank order. ``ssp``: every push
    is an update of its own, and no worker is more than ``bound`` pushes ahead of the slowest one.
    ``async``: the same without a bound.
    """

    ordering: Ordering = "sync"
    bound: int = 0

    def __post_init__(self) -> None:
        if self.ordering not in ("sync", "ssp", "async"):
            raise failures.BadInput(
                f"consistency {self.ordering!r} is unknown; expected sync, ssp or async"
            )
        if self.bound < 0:
            raise failures.BadInput(f"the bound of ssp is {self.bound}; expected 0 or more")
