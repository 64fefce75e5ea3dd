"""What Horovod must find in the environment of a rank. Pure but for the look for its package."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping

from quintile_trainer.agent import wire

MODES = ("horovod", "mpi")
CYCLE_MS = "0.5"
"""How long Horovod gathers tensors before it sends; its own default of 1 ms makes steps wait."""
GLOO_TIMEOUT_S = "120"
ONE_MACHINE = "localhost"


@functools.cache
def is_installed() -> bool:
    """Return whether real Horovod is there; whether it loads, the ranks find out."""
    return importlib.util.find_spec("horovod") is not None


def controller(program: wire.Json) -> str:
    """Return who coordinates Horovod's ranks: ``gloo`` or ``mpi``."""
    return str(program.get("run", {}).get("horovod", {}).get("controller", "gloo"))


def is_under_mpi(mode: str, program: wire.Json) -> bool:
    """Return whether ``mpirun`` starts the ranks; without Horovod its shim needs none but us."""
    return mode == "mpi" or (mode == "horovod" and controller(program) == "mpi" and is_installed())


def variables(
    mode: str, program: wire.Json, plan: wire.Json, rank: int, *, one_machine: bool
) -> dict[str, str]:
    """Return what Horovod is told in a rank; nothing in modes that do not know it."""
    if mode not in MODES:
        return {}
    if is_under_mpi(mode, program):
        return mpi_variables()
    return gloo_variables(plan, rank, one_machine=one_machine)


def mpi_variables() -> dict[str, str]:
    """Return what Horovod is told where Open MPI says who is who."""
    return {
        "HOROVOD_CONTROLLER": "mpi",
        "HOROVOD_CPU_OPERATIONS": "mpi",
        "HOROVOD_CYCLE_TIME": CYCLE_MS,
    }


def gloo_variables(plan: wire.Json, rank: int, *, one_machine: bool) -> dict[str, str]:
    """Return Horovod's contract with a launcher, for one rank.

    Args:
        plan: Of the generation.
        rank: The rank.
        one_machine: Whether all replicas share one machine; otherwise each has its own.
    """
    ranks = sorted(plan["ranks"], key=lambda slot: int(slot["rank"]))
    hosts = [ONE_MACHINE if one_machine else f"{one['role']}-{one['index']}" for one in ranks]
    place = _place(hosts, rank)
    return {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_CYCLE_TIME": CYCLE_MS,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": GLOO_TIMEOUT_S,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": str(plan["master_host"] or "127.0.0.1"),
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(plan["master_port"]),
        "HOROVOD_HOSTNAME": hosts[rank],
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(len(ranks)),
        **{f"HOROVOD_{name}": str(value) for name, value in place.items()},
    }


def _place(hosts: list[str], rank: int) -> Mapping[str, int]:
    local = [other for other, host in enumerate(hosts) if host == hosts[rank]]
    local_rank = local.index(rank)
    seen: dict[str, int] = {}
    peers = []
    for other, host in enumerate(hosts):
        if seen.get(host, 0) == local_rank:
            peers.append(other)
        seen[host] = seen.get(host, 0) + 1
    return {
        "LOCAL_RANK": local_rank,
        "LOCAL_SIZE": len(local),
        "CROSS_RANK": peers.index(rank),
        "CROSS_SIZE": len(peers),
    }
