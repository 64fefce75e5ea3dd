"""Placement: everything exactly once, and balanced."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_trainer import failures
from quintile_trainer.ps import layout

DTYPES = st.sampled_from(["float32", "bfloat16"])
ENTRIES = st.lists(
    st.tuples(st.integers(1, 300_000), DTYPES, st.integers(0, 2)), min_size=1, max_size=12
)


def parameters(entries: list[tuple[int, str, int]]) -> list[layout.Parameter]:
    return [layout.Parameter(f"p{number}", *entry) for number, entry in enumerate(entries)]


@given(ENTRIES, st.integers(1, 8), st.sampled_from([1 << 12, 1 << 16, 1 << 20]))
def test_every_element_is_in_exactly_one_chunk(
    entries: list[tuple[int, str, int]], servers: int, chunk_bytes: int
) -> None:
    plan = layout.plan(parameters(entries), servers, chunk_bytes=chunk_bytes)
    covered: dict[str, list[tuple[int, int]]] = {entry.name: [] for entry in plan.parameters}
    groups = {entry.name: (entry.dtype, entry.group) for entry in plan.parameters}
    for number, chunk in enumerate(plan.chunks):
        assert chunk.number == number and 0 <= chunk.server < servers
        assert chunk.size_bytes <= chunk_bytes + 4
        end = 0
        for piece in plan.pieces(chunk):
            assert piece.chunk_start == end
            assert groups[piece.name] == (chunk.dtype, chunk.group)
            end += piece.size
            covered[piece.name].append((piece.parameter_start, piece.size))
        assert end == chunk.size
    for entry in plan.parameters:
        end = 0
        for start, size in sorted(covered[entry.name]):
            assert start == end
            end += size
        assert end == entry.size
    assert sum(plan.server_bytes) == sum(entry.size_bytes for entry in plan.parameters)


@given(ENTRIES, st.integers(1, 8))
def test_servers_are_balanced_where_single_elements_allow_it(
    entries: list[tuple[int, str, int]], servers: int
) -> None:
    plan = layout.plan(parameters(entries), servers)
    mean = sum(plan.server_bytes) / servers
    if mean >= 64 * 1024:
        assert plan.imbalance <= layout.BALANCE
    else:
        assert max(plan.server_bytes) <= mean * layout.BALANCE + 64 * 4


@given(ENTRIES, st.integers(1, 5))
def test_order_of_parameters_does_not_matter_and_json_gives_the_same(
    entries: list[tuple[int, str, int]], servers: int
) -> None:
    given_order = parameters(entries)
    plan = layout.plan(given_order, servers)
    assert layout.plan(given_order[::-1], servers) == plan
    again = layout.parse(json.loads(json.dumps(plan.document())))
    assert again == plan and again.digest == plan.digest


def test_large_models_are_cut_into_full_chunks() -> None:
    sizes = [25_000_000, 1_000, 64, 3_000_000]
    plan = layout.plan(parameters([(size, "float32", 0) for size in sizes]), 5)
    assert plan.imbalance <= layout.BALANCE
    full = [chunk for chunk in plan.chunks if chunk.size_bytes > 0.9 * layout.CHUNK_BYTES]
    assert len(full) >= len(plan.chunks) - 5


@pytest.mark.parametrize(
    ("given_parameters", "words"),
    [
        ([], "no trainable parameters"),
        ([layout.Parameter("a", 1, "float32"), layout.Parameter("a", 2, "float32")], "one name"),
        ([layout.Parameter("a", 1, "float64")], "parameter a is float64"),
    ],
    ids=["none", "twice", "dtype"],
)
def test_what_cannot_be_placed_is_refused(
    given_parameters: list[layout.Parameter], words: str
) -> None:
    with pytest.raises(failures.BadInput, match=words):
        layout.plan(given_parameters, 2)
