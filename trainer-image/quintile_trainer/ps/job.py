"""What worker 0 tells the servers, and every other worker must agree with. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from quintile_trainer.ps import layout, ledger, optimizers, settings


@dataclass(frozen=True)
class Positions:
    """What is leased in ssp and async: positions 0 .. total - 1, less those already done."""

    total: int
    block: int = 0
    done: tuple[tuple[int, int], ...] = ()

    def ledger(self) -> ledger.Ledger:
        """Return a ledger of them."""
        done = [ledger.Lease(start, stop) for start, stop in self.done]
        return ledger.Ledger(self.total, done=done, block=self.block)


@dataclass(frozen=True)
class Job:
    """Model, optimizer and ordering; ``clock`` is every worker's clock at the start."""

    plan: layout.Layout
    rule: optimizers.Rule
    consistency: settings.Consistency
    clock: int = 0
    positions: Positions | None = None

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {
            "layout": self.plan.document(),
            "rule": self.rule.document(),
            "consistency": dataclasses.asdict(self.consistency),
            "clock": self.clock,
            "positions": dataclasses.asdict(self.positions) if self.positions else None,
        }

    @property
    def digest(self) -> str:
        """Return a SHA-256 that equal jobs share, wherever they begin."""
        parts = {name: self.document()[name] for name in ("layout", "rule", "consistency")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def parse(document: dict[str, Any]) -> Job:
    """Return the job that ``Job.document`` describes."""
    positions = document["positions"]
    if positions is not None:
        done = tuple((start, stop) for start, stop in positions["done"])
        positions = Positions(positions["total"], positions["block"], done)
    return Job(
        plan=layout.parse(document["layout"]),
        rule=optimizers.parse(document["rule"]),
        consistency=settings.Consistency(**document["consistency"]),
        clock=document["clock"],
        positions=positions,
    )
