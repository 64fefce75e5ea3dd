"""Leader election: one operator works, the others wait. No threads of its own.

A holder renews every ``retry_s``; a Lease that was not renewed for its whole duration, by the
watch of whoever waits, is taken over. Clocks of two machines are never compared. A holder that
could not renew for ``renew_s`` must stop before anybody may take over, so ``renew_s`` is the
smaller one. Leaving lets go of the Lease, so that the next one begins at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from quintile import logs
from quintile.adapters import lease_kube
from quintile.core import errors

NOBODY: Final = ""
MOMENT_S: Final = 0.05
_LOG: Final = logs.get(__name__)


@dataclass(frozen=True)
class Timing:
    """How long a Lease lasts, how long its holder may fail to renew it, how often both try."""

    lasts_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0

    @classmethod
    def of(cls, lasts_s: float) -> Timing:
        """Return the usual proportions for another duration."""
        return cls(lasts_s=lasts_s, renew_s=lasts_s * 2 / 3, retry_s=lasts_s * 2 / 15)


class Lost(errors.Fenced):
    """The Lease was not renewed in time, or somebody else holds it; stop at once."""


class Leases(Protocol):
    """Where the Lease lies; ``lease_kube.KubeLease`` is one."""

    def read(self) -> lease_kube.Record | None:
        """Return what it says."""
        ...

    def write(
        self, holder: str, *, lasts_s: float, before: lease_kube.Record | None
    ) -> lease_kube.Record:
        """Write a holder, if nobody wrote since ``before``."""
        ...


class Elector:
    """One candidate. ``acquire``, then ``keep`` until it returns or raises, then ``release``.

    Args:
        leases: Where the Lease lies.
        identity: What this candidate is called; no two are the same.
        timing: How long things last.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        identity: str,
        timing: Timing = Timing(),  # noqa: B008 frozen
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._identity = identity
        self._timing = timing
        self._monotonic = monotonic
        self._seen: lease_kube.Record | None = None
        self._seen_s = monotonic()
        self._renewed_s = monotonic()

    def acquire(self, stopped: threading.Event) -> bool:
        """Wait until the Lease is ours; False when ``stopped`` came first.

        Raises:
            Forbidden: We may not read or write the Lease.
        """
        told = NOBODY
        while not stopped.is_set():
            if self.try_acquire():
                return True
            holder = self._seen.holder if self._seen is not None else NOBODY
            if holder != told:
                _LOG.info("another operator leads; waiting", holder=holder)
                told = holder
            stopped.wait(min(self._timing.retry_s, self._expires_in_s()))
        return False

    def try_acquire(self) -> bool:
        """Take the Lease if nobody holds it, or its holder is gone; return whether it is ours."""
        begun = self._monotonic()
        try:
            found = self._leases.read()
            if found != self._seen:
                self._seen, self._seen_s = found, begun
            if not self._is_free(found, begun):
                return False
            self._take(found, begun)
        except errors.Conflict:
            return False
        except errors.Unavailable as error:
            _LOG.warning("the Lease cannot be reached", error=str(error))
            return False
        return True

    def keep(self, stopped: threading.Event) -> None:
        """Renew until ``stopped``.

        Raises:
            Lost: It could not be renewed in time, or somebody else holds it.
        """
        while not stopped.wait(self._timing.retry_s):
            self.renew()

    def renew(self) -> None:
        """Renew once; a failure counts only after ``renew_s`` of them.

        Raises:
            Lost: As ``keep``.
        """
        begun = self._monotonic()
        try:
            self._take(self._seen, begun)
        except errors.Conflict:
            self._look_again(begun)
        except errors.QuintileError as error:
            _LOG.warning("the Lease was not renewed", error=str(error))
        silent_s = self._monotonic() - self._renewed_s
        if silent_s >= self._timing.renew_s:
            raise Lost(
                f"The Lease was not renewed for {silent_s:.0f} s.",
                hint="Look whether the API server answers this operator.",
            )

    def release(self) -> None:
        """Let go, so that another one can begin at once. Idempotent; never raises."""
        seen = self._seen
        if seen is None or seen.holder != self._identity:
            return
        try:
            self._seen = self._leases.write(NOBODY, lasts_s=1.0, before=seen)
        except errors.QuintileError as error:
            _LOG.info("the Lease was not released; it will run out", error=str(error))

    @property
    def holds(self) -> bool:
        """Whether the Lease is surely ours at this moment."""
        ours = self._seen is not None and self._seen.holder == self._identity
        return ours and self._monotonic() - self._renewed_s < self._timing.renew_s

    def _is_free(self, found: lease_kube.Record | None, now: float) -> bool:
        if found is None or found.holder in (NOBODY, self._identity):
            return True
        return now - self._seen_s > max(found.lasts_s, self._timing.lasts_s)

    def _expires_in_s(self) -> float:
        """Return the seconds until the Lease of another may be taken, if it stays silent."""
        lasts_s = max(self._seen.lasts_s if self._seen else 0.0, self._timing.lasts_s)
        return max(MOMENT_S, self._seen_s + lasts_s + MOMENT_S - self._monotonic())

    def _take(self, before: lease_kube.Record | None, begun: float) -> None:
        self._seen = self._leases.write(self._identity, lasts_s=self._timing.lasts_s, before=before)
        # From before the request: whoever waits may have seen it as early as that.
        self._seen_s = self._renewed_s = begun

    def _look_again(self, begun: float) -> None:
        try:
            found = self._leases.read()
        except errors.QuintileError as error:
            _LOG.warning("the Lease cannot be read", error=str(error))
            return
        if found is None or found.holder != self._identity:
            holder = found.holder if found is not None else NOBODY
            raise Lost(f"{holder or 'Nobody'} holds the Lease now.", hint="This operator stops.")
        self._seen, self._seen_s = found, begun
