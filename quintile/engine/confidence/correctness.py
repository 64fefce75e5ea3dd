"""The correctness model: a logistic regression on a few signs, drawn to the mixed probability.

With little evidence it returns the probability itself; the more held-out labels there are, the
more the other signs may move it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from quintile.engine import draws, propagate

_PULL = 10.0
_STEPS = 50
_HALVINGS = 20
_FEWEST = 20
SIGNS = 4


@dataclass(frozen=True)
class Correctness:
    """A fitted correctness model over standardised signs.

    Attributes:
        centre: Mean of each sign [F].
        spread: Deviation of each sign [F].
        weights: Intercept, then one weight per sign [F + 1].
    """

    centre: draws.FloatArray
    spread: draws.FloatArray
    weights: draws.FloatArray

    def score(self, signs: draws.FloatArray) -> draws.FloatArray:
        """Return the probability of being right [n], rounded to 1e-6."""
        rows = _rows(signs, self.centre, self.spread)
        return draws.rounded(np.asarray(special.expit(rows @ self.weights)))


def signs(views: propagate.Views, probabilities: draws.FloatArray) -> draws.FloatArray:
    """Return the signs [n, 4]: log-odds, agreement of the views, the head's margin, label mass."""
    rows = np.arange(len(probabilities))
    best = probabilities.argmax(axis=1)
    sure = np.clip(probabilities[rows, best], 1e-6, 1 - 1e-6)
    agree = (views.head.argmax(axis=1) == views.propagated.argmax(axis=1)).astype(np.float64)
    others = views.head.copy()
    others[rows, best] = -np.inf
    margin = views.head[rows, best] - others.max(axis=1)
    return np.stack([special.logit(sure), agree, margin, np.log(views.mass + 1e-6)], axis=1)


def fit(found: draws.FloatArray, right: draws.BoolArray) -> Correctness:
    """Return the model of held-out rows: their signs [M, F], and whether they were right [M]."""
    n_signs = found.shape[1]
    start = np.zeros(n_signs + 1)
    if len(found) < _FEWEST or right.all():
        # Nothing to learn from: the log-odds as they are.
        start[1] = 1.0
        return Correctness(np.zeros(n_signs), np.ones(n_signs), start)
    centre, spread = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6)
    # In standardised signs the log-odds themselves are this line.
    start[:2] = centre[0], spread[0]
    rows = _rows(found, centre, spread)
    pull = np.r_[_PULL / 10, np.full(n_signs, _PULL)]
    return Correctness(centre, spread, _solve(rows, right.astype(np.float64), start, pull))


def _rows(
    found: draws.FloatArray, centre: draws.FloatArray, spread: draws.FloatArray
) -> draws.FloatArray:
    return np.column_stack([np.ones(len(found)), (found - centre) / spread])


def _solve(
    rows: draws.FloatArray,
    right: draws.FloatArray,
    start: draws.FloatArray,
    pull: draws.FloatArray,
) -> draws.FloatArray:
    """Return the weights nearest to both the evidence and ``start``: damped Newton steps."""

    def loss(weights: draws.FloatArray) -> float:
        logits = rows @ weights
        evidence = np.logaddexp(0, logits).sum() - logits @ right
        return float(evidence + 0.5 * (pull * (weights - start) ** 2).sum())

    weights, best = start, loss(start)
    for _ in range(_STEPS):
        sure = special.expit(rows @ weights)
        slope = rows.T @ (sure - right) + pull * (weights - start)
        bend = rows.T @ (rows * (sure * (1 - sure))[:, None]) + np.diag(pull)
        step = np.linalg.solve(bend, slope)
        for halving in range(_HALVINGS):
            tried = weights - step * 0.5**halving
            reached = loss(tried)
            if reached <= best:
                break
        if best - reached < 1e-9:
            break
        weights, best = tried, reached
    return weights
