"""``horovod.torch.elastic``: state that ranks commit, restore and share.

The platform restarts all ranks in place when one is lost or their number changes, so a script never
sees hosts come and go: ``run`` goes on from the newest commit (see ``commits``), and a lost peer
ends the rank.
"""

from __future__ import annotations

import abc
import copy
import math
import random
from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch.utils import data

from quintile_trainer import commits
from quintile_trainer.hvd import objects, reducing, requests, world

__all__ = ["ElasticSampler", "ObjectState", "State", "TorchState", "run", "run_fn"]


class State(abc.ABC):
    """What must be equal on all ranks; subclasses say what that is.

    Args:
        bcast_object: Returns an object of rank 0 on all ranks.
        get_rank: Returns the rank of this process.
    """

    def __init__(self, bcast_object: Callable[..., Any], get_rank: Callable[[], int]) -> None:
        self._bcast_object = bcast_object
        self._rank = get_rank
        self._reset_callbacks: list[Callable[[], object]] = []

    def register_reset_callbacks(self, callbacks: list[Callable[[], object]]) -> None:
        """Call these when the run goes on from a commit, maybe on another number of ranks."""
        self._reset_callbacks.extend(callbacks)

    def on_reset(self) -> None:
        """Call the registered callbacks."""
        self.reset()
        for callback in self._reset_callbacks:
            callback()

    def commit(self) -> None:
        """Remember the state as it is now."""
        self.save()
        self.check_host_updates()

    def check_host_updates(self) -> None:  # noqa: B027 - a hook
        """Leave when the run wants it; here it never does, ``commits`` knows in a rank."""

    @abc.abstractmethod
    def save(self) -> None:
        """Remember the state."""

    @abc.abstractmethod
    def restore(self) -> None:
        """Go back to what was remembered."""

    @abc.abstractmethod
    def sync(self) -> None:
        """Take over the state of rank 0."""

    def reset(self) -> None:  # noqa: B027 - a hook
        """Prepare for another number of ranks."""


class ObjectState(State):
    """Plain values, as attributes."""

    def __init__(
        self, bcast_object: Callable[..., Any], get_rank: Callable[[], int], **kwargs: Any
    ) -> None:
        super().__init__(bcast_object, get_rank)
        for name, value in kwargs.items():
            setattr(self, name, value)
        self._saved_state: dict[str, Any] = dict(kwargs)
        self.save()

    def save(self) -> None:
        """Remember the values."""
        self._saved_state = {name: copy.deepcopy(getattr(self, name)) for name in self._saved_state}

    def restore(self) -> None:
        """Go back to the remembered values."""
        for name, value in copy.deepcopy(self._saved_state).items():
            setattr(self, name, value)

    def sync(self) -> None:
        """Take over the values of rank 0."""
        if self._saved_state:
            values = {name: getattr(self, name) for name in self._saved_state}
            for name, value in self._bcast_object(values).items():
                setattr(self, name, value)
        self.save()


class TorchState(ObjectState):
    """Models, optimizers and samplers with their states, and plain values."""

    def __init__(
        self,
        model: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        given = {**kwargs, "model": model, "optimizer": optimizer}
        self._handlers: dict[str, Any] = {
            name: {} for name, value in given.items() if _is_stateful(value)
        }
        for name in self._handlers:
            setattr(self, name, given.pop(name))
        super().__init__(objects.broadcast_object, world.rank, **given)

    def save(self) -> None:
        """Remember all states and values."""
        for name in self._handlers:
            self._handlers[name] = copy.deepcopy(getattr(self, name).state_dict())
        super().save()

    def restore(self) -> None:
        """Go back to what was remembered."""
        for name, saved in self._handlers.items():
            getattr(self, name).load_state_dict(copy.deepcopy(saved))
        super().restore()

    def sync(self) -> None:
        """Take over all of rank 0."""
        for name in self._handlers:
            value = getattr(self, name)
            if isinstance(value, torch.nn.Module):
                objects.broadcast_parameters(value.state_dict(), 0)
            elif isinstance(value, torch.optim.Optimizer):
                objects.broadcast_optimizer_state(value, 0)
            else:
                state = objects.broadcast_object(value.state_dict(), 0, f"elastic.{name}")
                value.load_state_dict(state)
        super().sync()

    def reset(self) -> None:
        """Share what is left of the samples between the ranks there are now."""
        for name in self._handlers:
            value = getattr(self, name)
            if isinstance(value, ElasticSampler):
                value.reset()


class ElasticSampler(data.Sampler[int]):
    """Shares the samples of an epoch between the ranks, without those already recorded."""

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int = 0) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.processed_num = 0
        self.reset()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; call it at the end of the one before."""
        self.epoch = epoch
        self.processed_num = 0
        self.reset()

    def record_batch(self, batch_idx: int, batch_size: int) -> None:
        """Count a batch that all ranks have processed."""
        del batch_idx
        self.processed_num += batch_size * self.num_replicas

    def state_dict(self) -> dict[str, int]:
        """Return where the epoch stands."""
        return {"epoch": self.epoch, "processed_num": self.processed_num}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue from a state."""
        self.epoch = state_dict["epoch"]
        self.processed_num = state_dict["processed_num"]
        self.reset()

    def reset(self) -> None:
        """Share what is left between the ranks there are now."""
        self.num_replicas, self.rank = world.size(), world.rank()
        indices = list(range(len(self.dataset)))
        if self.shuffle:
            random.Random(self.seed + self.epoch).shuffle(indices)
        self.remaining_indices = indices[self.processed_num :]
        self.num_samples = math.ceil(len(self.remaining_indices) / self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        indices = (
            self.remaining_indices
            + self.remaining_indices[: self.total_size - len(self.remaining_indices)]
        )
        return iter(indices[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples


def run(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of a state: it runs once the state is that of rank 0 everywhere."""
    return commits.run(func, _any)


def run_fn(func: Callable[..., Any], reset: Callable[[], object] | None) -> Callable[..., Any]:
    """Return what ``run`` does; ``reset`` is never needed."""
    del reset
    return run(func)


def _any(wish: bool) -> bool:
    value = torch.tensor([float(wish)])
    return bool(reducing.allreduce(value, name=commits.AGREEMENT, op=requests.MAXIMUM) > 0)


def _is_stateful(value: object) -> bool:
    return isinstance(value, torch.nn.Module | torch.optim.Optimizer | ElasticSampler)
