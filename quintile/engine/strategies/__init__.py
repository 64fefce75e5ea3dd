"""Which items people should label next. Called by ``rounds``.

One file per strategy with ``score(state) -> utility [N]``; ``order`` runs one by name and ranks.
``auto`` is MaxHerding before the first model and UHerding after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from quintile.core import errors
from quintile.engine import draws, threads
from quintile.engine.strategies import (
    badge,
    coreset,
    entropy,
    margin,
    maxherding,
    random,
    typiclust,
    uherding,
)
from quintile.engine.strategies.selecting import Picks, explain, select
from quintile.engine.strategies.state import State

Score = Callable[[State], draws.FloatArray]

BY_NAME: Mapping[str, Score] = MappingProxyType(
    {
        "badge": badge.score,
        "coreset": coreset.score,
        "entropy": entropy.score,
        "margin": margin.score,
        "maxherding": maxherding.score,
        "random": random.score,
        "typiclust": typiclust.score,
        "uherding": uherding.score,
    }
)
NEED_MODEL = frozenset({"auto", "badge", "entropy", "margin", "uherding"})
"""Before the first model these begin with MaxHerding."""

__all__ = ["BY_NAME", "NEED_MODEL", "Picks", "State", "order", "resolve", "select"]


def resolve(name: str, *, has_model: bool) -> str:
    """Return the strategy that ``name`` means now.

    Raises:
        InvalidSpec: There is no such strategy.
    """
    if name != "auto" and name not in BY_NAME:
        known = ", ".join(["auto", *BY_NAME])
        raise errors.InvalidSpec(
            f"There is no strategy '{name}'; expected one of {known}.", field="spec.strategy.name"
        )
    if name in NEED_MODEL and not has_model:
        return "maxherding"
    return "uherding" if name == "auto" else name


@threads.single
def order(name: str, state: State, *, classes: Sequence[str], batch: int) -> Picks:
    """Return at most ``state.wanted`` open rows, best first, each with its reason.

    Args:
        name: Strategy of the job.
        state: The pool.
        classes: Names of the C classes, for reasons.
        batch: Size of one batch of people, for reasons.
    """
    resolved = resolve(name, has_model=state.probabilities is not None)
    utility = BY_NAME[resolved](state)
    rows = select(utility, state.open, count=state.wanted)
    if resolved == "random":
        return Picks(rows, ("random",) * len(rows))
    unsure = resolved in NEED_MODEL
    return Picks(rows, explain(state, rows, classes=classes, batch=batch, by_margin=unsure))
