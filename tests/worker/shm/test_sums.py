"""Sums in rank order, bit for bit; also when the result overwrites one of the inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from quintile_trainer.shm import sums

pytestmark = pytest.mark.torch

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def serial(inputs: list[torch.Tensor], operation: sums.Operation) -> torch.Tensor:
    dtype = inputs[0].dtype
    if operation is sums.Operation.HIGHEST:
        return torch.stack(inputs).max(dim=0).values
    wide = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
    total = torch.zeros(inputs[0].shape, dtype=wide)
    for value in inputs:
        total = total + value.to(wide)
    if operation is sums.Operation.MEAN:
        total = total / len(inputs)
    return total.to(dtype)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 7),
    st.integers(1, 300),
    st.sampled_from(FLOATS),
    st.sampled_from(sums.Operation),
    st.randoms(use_true_random=False),
)
def test_equals_the_serial_sum(
    world_size: int, elements: int, dtype: torch.dtype, operation: sums.Operation, random: object
) -> None:
    own = random.randrange(world_size)  # type: ignore[attr-defined]
    made = torch.Generator().manual_seed(random.randrange(2**31))  # type: ignore[attr-defined]
    scale = 10.0 ** torch.randint(-2, 3, (world_size, 1), generator=made)
    values = (torch.randn(world_size, elements, generator=made) * scale).to(dtype)
    inputs = [values[rank].clone() for rank in range(world_size)]
    expected = serial([value.clone() for value in inputs], operation)
    adder = sums.Adder()
    adder.combine(inputs, inputs[own], own, operation)
    assert torch.equal(inputs[own], expected)
    for rank, value in enumerate(inputs):
        if rank != own:
            assert torch.equal(value, values[rank]), "an input of another rank was touched"


def test_order_decides_the_bits() -> None:
    values = [torch.tensor([value]) for value in (1e8, 1.0, -1e8, 1.0)]
    sums.Adder().combine(values, values[0], 0, sums.Operation.SUM)
    assert values[0].item() == 1.0  # (1e8 + 1) is 1e8 in 32 bits; any other order gives 0 or 2


def test_short_floats_are_rounded_once() -> None:
    values = [torch.tensor([256.0], dtype=torch.bfloat16) for _ in range(1)]
    values += [torch.tensor([1.0], dtype=torch.bfloat16) for _ in range(4)]
    sums.Adder().combine(values, values[0], 0, sums.Operation.SUM)
    assert values[0].item() == 260.0  # added in 16 bits every 1 would be lost


def test_whole_numbers() -> None:
    values = [torch.tensor([2**53 + rank]) for rank in range(3)]
    sums.Adder().combine(values, values[2], 2, sums.Operation.SUM)
    assert values[2].item() == 3 * 2**53 + 3
