"""An ended replica starts again at once, then after pauses that grow."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import runplan
from quintile_operator import revivals

PLACE = ("uid", "t-a1-worker-0")


def seen(state: runplan.ReplicaState = "lost", code: int | None = None) -> Any:
    return runplan.ObservedReplica("uid", 1, PLACE[1], "worker", 0, state, exit_code=code)


def test_pauses_grow_and_begin_anew_after_a_good_while() -> None:
    made = revivals.Revivals()
    found = [now_s for now_s in range(90) if made.is_due(PLACE, seen(), now_s=float(now_s))]
    assert found == [0, 2, 6, 14, 30, 62]
    late_s = found[-1] + revivals.STABLE_S
    assert made.is_due(PLACE, seen(), now_s=late_s)
    assert made.is_due(PLACE, seen(), now_s=late_s + 2)


def test_a_clock_that_was_set_back_keeps_nobody_away() -> None:
    made = revivals.Revivals()
    assert made.is_due(PLACE, seen(), now_s=1000.0)
    assert made.is_due(PLACE, seen(), now_s=10.0)


def test_another_replica_and_a_forgotten_one_wait_for_nothing() -> None:
    made = revivals.Revivals()
    assert made.is_due(PLACE, seen(), now_s=0.0)
    assert made.is_due(("uid", "other"), seen(), now_s=0.0)
    made.forget(PLACE)
    assert made.is_due(PLACE, seen(), now_s=0.0)


@pytest.mark.parametrize(
    ("state", "code", "due"),
    [
        ("running", None, False),
        ("pending", None, False),
        ("exited", 0, False),
        ("exited", 1, False),
        ("exited", 76, False),
        ("exited", 75, True),
        ("exited", 137, True),
        ("lost", None, True),
    ],
)
def test_only_who_ended_and_may_do_better_is_started_again(
    state: Any, code: int | None, due: bool
) -> None:
    assert revivals.Revivals().is_due(PLACE, seen(state, code), now_s=0.0) is due


def test_the_longest_pause() -> None:
    assert revivals.pause_s(40) == revivals.LONGEST_PAUSE_S
