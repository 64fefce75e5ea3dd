"""How much each view counts: a product of both, its two exponents fitted on held-out labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from quintile.engine import draws
from quintile.engine.propagate import model

_SHARPNESS = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 22.0, 32.0])
_TRUST = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0])
_FLOOR = 1e-3
_FEWEST = 10


@dataclass(frozen=True)
class Mix:
    """Exponents of the views.

    Attributes:
        sharpness: Factor of the head's values before the softmax.
        trust: Exponent of the propagated shares.
    """

    sharpness: float = 6.0
    trust: float = 0.75


def mix_weight(views: model.Views, classes: draws.IntArray) -> Mix:
    """Return the mix with the smallest log-loss on held-out rows; the default below ten rows."""
    if len(classes) < _FEWEST:
        return Mix()
    rows = np.arange(len(classes))
    best, found = np.inf, Mix()
    for sharpness in _SHARPNESS:
        for trust in _TRUST:
            logged = _logged(views, Mix(float(sharpness), float(trust)))
            loss = round(float(-logged[rows, classes].mean()), 9)
            if loss < best:
                best, found = loss, Mix(float(sharpness), float(trust))
    return found


def mixed(views: model.Views, mix: Mix) -> draws.FloatArray:
    """Return probabilities [n, C] of mixed views."""
    return np.asarray(np.exp(_logged(views, mix)))


def _logged(views: model.Views, mix: Mix) -> draws.FloatArray:
    logits = mix.sharpness * views.head + mix.trust * np.log(views.propagated + _FLOOR)
    return np.asarray(special.log_softmax(logits, axis=1))
