"""Rows of paired measurements: ours beside a peer in interleaved blocks of one run."""

from __future__ import annotations

import json
import pathlib
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

SAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``ratio`` is the median over the blocks of how much better ours is (``better`` of ``row``), with
    an interval of 95 % by bootstrap; ``met`` goes by the bad end of the interval.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    bar: float
    met: bool
    unit: str


def tell(rows: Sequence[Row], out: pathlib.Path | None) -> None:
    """Print rows, and store them as JSON where ``--out`` says."""
    for one in rows:
        print(
            f"{one.name}: {one.ours:.4g} {one.unit} beside {one.peer:.4g}, {one.ratio:.3f} "
            f"({one.low:.3f} to {one.high:.3f}), bar {one.bar}: {'met' if one.met else 'MISSED'}"
        )
    if out:
        out.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")


def row(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    unit: str,
    bar: float,
    better: Literal["less", "more", "at most"] = "less",
) -> Row:
    """Return the row of blocks [n] measured in pairs.

    Args:
        name: What was measured, and against what.
        ours: One figure per block.
        peer: Of the same blocks.
        unit: Of both.
        bar: What the ratio must reach; with ``at most``, must not pass.
        better: ``less``: peer / ours; ``more`` and ``at most``: ours / peer.
    """
    pairs = list(zip(ours, peer, strict=True))
    ratios = [b / a if better == "less" else a / b for a, b in pairs]
    chance = random.Random(0)
    drawn = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(SAMPLES))
    low, high = drawn[int(SAMPLES * 0.025)], drawn[int(SAMPLES * 0.975)]
    met = high <= bar if better == "at most" else low >= bar
    median = statistics.median
    return Row(name, median(ours), median(peer), median(ratios), low, high, bar, met, unit)
