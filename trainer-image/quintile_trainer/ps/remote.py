"""The loop's optimizer in mode ``ps``: the servers do its work."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quintile_trainer import failures, hyper, optimizing
from quintile_trainer.ps import job, mode, optimizers, settings

DECAYED, BARE = 0, 1


class RemoteOptimizer:
    """Hands the optimizer to the servers; the gradients follow step by step.

    A parameter that a step does not use counts as one whose gradient is zero: servers change all
    parameters in every step.

    Args:
        model: Whose parameters are trained.
        given: Which optimizer.
        ranks: The mode, which begins with the optimizer.
        consistency: The ordering.

    Raises:
        BadInput: The servers cannot do what is asked for.
    """

    is_remote = True

    def __init__(
        self,
        model: nn.Module,
        given: hyper.HyperParameters,
        ranks: mode.ParameterServers,
        consistency: settings.Consistency,
    ) -> None:
        if given.clip_norm > 0:
            raise failures.BadInput(
                f"hparam clip_norm is {given.clip_norm:g}, but in mode ps no process sees the "
                "whole gradient; leave it out, lower learning_rate, or use mode ddp"
            )
        # It checks the model, and keeps restored state until the servers get it.
        self._local = optimizing.Optimizer(model, given)
        self._model = model
        self.ranks = ranks
        self._consistency = consistency
        self._rule = rule_of(given)
        self.positions: job.Positions | None = None
        # In sync the servers average the gradients of the ranks; the loop wants their sum.
        self.weight = float(ranks.world_size) if consistency.ordering == "sync" else 1.0

    def begin(self, step: int, /) -> None:
        """Meet the servers; all ranks then hold rank 0's weights.

        Raises:
            PeerLost: Somebody did not come.
        """
        groups = {
            name: DECAYED if value.ndim > 1 else BARE
            for name, value in self._model.named_parameters()
            if value.requires_grad
        }
        start = mode.Start(self._consistency, step, self.positions, self._local.state())
        self.ranks.begin_with(self._model, self._rule, groups, start)

    def zero(self) -> None:
        """Make the gradients zero, where they are sent from."""
        self.ranks.zero_gradients()

    def step(self, rate: float) -> None:
        """Push the gradients, and fill the model with what comes back."""
        self.ranks.step(rate)

    def remember(self) -> Callable[[], optimizing.Tensors]:
        """Cut through the servers now; return how to read the state of the optimizer there."""
        cut = self.ranks.checkpoint()
        return lambda: cut.contents().optimizer

    def restore(self, tensors: optimizing.Tensors) -> None:
        """Keep what a checkpoint holds for the servers."""
        self._local.restore(tensors)


def rule_of(given: hyper.HyperParameters) -> optimizers.Rule:
    """Return what the servers do for these hyperparameters; as ``optimizing`` does it."""
    decays = (given.weight_decay, 0.0)
    if given.optimizer == "adamw":
        return optimizers.Rule("adamw", decays, betas=optimizing.BETAS, eps=optimizing.EPSILON)
    return optimizers.Rule("sgd", decays, momentum=given.momentum, nesterov=given.momentum > 0)
