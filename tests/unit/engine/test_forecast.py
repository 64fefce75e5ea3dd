"""The outlook: it falls with doubt, knows when to stop, and says what is out of reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quintile.engine import certify, forecast

GOAL = certify.Target(error=0.02)
PLAN = forecast.Plan(items=1800, labels=300, random_size=220, random_left=0, batch=40)


def evidence(doubt: float, *, pool: int = 1500, wrong: int = 3) -> forecast.Evidence:
    """A pool of which the less sure half is wrong by ``doubt`` on average, and 60 chosen items."""
    scores = np.round(1 - np.linspace(0, 2 * doubt, pool), 6)
    missed = np.zeros(60, dtype=bool)
    missed[:wrong] = True
    return forecast.Evidence(scores, np.linspace(0.5, 0.9, 60), missed)


def test_more_doubt_means_less_coverage_and_more_labels() -> None:
    found = [forecast.forecast(evidence(d), GOAL, PLAN, seed=1) for d in (0.001, 0.02, 0.1)]
    coverages = [one.coverage for one in found]
    assert coverages == sorted(coverages, reverse=True)
    assert coverages[0] > 0.9
    assert coverages[2] < 0.6
    for one in found:
        assert 0 <= one.low <= one.coverage <= one.high <= 1
        assert one.labels_total == 300 + one.labels_left
        assert one.labels_left == round((1 - one.coverage) * 1500)


def test_equal_inputs_give_an_equal_outlook() -> None:
    assert forecast.forecast(evidence(0.02), GOAL, PLAN, seed=5) == forecast.forecast(
        evidence(0.02), GOAL, PLAN, seed=5
    )


def test_rest_of_the_stratum_is_still_to_be_labelled() -> None:
    full = forecast.forecast(evidence(0.02), GOAL, PLAN, seed=1)
    part = forecast.forecast(evidence(0.02), GOAL, replace(PLAN, random_left=50), seed=1)
    assert part.labels_left == full.labels_left + 50


@pytest.mark.parametrize(
    ("history", "pool", "expected"),
    [
        ((), 1500, ""),
        ((200.0, 210.0), 1500, "NoFurtherGain"),
        ((900.0, 210.0), 1500, ""),
        ((), 70, "FewLeft"),
    ],
    ids=["first", "no-gain-twice", "gained-before", "few-left"],
)
def test_stop_reasons(history: tuple[float, ...], pool: int, expected: str) -> None:
    plan = replace(PLAN, history=history)
    assert forecast.forecast(evidence(0.012, pool=pool), GOAL, plan, seed=1).stop == expected


def test_full_coverage_ends_learning() -> None:
    sure = forecast.Evidence(np.ones(1500), np.ones(60), np.zeros(60, dtype=bool))
    found = forecast.forecast(sure, GOAL, PLAN, seed=1)
    assert (found.low, found.stop, found.labels_left) == (1.0, "FullCoverage", 0)


@pytest.mark.parametrize("size", [0, 20])
def test_what_cannot_be_certified_never_stops_and_is_said(size: int) -> None:
    plan = replace(PLAN, random_size=size, history=(1.0, 2.0))
    found = forecast.forecast(evidence(0.01, pool=30), GOAL, plan, seed=1)
    assert (found.coverage, found.stop) == (0.0, "")
    assert found.advice


def test_targets_out_of_reach_come_with_the_nearest_that_is() -> None:
    near = forecast.forecast(evidence(0.05), GOAL, PLAN, seed=1)
    assert "would be in reach" in near.advice
    far = forecast.forecast(evidence(0.45, wrong=30), GOAL, PLAN, seed=1)
    assert "out of reach" in far.advice


def test_intervals_hold_what_then_happens() -> None:
    """Pools that are as sure as they say: the interval holds the outcome in most of 60 draws."""
    draw = np.random.default_rng(3)
    inside = 0
    given = evidence(0.02)
    found = forecast.forecast(given, GOAL, PLAN, seed=1)
    for _ in range(60):
        rows = np.sort(draw.permutation(1500)[:220])
        wrong = draw.random(220) < 1 - given.pool[rows]
        reached = np.searchsorted(np.cumsum(wrong), 1, side="right") / 220
        inside += found.low - 0.05 <= reached <= found.high + 0.05
    assert inside >= 42
