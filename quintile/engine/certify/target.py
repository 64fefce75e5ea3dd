"""What a job promises: error, confidence, guarantee, mode and looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from quintile.core import errors

Guarantee = Literal["dataset", "precision"]
Mode = Literal["crossfit", "strict", "audit"]
Looks = Literal["final", "each"]

WORDS: dict[str, str] = {
    "audit": "exact",
    "strict": "exact for a fixed model; conservative under active picks (measured)",
    "crossfit": "empirical",
}
SEALED_SHARE: dict[str, float] = {"audit": 1.0, "strict": 0.5, "crossfit": 0.0}


@dataclass(frozen=True)
class Target:
    """What the certificate must show.

    Attributes:
        error: Share of rows that may be wrong (e), between 0 and 0.5.
        confidence: 1 - a.
        guarantee: ``dataset`` = wrong rows among all rows; ``precision`` = among machine rows.
        mode: ``crossfit`` = R trains and certifies out of fold; ``strict`` = half of R is sealed;
            ``audit`` = all of R is sealed (drawn after the labels are frozen).
        looks: ``final`` = one look with all of a; ``each`` = a split over ``max_looks``.
        max_looks: Looks declared before round 1; 1 when ``looks`` is ``final``.
    """

    error: float = 0.02
    confidence: float = 0.95
    guarantee: Guarantee = "dataset"
    mode: Mode = "crossfit"
    looks: Looks = "final"
    max_looks: int = 1

    def __post_init__(self) -> None:
        for name, words in (("guarantee", Guarantee), ("mode", Mode), ("looks", Looks)):
            if getattr(self, name) not in get_args(words):
                raise errors.InvalidSpec(
                    f"target.{name} is '{getattr(self, name)}'; expected one of "
                    f"{', '.join(get_args(words))}.",
                    field=f"spec.target.{name}",
                )
        if not 0 < self.error < 0.5:
            raise errors.InvalidSpec(
                f"target.error is {self.error}; expected a share between 0 and 0.5, as 0.02.",
                field="spec.target.error",
            )
        if not 0.5 <= self.confidence < 1:
            raise errors.InvalidSpec(
                f"target.confidence is {self.confidence}; expected 0.5 to 1, as 0.95.",
                field="spec.target.confidence",
            )
        if self.max_looks < 1 or (self.looks == "final" and self.max_looks != 1):
            raise errors.InvalidSpec(
                f"max_looks is {self.max_looks} with looks '{self.looks}'; "
                "expected 1 for final, 1 or more for each."
            )

    @property
    def alpha(self) -> float:
        """Return the error probability that one look may spend."""
        # 1 - 0.95 is not 0.05 in binary; rounding keeps certificates equal to the written target.
        return round((1.0 - self.confidence) / self.max_looks, 12)

    @classmethod
    def parse(cls, mapping: Mapping[str, str]) -> Target:
        """Return the target of a round manifest (all values are strings; missing = default)."""
        fields = {"error", "confidence", "guarantee", "mode", "looks", "maxLooks"}
        unknown = sorted(set(mapping) - fields - {"random"})
        if unknown:
            raise errors.InvalidSpec(
                f"target has unknown fields {', '.join(unknown)}; expected {', '.join(fields)}.",
                field="spec.target",
            )
        try:
            return cls(
                error=float(mapping.get("error", "0.02")),
                confidence=float(mapping.get("confidence", "0.95")),
                guarantee=cast(Guarantee, mapping.get("guarantee", "dataset")),
                mode=cast(Mode, mapping.get("mode", "crossfit")),
                looks=cast(Looks, mapping.get("looks", "final")),
                max_looks=int(mapping.get("maxLooks", "1")),
            )
        except ValueError as error:
            raise errors.InvalidSpec(
                f"target {dict(mapping)} cannot be read: {error}.", field="spec.target"
            ) from error
