"""``hvd.DistributedOptimizer``: an optimizer whose step first averages gradients over the ranks.

Horovod sends each gradient as soon as it is known. Here all go at once, in the order of the
parameters, when ``step`` or ``synchronize`` is called: one message for each type of number.
"""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypedDict, Unpack, cast

import torch

from quintile_trainer.hvd import compression as compression_module
from quintile_trainer.hvd import options, reducing, requests, world

_none = compression_module.Compression.none

Named = list[tuple[str, torch.nn.Parameter]]


class Rare(TypedDict, total=False):
    """Arguments of ``DistributedOptimizer`` that few scripts give.

    ``groups`` and ``num_groups`` say what Horovod sends together; here that is everything.
    """

    gradient_predivide_factor: float
    num_groups: int
    groups: int | list[list[torch.Tensor]] | None
    sparse_as_dense: bool
    process_set: object


class Plan:
    """How gradients are averaged, and how far each parameter is."""

    def __init__(
        self,
        named: Named,
        compression: type[compression_module.Compressor],
        passes: int,
        how: options.Reduction,
        sparse_as_dense: bool,
    ) -> None:
        self.named = [(name, value) for name, value in named if value.requires_grad]
        self.compression = compression
        self.passes = passes
        self.how = how
        self.sparse_as_dense = sparse_as_dense
        self.done: dict[torch.nn.Parameter, int] = {}
        for _, value in self.named if world.size() > 1 else ():
            value.register_post_accumulate_grad_hook(self._count)  # type: ignore[no-untyped-call]

    def _count(self, parameter: torch.Tensor) -> None:
        key = cast(torch.nn.Parameter, parameter)
        count = self.done.get(key, 0) + 1
        if count > self.passes:
            raise AssertionError(
                "Gradients were computed more than backward_passes_per_step times before call to "
                "step(). Increase backward_passes_per_step to accumulate gradients locally."
            )
        self.done[key] = count

    def average(self) -> None:
        """Replace all gradients by their averages (or sums) over the ranks."""
        if world.size() == 1:
            return
        dense: Named = []
        sparse: list[tuple[torch.nn.Parameter, Callable[[], torch.Tensor]]] = []
        for name, value in self.named:
            if value.grad is None:
                # Another rank may have computed it.
                value.grad = torch.zeros_like(value)
            if value.grad.is_sparse and not self.sparse_as_dense:
                begun = reducing.sparse_allreduce_async(value.grad, name, self.how["op"])
                sparse.append((value, begun))
            else:
                dense.append((name, value))
        self._average_dense(dense)
        for value, finish in sparse:
            value.grad = finish()
        self.done.clear()

    def _average_dense(self, dense: Named) -> None:
        if not dense:
            return
        gradients = [cast(torch.Tensor, value.grad) for _, value in dense]
        gradients = [one.to_dense() if one.is_sparse else one for one in gradients]
        pairs = [self.compression.compress(one) for one in gradients]
        name = f"gradients.{dense[0][0]}"
        reducing.synchronize(reducing.group([small for small, _ in pairs], name, self.how))
        for (_, value), (small, form) in zip(dense, pairs, strict=True):
            value.grad = self.compression.decompress(small, form)


class Distributed:
    """What a distributed optimizer does differently; mixed into a copy of the user's class."""

    _plan: Plan
    _synchronized = False
    _should_synchronize = True

    @property
    def backward_passes_per_step(self) -> int:
        """Return how many backward passes are added up locally."""
        return self._plan.passes

    def set_backward_passes_per_step(self, passes: int) -> None:
        """Add up so many backward passes locally from now on."""
        self._plan.passes = passes
        self._plan.done.clear()

    def synchronize(self) -> None:
        """Average the gradients now, as before clipping; then step inside skip_synchronize."""
        self._plan.average()
        self._synchronized = True

    @contextlib.contextmanager
    def skip_synchronize(self) -> Iterator[None]:
        """Let ``step`` not average: ``synchronize`` has done it."""
        self._should_synchronize = False
        try:
            yield
        finally:
            self._should_synchronize = True

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Average the gradients, then step as the optimizer does."""
        if self._should_synchronize:
            if self._synchronized:
                warnings.warn(
                    "optimizer.step() called without optimizer.skip_synchronize() context after "
                    "optimizer.synchronize(): gradients are averaged twice",
                    stacklevel=2,
                )
            self.synchronize()
        self._synchronized = False
        return self.step_alone(closure)

    def step_alone(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step as the user's own class does."""
        return super().step(closure)  # type: ignore[misc]

    def zero_grad(self, *given: Any, **named: Any) -> None:
        """Clear the gradients; refused while some wait for ``step``."""
        if self._plan.done:
            raise AssertionError(
                "optimizer.zero_grad() was called after loss.backward() but before "
                "optimizer.step() or optimizer.synchronize(). This is prohibited as it can cause "
                "a race condition."
            )
        super().zero_grad(*given, **named)  # type: ignore[misc]

    def load_state_dict(self, state: Any) -> None:
        """Load a state; gradients that wait are forgotten."""
        self._plan.done.clear()
        self._synchronized = False
        super().load_state_dict(state)  # type: ignore[misc]


def DistributedOptimizer(  # noqa: N802 - Horovod's name
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]] | None = None,
    compression: type[compression_module.Compressor] = _none,
    backward_passes_per_step: int = 1,
    op: int = requests.AVERAGE,
    **rare: Unpack[Rare],
) -> torch.optim.Optimizer:
    """Return the optimizer as one that averages gradients; it keeps its class and groups.

    As with Horovod its state begins empty: load a checkpoint after this, not before.

    Raises:
        ValueError: Names are missing or doubled, or an argument does not fit.
    """
    unknown = set(rare) - set(Rare.__annotations__)
    if unknown:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    world.whole(rare.get("process_set", world.global_process_set))
    world.check_operation(op)
    factor = float(rare.get("gradient_predivide_factor", 1.0))
    if factor != 1.0 and op != requests.AVERAGE:
        raise ValueError("gradient_predivide_factor not supported with op != Average")
    if backward_passes_per_step <= 0:
        raise ValueError("backward_passes_per_step must be > 0")
    named = _named(optimizer, named_parameters)
    how: options.Reduction = {"op": op, "prescale": 1.0 / factor, "postscale": factor}
    kind = type(type(optimizer).__name__, (Distributed, type(optimizer)), {})
    made = cast(Any, object.__new__(kind))
    vars(made).update(vars(optimizer))
    made.state = collections.defaultdict(dict)
    dense = rare.get("sparse_as_dense", False)
    made._plan = Plan(named, compression, backward_passes_per_step, how, dense)
    return cast(torch.optim.Optimizer, made)


def _named(
    optimizer: torch.optim.Optimizer,
    given: Iterable[tuple[str, torch.nn.Parameter]] | None,
) -> Named:
    """Return the optimizer's parameters in its order, with their names."""
    ordered = [
        (f"allreduce.noname.{place}.{number}", value)
        for place, group in enumerate(optimizer.param_groups)
        for number, value in enumerate(cast("Sequence[torch.nn.Parameter]", group["params"]))
    ]
    if given is None:
        return ordered
    pairs = list(given)
    if any(not isinstance(pair, tuple) for pair in pairs):
        raise ValueError(
            "named_parameters should be a sequence of tuples (name, parameter), usually produced "
            "by model.named_parameters()."
        )
    names = [name for name, _ in pairs]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(
            "Parameter names in named_parameters must be unique. Found duplicates: "
            + ", ".join(doubled)
        )
    by_id = {id(value): name for name, value in pairs}
    unnamed = [name for name, value in ordered if id(value) not in by_id]
    if unnamed:
        raise ValueError(
            "named_parameters was specified, but one or more model parameters were not named: "
            + ", ".join(unnamed)
        )
    return [(by_id[id(value)], value) for _, value in ordered]
