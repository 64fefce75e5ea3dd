"""What the reconciler works with; put together by a composition root."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

from quintile import ports
from quintile.adapters import tokens_ed25519
from quintile_operator.gate import Gate


class Minter(Protocol):
    """Signs trial tokens; ``tokens_ed25519.TrialTokenSigner`` does."""

    def sign(self, claims: tokens_ed25519.TrialClaims) -> str:
        """Return the token; equal claims give equal text."""
        ...


@dataclass(frozen=True)
class Parts:
    """Ports and constants of one reconciler.

    Attributes:
        resources: Desired state and status.
        executor: The processes.
        facts: What agents and people did.
        events: Where notable happenings go.
        clock: The time.
        minter: Signs the tokens of trial attempts.
        api_url: Base URL of the API as agents reach it.
        python: Interpreter that runs the agents.
        gate: Queues and runtimes; None where there are none.
    """

    resources: ports.ResourceStore
    executor: ports.Executor
    facts: ports.Facts
    events: ports.EventSink
    clock: ports.Clock
    minter: Minter
    api_url: str
    python: str = sys.executable
    gate: Gate | None = None
