"""Bounds: against exact fractions on small pools and scipy on large ones; their promise holds."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quintile.core import errors
from quintile.engine import certify
from quintile.engine.certify import bounds


def exact_at_most(bad: int, population: int, marked: int, sample: int) -> Fraction:
    ways = sum(
        math.comb(marked, j) * math.comb(population - marked, sample - j)
        for j in range(min(bad, sample, marked) + 1)
    )
    return Fraction(ways, math.comb(population, sample))


def brute_upper(population: int, sample: int, bad: int, alpha: Fraction) -> int:
    held = [
        marked
        for marked in range(bad, population - sample + bad + 1)
        if exact_at_most(bad, population, marked, sample) >= alpha
    ]
    return max(held)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int]:
    population = draw(st.integers(1, 40))
    sample = draw(st.integers(1, population))
    return population, sample, draw(st.integers(0, sample))


@given(cases(), st.sampled_from([Fraction(1, 20), Fraction(1, 100), Fraction(1, 7)]))
@settings(max_examples=60, deadline=None)
def test_upper_count_is_the_largest_that_the_data_allow(
    case: tuple[int, int, int], alpha: Fraction
) -> None:
    population, sample, bad = case
    found = certify.upper_count(population, sample, bad, alpha=float(alpha))
    assert found == brute_upper(population, sample, bad, alpha)
    assert bad <= found <= population - sample + bad


@pytest.mark.parametrize(
    ("population", "marked", "sample", "bad"),
    [(1797, 36, 220, 1), (13_000, 260, 473, 3), (1_000_000, 10_000, 1049, 5), (500, 0, 20, 0)],
)
def test_tails_agree_with_scipy(population: int, marked: int, sample: int, bad: int) -> None:
    low = bounds.at_most(bad, population=population, marked=marked, sample=sample)
    high = bounds.at_least(bad, population=population, marked=marked, sample=sample)
    assert low == pytest.approx(stats.hypergeom.cdf(bad, population, marked, sample), abs=1e-8)
    assert high == pytest.approx(stats.hypergeom.sf(bad - 1, population, marked, sample), abs=1e-8)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_lower_mirrors_upper(case: tuple[int, int, int]) -> None:
    population, sample, bad = case
    low = certify.lower_count(population, sample, bad, alpha=0.05)
    # The good items are the bad ones of the mirrored question.
    mirrored = certify.upper_count(population, sample, sample - bad, alpha=0.05)
    assert low == population - mirrored


def test_bound_is_wrong_at_most_as_often_as_it_says() -> None:
    population, sample, alpha = 60, 15, 0.1
    for marked in range(population + 1):
        missed = Fraction(0)
        for bad in range(max(0, sample - population + marked), min(marked, sample) + 1):
            if certify.upper_count(population, sample, bad, alpha=alpha) < marked:
                before = exact_at_most(bad - 1, population, marked, sample) if bad else Fraction(0)
                missed += exact_at_most(bad, population, marked, sample) - before
        assert missed <= Fraction(alpha).limit_denominator(100)


@pytest.mark.parametrize(
    ("n_items", "error", "wrong", "expected"),
    [(1797, 0.02, 0, 143), (1797, 0.02, 1, 218), (10**6, 0.05, 0, 59), (10**6, 0.02, 0, 149)],
)
def test_smallest_sample(n_items: int, error: float, wrong: int, expected: int) -> None:
    goal = certify.Target(error=error)
    found = certify.smallest_sample(n_items, target=goal, allow_wrong=wrong)
    assert found == expected
    allowed = bounds.allowed_wrong(n_items, found, rows=n_items, error=error, alpha=goal.alpha)
    assert allowed >= wrong
    less = bounds.allowed_wrong(n_items, found - 1, rows=n_items, error=error, alpha=goal.alpha)
    assert less < wrong


def test_strict_takes_twice_the_sample() -> None:
    crossfit = certify.smallest_sample(5000, target=certify.Target(error=0.05))
    strict = certify.smallest_sample(5000, target=certify.Target(error=0.05, mode="strict"))
    assert 2 * crossfit - 4 <= strict <= 2 * crossfit + 1


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(errors.InvalidSpec, match="from 5 drawn with 6 bad is impossible"):
        certify.upper_count(10, 5, 6, alpha=0.05)
