"""Mode ``ddp``: gradients are summed through shared memory on one host, else over gloo.

The rendezvous store lives in rank 0 of this generation, and its keys begin with the generation's
number: a rank that is late from an earlier one can never meet this one, nor share its memory.
Everything but gradients goes over torch.distributed in any case.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from quintile_trainer import failures, shm, worker_env
from quintile_trainer.modes import averaging

MEETING_TIMEOUT_S = 120
STEP_TIMEOUT_S = 1800
Result = TypeVar("Result")


class Ddp:
    """One rank of several.

    Args:
        rank: Its number.
        world_size: How many there are.
        group: The memory that all ranks share; None: gradients go over gloo.
    """

    def __init__(self, rank: int, world_size: int, group: shm.Group | None = None) -> None:
        self.rank = rank
        self.world_size = world_size
        self._group = group
        self._averaging: averaging.Averaging | None = None

    def prepare(self, model: nn.Module) -> None:
        """Take over the weights of rank 0 and watch the model's gradients."""
        _send_all(model.parameters())
        self.align(model)
        self._averaging = averaging.Averaging(model, self._way(model))

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
        if self._group is not None:
            self._group.close()
        distributed.destroy_process_group()

    def _way(self, model: nn.Module) -> averaging.Summing:
        """Return how to sum the gradients of a model; the same in all ranks."""
        group = self._group
        if group is None:
            return _begin
        odd = [value for value in model.parameters() if not shm.takes(value)]
        if odd:
            what = f"parameters of {odd[0].dtype} on {odd[0].device}"
            _tell(self.rank, f"{what} cannot go through shared memory")
            return _begin

        def begin(values: torch.Tensor) -> _Shared:
            group.submit(values)
            return _Shared(group)

        return begin


class _Shared:
    """A sum through shared memory; all that have begun end together."""

    def __init__(self, group: shm.Group) -> None:
        self._group = group

    def wait(self) -> None:
        self._group.finish()


class _Sum:
    """A sum over gloo that has begun."""

    def __init__(self, work: distributed.Work) -> None:
        self._work = work

    def wait(self) -> None:
        _checked(self._work.wait)


def meet(env: worker_env.WorkerEnv) -> Ddp:
    """Join the process group of this generation, and its shared memory where there can be one.

    Raises:
        PeerLost: The ranks did not meet, or the port is taken; the next generation tries again.
        NotOneHost: ``run.comm`` is shm and the ranks do not run on one host.
        NoMemory: ``run.comm`` is shm and the memory does not fit.
    """
    try:
        return Ddp(env.rank, env.world_size, _share(env, _join(env)))
    except (RuntimeError, OSError) as error:
        where = f"{env.master_host}:{env.master_port}"
        line = failures.first_line(error)
        raise failures.PeerLost(f"the ranks did not meet at {where}: {line}") from error


def _join(env: worker_env.WorkerEnv) -> Any:
    """Join the process group; return the store."""
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        env.master_host,
        env.master_port,
        env.world_size,
        is_master=env.rank == 0,
        timeout=datetime.timedelta(seconds=MEETING_TIMEOUT_S),
        wait_for_workers=False,
        master_listen_fd=_listen(env),
    )
    distributed.init_process_group(
        "gloo",
        store=_part(env, store, "g"),
        rank=env.rank,
        world_size=env.world_size,
        timeout=datetime.timedelta(seconds=STEP_TIMEOUT_S),
    )
    return store


def _share(env: worker_env.WorkerEnv, store: Any) -> shm.Group | None:
    """Return the group of the ranks that share memory; None: gradients go over gloo."""
    wanted = env.run_spec.get("comm", "auto")
    if wanted == "gloo" or env.world_size == 1:
        return None
    given = shm.Settings(deadline_s=STEP_TIMEOUT_S, meeting_s=MEETING_TIMEOUT_S)
    try:
        return shm.join(_part(env, store, "shm"), env.rank, env.world_size, given)
    except (shm.NotOneHost, shm.NoMemory) as error:
        if wanted == "shm":
            raise
        _tell(env.rank, failures.first_line(error))
        return None


def _part(env: worker_env.WorkerEnv, store: Any, name: str) -> Any:
    """Return the part of a store that only this generation reads."""
    prefix = f"{name}{env.attempt}-{env.generation}"
    return distributed.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def _tell(rank: int, why: str) -> None:
    if rank == 0:
        sys.stderr.write(f"[quintile] gradients go over gloo: {why}\n")


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
