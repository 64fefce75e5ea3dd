"""Margin: where the two most probable classes are closest."""

from __future__ import annotations

from quintile.engine import draws
from quintile.engine.strategies import state as states


def score(state: states.State) -> draws.FloatArray:
    """Return utilities [N]: one minus the margin."""
    return 1.0 - state.margins()
