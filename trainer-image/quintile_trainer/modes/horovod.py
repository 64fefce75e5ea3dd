"""Modes ``horovod`` and ``mpi`` for our own loop: gradients are averaged with ``horovod.torch``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from quintile_trainer import failures, hvd, joining, worker_env
from quintile_trainer.modes import averaging, ddp, interface

Result = TypeVar("Result")


class Horovod:
    """One rank of several.

    Args:
        engine: The module ``horovod.torch``.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.rank = int(engine.rank())
        self.world_size = int(engine.size())
        self._averaging: averaging.Averaging | None = None
        self._names: dict[int, str] = {}

    def prepare(self, model: nn.Module) -> None:
        """Take over the weights of rank 0 and watch the model's gradients."""
        self._send_all("weights", [*model.parameters()])
        self.align(model)
        self._averaging = averaging.Averaging(model, self._begin)

    def sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the last backward of a step sums over the ranks."""
        if not last or self._averaging is None:
            return contextlib.nullcontext()
        return self._averaging.exchange()

    def align(self, model: nn.Module) -> None:
        """Take over the running statistics of rank 0."""
        self._send_all("buffers", [*model.buffers()])

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        return self._reduced(values, self._engine.Sum, name="total")

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the maximum over the ranks."""
        return self._reduced(values, self._engine.Max, name="highest")

    def close(self) -> None:
        """Wait for every rank, then leave."""
        _checked(self._engine.barrier)
        _checked(self._engine.shutdown)

    def _begin(self, values: torch.Tensor) -> _Sum:
        # Buckets live on: one name for each lets Horovod remember what it agreed on.
        name = self._names.setdefault(id(values), f"gradients {len(self._names)}")
        engine = self._engine
        handle = _checked(lambda: engine.allreduce_async_(values, name=name, op=engine.Sum))
        return _Sum(engine, handle)

    def _reduced(self, values: torch.Tensor, operation: Any, *, name: str) -> torch.Tensor:
        name = f"{name} {values.dtype} {tuple(values.shape)}"
        found: torch.Tensor = _checked(
            lambda: self._engine.allreduce(values, name=name, op=operation)
        )
        return found

    def _send_all(self, kind: str, tensors: list[torch.Tensor]) -> None:
        """Give every rank the values of rank 0; all are under way at once."""
        alive = [tensor for tensor in tensors if tensor.numel()]
        sent = [tensor.detach().contiguous().reshape(-1) for tensor in alive]
        begin, end = self._engine.broadcast_async_, self._engine.synchronize
        handles = [
            _checked(functools.partial(begin, values, 0, name=f"{kind} {number}"))
            for number, values in enumerate(sent)
        ]
        for handle in handles:
            _checked(functools.partial(end, handle))
        with torch.no_grad():
            for tensor, values in zip(alive, sent, strict=True):
                tensor.copy_(values.view(tensor.shape))


class _Sum:
    """A sum over the ranks that has begun."""

    def __init__(self, engine: Any, handle: Any) -> None:
        self._engine = engine
        self._handle = handle

    def wait(self) -> None:
        _checked(lambda: self._engine.synchronize(self._handle))


def meet(env: worker_env.WorkerEnv) -> interface.Mode:
    """Join the ranks of this generation; without Horovod, by torch.distributed.

    Raises:
        PeerLost: The ranks did not meet.
        BadInput: Mode mpi without Horovod.
        Broken: Horovod counts other ranks than the plan.
    """
    if joining.prepare(env) is hvd.Choice.SHIM:
        return _without(env)
    engine = importlib.import_module("horovod.torch")
    _checked(engine.init)
    mode = Horovod(engine)
    if (mode.rank, mode.world_size) != (env.rank, env.world_size):
        raise failures.Broken(
            f"Horovod says rank {mode.rank} of {mode.world_size}; "
            f"the plan says {env.rank} of {env.world_size}"
        )
    return mode


def _without(env: worker_env.WorkerEnv) -> interface.Mode:
    if env.mode == "mpi":
        raise failures.BadInput(
            "mode mpi trains built-in models and functions through Horovod, which is not installed "
            "here; run `make horovod`, use an image that has it, or use mode ddp"
        )
    sys.stderr.write("[quintile] real Horovod is not installed; torch.distributed is used\n")
    return ddp.meet(env)


def _checked(call: Callable[[], Result]) -> Result:
    """Return what a collective returns; its failure means that a peer left."""
    try:
        return call()
    except RuntimeError as error:
        raise failures.PeerLost(f"a collective failed: {failures.first_line(error)}") from error
