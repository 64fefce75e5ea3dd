"""From a fitted model to predictions, scores and, for labelled rows, honest ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quintile.engine import draws, propagate, threads
from quintile.engine.confidence import correctness


@dataclass(frozen=True)
class Judged:
    """What a model says about rows.

    Attributes:
        probabilities: [n, C].
        predicted: Most probable class [n].
        scores: Probability that it is right, rounded to 1e-6 [n].
    """

    probabilities: draws.FloatArray
    predicted: draws.IntArray
    scores: draws.FloatArray


@dataclass(frozen=True)
class CrossFit:
    """What models without a label's fold say about its row.

    Attributes:
        index: Rows, in the order of the known labels [L].
        predicted: Class [L].
        scores: Score under that model [L].
        rank: Share of the unlabelled pool that the same model is surer about, in [0, 1] [L].
    """

    index: draws.IntArray
    predicted: draws.IntArray
    scores: draws.FloatArray
    rank: draws.FloatArray


@threads.single
def judge(fitted: propagate.Fitted) -> Judged:
    """Return predictions and scores of the pool [N] with all labels."""
    every = np.ones(len(fitted.known), dtype=np.bool_)
    return _judged(fitted.views(), *_lessons(fitted, every, without=-1))


@threads.single
def judge_apart(fitted: propagate.Fitted, looked_at: draws.BoolArray) -> tuple[Judged, Judged]:
    """Return what is said about the pool [N] and, held out, about some labelled rows [M].

    How often the model is right is learned from these rows alone, so that nothing measured on the
    other labels (the random stratum) shows.

    Args:
        fitted: The model.
        looked_at: Labels whose correctness may be looked at, by position [L].
    """
    lessons = _lessons(fitted, looked_at, without=-1)
    pool = _judged(fitted.views(), *lessons)
    if fitted.n_folds == 0:
        return pool, _judged(fitted.views().take(draws.no_items()), *lessons)
    positions, views = fitted.out_of_fold()
    order = np.argsort(positions, kind="stable")
    return pool, _judged(views.take(order[looked_at]), *lessons)


@threads.single
def cross_fit(fitted: propagate.Fitted, pool: draws.IntArray) -> CrossFit:
    """Return honest predictions, scores and ranks of all labelled rows.

    Mix and correctness model of a fold are learned without its labels too: nested.

    Args:
        fitted: The model; it must have folds.
        pool: Rows among which ranks are taken: those without labels [U].
    """
    n_labels = len(fitted.known)
    every = np.ones(n_labels, dtype=np.bool_)
    predicted = np.zeros(n_labels, dtype=np.int64)
    scores, rank = np.zeros(n_labels), np.zeros(n_labels)
    for fold in range(fitted.n_folds):
        rows = np.flatnonzero(fitted.fold == fold)
        views = fitted.views_without(fold)
        lessons = _lessons(fitted, every, without=fold)
        own = _judged(views.take(fitted.known.index[rows]), *lessons)
        others = np.sort(_judged(views.take(pool), *lessons).scores)
        surer = len(others) - np.searchsorted(others, own.scores, side="right")
        predicted[rows], scores[rows] = own.predicted, own.scores
        rank[rows] = surer / max(1, len(others))
    return CrossFit(fitted.known.index, predicted, scores, rank)


def _lessons(
    fitted: propagate.Fitted, looked_at: draws.BoolArray, *, without: int
) -> tuple[propagate.Mix, correctness.Correctness]:
    """Return mix and correctness from held-out rows, never touching fold ``without``.

    Only the rows of labels ``looked_at`` [L] are judged.
    """
    if fitted.n_folds - (without >= 0) < 2:
        signs = np.zeros((0, correctness.SIGNS))
        return propagate.Mix(), correctness.fit(signs, np.zeros(0, dtype=np.bool_))
    positions, views = fitted.out_of_fold(without=without)
    kept = np.flatnonzero(looked_at[positions])
    positions, views = positions[kept], views.take(kept)
    classes = fitted.known.classes[positions]
    mix = propagate.mix_weight(views, classes)
    probabilities = propagate.mixed(views, mix)
    right = probabilities.argmax(axis=1) == classes
    return mix, correctness.fit(correctness.signs(views, probabilities), right)


def _judged(views: propagate.Views, mix: propagate.Mix, model: correctness.Correctness) -> Judged:
    probabilities = propagate.mixed(views, mix)
    scores = model.score(correctness.signs(views, probabilities))
    return Judged(probabilities, probabilities.argmax(axis=1).astype(np.int64), scores)
