"""Mode ``ps`` as the training loop sees a mode: the ranks are workers, a step is an exchange.

The loop's torch optimizer stays the description of the optimizer (kind, groups, decay) and the
place where restored state waits; ``begin`` hands both to the servers, and from then on ``step``
takes the place of the optimizer's.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from quintile_trainer import failures
from quintile_trainer.ps import client, cut, job, ledger, optimizers, settings


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
        trained = {n: p for n, p in model.named_parameters() if n in groups}
        state = {
            f"{names[id(value)]}/{entry}": tensor
            for value, entries in optimizer.state.items()
            for entry, tensor in entries.items()
            if isinstance(tensor, torch.Tensor)
        }
        clock = step if consistency.ordering == "sync" else 0
        self._client = client.join(
            self._team,
            self._secret,
            worker=self.rank,
            parameters=trained,
            work=client.Work(optimizers.rule_of(optimizer), groups, consistency),
            beginning=client.Beginning(clock, state, positions),
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

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model itself: its parameters are where the servers' answers arrive."""
        return model

    def sync(self, wrapped: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Return a context that does nothing: gradients travel in ``step``."""
        del wrapped, last
        return contextlib.nullcontext()

    def zero_gradients(self) -> None:
        """Make gradients zero, where they are sent from; in place of the optimizer's."""
        self.servers.bind_gradients()

    def step(self, rate: float) -> None:
        """Push the gradients, and fill the model with what comes back."""
        self.servers.exchange(self.servers.clock, rate=rate)

    def lease(self, size: int) -> ledger.Lease | None:
        """Return positions for the next step (ssp, async); None at the end."""
        return self.servers.lease(size)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        return self.servers.total(values)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the maximum over the ranks."""
        return self.servers.highest(values)

    def checkpoint(self) -> cut.Cut:
        """Begin a consistent cut; its contents are keyed as every checkpoint is. On one rank."""
        return self.servers.checkpoint_cut()

    def close(self) -> None:
        """Wait for every rank, then leave; the servers end."""
        self.servers.barrier()
        self.servers.close()
