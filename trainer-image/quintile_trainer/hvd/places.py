"""Which rank this process is, and which ranks share its host: from launchers' variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LAUNCHERS = (
    # What mpirun tells comes first: its ranks inherit the variables of whoever called it.
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK"),
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
)


@dataclass(frozen=True)
class Seat:
    """One process of a job; ``local_rank`` is None when the launcher does not say it."""

    rank: int
    size: int
    local_rank: int | None


@dataclass(frozen=True)
class Place:
    """Where a rank is: in the job, on its host, and among the ranks of its kind on all hosts."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    cross_rank: int
    cross_size: int


def read_seat(variables: Mapping[str, str]) -> Seat:
    """Return what the launcher said; without one, a process is a job of its own.

    Raises:
        ValueError: The numbers do not fit together.
    """
    for rank_name, size_name, local_name in _LAUNCHERS:
        if rank_name not in variables:
            continue
        rank, size = int(variables[rank_name]), int(variables.get(size_name, "1"))
        if not 0 <= rank < size:
            raise ValueError(f"{rank_name}={rank} and {size_name}={size} do not fit together")
        local = variables.get(local_name)
        return Seat(rank, size, None if local is None else int(local))
    return Seat(0, 1, 0)


def host_key(seat: Seat, host: str) -> str:
    """Return what is equal for ranks of one host: launchers number those in a row."""
    return host if seat.local_rank is None else f"from {seat.rank - seat.local_rank}"


def place(rank: int, hosts: Sequence[str]) -> Place:
    """Return the place of a rank, given the host keys of all ranks."""
    local = [other for other, host in enumerate(hosts) if host == hosts[rank]]
    local_rank = local.index(rank)
    seen: dict[str, int] = {}
    peers = []
    for other, host in enumerate(hosts):
        number = seen.get(host, 0)
        seen[host] = number + 1
        if number == local_rank:
            peers.append(other)
    return Place(rank, len(hosts), local_rank, len(local), peers.index(rank), len(peers))
