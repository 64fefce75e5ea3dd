"""What every Executor does for the replicas of an elastic attempt, as tests.

A subclass of ``ElasticContract`` gives the fixture ``hand`` of ``executor_contract``.
"""

# ruff: noqa: D102  (names of tests are sentences)

from __future__ import annotations

import dataclasses
from typing import Any

from quintile.core import errors, runplan
from quintile.testing import executor_contract

FIRST, SECOND = (f"{executor_contract.NAME}-a1-worker-{index}" for index in range(2))


def elastic(hand: executor_contract.Hand, **more: Any) -> runplan.RunPlan:
    """Return an attempt at the hand's site whose replicas come and go."""
    return dataclasses.replace(hand.plan(**more), elastic=True, grace_s=60)


def ensured(hand: executor_contract.Hand, **more: Any) -> bool:
    """Ensure an attempt; return whether that went, which it does once older replicas are gone."""
    try:
        hand.executor.ensure(elastic(hand, **more))
    except errors.Unavailable:
        return False
    return True


class ElasticContract:
    """Replicas are started again, added and asked to leave while their attempt goes on."""

    def test_a_lost_replica_of_an_elastic_attempt_is_started_again(
        self, hand: executor_contract.Hand
    ) -> None:
        uid = hand.site.uid
        hand.executor.ensure(elastic(hand))
        hand.run(uid)
        hand.lose(uid, FIRST)
        hand.until(lambda: executor_contract.states(hand.executor, uid)[0] == "lost")

        def is_back() -> bool:
            # Every look ensures again, as the reconciler's do: a replica may not be due yet.
            hand.executor.ensure(elastic(hand))
            return executor_contract.states(hand.executor, uid)[0] in ("pending", "running")

        hand.until(is_back)
        hand.run(uid)
        assert [entry.name for entry in hand.executor.observe(uid)] == [FIRST, SECOND]

    def test_a_replica_of_an_elastic_attempt_that_ended_well_stays_ended(
        self, hand: executor_contract.Hand
    ) -> None:
        uid = hand.site.uid
        hand.executor.ensure(elastic(hand))
        hand.run(uid)
        hand.finish(uid, SECOND)
        hand.until(lambda: executor_contract.states(hand.executor, uid)[1] == "exited")
        hand.executor.ensure(elastic(hand))
        assert executor_contract.states(hand.executor, uid) == ["running", "exited"]

    def test_an_elastic_attempt_grows_and_shrinks_to_its_plan(
        self, hand: executor_contract.Hand
    ) -> None:
        uid = hand.site.uid
        hand.executor.ensure(elastic(hand, workers=1))
        hand.run(uid)
        hand.executor.ensure(elastic(hand, workers=3))
        hand.run(uid)
        hand.executor.ensure(elastic(hand, workers=1))
        hand.leave()
        hand.until(lambda: [entry.index for entry in hand.executor.observe(uid)] == [0])
        hand.until(lambda: ensured(hand, workers=2))
        hand.run(uid)
        assert [entry.name for entry in hand.executor.observe(uid)] == [FIRST, SECOND]
