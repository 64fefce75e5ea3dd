"""Labels of people to probabilities for the whole pool. Called by ``rounds``.

Two views of the same features: a kernel ridge head, and label propagation on the
nearest-neighbour graph. Held-out log-loss decides how they are mixed.
"""

from quintile.engine.propagate.graph import Graph, neighbours
from quintile.engine.propagate.mixing import Mix, mix_weight, mixed
from quintile.engine.propagate.model import Fitted, Known, Views, fit
from quintile.engine.propagate.space import Space, build

__all__ = [
    "Fitted",
    "Graph",
    "Known",
    "Mix",
    "Space",
    "Views",
    "build",
    "fit",
    "mix_weight",
    "mixed",
    "neighbours",
]
