"""Mode ``ps`` as the training loop sees a mode: the ranks are workers, a step is an exchange.

``begin`` hands a torch optimizer to the servers: it describes the optimizer (kind, groups, decay)
and is the place where restored state waits. ``begin_with`` takes the same in plain words. From then
on ``step`` takes the place of the optimizer's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from quintile_trainer import failures
from quintile_trainer.ps import client, cut, job, ledger, optimizers, settings, staleness


@dataclass(frozen=True)
class Start:
    """Where training begins, and how pushes are ordered.

    Attributes:
        consistency: The ordering.
        step: Completed steps; in sync the servers' clocks begin there.
        positions: What is leased in ssp and async.
        state: Of the optimizer, keyed as in checkpoints.
    """

    consistency: settings.Consistency = settings.Consistency()
    step: int = 0
    positions: job.Positions | None = None
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)


class ParameterServers:
    """One worker rank among parameter servers. ``begin`` comes before everything else."""

    def __init__(self, team: settings.Team, secret: bytes, *, rank: int) -> None:
        self.rank = rank
        self.world_size = team.workers
        self._team = team
        self._secret = secret
        self._client: client.Client | None = None

    def begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        consistency: settings.Consistency,
        step: int = 0,
        positions: job.Positions | None = None,
    ) -> None:
        """Meet the servers; all ranks then hold rank 0's weights.

        Args:
            model: Its trained parameters become views of flat memory.
            optimizer: SGD, Adam or AdamW, with the state that a checkpoint gave it.
            consistency: The ordering.
            step: Completed steps; in sync the servers' clocks begin there.
            positions: What is leased in ssp and async.

        Raises:
            BadInput: The servers do not have such an optimizer or dtype.
            PeerLost: Somebody did not come.
        """
        names = {id(value): name for name, value in model.named_parameters()}
        groups = {
            names[id(value)]: number
            for number, group in enumerate(optimizer.param_groups)
            for value in group["params"]
        }
        state = {
            f"{names[id(value)]}/{entry}": tensor
            for value, entries in optimizer.state.items()
            for entry, tensor in entries.items()
            if isinstance(tensor, torch.Tensor)
        }
        start = Start(consistency, step, positions, state)
        self.begin_with(model, optimizers.rule_of(optimizer), groups, start)

    def begin_with(
        self,
        model: nn.Module,
        rule: optimizers.Rule,
        groups: Mapping[str, int],
        start: Start,
    ) -> None:
        """Meet the servers as ``begin`` does; ``groups`` names what is trained, and its decay."""
        clock = start.step if start.consistency.ordering == "sync" else 0
        self._client = client.join(
            self._team,
            self._secret,
            worker=self.rank,
            parameters={n: p for n, p in model.named_parameters() if n in groups},
            work=client.Work(rule, groups, start.consistency),
            beginning=client.Beginning(clock, start.state, start.positions),
        )

    @property
    def servers(self) -> client.Client:
        """Return the client.

        Raises:
            Broken: ``begin`` was not called.
        """
        if self._client is None:
            raise failures.Broken("mode ps was used before it began")
        return self._client

    def prepare(self, model: nn.Module) -> None:
        """Let all ranks have the running statistics of rank 0; its weights they have already."""
        self.align(model)

    def sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing: gradients travel in ``step``."""
        del last
        return contextlib.nullcontext()

    def align(self, model: nn.Module) -> None:
        """Let all ranks have the running statistics of rank 0."""
        buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        if not buffers or self.world_size == 1:
            return
        # The others add nothing, so that the sum is what rank 0 has; float64 holds it exactly.
        mine = [buffer.detach().reshape(-1).to("cpu", torch.float64) for buffer in buffers]
        flat = torch.cat(mine)
        if self.rank != 0:
            flat = torch.zeros_like(flat)
        parts = torch.split(self.total(flat), [buffer.numel() for buffer in buffers])
        with torch.no_grad():
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part.view(buffer.shape))

    def zero_gradients(self) -> None:
        """Make gradients zero, where they are sent from; in place of the optimizer's."""
        self.servers.bind_gradients()

    def step(self, rate: float) -> None:
        """Push the gradients, and fill the model with what comes back."""
        self.servers.exchange(self.servers.clock, rate=rate)

    def lease(self, size: int) -> ledger.Lease | None:
        """Return positions for the next step (ssp, async); None at the end."""
        return self.servers.lease(size)

    def end_leases(self) -> None:
        """Let no rank get positions any more (ssp, async)."""
        self.servers.end_leases()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        return self.servers.total(values)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the maximum over the ranks."""
        return self.servers.highest(values)

    def checkpoint(self) -> cut.Cut:
        """Begin a consistent cut; its contents are keyed as every checkpoint is. On one rank."""
        return self.servers.checkpoint_cut()

    def summary(self) -> dict[str, Any]:
        """Return what happened so far, as JSON for the report of a run."""
        counters, plan = self.servers.statistics(), self.servers.plan
        consistency = self.servers.about.consistency
        return {
            "servers": self._team.servers,
            "consistency": consistency.ordering,
            "bound": consistency.bound if consistency.ordering == "ssp" else None,
            "server_bytes": list(plan.server_bytes),
            "imbalance": plan.imbalance,
            "updates": counters.updates,
            "duplicates": counters.duplicates,
            "pushes": list(counters.clocks),
            "staleness": {str(value): count for value, count in counters.staleness.items()},
            "staleness_mean": staleness.mean(counters.staleness),
        }

    def close(self) -> None:
        """Wait for every rank, then leave; the servers end."""
        self.servers.barrier()
        self.servers.close()
