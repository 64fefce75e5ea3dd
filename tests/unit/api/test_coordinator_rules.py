"""What exits mean, who gets which rank, what is acknowledged, what is shown: pure rules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_api import objects
from quintile_api.coordinator import plans, retention, verdicts
from quintile_api.runs import metrics, streams


def rank(number: int, code: int | None, *, reason: str = "", step: int = 5) -> verdicts.RankEnd:
    return verdicts.RankEnd(
        rank=number, role="worker", exit_code=code, reason=reason, step=step, total_steps=10
    )


def server(number: int, code: int | None) -> verdicts.RankEnd:
    return verdicts.RankEnd(
        rank=number, role="ps", exit_code=code, reason="", step=-1, total_steps=0
    )


def situation(*ranks: verdicts.RankEnd, **changes: object) -> verdicts.Situation:
    default: dict[str, object] = {
        "stopping": False,
        "started": True,
        "restarts": 0,
        "max_restarts": 2,
    }
    return verdicts.Situation(ranks=ranks, **(default | changes))  # type: ignore[arg-type]


CASES = {
    "all run": (situation(rank(0, None), rank(1, None)), "none"),
    "one is done": (situation(rank(0, 0), rank(1, None)), "none"),
    "all are done": (situation(rank(0, 0), rank(1, 0)), "succeeded"),
    "one dies": (situation(rank(0, None), rank(1, 1)), "restart"),
    "one dies after another is done": (situation(rank(0, 0), rank(1, 139)), "restart"),
    "one dies too often": (situation(rank(0, None), rank(1, 1), restarts=2), "failed"),
    "user error before any step": (
        situation(rank(0, None, step=-1), rank(1, 1, step=-1), started=False),
        "failed",
    ),
    "another exit code of the user's before any step": (
        situation(rank(0, 2, reason="UserError", step=-1), started=False),
        "failed",
    ),
    "a loss that is no number": (situation(rank(0, None), rank(1, 1, reason="Diverged")), "failed"),
    "killed before any step": (
        situation(rank(0, None, step=-1), rank(1, -9, step=-1), started=False),
        "restart",
    ),
    "one yields": (situation(rank(0, 75), rank(1, None)), "none"),
    "one yields, one breaks": (situation(rank(0, 75), rank(1, 1)), "stopped"),
    "stopping, one left": (situation(rank(0, 143), rank(1, None), stopping=True), "none"),
    "stopping, all left": (situation(rank(0, 143), rank(1, 0), stopping=True), "stopped"),
    "stopping, all left well before the end": (
        situation(rank(0, 0), rank(1, 0), stopping=True),
        "stopped",
    ),
    "stopping, but it was done": (
        situation(rank(0, 0, step=10), rank(1, 0, step=10), stopping=True),
        "succeeded",
    ),
    "servers that still run do not delay success": (
        situation(rank(0, 0), rank(1, 0), server(2, None)),
        "succeeded",
    ),
    "workers are done, a server broke while leaving": (
        situation(rank(0, 0), rank(1, 0), server(2, 137)),
        "succeeded",
    ),
    "a server is done before its workers": (
        situation(rank(0, 0), rank(1, None), server(2, 0)),
        "none",
    ),
    "a server dies": (situation(rank(0, None), rank(1, None), server(2, 137)), "restart"),
    "stopping, a server is left": (
        situation(rank(0, 75), rank(1, 75), server(2, None), stopping=True),
        "none",
    ),
    "a crash after the final checkpoint": (
        situation(rank(0, 0), rank(1, 139), final_checkpoint=True),
        "succeeded",
    ),
}


@pytest.mark.parametrize(("now", "outcome"), CASES.values(), ids=CASES)
def test_what_exits_mean(now: verdicts.Situation, outcome: str) -> None:
    assert verdicts.judge(now) == outcome


def test_the_culprit_failed_by_itself() -> None:
    bad = [rank(0, 74, reason="PeerLost"), rank(1, 1, reason="UserError")]
    assert verdicts.culprit(bad) == bad[1]
    assert verdicts.culprit(bad[:1]) == bad[0]
    assert verdicts.culprit([]) is None


def joined(role: str, index: int, procs: int = 1) -> plans.JoinedAgent:
    return plans.JoinedAgent(role=role, index=index, procs=procs, host=f"{role}{index}", port=index)


def test_workers_come_first_and_rank_0_is_the_rendezvous() -> None:
    plan = plans.plan(("uid", 1, 2), [joined("worker", n) for n in (1, 0)])
    assert (plan.master_host, plan.master_port, plan.world_size) == ("worker0", 0, 2)


def test_parameter_servers_come_last_and_the_first_is_the_rendezvous() -> None:
    agents = [joined("ps", 1), joined("ps", 0), joined("worker", 1, 2), joined("worker", 0, 2)]
    plan = plans.plan(("uid", 1, 3), agents)
    assert [(slot.rank, slot.role, slot.index, slot.local_rank) for slot in plan.ranks] == [
        (0, "worker", 0, 0),
        (1, "worker", 0, 1),
        (2, "worker", 1, 0),
        (3, "worker", 1, 1),
        (4, "ps", 0, 0),
        (5, "ps", 1, 0),
    ]
    assert plan.world_size == 4
    assert (plan.master_host, plan.master_port) == ("ps0", 0)
    assert plan.checkpoint_prefix == "ckpt/uid/1-3"


@given(st.permutations([joined("worker", index) for index in range(5)]))
def test_the_order_of_joining_does_not_matter(agents: list[plans.JoinedAgent]) -> None:
    first = plans.plan(("uid", 1, 1), agents)
    assert [slot.index for slot in first.ranks] == [0, 1, 2, 3, 4]


def test_missing_members_are_named() -> None:
    assert plans.missing({"worker": 2, "ps": 1}, [joined("worker", 1)]) == ["ps-0", "worker-0"]


@given(st.sets(st.integers(0, 30)), st.integers(-1, 30))
def test_acknowledged_is_the_end_of_the_gapless_start(stored: set[int], before: int) -> None:
    after = streams.advance(before, sorted(stored))
    assert after >= before
    assert all(seq in stored for seq in range(before + 1, after + 1))
    assert after + 1 not in stored


def test_a_stream_begins_anywhere() -> None:
    assert streams.advance(None, [7, 8, 10]) == 8
    assert streams.advance(None, []) == streams.NOTHING


def test_later_generations_hide_what_they_did_again() -> None:
    lines = [
        metrics.Lineage(1, 1, -1),
        metrics.Lineage(1, 2, 30),
        metrics.Lineage(1, 3, 10),
        metrics.Lineage(2, 1, 20),
    ]
    assert metrics.visible(lines) == {(1, 1): 10, (1, 2): 10, (1, 3): 20, (2, 1): math.inf}


@given(st.integers(0, 2000), st.integers(1, 300))
def test_thinning_keeps_first_and_last(count: int, most: int) -> None:
    kept = metrics.sample(count, most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    if count and most > 1:
        assert (kept[0], kept[-1]) == (0, count - 1)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_lies_inside_the_object(size: int, first: int, last: int) -> None:
    span = objects.parse_range(f"bytes={first}-{last}", size)
    if span is None:
        assert first >= size or last < first
    else:
        assert 0 <= span[0] < span[1] <= size


def saved(step: int, **metrics: float) -> retention.Saved:
    return retention.Saved(f"step-{step}", {f"eval/{n}": v for n, v in metrics.items()})


HISTORY = [
    saved(60, accuracy=0.8),
    saved(50, accuracy=0.9),
    saved(40, accuracy=0.9),
    saved(30, accuracy=0.95),
    saved(20),
    saved(10),
]
KEPT = {
    "the newest": (retention.Keep(2, 0), "", [60, 50]),
    "and the best": (retention.Keep(1, 1), "", [60, 30]),
    "of equals the oldest": (retention.Keep(1, 2), "", [60, 40, 30]),
    "and what is resumed from": (retention.Keep(1, 0), "step-10", [60, 10]),
    "more than there are": (retention.Keep(9, 9), "", [60, 50, 40, 30, 20, 10]),
}


@pytest.mark.parametrize(("keep", "resumed_from", "steps"), KEPT.values(), ids=KEPT)
def test_checkpoints_that_stay(keep: retention.Keep, resumed_from: str, steps: list[int]) -> None:
    gone = {entry.key for entry in retention.surplus(HISTORY, keep, resumed_from=resumed_from)}
    assert [int(e.key[5:]) for e in HISTORY if e.key not in gone] == steps


def test_without_accuracy_the_smallest_loss_is_best() -> None:
    history = [saved(3, loss=0.3), saved(2, loss=0.1), saved(1, loss=0.2), saved(0)]
    gone = retention.surplus(history, retention.Keep(1, 1), resumed_from="")
    assert [entry.key for entry in gone] == ["step-1", "step-0"]
