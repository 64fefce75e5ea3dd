"""Conditions: times move with the status alone, and a phase is read off in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import conditions, meta

RANKING = {"Succeeded": "Succeeded", "Running": "Running"}


def entry(kind: str, status: conditions.Status = "True", **of: str) -> meta.Condition:
    return conditions.condition(kind, status, **of)  # type: ignore[arg-type]


@given(st.integers(0, 4_000_000_000))
def test_a_timestamp_keeps_whole_seconds(seconds: int) -> None:
    assert conditions.seconds(conditions.timestamp(seconds + 0.7)) == seconds


def test_no_time_is_zero() -> None:
    assert conditions.seconds("") == 0.0


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = conditions.merge([], [entry("Running", reason="A")], now_s=10)
    second = conditions.merge(first, [entry("Running", reason="B", message="why")], now_s=20)
    third = conditions.merge(second, [entry("Running", "False", reason="B")], now_s=30)
    times = [merged[0].last_transition_time for merged in (first, second, third)]
    assert times == [conditions.timestamp(10), conditions.timestamp(10), conditions.timestamp(30)]
    assert (second[0].reason, second[0].message) == ("B", "why")


def test_order_of_appearance_stays_and_types_are_unique() -> None:
    merged = conditions.merge([], [entry("B"), entry("A"), entry("B", "False")], now_s=1)
    assert [(found.type, found.status) for found in merged] == [("B", "False"), ("A", "True")]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(("True", "False", "Unknown")))))
def test_merging_twice_changes_nothing(changes: list[tuple[str, conditions.Status]]) -> None:
    wanted = [entry(kind, status) for kind, status in changes]
    once = conditions.merge([], wanted, now_s=1)
    last = {found.type: found.status for found in once}
    again = conditions.merge(once, [entry(kind, last[kind]) for kind in last], now_s=99)
    assert again == once


@pytest.mark.parametrize(
    ("entries", "phase"),
    [
        ([], "Pending"),
        ([entry("Running", "False")], "Pending"),
        ([entry("Running", "Unknown")], "Pending"),
        ([entry("Running")], "Running"),
        ([entry("Running"), entry("Succeeded")], "Succeeded"),
        ([entry("Other")], "Pending"),
    ],
)
def test_the_most_decisive_true_condition_gives_the_phase(
    entries: list[meta.Condition], phase: str
) -> None:
    found, cause = conditions.phase(entries, RANKING, default="Pending")
    assert found == phase
    assert (cause.type if cause else "Pending") == phase


def test_long_texts_are_cut_with_a_mark() -> None:
    made = entry("Failed", reason="r" * 300, message="m" * 2000)
    assert len(made.reason) == conditions.REASON_LIMIT
    assert len(made.message) == conditions.MESSAGE_LIMIT
    assert made.message.endswith("…")
    assert conditions.clip("short") == "short"
