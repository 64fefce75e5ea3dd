"""Head and propagation: they learn; a held-out model equals one fitted without the labels."""

from __future__ import annotations

import numpy as np
import pytest

from quintile.engine import propagate
from quintile.engine.propagate import graph
from quintile.testing import blobs

POOL = blobs.blobs()
SPACE = propagate.build(POOL.features, seed=0)


def known(rows: np.ndarray) -> propagate.Known:
    rows = np.sort(rows)
    return propagate.Known(rows, POOL.truth[rows], 4)


def fitted(count: int = 60, seed: int = 0) -> propagate.Fitted:
    rows = np.random.default_rng(seed).permutation(len(POOL.truth))[:count]
    return propagate.fit(SPACE, known(rows), seed=seed)


@pytest.mark.parametrize("fold", [0, 7, 19])
def test_views_without_a_fold_never_saw_its_labels(fold: int) -> None:
    whole = fitted()
    kept = known(whole.known.index[whole.fold != fold])
    again = propagate.fit(SPACE, kept, seed=9)
    held, alone = whole.views_without(fold), again.views()
    np.testing.assert_allclose(held.head, alone.head, atol=1e-6)
    np.testing.assert_allclose(held.propagated, alone.propagated, atol=1e-9)


def test_pairs_never_saw_either_fold() -> None:
    whole = fitted()
    kept = known(whole.known.index[(whole.fold != 3) & (whole.fold != 5)])
    alone = propagate.fit(SPACE, kept, seed=9).views()
    rows = whole.known.index[whole.fold == 5]
    pair = whole.pair(3, 5)
    np.testing.assert_allclose(pair.head, alone.take(rows).head, atol=1e-6)
    np.testing.assert_allclose(pair.propagated, alone.take(rows).propagated, atol=1e-9)
    own = whole.pair(5, 5)
    np.testing.assert_allclose(own.head, whole.views_without(5).take(rows).head, atol=1e-6)


def test_out_of_fold_covers_every_label_once() -> None:
    whole = fitted()
    positions, views = whole.out_of_fold()
    assert sorted(positions.tolist()) == list(range(60))
    assert len(views) == 60
    left, _ = whole.out_of_fold(without=4)
    assert set(left.tolist()) == set(np.flatnonzero(whole.fold != 4).tolist())


def test_more_labels_than_anchors_still_hold_out_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quintile.engine.propagate.head.ANCHORS", 25)
    whole = fitted()
    assert len(whole.machine.anchors) == 25
    rows = np.flatnonzero(whole.fold == 2)
    lifted = np.delete(whole.machine.lifted, rows, axis=0)
    targets = np.delete(whole.known.one_hot() - 0.25, rows, axis=0)
    ridge = lifted.T @ lifted + 0.1 * np.eye(25)
    expected = np.linalg.solve(ridge, lifted.T @ targets)
    np.testing.assert_allclose(whole.machine.weights_without(rows), expected, atol=1e-9)


def test_it_learns() -> None:
    whole = fitted()
    positions, views = whole.out_of_fold()
    mix = propagate.mix_weight(views, whole.known.classes[positions])
    probabilities = propagate.mixed(whole.views(), mix)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == POOL.truth).mean() > 0.9


def test_mix_ignores_a_view_that_knows_nothing() -> None:
    classes = POOL.truth[:80]
    good = np.eye(4)[classes] * 0.8 + 0.05
    noise = np.random.default_rng(1).dirichlet(np.ones(4), size=80)
    views = propagate.Views(head=noise, propagated=good, mass=np.ones(80))
    mix = propagate.mix_weight(views, classes)
    assert mix.sharpness <= 1
    assert mix.trust == 2.0
    assert propagate.mix_weight(views.take(np.arange(5)), classes[:5]) == propagate.Mix()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_labels_give_views_but_no_folds(count: int) -> None:
    whole = fitted(count)
    assert whole.n_folds == 0
    assert whole.views().head.shape == (300, 4)


def test_items_that_no_label_reaches_know_nothing() -> None:
    far = np.concatenate([POOL.features[:50], POOL.features[:50] + 100])
    space = propagate.build(far, seed=0)
    rows = np.arange(0, 50, 5)
    views = propagate.fit(space, propagate.Known(rows, POOL.truth[rows], 4), seed=0).views()
    assert (views.propagated[50:] == 0.25).all()
    assert (views.mass[50:] == 0).all()


def test_graph_leaves_the_item_itself_out_also_among_copies() -> None:
    rows = np.repeat(POOL.features[:10], 4, axis=0)
    found = graph.neighbours(rows, count=5)
    assert found.index.shape == (40, 5)
    assert not (found.index == np.arange(40)[:, None]).any()
    assert (np.diff(found.squared, axis=1) >= 0).all()


def test_single_item_pools_work() -> None:
    space = propagate.build(POOL.features[:1], seed=0)
    whole = propagate.fit(space, propagate.Known(np.array([0]), np.array([1]), 2), seed=0)
    assert whole.views().head.argmax() == 1
