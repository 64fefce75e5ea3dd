"""Sums gradients over the ranks while the backward pass still runs.

What ``DistributedDataParallel`` does, for our own loop: gradients are gathered in buckets, and a
bucket is sent as soon as it and all before it are full. It is our own since torch's wrapper loads
the compiler (a second and 150 MB for each rank), and since parameters that a step does not use are
no error here: they count as zero, and stay without a gradient where no rank used them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import nn

from quintile_trainer import failures

BUCKET_BYTES = 4 * 1024 * 1024


class Sum(Protocol):
    """A sum over the ranks that has begun."""

    def wait(self) -> object:
        """Return when the tensor holds it. Raises PeerLost when another rank left."""
        ...


class Summing(Protocol):
    """Begins to sum a tensor over the ranks, in place; all ranks call it in one order."""

    def __call__(self, values: torch.Tensor) -> Sum:
        """Begin."""
        ...


class Bucket:
    """Some parameters, their gradients in one tensor, and for each whether it was used."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.sizes = [parameter.numel() for parameter in parameters]
        length = sum(self.sizes) + len(parameters)
        first = parameters[0]
        self.values = torch.zeros(length, dtype=first.dtype, device=first.device)
        self.ready: set[int] = set()

    def note(self, parameter: torch.Tensor) -> None:
        """Note that a parameter's gradient is there.

        Raises:
            BadInput: It came a second time, maybe after it was sent.
        """
        if id(parameter) in self.ready:
            raise failures.BadInput(
                "a parameter got its gradient twice in one backward pass, which several workers "
                "cannot sum; use checkpointing of activations with use_reentrant=False"
            )
        self.ready.add(id(parameter))

    @property
    def is_full(self) -> bool:
        """Return whether all gradients are there."""
        return len(self.ready) == len(self.parameters)

    def fill(self) -> None:
        """Copy the gradients in; parameters without one count as zero."""
        gradients = torch.split(self.values[: sum(self.sizes)], self.sizes)
        used = self.values[sum(self.sizes) :]
        for place, parameter in enumerate(self.parameters):
            used[place] = 0.0 if parameter.grad is None else 1.0
            if parameter.grad is None:
                gradients[place].zero_()
            else:
                dense = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                gradients[place].copy_(dense.reshape(-1))

    def hand_out(self) -> None:
        """Make the sums the gradients of the parameters that any rank used."""
        gradients = torch.split(self.values[: sum(self.sizes)], self.sizes)
        used = self.values[sum(self.sizes) :].tolist()
        for place, parameter in enumerate(self.parameters):
            given = gradients[place].view(parameter.shape) if used[place] else None
            parameter.grad = given


class Averaging:
    """One rank's half of the exchange. Gradients come out as sums over the ranks."""

    def __init__(
        self, model: nn.Module, begin: Summing, *, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # The last layers have their gradients first.
        self._buckets = [Bucket(group) for group in grouped(trained[::-1], bucket_bytes)]
        self._begin = begin
        self._sums: list[Sum] = []
        self._armed = False
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._noting(bucket)
                )

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Sum the gradients that the backward pass inside this context completes."""
        for bucket in self._buckets:
            bucket.ready.clear()
        self._sums.clear()
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
        while len(self._sums) < len(self._buckets):
            self._send()
        for bucket, under_way in zip(self._buckets, self._sums, strict=True):
            under_way.wait()
            bucket.hand_out()

    def _noting(self, bucket: Bucket) -> _Hook:
        def note(parameter: torch.Tensor) -> None:
            if self._armed:
                bucket.note(parameter)
                self._send_full()

        return note

    def _send_full(self) -> None:
        while len(self._sums) < len(self._buckets) and self._buckets[len(self._sums)].is_full:
            self._send()

    def _send(self) -> None:
        bucket = self._buckets[len(self._sums)]
        bucket.fill()
        self._sums.append(self._begin(bucket.values))


class _Hook(Protocol):
    def __call__(self, parameter: torch.Tensor, /) -> None: ...


def grouped(parameters: Sequence[nn.Parameter], bucket_bytes: int) -> Iterator[list[nn.Parameter]]:
    """Yield runs of parameters of one kind of about ``bucket_bytes`` each, in order. Pure."""
    group: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        alike = not group or (parameter.dtype, parameter.device) == (
            group[0].dtype,
            group[0].device,
        )
        if group and (not alike or size >= bucket_bytes):
            yield group
            group, size = [], 0
        group.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if group:
        yield group
