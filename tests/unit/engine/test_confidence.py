"""Scores: they order right before wrong, fall back to the probability, and never saw the label."""

from __future__ import annotations

import numpy as np
from scipy import special

from quintile.engine import confidence, propagate
from quintile.engine.confidence import correctness
from quintile.testing import blobs

POOL = blobs.blobs(400, spread=0.9)
SPACE = propagate.build(POOL.features, seed=0)
ROWS = np.sort(np.random.default_rng(0).permutation(400)[:100])


def fitted(classes: np.ndarray) -> propagate.Fitted:
    return propagate.fit(SPACE, propagate.Known(ROWS, classes, 4), seed=0)


def test_scores_put_right_before_wrong() -> None:
    judged = confidence.judge(fitted(POOL.truth[ROWS]))
    right = judged.predicted == POOL.truth
    assert 0.6 < right.mean() < 0.99
    assert judged.scores[right].mean() > judged.scores[~right].mean() + 0.1
    assert (judged.scores == np.round(judged.scores, 6)).all()
    surest = np.argsort(-judged.scores)[:200]
    assert right[surest].mean() > right.mean() + 0.02


def test_scores_are_roughly_calibrated() -> None:
    judged = confidence.judge(fitted(POOL.truth[ROWS]))
    rest = np.setdiff1d(np.arange(400), ROWS)
    right = (judged.predicted == POOL.truth)[rest].mean()
    assert abs(judged.scores[rest].mean() - right) < 0.15


def test_own_label_never_enters_its_held_out_score() -> None:
    whole = fitted(POOL.truth[ROWS])
    pool = np.setdiff1d(np.arange(400), ROWS)
    before = confidence.cross_fit(whole, pool)
    # Other answers for one whole fold: what is said about that fold must not move.
    inside = whole.fold == 6
    changed = POOL.truth[ROWS].copy()
    changed[inside] = (changed[inside] + 1) % 4
    after = confidence.cross_fit(fitted(changed), pool)
    assert inside.sum() == 5
    np.testing.assert_array_equal(before.predicted[inside], after.predicted[inside])
    np.testing.assert_allclose(before.scores[inside], after.scores[inside], atol=2e-6)
    np.testing.assert_allclose(before.rank[inside], after.rank[inside], atol=0.01)
    assert (before.scores[~inside] != after.scores[~inside]).any()


def test_ranks_are_shares_of_the_pool() -> None:
    crossed = confidence.cross_fit(fitted(POOL.truth[ROWS]), np.setdiff1d(np.arange(400), ROWS))
    assert crossed.index.tolist() == ROWS.tolist()
    assert crossed.rank.min() >= 0
    assert crossed.rank.max() <= 1
    assert 0.35 < crossed.rank.mean() < 0.65


def test_judging_apart_looks_at_no_other_answers() -> None:
    whole = fitted(POOL.truth[ROWS])
    looked_at = np.arange(100) % 2 == 0
    pool, chosen = confidence.judge_apart(whole, looked_at)
    assert len(chosen.scores) == 50
    everything = np.ones(100, dtype=bool)
    full, every = confidence.judge_apart(whole, everything)
    np.testing.assert_array_equal(full.scores, confidence.judge(whole).scores)
    assert len(every.scores) == 100
    assert (pool.scores != full.scores).any()


def test_without_errors_the_score_is_the_probability() -> None:
    signs = np.random.default_rng(0).normal(size=(50, correctness.SIGNS))
    model = correctness.fit(signs, np.ones(50, dtype=bool))
    np.testing.assert_allclose(model.score(signs), special.expit(signs[:, 0]), atol=1e-6)


def test_a_sign_that_tells_gets_weight() -> None:
    draw = np.random.default_rng(0)
    signs = draw.normal(size=(400, correctness.SIGNS))
    right = draw.random(400) < special.expit(signs[:, 0] + 2 * signs[:, 2])
    model = correctness.fit(signs, right)
    assert model.weights[3] > 1
    assert abs(model.weights[2]) < 0.4
