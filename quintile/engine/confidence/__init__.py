"""How sure the machine is of each of its labels. Called by ``rounds``.

``judge`` gives predictions and scores for the pool; ``cross_fit`` gives, for labelled rows, what
a model that never saw their fold's labels says and how that ranks in the pool.
"""

from quintile.engine.confidence.correctness import Correctness
from quintile.engine.confidence.judging import CrossFit, Judged, cross_fit, judge, judge_apart

__all__ = ["Correctness", "CrossFit", "Judged", "cross_fit", "judge", "judge_apart"]
