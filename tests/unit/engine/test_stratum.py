"""The committed random stratum: a permutation, every size a prefix of it, uniform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import errors
from quintile.engine import certify, stratum


@given(st.integers(1, 400), st.integers(0, 2**31 - 1), st.data())
@settings(max_examples=50, deadline=None)
def test_every_size_is_a_prefix(n_items: int, seed: int, data: st.DataObject) -> None:
    order = stratum.permutation(n_items, seed=seed)
    assert sorted(order.tolist()) == list(range(n_items))
    size = data.draw(st.integers(0, n_items + 5))
    assert stratum.prefix(n_items, seed=seed, size=size).tolist() == order[:size].tolist()


def test_each_item_is_drawn_alike() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        counts[stratum.prefix(20, seed=seed, size=5)] += 1
    # 500 expected, standard deviation 19.4
    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize(
    ("ranks", "length"),
    [([], 0), ([0, 1, 2], 3), ([2, 0, 1, -1], 3), ([0, 1, 3, 4], 2), ([1, 2], 0), ([-1, -1], 0)],
)
def test_settled_prefix(ranks: list[int], length: int) -> None:
    assert stratum.settled_prefix(np.array(ranks, dtype=np.int64)) == length


def test_commitment_depends_on_everything_it_fixes() -> None:
    digests = {
        stratum.commitment(100, seed=1),
        stratum.commitment(101, seed=1),
        stratum.commitment(100, seed=2),
        stratum.commitment(100, seed=1, salt="s"),
    }
    assert len(digests) == 4
    assert stratum.commitment(100, seed=1) == stratum.commitment(100, seed=1)


def test_default_size_bears_one_wrong_item() -> None:
    assert stratum.smallest(1797, target=certify.Target()) == 218


def test_an_empty_pool_has_no_stratum() -> None:
    with pytest.raises(errors.InvalidSpec, match="A pool of 0 items has no stratum"):
        stratum.permutation(0, seed=0)
