"""How old the parameters were that gradients were computed from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LIMIT = 256


class Histogram:
    """Counts updates by staleness: updates of the chunk between pull and push."""

    def __init__(self) -> None:
        self._counts = [0] * (LIMIT + 1)

    def note(self, staleness: int) -> None:
        """Count one update; everything from ``LIMIT`` on counts as ``LIMIT``."""
        self._counts[min(max(staleness, 0), LIMIT)] += 1

    def document(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        return {str(value): count for value, count in enumerate(self._counts) if count}


def merged(documents: Iterable[Mapping[str, int]]) -> dict[int, int]:
    """Return the histogram of several servers together, by staleness."""
    total: dict[int, int] = {}
    for document in documents:
        for value, count in document.items():
            total[int(value)] = total.get(int(value), 0) + count
    return dict(sorted(total.items()))


def mean(histogram: Mapping[int, int]) -> float:
    """Return the mean staleness, 0 without updates."""
    count = sum(histogram.values())
    return sum(value * many for value, many in histogram.items()) / count if count else 0.0
