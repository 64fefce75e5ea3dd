"""Splits: exact sizes, fair shares, one answer per seed whatever the order of items."""

from __future__ import annotations

from collections import Counter

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from quintile.core import errors
from quintile_api.data import splitting

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@hypothesis.given(COUNTS, st.data())
@hypothesis.settings(max_examples=150, deadline=None)
def test_tables_keep_their_sums_and_stay_next_to_fair(rows: list[int], data: st.DataObject) -> None:
    total = sum(rows)
    hypothesis.assume(total > 0)
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=4)))
    columns = np.diff([0, *cuts, total]).tolist()
    table = np.array(splitting.round_table(rows, columns))
    assert table.sum(axis=1).tolist() == rows
    assert table.sum(axis=0).tolist() == columns
    fair = np.outer(rows, columns) / total
    assert (np.abs(table - fair) < 1).all()


def test_the_order_of_items_does_not_matter() -> None:
    ids = [f"{number:016x}" for number in range(200)]
    strata = np.arange(200, dtype=np.int32) % 3
    sizes = {"test": 40, "val": 25, "train": 135}
    first = dict(zip(ids, splitting.assign(ids, strata, sizes, seed=7), strict=True))
    order = np.random.default_rng(0).permutation(200)
    shuffled = [ids[place] for place in order]
    again = splitting.assign(shuffled, strata[order], sizes, seed=7)
    assert dict(zip(shuffled, again, strict=True)) == first
    assert Counter(first.values()) == sizes


def test_another_seed_is_another_split() -> None:
    ids = [f"{number:016x}" for number in range(100)]
    strata = np.zeros(100, dtype=np.int32)
    sizes = {"test": 50, "train": 50}
    first, second = (splitting.assign(ids, strata, sizes, seed=seed) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("text", "size"),
    [("360", 360), ("0.2", 359), ("20%", 359), (".5", 899), (" 1 ", 1), ("1.0", 1797)],
)
def test_sizes_are_counts_fractions_or_percentages(text: str, size: int) -> None:
    sizes = splitting.part_sizes({"test": text}, rest="train", items=1797)
    assert sizes["test"] == size
    assert sizes.get("train", 0) == 1797 - size


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "nan", "1/3", "200%", "1.01", "٣", "0", "0.0001"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidSpec) as refused:
        splitting.part_sizes({"test": text}, rest="train", items=1797)
    assert refused.value.field == "parts.test"
