"""The rules of answering as tables of cases."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import errors, tasks
from quintile_labeling.answers import rules

NOW_S = 1000.0


def slot(
    state: str = "leased",
    *,
    revision: int = 0,
    author: str | None = None,
    lease: str | None = "mine",
    expires_s: float | None = NOW_S + 10,
) -> rules.SlotView:
    return rules.SlotView(state, revision, author, lease, expires_s)


@pytest.mark.parametrize(
    ("view", "base", "outcome"),
    [
        (slot(), 0, "accepted"),
        (slot(), 1, "stale"),
        (slot(expires_s=NOW_S - 10), 0, "accepted"),
        (slot(lease="other"), 0, "extra"),
        (slot(lease="other", expires_s=NOW_S - 1), 0, "accepted"),
        (slot("open", lease=None, expires_s=None), 0, "accepted"),
        (slot("open", lease=None, expires_s=None, revision=2), 0, "stale"),
        (slot("void", lease=None, expires_s=None), 0, "accepted"),
        (slot("answered", author="ann", revision=1), 1, "accepted"),
        (slot("answered", author="ann", revision=1), 0, "stale"),
        (slot("answered", author="bob", revision=1), 1, "extra"),
        (slot("answered", author="bob", revision=1), 0, "extra"),
    ],
)
def test_judge(view: rules.SlotView, base: int, outcome: str) -> None:
    found = rules.judge(view, author="ann", lease="mine", base_revision=base, now_s=NOW_S)
    assert found == outcome


def opinion(
    key: str, author: str, class_id: int, *, ordinal: int = 0, is_head: bool = True
) -> rules.Opinion:
    verdict = "answer" if class_id >= 0 else "skip"
    return rules.Opinion(key, ordinal, author, verdict, class_id, is_head)


@pytest.mark.parametrize(
    ("opinions", "wanted", "rule", "class_id"),
    [
        ([opinion("a", "ann", 1)], 1, "single", 1),
        ([opinion("a", "ann", -1)], 1, "single", -1),
        ([opinion("a", "ann", 1)], 2, "pending", -1),
        ([opinion("a", "ann", 1), opinion("b", "bob", 1, ordinal=1)], 2, "agreed", 1),
        ([opinion("a", "ann", 1), opinion("b", "bob", 2, ordinal=1)], 2, "adjudicate", -1),
        ([opinion("a", "ann", 1), opinion("b", "bob", -1, ordinal=1)], 2, "adjudicate", -1),
        ([opinion("a", "ann", 1), opinion("b", "bob", 1, is_head=False)], 1, "single", 1),
        ([opinion("a", "ann", 1), opinion("b", "bob", 2, is_head=False)], 1, "adjudicate", -1),
        ([opinion("a", "ann", 1), opinion("b", "ann", 2, is_head=False)], 1, "single", 1),
        ([opinion("a", "ann", 1), opinion("b", "bob", 1, is_head=False)], 2, "agreed", 1),
        ([opinion("b", "bob", 2, is_head=False)], 1, "single", 2),
        (
            [
                opinion("a", "ann", 1),
                opinion("b", "bob", 2, ordinal=1),
                opinion("c", "cid", 0, ordinal=2),
            ],
            2,
            "adjudicated",
            0,
        ),
    ],
)
def test_settle(opinions: list[rules.Opinion], wanted: int, rule: str, class_id: int) -> None:
    for order in itertools.permutations(opinions):
        found = rules.settle(order, wanted=wanted)
        assert found is not None
        assert (found.rule, found.class_id) == (rule, class_id)
        assert found.is_settled == (rule in rules.SETTLED)


def test_nothing_comes_of_no_answers() -> None:
    assert rules.settle([], wanted=1) is None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(-1, 2), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 2),
    st.randoms(),
)
def test_settling_does_not_depend_on_the_order(
    rows: list[tuple[str, int, int, bool]], wanted: int, random: object
) -> None:
    opinions = [
        opinion(str(key), author, class_id, ordinal=ordinal, is_head=head)
        for key, (author, class_id, ordinal, head) in enumerate(rows)
    ]
    shuffled = list(opinions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rules.settle(opinions, wanted=wanted) == rules.settle(shuffled, wanted=wanted)


def test_class_of() -> None:
    assert rules.class_of(tasks.Payload(labels=[2]), classes=3) == 2
    assert rules.class_of(tasks.Payload(verdict="unsure"), classes=3) == rules.NO_CLASS
    with pytest.raises(errors.InvalidSpec, match="takes exactly one"):
        rules.class_of(tasks.Payload(), classes=3)
