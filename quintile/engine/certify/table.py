"""The stored scores that a certificate follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from quintile.engine import draws


@dataclass(frozen=True)
class RandomRows:
    """What the machine would have said about settled R items, not having seen their answers.

    Attributes:
        index: Item rows [n].
        predicted: Class that the machine would give [n].
        score: Confidence in it, rounded to 1e-6 [n].
        rank: Share of the pool that the same model is surer about, in [0, 1] [n].
        wrong: Whether people said something else, or nothing [n].
    """

    index: draws.IntArray
    predicted: draws.IntArray
    score: draws.FloatArray
    rank: draws.FloatArray
    wrong: draws.BoolArray


@dataclass(frozen=True)
class ScoreTable:
    """Everything ``verify`` needs, as plain arrays (one ``.npz``).

    Attributes:
        scores: Final confidence per item, rounded to 1e-6 [N].
        human: Items with a class from people [N].
        blocked: Items that may never be accepted (unreadable, settled without a class) [N].
        random_index: Certifying items of R [n]: all settled ones, or the sealed part.
        random_rank: As in RandomRows [n].
        random_wrong: As in RandomRows [n].
        trained: Items of R that were drawn with them but trained the model (strict) [m].
    """

    scores: draws.FloatArray
    human: draws.BoolArray
    blocked: draws.BoolArray
    random_index: draws.IntArray
    random_rank: draws.FloatArray
    random_wrong: draws.BoolArray
    trained: draws.IntArray

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays by name, for ``numpy.savez``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, stored: Mapping[str, NDArray[np.generic]]) -> ScoreTable:
        """Return the table from arrays by name; KeyError names a missing one."""
        return cls(
            scores=stored["scores"].astype(np.float64),
            human=stored["human"].astype(np.bool_),
            blocked=stored["blocked"].astype(np.bool_),
            random_index=stored["random_index"].astype(np.int64),
            random_rank=stored["random_rank"].astype(np.float64),
            random_wrong=stored["random_wrong"].astype(np.bool_),
            trained=stored["trained"].astype(np.int64),
        )
