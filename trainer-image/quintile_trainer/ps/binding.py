"""The model's parameters as flat memory, one vector per dtype, in the layout's order.

On the processor the parameters and their gradients become views of the flat vectors: what arrives
from a server is in the model, and what backward computes lies ready to be sent. Elsewhere (an
accelerator) they are copied.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quintile_trainer import failures
from quintile_trainer.ps import layout, memory

Tensors = Mapping[str, torch.Tensor]


def describe(parameters: Tensors, groups: Mapping[str, int]) -> list[layout.Parameter]:
    """Return what the layout needs to know of the parameters."""
    return [
        layout.Parameter(
            name, tensor.numel(), str(tensor.dtype).removeprefix("torch."), groups.get(name, 0)
        )
        for name, tensor in parameters.items()
        if tensor.numel()
    ]


class Binding:
    """Flat parameters and gradients of one model.

    Args:
        plan: Where everything lies.
        parameters: The trained parameters by name; on the processor they are bound in place.
    """

    def __init__(self, plan: layout.Layout, parameters: Mapping[str, torch.Tensor]) -> None:
        self._plan = plan
        self._parameters = {entry.name: parameters[entry.name] for entry in plan.parameters}
        dtypes = sorted({entry.dtype for entry in plan.parameters})
        self._values = {name: _zeros(plan, name) for name in dtypes}
        self._gradients = {name: _zeros(plan, name) for name in dtypes}
        self._value_bytes = {name: memory.view(flat) for name, flat in self._values.items()}
        self._gradient_bytes = {name: memory.view(flat) for name, flat in self._gradients.items()}
        self._slots = {entry.name: self._slot(self._gradients, entry) for entry in plan.parameters}
        self._shadows: dict[str, torch.Tensor] = {}
        self._bind()

    def value_bytes(self, chunk: layout.Chunk) -> memoryview:
        """Return the memory of a chunk's parameters."""
        return self._bytes(self._value_bytes, chunk)

    def gradient_bytes(self, chunk: layout.Chunk) -> memoryview:
        """Return the memory of a chunk's gradients."""
        return self._bytes(self._gradient_bytes, chunk)

    def values(self, dtype: str) -> torch.Tensor:
        """Return the flat parameters of a dtype."""
        return self._values[dtype]

    def publish(self) -> None:
        """Bring received parameters into a model that lies elsewhere."""
        with torch.no_grad():
            for name, shadow in self._shadows.items():
                self._parameters[name].copy_(shadow)

    def gather(self, gradients: Tensors | None) -> None:
        """Bring gradients into the flat memory; those that lie there already cost nothing.

        Args:
            gradients: By name, or None for every parameter's ``grad``. A missing one counts as
                zero.
        """
        for name, slot in self._slots.items():
            gradient = gradients.get(name) if gradients is not None else self._parameters[name].grad
            if gradient is slot:
                continue
            if gradient is None:
                slot.zero_()
            elif gradient.data_ptr() != slot.data_ptr() or gradient.device != slot.device:
                if gradient.shape != slot.shape:
                    raise failures.BadInput(
                        f"the gradient of {name} has shape {tuple(gradient.shape)}, expected "
                        f"{tuple(slot.shape)}"
                    )
                slot.copy_(gradient)

    def bind_gradients(self) -> None:
        """Make every ``grad`` a zero view of the flat memory, for backward to add to."""
        for flat in self._gradients.values():
            flat.zero_()
        for name, slot in self._slots.items():
            parameter = self._parameters[name]
            if parameter.device == slot.device and parameter.requires_grad:
                parameter.grad = slot

    def _bind(self) -> None:
        with torch.no_grad():
            for entry in self._plan.parameters:
                parameter = self._parameters[entry.name]
                view = self._slot(self._values, entry)
                view.copy_(parameter)
                if parameter.device == view.device:
                    parameter.data = view
                else:
                    self._shadows[entry.name] = view

    def _slot(self, flats: Mapping[str, torch.Tensor], entry: layout.Parameter) -> torch.Tensor:
        start = self._plan.starts[entry.name]
        shape = self._parameters[entry.name].shape
        return flats[entry.dtype][start : start + entry.size].view(shape)

    def _bytes(self, flats: Mapping[str, memoryview], chunk: layout.Chunk) -> memoryview:
        width = layout.ITEM_BYTES[chunk.dtype]
        return flats[chunk.dtype][chunk.start * width : (chunk.start + chunk.size) * width]


def _zeros(plan: layout.Layout, dtype: str) -> torch.Tensor:
    return torch.zeros(plan.size(dtype), dtype=memory.DTYPES[dtype])
