"""Exact hypergeometric bounds on the number of bad items in a finite pool."""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import special

from quintile.core import errors
from quintile.engine import draws
from quintile.engine.certify import target as targets

PRECISION_LEVELS = (1.0, 0.95, 0.9, 0.8, 0.65, 0.5)
"""Nested accepted shares that a precision certificate tests, each at a sixth of a."""


# More than the rounding of log-gammas for a million items.
_TIE = 1e-7


@functools.lru_cache(maxsize=4096)
def upper_count(population: int, sample: int, bad: int, *, alpha: float) -> int:
    """Return the largest K with P(Hypergeom(population, K, sample) <= bad) >= alpha.

    With probability at least 1 - alpha the pool holds at most K bad items. A K on the very edge
    counts as possible, so that rounding can only widen the bound.

    Args:
        population: Items in the pool (N).
        sample: Items drawn without replacement (n).
        bad: Bad items among them (k).
        alpha: Probability of being wrong, between 0 and 1.
    """
    _check(population, sample, bad)
    edge = alpha * (1 - _TIE)
    low, high = bad, population - sample + bad
    while low < high:
        middle = (low + high + 1) // 2
        if at_most(bad, population=population, marked=middle, sample=sample) >= edge:
            low = middle
        else:
            high = middle - 1
    return low


@functools.lru_cache(maxsize=4096)
def lower_count(population: int, sample: int, bad: int, *, alpha: float) -> int:
    """Return the smallest K with P(Hypergeom(population, K, sample) >= bad) >= alpha."""
    _check(population, sample, bad)
    edge = alpha * (1 - _TIE)
    low, high = bad, population - sample + bad
    while low < high:
        middle = (low + high) // 2
        if at_least(bad, population=population, marked=middle, sample=sample) >= edge:
            high = middle
        else:
            low = middle + 1
    return low


def at_most(count: int, *, population: int, marked: int, sample: int) -> float:
    """Return P(Hypergeom(population, marked, sample) <= count)."""
    return _sum(max(0, sample - population + marked), count, (population, marked, sample))


def at_least(count: int, *, population: int, marked: int, sample: int) -> float:
    """Return P(Hypergeom(population, marked, sample) >= count)."""
    return _sum(count, min(marked, sample), (population, marked, sample))


@functools.lru_cache(maxsize=4096)
def allowed_wrong(population: int, sample: int, *, rows: int, error: float, alpha: float) -> int:
    """Return the most wrong accepted items in the sample that still certify; -1 if none do.

    Args:
        population: Items that the sample was drawn from.
        sample: Items drawn.
        rows: Rows over which the error is a share.
        error: Target share of wrong rows.
        alpha: Probability of being wrong.
    """
    allowed = -1
    while allowed < sample:
        bad = allowed + 1
        upper = upper_count(population, sample, bad, alpha=alpha)
        if (upper - bad) > math.floor(error * rows + 1e-9):
            break
        allowed = bad
    return allowed


def smallest_sample(n_items: int, *, target: targets.Target, allow_wrong: int = 0) -> int:
    """Return the smallest R that can certify ``target`` with ``allow_wrong`` errors in it.

    With 0 it is the least n that any certificate needs; a budget below it must be refused.
    ``strict`` counts both halves of R. The whole pool always suffices.
    """
    low, high = 1, n_items
    while low < high:
        middle = (low + high) // 2
        if _certifies(n_items, middle, target=target, allow_wrong=allow_wrong):
            high = middle
        else:
            low = middle + 1
    # The integer bound is not perfectly monotone in n: go up until it holds.
    while low < n_items and not _certifies(n_items, low, target=target, allow_wrong=allow_wrong):
        low += 1
    return low


def sealed_count(size: int, mode: str) -> int:
    """Return how many of ``size`` settled R items certify without training (0 in crossfit)."""
    return math.ceil(size * targets.SEALED_SHARE[mode])


def _certifies(n_items: int, size: int, *, target: targets.Target, allow_wrong: int) -> bool:
    sealed = sealed_count(size, target.mode)
    sample = sealed or size
    bad = min(allow_wrong, sample)
    population = n_items - (size - sample)
    alpha, rows = target.alpha, n_items
    if target.guarantee == "precision":
        alpha, rows = alpha / len(PRECISION_LEVELS), max(1, n_items - size)
    upper = upper_count(population, sample, bad, alpha=alpha)
    return upper - bad <= math.floor(target.error * rows + 1e-9)


def _sum(first: int, last: int, counts: tuple[int, int, int]) -> float:
    """Return the probability of ``first`` to ``last`` marked items in the sample."""
    population, marked, sample = counts
    first = max(first, 0, sample - population + marked)
    found = np.arange(first, min(last, marked, sample) + 1, dtype=np.float64)
    if len(found) == 0:
        return 0.0
    logged = (
        _log_choose(marked, found)
        + _log_choose(population - marked, sample - found)
        - _log_choose(population, np.float64(sample))
    )
    return min(1.0, math.fsum(np.exp(logged)))


def _log_choose(total: int, taken: draws.FloatArray | np.float64) -> draws.FloatArray:
    logged = (
        special.gammaln(total + 1.0)
        - special.gammaln(taken + 1.0)
        - special.gammaln(total - taken + 1.0)
    )
    return np.asarray(logged)


def _check(population: int, sample: int, bad: int) -> None:
    if not 0 <= bad <= sample <= population:
        raise errors.InvalidSpec(
            f"A bound over {population} items from {sample} drawn with {bad} bad is impossible; "
            "expected 0 <= bad <= drawn <= items."
        )
