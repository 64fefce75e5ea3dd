"""The command line and files of ``mpirun`` for one generation. Pure."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from quintile_trainer.agent import launching, wire
from quintile_trainer.mpi import rank_door

SHELL = "quintile-shell"
HOSTS = "hosts"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""Containers often have no other user; what may run as root is decided before us."""
PER_BYTE = 254


def peers(plan: wire.Json) -> dict[str, tuple[str, int]]:
    """Return host and port of the workers' agents by the name that ``mpirun`` knows them by.

    Every worker is a host of its own to ``mpirun``: on one machine they get names of loopback.
    """
    found = {}
    for agent in sorted(plan["agents"], key=lambda one: int(one["index"])):
        if agent["role"] == "worker":
            host = str(agent["host"])
            name = alias(int(agent["index"])) if launching.is_loopback(host) else host
            found[name] = (host, int(agent["port"]))
    return found


def alias(index: int) -> str:
    """Return the loopback address that stands for a worker: 127.0.0.2, 127.0.0.3, ..."""
    high, low = divmod(index + 1, PER_BYTE)
    return f"127.0.{high}.{low + 1}"


def hosts_file(plan: wire.Json) -> str:
    """Return the host file: workers in order, so that ranks are numbered as in the plan."""
    slots = [slot["index"] for slot in plan["ranks"] if slot["role"] == "worker"]
    names = list(peers(plan))
    return "".join(f"{name} slots={slots.count(index)}\n" for index, name in enumerate(names))


def shell_file() -> str:
    """Return the program that ``mpirun`` calls in place of ssh."""
    words = [sys.executable, "-P", "-m", "quintile_trainer.mpi.remote_shell"]
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def command(plan: wire.Json, folder: Path, *, interface: str) -> list[str]:
    """Return the command; ``folder`` holds the host file, and is first on the path.

    ``interface``: the one by which the daemons and the ranks reach each other; empty: any.
    """
    settings = {
        "plm_rsh_agent": SHELL,
        # Only mpirun dials: daemons have no key.
        "plm_rsh_no_tree_spawn": "1",
        "orte_keep_fqdn_hostnames": "1",
        # Ranks that spin while they wait stall each other where processors are shared.
        "mpi_yield_when_idle": "1",
        "mpi_warn_on_fork": "0",
    }
    if interface:
        settings |= {"oob_tcp_if_include": interface, "btl_tcp_if_include": interface}
    return [
        "mpirun",
        "--leave-session-attached",
        *(word for name, value in settings.items() for word in ("--mca", name, value)),
        *("--hostfile", str(folder / HOSTS), "-np", str(plan["world_size"])),
        *("--map-by", "slot", "--bind-to", "none"),
        *(sys.executable, "-I", "-S", str(Path(rank_door.__file__))),
    ]


def daemon_variables(base: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of ``mpirun`` and of a daemon: nothing of the platform's but the door.

    Both look for the remote shell on the path. Session folders go where they are cleared away,
    whatever happens.
    """
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith((*launching.OWN_PREFIXES, *rank_door.PREFIXES))
    }
    path = f"{folder}{os.pathsep}{kept.get('PATH', os.defpath)}"
    own = {"PATH": path, "TMPDIR": str(folder), rank_door.DOOR: str(folder)}
    return {**kept, **AS_ROOT, **own}


def complaint(said: Sequence[str]) -> str:
    """Return the line of ``mpirun``'s output that says best what went wrong."""
    spoken = [line.strip() for line in said if line.strip().strip("-") and "Warning:" not in line]
    return spoken[0] if spoken else ""
