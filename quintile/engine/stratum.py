"""The random stratum R: one committed permutation of the items of a job.

Called by the labeling service when a job is admitted. R of any size is a prefix of the same
permutation, so it can grow without a new draw. Items are drawn, never groups of twins.
"""

from __future__ import annotations

import hashlib

import numpy as np

from quintile.core import errors
from quintile.engine import certify, draws


def permutation(n_items: int, *, seed: int) -> draws.IntArray:
    """Return item rows [N] in the order in which R takes them."""
    _check(n_items)
    return draws.generator(seed, "stratum").permutation(n_items).astype(np.int64)


def prefix(n_items: int, *, seed: int, size: int) -> draws.IntArray:
    """Return the first ``size`` items of R [n]."""
    return permutation(n_items, seed=seed)[: min(size, n_items)]


def commitment(n_items: int, *, seed: int, salt: str = "") -> str:
    """Return the sha256 hex digest published before any label exists.

    Whoever learns seed and salt afterwards can check that R was not drawn to please. ``salt``
    should be a secret of at least 16 characters until then: seeds are small and guessable.
    """
    return hashlib.sha256(f"quintile-stratum:{n_items}:{seed}:{salt}".encode()).hexdigest()


def settled_prefix(random_rank: draws.IntArray) -> int:
    """Return the length of the longest prefix of R in which every item is settled.

    Args:
        random_rank: Positions in R of settled items, in any order; -1 = not in R.
    """
    ranks = np.unique(random_rank[random_rank >= 0])
    missing = np.flatnonzero(ranks != np.arange(len(ranks)))
    return int(missing[0]) if len(missing) else len(ranks)


def smallest(n_items: int, *, target: certify.Target, allow_wrong: int = 1) -> int:
    """Return the default size of R: the target holds with ``allow_wrong`` accepted errors in R."""
    return certify.smallest_sample(n_items, target=target, allow_wrong=allow_wrong)


def _check(n_items: int) -> None:
    if n_items < 1:
        raise errors.InvalidSpec(f"A pool of {n_items} items has no stratum; expected 1 or more.")
