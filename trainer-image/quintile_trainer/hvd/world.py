"""``hvd.init`` and the questions about where a process is."""

from __future__ import annotations

import atexit
import datetime
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import distributed

from quintile_trainer.hvd import engine, places, requests, transport
from quintile_trainer.hvd.places import Place, Seat

_MEETING_S: Final = 120
_STEP_S: Final = 1800
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class _Running:
    place: Place
    engine: engine.Engine
    group: distributed.ProcessGroup | None = None
    owns_default: bool = False


_running: _Running | None = None


class ProcessSet:
    """All processes; Horovod's sets of some of them need the real package."""

    process_set_id = 0

    @property
    def ranks(self) -> list[int]:
        """Return the ranks in the set."""
        return list(range(size()))

    def size(self) -> int:
        """Return the number of processes."""
        return size()

    def rank(self) -> int:
        """Return this process's rank."""
        return rank()

    def included(self) -> bool:
        """Return True: every process is in it."""
        return True


global_process_set = ProcessSet()


def init(comm: Sequence[int] | None = None, process_sets: Sequence[object] | None = None) -> None:
    """Meet the other ranks. Does nothing when that is done.

    Raises:
        ValueError: Horovod's sub-groups are asked for, or the launcher's variables do not fit.
        RuntimeError: The ranks did not meet.
    """
    global _running
    if comm or process_sets:
        raise ValueError(
            "comm and process_sets need real Horovod; quintile's shim has one group of all ranks"
        )
    if _running is not None:
        return
    seat = places.read_seat(os.environ)
    if distributed.is_initialized():
        # The script has met the others itself.
        seat = Seat(distributed.get_rank(), distributed.get_world_size(), seat.local_rank)
    if seat.size == 1:
        _running = _Running(Place(0, 1, 0, 1, 0, 1), engine.Engine(transport.Alone()))
        return
    owned = not distributed.is_initialized()
    if owned:
        _meet(seat)
    group = distributed.new_group(backend=_backend(), timeout=datetime.timedelta(seconds=_STEP_S))
    carrier = transport.Transport(group, seat.rank, seat.size)
    hosts = [data.decode() for data in carrier.exchange(places.host_key(seat, _host()).encode())]
    found = places.place(seat.rank, hosts)
    _running = _Running(found, engine.Engine(carrier), group, owns_default=owned)
    atexit.register(shutdown)


def shutdown() -> None:
    """Leave, once all ranks do."""
    global _running
    running, _running = _running, None
    if running is None:
        return
    atexit.unregister(shutdown)
    running.engine.shut_down()
    if running.group is not None and distributed.is_initialized():
        distributed.destroy_process_group(None if running.owns_default else running.group)


def is_initialized() -> bool:
    """Return whether ``init`` was called."""
    return _running is not None


def rank() -> int:
    """Return the number of this process among all."""
    return _where().rank


def size() -> int:
    """Return the number of processes."""
    return _where().size


def local_rank() -> int:
    """Return the number of this process among those of its host."""
    return _where().local_rank


def local_size() -> int:
    """Return the number of processes on this host."""
    return _where().local_size


def cross_rank() -> int:
    """Return the number of this host among those that have a process of this local rank."""
    return _where().cross_rank


def cross_size() -> int:
    """Return the number of hosts that have a process of this local rank."""
    return _where().cross_size


def is_homogeneous() -> bool:
    """Return whether all hosts have as many processes; the shim assumes what this host sees."""
    return size() == local_size() * cross_size()


def current() -> engine.Engine:
    """Return the engine.

    Raises:
        ValueError: ``init`` was not called.
    """
    return _known().engine


def whole(process_set: object) -> None:
    """Refuse any process set but the one of all ranks."""
    if process_set is not global_process_set:
        raise ValueError("process sets need real Horovod; quintile's shim has one of all ranks")


def check_operation(op: int) -> None:
    """Refuse operations that the shim does not have."""
    if op not in requests.OPERATIONS:
        names = ", ".join(requests.OPERATIONS.values())
        raise ValueError(f"op is {op}; quintile's Horovod shim has {names}, not Adasum")


def _where() -> Place:
    return _known().place


def _known() -> _Running:
    if _running is None:
        raise ValueError("Horovod has not been initialized; use hvd.init().")
    return _running


def _meet(seat: Seat) -> None:
    """Make torch's default group; its store listens on loopback only where that is enough."""
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not host or not port:
        raise ValueError(
            f"rank {seat.rank} of {seat.size} does not know where to meet: set MASTER_ADDR and "
            "MASTER_PORT, or start the script with quintile run or torchrun"
        )
    listening = None
    if seat.rank == 0 and host in ("127.0.0.1", "::1", "localhost"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, int(port)), family=family, backlog=seat.size)
        listening = server.detach()
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        host,
        int(port),
        seat.size,
        is_master=seat.rank == 0,
        timeout=datetime.timedelta(seconds=_MEETING_S),
        wait_for_workers=False,
        master_listen_fd=listening,
    )
    distributed.init_process_group(
        _backend(),
        store=distributed.PrefixStore("hvd", store),  # type: ignore[attr-defined]
        rank=seat.rank,
        world_size=seat.size,
        timeout=datetime.timedelta(seconds=_STEP_S),
    )


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _host() -> str:
    boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
    return f"{platform.node()} {boot}"
