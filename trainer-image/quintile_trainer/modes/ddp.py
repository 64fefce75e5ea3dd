"""Mode ``ddp``: gradients are averaged with torch.distributed over gloo.

The rendezvous store lives in rank 0 of this generation, and its keys begin with the generation's
number: a rank that is late from an earlier one can never meet this one.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import distributed, nn

from quintile_trainer import failures, worker_env
from quintile_trainer.modes import averaging

MEETING_TIMEOUT_S = 120
STEP_TIMEOUT_S = 1800
Result = TypeVar("Result")


class Ddp:
    """One rank of several."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self._averaging: averaging.Averaging | None = None

    def prepare(self, model: nn.Module) -> None:
        """Take over the weights of rank 0 and watch the model's gradients."""
        _send_all(model.parameters())
        self.align(model)
        self._averaging = averaging.Averaging(model, _begin)

    def sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the last backward of a step sums over the ranks."""
        if not last or self._averaging is None:
            return contextlib.nullcontext()
        return self._averaging.exchange()

    def align(self, model: nn.Module) -> None:
        """Take over the running statistics of rank 0."""
        _send_all(model.buffers())

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        return _reduced(values, distributed.ReduceOp.SUM)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the maximum over the ranks."""
        return _reduced(values, distributed.ReduceOp.MAX)

    def close(self) -> None:
        """Wait for every rank, then leave the group."""
        _checked(distributed.barrier)
        distributed.destroy_process_group()


class _Sum:
    """A sum over the ranks that has begun."""

    def __init__(self, work: distributed.Work) -> None:
        self._work = work

    def wait(self) -> None:
        _checked(self._work.wait)


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
    host = env.master_host
    if env.rank != 0 or not (host == "localhost" or host.startswith("127.")):
        return None
    return socket.create_server((host, env.master_port), backlog=env.world_size).detach()


def _begin(values: torch.Tensor) -> _Sum:
    work = _checked(lambda: distributed.all_reduce(values, async_op=True))
    assert work is not None
    return _Sum(work)


def _reduced(values: torch.Tensor, operation: distributed.ReduceOp.RedOpType) -> torch.Tensor:
    result = values.clone()
    _checked(lambda: distributed.all_reduce(result, op=operation))
    return result


def _send_all(tensors: Iterable[torch.Tensor]) -> None:
    """Give every rank the values of rank 0."""
    for tensor in tensors:
        values = tensor.detach().contiguous()
        _broadcast(values)
        tensor.detach().copy_(values)


def _broadcast(values: torch.Tensor) -> None:
    _checked(lambda: distributed.broadcast(values, src=0))


def _checked(call: Callable[[], Result]) -> Result:
    """Return what a collective returns; its failure means that a peer left."""
    try:
        return call()
    except RuntimeError as error:
        raise failures.PeerLost(f"a collective failed: {failures.first_line(error)}") from error
