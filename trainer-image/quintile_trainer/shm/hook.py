"""The communication hook that lets ``DistributedDataParallel`` average through shared memory.

A bucket of gradients is only put into the shared memory when it is ready; sums are done meanwhile
where the other ranks are as far. The ranks wait for each other once a step, after the last bucket.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import parallel

from quintile_trainer.shm import group as group_module
from quintile_trainer.shm.sums import Operation


class Bucket(Protocol):
    """What we use of ``torch.distributed.GradBucket``."""

    def buffer(self) -> torch.Tensor:
        """Return the gradients, flat."""
        ...

    def is_last(self) -> bool:
        """Return whether the step has no further bucket."""
        ...


class Averaging:
    """The state of the hook: the group, and the buckets of the running step."""

    def __init__(self, group: group_module.Group) -> None:
        self._group = group
        self._open: list[tuple[torch.futures.Future[torch.Tensor], torch.Tensor]] = []

    def average(self, bucket: Bucket) -> torch.futures.Future[torch.Tensor]:
        """Begin the average of one bucket; complete the step with the last one. DDP calls this.

        Raises:
            LateRank: Another rank left or did not come in time.
            Mismatch: The models of the ranks differ.
        """
        gradients = bucket.buffer()
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        self._open.append((future, gradients))
        self._group.submit(gradients, Operation.MEAN)
        if bucket.is_last():
            self._group.finish()
            done, self._open = self._open, []
            for waiting, result in done:
                waiting.set_result(result)
        return future


def register(model: parallel.DistributedDataParallel, group: group_module.Group) -> None:
    """Let a model's gradients go through a group. Before its first backward pass."""
    # DDP compares a hook's annotations with types of its own; a lambda has none.
    model.register_comm_hook(Averaging(group), lambda state, bucket: state.average(bucket))
