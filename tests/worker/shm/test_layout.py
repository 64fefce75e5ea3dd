"""Where things lie in the shared memory, and how tensors are cut: for any sizes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_trainer import failures
from quintile_trainer.shm import layout, settings

ITEM_SIZES = st.sampled_from([1, 2, 4, 8])
WORLDS = st.integers(1, 64)


@st.composite
def layouts(draw: st.DrawFn) -> layout.Layout:
    chosen = settings.Settings(
        piece_bytes=draw(st.integers(1, 64)) * settings.ALIGNMENT,
        banks=draw(st.integers(2, 20)),
        direct_bytes=draw(st.integers(0, settings.ALIGNMENT)),
    )
    return layout.plan_layout(draw(WORLDS), chosen)


@given(layouts())
def test_no_word_has_two_meanings(plan: layout.Layout) -> None:
    names = ("posted", "reduced", "taken", "awaits", "state", "nonce")
    ranks = range(plan.world_size)
    used = list(range(len(plan.head)))
    used += [plan.counter(name, rank) for rank in ranks for name in names]
    for rank, bank in itertools.product(ranks, range(plan.banks)):
        first = plan.description(rank, bank)
        used += [first, first + 1]
    assert len(set(used)) == len(used)
    assert max(used) < plan.words


@given(layouts())
def test_words_that_are_waited_for_share_no_cache_line(plan: layout.Layout) -> None:
    names = ("posted", "reduced", "taken", "awaits", "state")
    lines = [
        plan.counter(name, rank) * layout.WORD // layout.LINE
        for rank in range(plan.world_size)
        for name in names
    ]
    assert len(set(lines)) == len(lines)


@given(layouts())
def test_slots_fill_the_rest_without_overlap(plan: layout.Layout) -> None:
    starts = [
        plan.slot(rank, bank) for rank in range(plan.world_size) for bank in range(plan.banks)
    ]
    assert starts[0] == plan.slots == plan.words * layout.WORD
    assert starts == list(range(plan.slots, plan.size_bytes, plan.piece_bytes))
    assert all(start % settings.ALIGNMENT == 0 for start in starts)


@given(st.integers(0, 100_000), ITEM_SIZES, st.integers(1, 8))
def test_pieces_cover_a_tensor_once_in_order(elements: int, itemsize: int, units: int) -> None:
    piece_bytes = units * settings.ALIGNMENT
    spans = list(layout.pieces(elements, itemsize, piece_bytes))
    assert list(itertools.chain.from_iterable(range(*span) for span in spans)) == list(
        range(elements)
    )
    assert all(0 < stop - start <= piece_bytes // itemsize for start, stop in spans)


@given(st.integers(0, 5_000), ITEM_SIZES, WORLDS)
def test_shares_cover_a_piece_once_at_cache_lines(
    elements: int, itemsize: int, world_size: int
) -> None:
    spans = layout.shares(elements, itemsize, world_size)
    assert len(spans) == world_size
    assert [spans[0][0], spans[-1][1]] == [0, elements]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert all(start * itemsize % layout.LINE == 0 for start, stop in spans if start < stop)
    sizes = [stop - start for start, stop in spans]
    assert max(sizes) - min(sizes) <= 2 * max(1, layout.LINE // itemsize)


@pytest.mark.parametrize(
    "wrong",
    [
        {"piece_bytes": 0},
        {"piece_bytes": 4097},
        {"banks": 1},
        {"direct_bytes": -1},
        {"piece_bytes": 4096, "direct_bytes": 8192},
        {"spin_us": -1},
        {"spin_us": 1_000_000},
        {"deadline_s": 0},
        {"meeting_s": -1},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(failures.BadInput, match=list(wrong)[-1]):
        settings.Settings(**wrong)
