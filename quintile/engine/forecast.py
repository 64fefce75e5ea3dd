"""What a certificate would cover if people stopped now, as an interval, and whether to stop.

Called by ``rounds`` after each learning round. Nothing here may come from labels of the random
stratum beyond what they taught the model: the stratum is imagined anew in every simulation, from
the scores of the pool and the held-out results of chosen items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from quintile.engine import certify, draws
from quintile.engine.certify import bounds

SIMULATIONS = 200
_WORTHWHILE = 0.5
_UNSURE = 0.8
"""Deviation of the logarithm of the doubt that no number of chosen items removes."""
_WIDER = (1.25, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Evidence:
    """What may be looked at.

    Attributes:
        pool: Scores of the unlabelled items outside of R [U].
        chosen: Held-out scores of chosen items with labels [M].
        chosen_wrong: Whether the machine, not having seen them, was wrong there [M].
    """

    pool: draws.FloatArray
    chosen: draws.FloatArray
    chosen_wrong: draws.BoolArray


@dataclass(frozen=True)
class Plan:
    """Where the job stands.

    Attributes:
        items: N.
        labels: Items with a decision of people.
        random_size: Planned size of R; 0 = nothing will be certified.
        random_left: Items of R without a decision.
        batch: Items per round.
        history: ``labels_total`` of earlier rounds, oldest first.
    """

    items: int
    labels: int
    random_size: int
    random_left: int
    batch: int
    history: Sequence[float] = ()


@dataclass(frozen=True)
class Forecast:
    """The outlook after a round.

    Attributes:
        coverage: Median share of the unlabelled items that the machine would label.
        low: 10 % quantile.
        high: 90 % quantile.
        labels_left: Decisions still to make if learning stopped now: rest of R, uncovered items.
        labels_total: With those already made.
        stop: Why learning should stop, a CamelCase word; empty to go on.
        advice: A sentence for people, empty if all is well.
    """

    coverage: float
    low: float
    high: float
    labels_left: int
    labels_total: int
    stop: str
    advice: str


def forecast(evidence: Evidence, goal: certify.Target, plan: Plan, *, seed: int) -> Forecast:
    """Return the outlook; equal inputs give an equal one."""
    shares = _simulate(evidence, goal, plan, seed=seed)
    low, coverage, high = (round(float(np.quantile(shares, q)), 6) for q in (0.1, 0.5, 0.9))
    uncovered = round((1 - coverage) * len(evidence.pool))
    left = plan.random_left + uncovered
    found = Forecast(coverage, low, high, left, plan.labels + left, "", "")
    return replace(
        found,
        stop=_stop(found, evidence, goal, plan),
        advice=_advice(found, evidence, goal, plan, seed=seed),
    )


def _stop(found: Forecast, evidence: Evidence, goal: certify.Target, plan: Plan) -> str:
    if _allowed(goal, plan) < 0:
        return ""
    if len(evidence.pool) <= 2 * plan.batch:
        return "FewLeft"
    if round((1 - found.low) * len(evidence.pool)) == 0:
        return "FullCoverage"
    # While the machine covers little, labels still teach; later each must save more than itself.
    totals = [*plan.history[-2:], found.labels_total]
    gained = any(later < earlier for earlier, later in zip(totals, totals[1:], strict=False))
    if len(totals) == 3 and not gained and found.coverage >= _WORTHWHILE:
        return "NoFurtherGain"
    return ""


def _advice(
    found: Forecast, evidence: Evidence, goal: certify.Target, plan: Plan, *, seed: int
) -> str:
    if plan.random_size == 0:
        return "No random items were asked for, so nothing will be certified."
    if _allowed(goal, plan) < 0:
        needed = certify.smallest_sample(plan.items, target=goal)
        return (
            f"{plan.random_size} random items cannot certify an error of {100 * goal.error:g} %; "
            f"it takes at least {needed}."
        )
    if found.coverage >= _WORTHWHILE or len(evidence.pool) == 0:
        return ""
    for factor in _WIDER:
        error = round(goal.error * factor, 6)
        if error >= 0.5:
            break
        shares = _simulate(evidence, replace(goal, error=error), plan, seed=seed)
        if float(np.median(shares)) >= _WORTHWHILE:
            return (
                f"An error of {100 * goal.error:g} % lets the machine label about "
                f"{100 * found.coverage:.0f} % of the rest; {100 * error:g} % would be in reach."
            )
    return (
        f"An error of {100 * goal.error:g} % is out of reach with these labels: expect to answer "
        f"about {found.labels_left} more items."
    )


def _allowed(goal: certify.Target, plan: Plan) -> int:
    """Return how many wrong items of R the certificate can bear, -1 when R is too small."""
    sealed = bounds.sealed_count(plan.random_size, goal.mode)
    sample = sealed or plan.random_size
    if sample == 0:
        return -1
    population = plan.items - (plan.random_size - sample)
    return bounds.allowed_wrong(
        population, sample, rows=plan.items, error=goal.error, alpha=goal.alpha
    )


def _simulate(
    evidence: Evidence, goal: certify.Target, plan: Plan, *, seed: int
) -> draws.FloatArray:
    """Return the covered share in each of ``SIMULATIONS`` imagined random strata."""
    allowed = _allowed(goal, plan)
    scores = np.concatenate([evidence.pool, evidence.chosen])
    if allowed < 0 or len(scores) == 0:
        return np.zeros(SIMULATIONS)
    ascending = np.sort(evidence.pool)
    surer = len(ascending) - np.searchsorted(ascending, scores, side="right")
    rank = surer / max(1, len(ascending))
    doubt = np.concatenate([1 - evidence.pool, evidence.chosen_wrong.astype(np.float64)])
    known = np.arange(len(scores)) >= len(evidence.pool)
    sample = bounds.sealed_count(plan.random_size, goal.mode) or plan.random_size
    draw = draws.generator(seed, "forecast")
    # How far the doubt may be off, as a factor: the fewer errors were seen, the less is known.
    spread = math.sqrt(_UNSURE**2 + 1 / (1 + float(evidence.chosen_wrong.sum())))
    shares = np.empty(SIMULATIONS)
    for number in range(SIMULATIONS):
        rows = draw.permutation(len(scores))[:sample]
        off = math.exp(spread * float(draw.standard_normal()))
        chance = np.where(known[rows], doubt[rows], np.minimum(1, doubt[rows] * off))
        wrong = draw.random(len(rows)) < chance
        ordered = np.argsort(rank[rows], kind="stable")
        counted = np.cumsum(wrong[ordered])
        shares[number] = np.searchsorted(counted, allowed, side="right") / len(rows)
    return shares
