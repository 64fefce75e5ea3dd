"""The head: kernel ridge regression with exact answers to "what without these labels?".

One matrix inverse gives the fit with all labels and, by the block formula of leave-one-out, the
fit without any group of them. So cross-fitting, also nested, costs almost nothing and is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from quintile.engine import draws

PENALTY = 0.1
REACH = 1.0
"""The kernel is exp(-REACH d^2 / median d^2)."""
ANCHORS = 1500
_BLOCK = 4096


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes:
        anchors: Feature rows that span the kernel space [m, D]: the labelled ones, or some.
        factor: Lower Cholesky factor of their kernel matrix [m, m].
        gamma: Kernel width.
        lifted: Labelled rows in kernel space [L, m].
        solved: Ridge inverse times ``lifted`` transposed [m, L].
        hat: From targets to fitted values [L, L].
        residual: Targets minus fitted values [L, C].
        weights: [m, C].
    """

    anchors: draws.FloatArray
    factor: draws.FloatArray
    gamma: float
    lifted: draws.FloatArray
    solved: draws.FloatArray
    hat: draws.FloatArray
    residual: draws.FloatArray
    weights: draws.FloatArray

    def weights_without(self, dropped: draws.IntArray) -> draws.FloatArray:
        """Return the weights [m, C] fitted without the labelled rows ``dropped`` [S]."""
        return self.weights - self.solved[:, dropped] @ self.errors_without(dropped)

    def errors_without(self, dropped: draws.IntArray) -> draws.FloatArray:
        """Return targets minus predictions [S, C] at ``dropped``, fitted without them."""
        left = np.eye(len(dropped)) - self.hat[np.ix_(dropped, dropped)]
        return np.asarray(linalg.solve(left, self.residual[dropped], assume_a="pos"))

    def values(self, features: draws.FloatArray, weights: draws.FloatArray) -> draws.FloatArray:
        """Return features [n, D] times weights [m, W] in kernel space [n, W]."""
        found = np.empty((len(features), weights.shape[1]))
        folded = linalg.solve_triangular(self.factor, weights, lower=True, trans="T")
        for start in range(0, len(features), _BLOCK):
            block = features[start : start + _BLOCK]
            found[start : start + _BLOCK] = rbf(block, self.anchors, gamma=self.gamma) @ folded
        return found


def fit(
    features: draws.FloatArray,
    index: draws.IntArray,
    targets: draws.FloatArray,
    *,
    scale: float,
    seed: int,
) -> Head:
    """Return the head fitted to ``targets`` [L, C] at the rows ``index`` [L] of ``features``."""
    chosen = index
    if len(index) > ANCHORS:
        order = draws.generator(seed, "anchors").permutation(len(index))[:ANCHORS]
        chosen = index[np.sort(order)]
    anchors, gamma = features[chosen], REACH / scale
    kernel = rbf(anchors, anchors, gamma=gamma)
    kernel[np.diag_indices(len(kernel))] += 1e-8
    factor = np.asarray(linalg.cholesky(kernel, lower=True))
    crossed = rbf(features[index], anchors, gamma=gamma)
    lifted = linalg.solve_triangular(factor, crossed.T, lower=True).T
    ridge = lifted.T @ lifted
    ridge[np.diag_indices(len(ridge))] += PENALTY
    solved = linalg.cho_solve(linalg.cho_factor(ridge, lower=True), lifted.T)
    weights = solved @ targets
    residual = targets - lifted @ weights
    return Head(anchors, factor, gamma, lifted, solved, lifted @ solved, residual, weights)


def rbf(left: draws.FloatArray, right: draws.FloatArray, *, gamma: float) -> draws.FloatArray:
    """Return exp(-gamma |x - y|^2) [n, m]."""
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.asarray(np.exp(-gamma * np.clip(squared, 0, None)))
