"""How long to go on trying, and how long to wait between two tries. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Limits of the retries of one request.

    Attributes:
        total_s: How long to go on once the server has answered something before.
        first_contact_s: How long to go on while it never answered: a wrong address shows early.
        first_delay_s: Wait after the first failure; doubles from there.
        longest_delay_s: Longest wait of our own; Retry-After may ask for more.
    """

    total_s: float = 60.0
    first_contact_s: float = 3.0
    first_delay_s: float = 0.2
    longest_delay_s: float = 5.0

    def limit_s(self, *, reached: bool) -> float:
        """Return how long to go on; ``reached``: this server has answered before."""
        return self.total_s if reached else min(self.first_contact_s, self.total_s)

    def delay_s(self, attempt: int, *, jitter: float, at_least_s: float = 0.0) -> float:
        """Return the wait after failure number ``attempt`` (from 0).

        Args:
            attempt: How many failures came before this one.
            jitter: In [0, 1); spreads the wait over the upper half of its range.
            at_least_s: What the server asked for.
        """
        full = min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(attempt, 30))
        return max(at_least_s, full * (0.5 + jitter / 2))


NONE = Patience(total_s=0.0, first_contact_s=0.0)
"""One try only."""
