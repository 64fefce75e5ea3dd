"""Mode ``ddp``: gradients are averaged with torch.distributed over gloo.

The rendezvous store lives in rank 0 of this generation, and its keys begin with the generation's
number: a rank that is late from an earlier one can never meet this one.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn import parallel

from quintile_trainer import failures, worker_env

MEETING_TIMEOUT_S = 120
STEP_TIMEOUT_S = 1800
Result = TypeVar("Result")


class Ddp:
    """One rank of several."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model wrapped for all-reduce."""
        # The gradient of a 1x1 convolution comes with other strides of the same meaning.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return _checked(
            lambda: parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        )

    def sync(self, wrapped: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Return a context in which only the last backward of a step communicates."""
        if last or not isinstance(wrapped, parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return wrapped.no_sync()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        return self._reduce(values, distributed.ReduceOp.SUM)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the maximum over the ranks."""
        return self._reduce(values, distributed.ReduceOp.MAX)

    def close(self) -> None:
        """Wait for every rank, then leave the group."""
        _checked(distributed.barrier)
        distributed.destroy_process_group()

    def _reduce(
        self, values: torch.Tensor, operation: distributed.ReduceOp.RedOpType
    ) -> torch.Tensor:
        result = values.clone()
        _checked(lambda: distributed.all_reduce(result, op=operation))
        return result


def meet(env: worker_env.WorkerEnv) -> Ddp:
    """Join the process group of this generation.

    Raises:
        PeerLost: The ranks did not meet, or the port is taken; the next generation tries again.
    """
    meeting = datetime.timedelta(seconds=MEETING_TIMEOUT_S)

    def join() -> None:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            env.master_host,
            env.master_port,
            env.world_size,
            is_master=env.rank == 0,
            timeout=meeting,
            wait_for_workers=False,
            master_listen_fd=_listen(env),
        )
        distributed.init_process_group(
            "gloo",
            store=distributed.PrefixStore(  # type: ignore[attr-defined]
                f"g{env.attempt}-{env.generation}", store
            ),
            rank=env.rank,
            world_size=env.world_size,
            timeout=datetime.timedelta(seconds=STEP_TIMEOUT_S),
        )

    try:
        join()
    except (RuntimeError, OSError) as error:
        where = f"{env.master_host}:{env.master_port}"
        line = failures.first_line(error)
        raise failures.PeerLost(f"the ranks did not meet at {where}: {line}") from error
    return Ddp(env.rank, env.world_size)


def _listen(env: worker_env.WorkerEnv) -> int | None:
    """Return a listening socket when all ranks are on this machine: no other may reach the store.

    Left to itself the store listens on every address.
    """
    if env.rank != 0 or not ipaddress.ip_address(_literal(env.master_host)).is_loopback:
        return None
    listening = socket.create_server((env.master_host, env.master_port), backlog=env.world_size)
    return listening.detach()


def _literal(host: str) -> str:
    """Return an address as digits; names that mean more than one machine become 0.0.0.0."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "0.0.0.0"


def _checked(call: Callable[[], Result]) -> Result:
    """Return what a collective returns; its failure means that a peer left."""
    try:
        return call()
    except RuntimeError as error:
        raise failures.PeerLost(f"a collective failed: {failures.first_line(error)}") from error
