"""Who is late, and what failure rules make of the end of a rank: pure rules of the coordinator."""

from __future__ import annotations

from typing import Any

import pytest

from quintile_api.coordinator import stalls, verdicts
from quintile_api.runs import tables


def row(number: int, witness: str = "stack", **of: Any) -> tables.RankRow:
    given = {"role": "worker", "step": 5, "waits": False, "place": "step (train.py:3)", **of}
    return tables.RankRow(rank=number, witness=witness, **given)


WAITS = {"waits": True, "place": "all_reduce (distributed_c10d.py:9)"}
LATE: dict[str, tuple[list[tables.RankRow], int]] = {
    "one is stopped": ([row(0, **WAITS), row(1, "stopped", place="")], 1),
    "one gives no stack": ([row(0), row(1, "silent", place="state D"), row(2)], 1),
    "stopped goes before silent": ([row(0, "silent"), row(1, "stopped")], 1),
    "the agent of one says nothing": ([row(0), row(1, "", place="")], 1),
    "one is behind": ([row(0, step=6), row(1, step=5, **WAITS)], 1),
    "one does not wait": ([row(0, **WAITS), row(1, place="wedge (train.py:7)")], 1),
    "one is elsewhere": ([row(0), row(1), row(2, place="open (io.py:1)")], 2),
    "who tells no steps is not behind": ([row(0, step=5), row(1, step=-1)], 0),
    "who has not begun is behind": (
        [row(0, step=5, **WAITS), row(1, step=-1, state="starting", **WAITS)],
        1,
    ),
    "a server is late last": ([row(0, role="ps", step=-1), row(1, step=-1)], 1),
    "all are alike": ([row(0), row(1)], 0),
}


@pytest.mark.parametrize(("ranks", "late"), LATE.values(), ids=LATE)
def test_the_late_rank_is_the_one_that_others_wait_for(
    ranks: list[tables.RankRow], late: int
) -> None:
    assert stalls.late(ranks).rank == late


def end(action: str = "", *, reason: str = "UserError", number: int = 0) -> verdicts.RankEnd:
    return verdicts.RankEnd(
        rank=number,
        role="worker",
        exit_code=3,
        reason=reason,
        step=-1,
        total_steps=0,
        action=action,
    )


def judge(*ranks: verdicts.RankEnd, **changes: Any) -> verdicts.Outcome:
    default = {"stopping": False, "started": False, "restarts": 0, "max_restarts": 2}
    return verdicts.judge(verdicts.Situation(ranks=ranks, **(default | changes)))


def test_without_a_rule_code_that_fails_at_once_fails_the_attempt() -> None:
    assert judge(end()) == "failed"
    assert judge(end(), started=True) == "restart"


def test_a_rule_goes_before_all_else() -> None:
    assert judge(end("Restart")) == "restart"
    assert judge(end("Restart"), restarts=2) == "failed"
    assert judge(end("RestartUncounted"), restarts=2) == "again"
    assert judge(end("Fail"), started=True) == "failed"


def test_the_rule_about_the_cause_counts_and_not_that_about_its_victims() -> None:
    victim = end("Fail", reason=verdicts.PEER_LOST, number=0)
    assert judge(victim, end("RestartUncounted", number=1)) == "again"


def test_who_is_asked_to_stop_is_not_restarted_by_a_rule() -> None:
    assert judge(end("RestartUncounted"), stopping=True) == "stopped"
