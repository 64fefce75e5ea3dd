"""Parameters and optimizer state by parameter name, cut into chunks and put together again. Pure.

A checkpoint is keyed by name alone, as every other mode writes it: any number of servers reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from quintile_trainer import failures
from quintile_trainer.ps import layout, optimizers

MASTER_ENTRY = "master"
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """One entry of one chunk, fp32: 0 = parameters, then the rule's own; ``steps`` updates."""

    chunk: layout.Chunk
    entry: int
    steps: int
    values: torch.Tensor


def split(
    plan: layout.Layout, rule: optimizers.Rule, parameters: Tensors, optimizer: Tensors
) -> Iterator[Part]:
    """Yield what each server must be given before training.

    Args:
        plan: Where everything goes.
        rule: Which entries the optimizer has.
        parameters: By name.
        optimizer: ``<parameter>/<entry>`` as in checkpoints; may be empty.

    Raises:
        Broken: The state of the optimizer has another shape than the parameter.
    """
    for chunk in plan.chunks:
        names = [piece.name for piece in plan.pieces(chunk)]
        steps = max((_steps(optimizer, name) for name in names), default=0)
        masters = {
            name: optimizer.get(f"{name}/{MASTER_ENTRY}", parameters[name]) for name in names
        }
        yield Part(chunk, 0, steps, _gathered(plan, chunk, masters))
        for number, entry in enumerate(rule.entries, 1):
            found = {name: optimizer.get(f"{name}/{entry}") for name in names}
            present = {name: value for name, value in found.items() if value is not None}
            if present:
                whole = {name: present.get(name, torch.zeros_like(masters[name])) for name in names}
                yield Part(chunk, number, steps, _gathered(plan, chunk, whole))


class Assembly:
    """Puts entries of chunks together to tensors by name.

    Args:
        plan: Where everything comes from.
        rule: Which entries the optimizer has.
        shapes: Of the parameters.
    """

    def __init__(
        self, plan: layout.Layout, rule: optimizers.Rule, shapes: Mapping[str, torch.Size]
    ) -> None:
        self._plan = plan
        self._rule = rule
        self._dtypes = {entry.name: entry.dtype for entry in plan.parameters}
        self._masters = {name: torch.empty(shape) for name, shape in shapes.items()}
        self._entries = {
            f"{name}/{entry}": torch.empty(shape)
            for name, shape in shapes.items()
            for entry in rule.entries
        }
        self._steps: dict[str, int] = {}
        self._fresh: set[str] = set()

    def add(self, part: Part, *, fresh: bool) -> None:
        """Take an entry of a chunk; ``fresh`` says that its state has no value yet.

        Raises:
            Broken: Two chunks of one parameter had another number of updates: no consistent cut.
        """
        for piece in self._plan.pieces(part.chunk):
            known = self._steps.setdefault(piece.name, part.steps)
            if known != part.steps:
                raise failures.Broken(
                    f"the cut is not consistent: {piece.name} has {known} and {part.steps} updates"
                )
            if part.entry == 0:
                whole = self._masters[piece.name]
            else:
                name = f"{piece.name}/{self._rule.entries[part.entry - 1]}"
                whole = self._entries[name]
                if fresh:
                    self._fresh.add(name)
            flat = whole.view(-1)[piece.parameter_start : piece.parameter_start + piece.size]
            flat.copy_(part.values[piece.chunk_start : piece.chunk_start + piece.size])

    def parameters(self) -> dict[str, torch.Tensor]:
        """Return the parameters in the dtypes of the model."""
        return {
            name: tensor.to(getattr(torch, self._dtypes[name]))
            for name, tensor in self._masters.items()
        }

    def optimizer(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's state, keyed as in checkpoints."""
        found = {name: tensor for name, tensor in self._entries.items() if name not in self._fresh}
        for name, tensor in self._masters.items():
            if self._dtypes[name] != "float32":
                found[f"{name}/{MASTER_ENTRY}"] = tensor
            if self._rule.kind != "sgd" and self._steps.get(name):
                found[f"{name}/step"] = torch.tensor(float(self._steps[name]))
        return found


def _steps(optimizer: Tensors, name: str) -> int:
    steps = optimizer.get(f"{name}/step")
    return int(steps) if steps is not None else 0


def _gathered(plan: layout.Layout, chunk: layout.Chunk, tensors: Tensors) -> torch.Tensor:
    """Return one chunk's elements, fp32, shape (size,)."""
    values = torch.empty(chunk.size)
    for piece in plan.pieces(chunk):
        whole = tensors[piece.name].detach().reshape(-1)
        stop = piece.parameter_start + piece.size
        if whole.numel() < stop:
            raise failures.Broken(
                f"the checkpoint's state of {piece.name} has {whole.numel()} elements, the model "
                f"has at least {stop}"
            )
        values[piece.chunk_start : piece.chunk_start + piece.size] = whole[
            piece.parameter_start : stop
        ]
    return values
