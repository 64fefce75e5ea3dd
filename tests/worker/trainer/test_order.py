"""The order of samples: a bijection for every size, cheap, and exact over any resume and width."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile_trainer.data import order


def whole(size: int, *, seed: int = 0, epoch: int = 0) -> list[int]:
    found: list[int] = (
        order.Permutation(size, seed=seed, epoch=epoch).items(np.arange(size)).tolist()
    )
    return found


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1023, 1024, 1025, 4097, 60_000])
def test_every_item_stands_at_one_position(size: int) -> None:
    assert sorted(whole(size)) == list(range(size))


def test_a_position_is_found_without_the_others() -> None:
    size = 10**12
    permutation = order.Permutation(size, seed=1, epoch=2)
    alone = permutation.items(np.array([size - 1]))
    assert 0 <= alone[0] < size
    assert alone == permutation.items(np.array([0, size - 1]))[1:]


def test_seed_and_epoch_each_give_another_order() -> None:
    orders = [whole(500), whole(500, epoch=1), whole(500, seed=1), list(range(500))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert whole(500) == whole(500)


def test_the_order_is_well_mixed() -> None:
    # Of 40 epochs of 200 items the mean place of an item has deviation 200 / sqrt(12 * 40) = 9.1.
    places = np.zeros(200)
    for epoch in range(40):
        places[whole(200, epoch=epoch)] += np.arange(200) / 40
    assert np.abs(places - 99.5).max() < 5 * 9.1
    neighbours = sum(abs(a - b) == 1 for a, b in itertools.pairwise(whole(2000)))
    assert neighbours < 20


@pytest.mark.parametrize("position", [-1, 10])
def test_positions_outside_of_the_epoch_are_refused(position: int) -> None:
    with pytest.raises(IndexError, match=r"0 \.\. 9"):
        order.Permutation(10, seed=0, epoch=0).items(np.array([position]))


def test_an_epoch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        order.Permutation(0, seed=0, epoch=0)


def test_the_order_never_changes_between_releases() -> None:
    """Checkpoints hold a cursor only: another order would repeat and leave out samples."""
    assert whole(10, seed=7, epoch=3) == PINNED
    sampler = order.Sampler(order.Schedule(10, 4), 7, rank=1, world_size=2)
    assert sampler.take(10).items.tolist() == [PINNED[5], PINNED[7]]


def test_shares_differ_by_one_and_follow_the_rank() -> None:
    schedule = order.Schedule(items=23, batch=10)
    assert schedule.steps_per_epoch == 3
    shares = [list(schedule.share(2, rank=rank, world_size=4)) for rank in range(4)]
    assert shares == [[20], [21], [22], []]
    assert schedule.cursor(5) == order.Cursor(epoch=1, position=20)


@settings(max_examples=25, deadline=None)
@given(
    items=st.integers(1, 150),
    batch=st.integers(1, 64),
    seed=st.integers(0, 2**31 - 1),
    widths=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 20)), min_size=1, max_size=4),
)
def test_each_sample_once_whatever_the_widths_and_resume_points(
    items: int, batch: int, seed: int, widths: list[tuple[int, int]]
) -> None:
    """Generations of other widths continue where the newest checkpoint stands.

    ``widths`` are (world size, steps until the next interruption); every generation also does some
    steps that no checkpoint holds, which the next one does again.
    """
    schedule = order.Schedule(items, batch)
    lineage: collections.Counter[tuple[int, int]] = collections.Counter()
    seeds: dict[tuple[int, int], int] = {}
    step = 0
    for world_size, steps in widths:
        ranks = [
            order.Sampler(schedule, seed, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for redone in (False, True):
            for done in range(step, step + steps):
                epoch = schedule.cursor(done).epoch
                for sampler in ranks:
                    found = sampler.take(done)
                    for item, sample_seed in zip(found.items, found.seeds, strict=True):
                        key = (epoch, int(item))
                        assert seeds.setdefault(key, int(sample_seed)) == sample_seed
                        lineage[key] += not redone
        step += steps
    epochs, rest = divmod(step, schedule.steps_per_epoch)
    expected = {(epoch, item) for epoch in range(epochs) for item in range(items)}
    order_of_last = order.Permutation(items, seed=seed, epoch=epochs)
    begun = order_of_last.items(np.arange(min(rest * batch, items)))
    expected |= {(epochs, int(item)) for item in begun}
    assert lineage.keys() == expected
    assert set(lineage.values()) <= {1}


def test_blocks_do_not_change_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = order.Schedule(items=1000, batch=48)

    def taken() -> list[tuple[list[int], list[int]]]:
        sampler = order.Sampler(schedule, 3, rank=1, world_size=3)
        # The loop asks for a step, then for the next one to make it ready.
        asked = itertools.chain.from_iterable((step, step + 1) for step in range(60))
        samples = [sampler.take(step) for step in asked]
        return [(found.items.tolist(), found.seeds.tolist()) for found in samples]

    large = taken()
    monkeypatch.setattr(order, "BLOCK", 64)
    assert taken() == large


@given(items=st.integers(0, 2000), size=st.integers(1, 300), world_size=st.integers(1, 9))
def test_evaluation_blocks_cover_everything_once(items: int, size: int, world_size: int) -> None:
    found = [
        item
        for rank in range(world_size)
        for block in order.blocks(items, size, rank=rank, world_size=world_size)
        for item in block
    ]
    assert sorted(found) == list(range(items))


def test_mixed_seeds_depend_on_every_part() -> None:
    seeds = {
        order.mix(seed, step, rank) for seed in range(4) for step in range(50) for rank in range(4)
    }
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)


PINNED = [0, 4, 9, 7, 3, 1, 6, 2, 5, 8]
