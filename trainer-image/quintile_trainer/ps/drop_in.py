"""Parameter servers for scripts: in the place of a torch optimizer.

::

    from quintile_trainer import context

    run = context.current()
    optimizer = run.parameter_servers(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for inputs, targets in my_share(run.rank, run.world_size):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()

All workers begin with rank 0's parameters, and with the optimizer's state there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quintile_trainer import failures, worker_env
from quintile_trainer.ps import program


class ServerOptimizer:
    """Pushes the gradients of a model and pulls what became of its parameters.

    In sync, a step is one update by the mean of the gradients of all workers, which all make as
    many steps. In ssp and async, every worker's step is an update of its own, by its share of the
    learning rate; workers may make as many steps as each likes.

    Args:
        env: Who the rank is.
        model: Its parameters that the optimizer has become views of flat memory.
        optimizer: SGD, Adam or AdamW of torch; schedulers may go on changing its learning rate.
        step: Steps that were done before, where a checkpoint is gone on from.

    Raises:
        BadInput: The run has no parameter servers, or they have no such optimizer.
        PeerLost: Somebody did not come.
    """

    def __init__(
        self,
        env: worker_env.WorkerEnv,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        step: int = 0,
    ) -> None:
        if not env.servers:
            raise failures.BadInput(
                f"this run is of mode {env.mode} and has no parameter servers; start it with "
                "--ps 1 or more"
            )
        self._optimizer = optimizer
        self._ranks = program.join(env)
        consistency = program.consistency(env)
        self._free = consistency.ordering != "sync"
        self._share = 1 / env.world_size if self._free else 1.0
        self._ranks.begin(model, optimizer, consistency=consistency, step=step)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the groups of the torch optimizer."""
        return self._optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Make the gradients zero, where they are sent from."""
        del set_to_none
        self._ranks.zero_gradients()

    def step(self) -> None:
        """Push the gradients, and fill the model with what comes back.

        Raises:
            BadInput: Groups have different learning rates.
            PeerLost: A server or another worker is gone.
        """
        rates = {float(group["lr"]) for group in self.param_groups}
        if len(rates) != 1:
            raise failures.BadInput(
                f"the optimizer's groups have the learning rates {sorted(rates)}; parameter "
                "servers have one for all groups"
            )
        self._ranks.step(rates.pop() * self._share)

    def barrier(self) -> None:
        """Wait until all workers are here, and see what all of them pushed."""
        self._ranks.servers.barrier()
        self._ranks.servers.pull()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers."""
        return self._ranks.total(values)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's state of a consistent cut, keyed ``<parameter>/<entry>``.

        One rank at a time may ask, between two steps.
        """
        return self._ranks.checkpoint().contents().optimizer

    def summary(self) -> dict[str, Any]:
        """Return counters, byte imbalance and staleness as JSON."""
        return self._ranks.summary()

    def close(self) -> None:
        """Push no more, wait for the other workers, and leave; done at the end of a script."""
        if self._free:
            self._ranks.servers.retire()
        self._ranks.close()
