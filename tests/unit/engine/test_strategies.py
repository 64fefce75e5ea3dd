"""One conformance suite for all strategies, and what each of them is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quintile.core import errors, labeling_job
from quintile.engine import propagate, strategies
from quintile.engine.strategies import coverage
from quintile.testing import blobs

POOL = blobs.blobs(240)
SPACE = propagate.build(POOL.features, seed=0)
CLASSES = ("ant", "bee", "cat", "dog")
NAMES = sorted(strategies.BY_NAME)
COVERED = np.arange(0, 240, 12)


def state(*, model: bool = True, wanted: int = 30) -> strategies.State:
    probabilities = None
    if model:
        labels = propagate.Known(COVERED, POOL.truth[COVERED], 4)
        whole = propagate.fit(SPACE, labels, seed=0)
        probabilities = propagate.mixed(whole.views(), propagate.Mix())
    closed = np.union1d(COVERED, [5, 7])
    return strategies.State(
        features=POOL.features,
        scale=SPACE.scale,
        covered=COVERED,
        open=np.setdiff1d(np.arange(240), closed),
        wanted=wanted,
        seed=3,
        probabilities=probabilities,
    )


def order(name: str, given: strategies.State) -> strategies.Picks:
    return strategies.order(name, given, classes=CLASSES, batch=10)


def test_every_file_is_a_strategy_of_the_job_and_in_this_suite() -> None:
    shared = {"__init__", "state", "coverage", "selecting"}
    folder = Path(strategies.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - shared
    assert files == set(strategies.BY_NAME)
    assert {*files, "auto"} == set(labeling_job.StrategyName.__args__)


@pytest.mark.parametrize("name", ["auto", *NAMES])
@pytest.mark.parametrize("model", [True, False], ids=["model", "cold"])
def test_picks_are_open_distinct_explained_and_repeatable(name: str, model: bool) -> None:
    given = state(model=model)
    picks = order(name, given)
    assert len(picks.rows) == 30
    assert len(set(picks.rows.tolist())) == 30
    assert set(picks.rows.tolist()) <= set(given.open.tolist())
    assert len(picks.reasons) == 30
    assert all(picks.reasons)
    again = order(name, given)
    assert (again.rows.tolist(), again.reasons) == (picks.rows.tolist(), picks.reasons)


@pytest.mark.parametrize("name", NAMES)
def test_utilities_are_one_number_per_item(name: str) -> None:
    utility = strategies.BY_NAME[name](state())
    assert utility.shape == (240,)
    assert utility.dtype == np.float64
    assert not np.isnan(utility).any()


@pytest.mark.parametrize("name", NAMES)
def test_small_and_empty_pools(name: str) -> None:
    given = state()
    few = replace(given, open=given.open[:4])
    assert sorted(order(name, few).rows.tolist()) == given.open[:4].tolist()
    none = replace(given, open=given.open[:0])
    assert len(order(name, none).rows) == 0
    fresh = replace(given, covered=given.covered[:0])
    assert len(order(name, fresh).rows) == 30


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_one_image(name: str) -> None:
    given = state()
    same = np.zeros_like(given.features)
    flat = replace(given, features=same, scale=1.0)
    assert len(set(order(name, flat).rows.tolist())) == 30


def test_ties_go_to_the_lower_item() -> None:
    utility = np.array([0.5, 0.7, 0.5 + 1e-9, -np.inf, 0.7])
    assert strategies.select(utility, np.arange(5), count=9).tolist() == [1, 4, 0, 2]
    assert strategies.select(utility, np.array([0, 2, 3]), count=1).tolist() == [0]


def test_lazy_greedy_equals_plain_greedy() -> None:
    given = state()
    weights = np.random.default_rng(0).random(240)
    found = coverage.greedy(given, weights, width=SPACE.scale)
    squared = ((POOL.features[:, None] - POOL.features[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / SPACE.scale)
    reached = kernel[COVERED].max(axis=0)
    open_rows = given.open.tolist()
    for row in found:
        gains = {j: float(weights @ np.maximum(kernel[j] - reached, 0)) for j in open_rows}
        assert gains[row] >= max(gains.values()) - 1e-5
        reached = np.maximum(reached, kernel[row])
        open_rows.remove(row)


def test_large_pools_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "POINTS", 50)
    picks = order("maxherding", state())
    assert len(set(picks.rows.tolist())) == 30


def test_a_drawn_sample_weighs_as_much_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "POINTS", 150)
    weights = np.random.default_rng(0).random(240) ** 3
    half = np.arange(240) % 2 == 0
    sums = []
    for seed in range(40):
        rows, shares = coverage._sample(np.arange(240), weights, seed=seed, purpose="points")
        assert len(rows) == 150
        sums.append((shares.sum(), shares[half[rows]].sum()))
    whole, part = np.mean(sums, axis=0)
    assert whole == pytest.approx(weights.sum(), rel=0.03)
    assert part == pytest.approx(weights[half].sum(), rel=0.04)


def test_cold_start_finds_every_cluster() -> None:
    fresh = replace(state(model=False), covered=np.zeros(0, dtype=np.int64), open=np.arange(240))
    for name in ("auto", "typiclust"):
        rows = strategies.order(name, fresh, classes=CLASSES, batch=8).rows[:8]
        assert set(POOL.truth[rows].tolist()) == {0, 1, 2, 3}, name


@pytest.mark.parametrize("name", ["auto", "margin", "entropy"])
def test_unsure_items_come_first(name: str) -> None:
    given = state()
    margins = given.margins()
    rows = order(name, given).rows[:10]
    assert margins[rows].mean() < np.median(margins[given.open])


def test_reasons_are_for_people() -> None:
    margin = order("margin", state())
    first, second = np.sort(state().probabilities[margin.rows[0]])[::-1][:2]
    assert margin.reasons[0].endswith(f"{first - second:.2f} apart")
    assert margin.reasons[0].split()[0].split("/")[0] in CLASSES
    cold = order("auto", state(model=False))
    assert cold.reasons[0].startswith("stands for ")
    assert set(order("random", state()).reasons) == {"random"}


def test_unknown_strategies_are_refused() -> None:
    with pytest.raises(errors.InvalidSpec, match="no strategy 'best'; expected one of auto, badge"):
        order("best", state())
