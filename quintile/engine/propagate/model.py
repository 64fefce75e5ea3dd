"""One model of a pool: head and propagation, fitted once, asked also "what without these labels?".

Labels are dealt into folds. ``views`` uses all labels, ``views_without`` all but one fold, and
``pair`` all but two: what a fold's model would say about the rows of another fold. So whatever is
learned about a fold's model (mix, correctness) is learned without the labels of that fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quintile.engine import draws, threads
from quintile.engine.propagate import graph, head, space

FOLDS = 20
FEWEST_FOLDS = 5
_CELLS = 200_000_000
"""Largest number of values (folds x N x C) kept; very large pools get fewer folds."""


@dataclass(frozen=True)
class Known:
    """Labels to learn from.

    Attributes:
        index: Labelled rows, ascending [L].
        classes: Their class ids [L].
        n_classes: C.
    """

    index: draws.IntArray
    classes: draws.IntArray
    n_classes: int

    def __len__(self) -> int:
        return len(self.index)

    def one_hot(self) -> draws.FloatArray:
        """Return the labels as rows of an identity matrix [L, C]."""
        return np.eye(self.n_classes)[self.classes]


@dataclass(frozen=True)
class Views:
    """What two views of the features say about rows.

    Attributes:
        head: Class values of the head, about 0 to 1, not normalised [n, C].
        propagated: Shares of the label mass that arrived [n, C].
        mass: How much arrived [n].
    """

    head: draws.FloatArray
    propagated: draws.FloatArray
    mass: draws.FloatArray

    def __len__(self) -> int:
        return len(self.mass)

    def take(self, rows: draws.IntArray) -> Views:
        """Return the views of some rows."""
        return Views(self.head[rows], self.propagated[rows], self.mass[rows])


@dataclass(frozen=True)
class Fitted:
    """A model of a pool.

    Attributes:
        known: What it learned from.
        fold: Fold of each label [L]; ``n_folds`` of them, 0 when there are too few labels.
        n_folds: K.
        machine: The head.
        values: Head values of the pool, first with all labels, then without each fold
            [K + 1, N, C].
        arrived: Label mass of each fold over the pool [max(K, 1), N, C].
    """

    known: Known
    fold: draws.IntArray
    n_folds: int
    machine: head.Head
    values: draws.FloatArray
    arrived: draws.FloatArray

    def views(self) -> Views:
        """Return what all labels say about the pool [N]."""
        return _views(self.values[0], self.arrived.sum(axis=0))

    def views_without(self, fold: int) -> Views:
        """Return what all labels but those of ``fold`` say about the pool [N]."""
        others = np.arange(self.n_folds) != fold
        return _views(self.values[fold + 1], self.arrived[others].sum(axis=0))

    def pair(self, fold: int, other: int) -> Views:
        """Return what all labels but those of two folds say about the labelled rows of ``other``.

        With ``other`` equal to ``fold`` it is that fold's model on its own rows.
        """
        dropped = np.flatnonzero((self.fold == fold) | (self.fold == other))
        errors = self.machine.errors_without(dropped)
        inside = self.fold[dropped] == other
        rows = dropped[inside]
        left = (np.arange(self.n_folds) != fold) & (np.arange(self.n_folds) != other)
        mass = self.arrived[left][:, self.known.index[rows]].sum(axis=0)
        centred = _centred(self.known)[rows] - errors[inside]
        return _views(centred + 1.0 / self.known.n_classes, mass)

    def out_of_fold(self, *, without: int = -1) -> tuple[draws.IntArray, Views]:
        """Return label positions [M] and their views, each without the labels of its own fold.

        Args:
            without: A fold that is left out throughout: its rows, and from every model.
        """
        folds = [fold for fold in range(self.n_folds) if fold != without]
        rows = np.concatenate([np.flatnonzero(self.fold == fold) for fold in folds])
        parts = [self.pair(fold if without < 0 else without, fold) for fold in folds]
        joined = Views(
            np.concatenate([part.head for part in parts]),
            np.concatenate([part.propagated for part in parts]),
            np.concatenate([part.mass for part in parts]),
        )
        return rows, joined


@threads.single
def fit(pool: space.Space, known: Known, *, seed: int) -> Fitted:
    """Return the model of ``pool`` after learning from ``known`` (at least one label)."""
    n_folds = _fold_count(len(known), len(pool.features) * known.n_classes)
    dealt = draws.generator(seed, "folds").permutation(len(known)) % max(n_folds, 1)
    machine = head.fit(pool.features, known.index, _centred(known), scale=pool.scale, seed=seed)
    weights = [machine.weights]
    weights += [machine.weights_without(np.flatnonzero(dealt == fold)) for fold in range(n_folds)]
    values = machine.values(pool.features, np.concatenate(weights, axis=1))
    # [N, (K + 1) C] -> [K + 1, N, C]
    values = np.moveaxis(values.reshape(len(values), n_folds + 1, known.n_classes), 1, 0)
    return Fitted(
        known=known,
        fold=dealt.astype(np.int64),
        n_folds=n_folds,
        machine=machine,
        values=np.ascontiguousarray(values) + 1.0 / known.n_classes,
        arrived=_arrived(pool, known, dealt, max(n_folds, 1)),
    )


def _fold_count(n_labels: int, cells: int) -> int:
    """Return how many folds fit; 0 when there are too few labels to hold any out."""
    bounded = min(FOLDS, max(FEWEST_FOLDS, _CELLS // cells), n_labels // 2)
    return bounded if bounded >= 2 else 0


def _centred(known: Known) -> draws.FloatArray:
    # Without evidence the head says 0 here: every class is as likely.
    return known.one_hot() - 1.0 / known.n_classes


def _arrived(
    pool: space.Space, known: Known, dealt: draws.IntArray, parts: int
) -> draws.FloatArray:
    n_items, n_classes = len(pool.features), known.n_classes
    found = np.empty((parts, n_items, n_classes))
    for part in range(parts):
        inside = dealt == part
        ones = np.ones(int(inside.sum()))
        places = (known.index[inside], known.classes[inside])
        seeds = sparse.csr_array((ones, places), shape=(n_items, n_classes))
        found[part] = graph.masses(pool.graph, seeds)
    return found


def _views(values: draws.FloatArray, mass: draws.FloatArray) -> Views:
    propagated, total = graph.shares(mass)
    return Views(values, propagated, total)
