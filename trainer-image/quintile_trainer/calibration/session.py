"""One calibration: everything in turns, so that other work on the machine meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quintile_trainer.calibration import decoding, ranks, steps, sums

Json = dict[str, Any]
SIZES = (4 << 10, 64 << 10, 256 << 10, 512 << 10, *((1 << 20) * 2**power for power in range(5)))
"""Close to each other where a sum leaves the caches."""
MOST_STEPS = 100
MOST_SUMS = 60
SMALLEST_SUM_S = 2e-4


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        worlds: Numbers of workers that step apart and together.
        sum_worlds: Numbers of workers that sum.
        sizes: Bytes of the sums.
        rounds: Turns; each second one goes backwards.
        budget_s: About how long all steps may take; sums get a fifth of it on top.
        threads: Of each worker.
    """

    worlds: tuple[int, ...] = (2,)
    sum_worlds: tuple[int, ...] = (2,)
    sizes: tuple[int, ...] = SIZES
    rounds: int = 4
    budget_s: float = 20.0
    threads: int = 1


@dataclass
class _Turn:
    """One thing that is measured again and again."""

    wanted: steps.Wanted
    way: str
    world: int
    count: int
    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    parts_s: dict[str, list[float]] = field(default_factory=dict)

    def note(self, found: Sequence[steps.Times]) -> None:
        """Keep what the ranks measured: workers apart all count, together they take turns."""
        for times in found if self.way == "apart" else found[:1]:
            self.times_s.extend(times.steps_s)
            self.cpu_s.extend(times.cpu_s)
            for name, values in times.parts_s.items():
                self.parts_s.setdefault(name, []).extend(values)

    def document(self, *, clocked: bool) -> Json:
        """Return this as a ``StepRun``, with the clock of the thread where that is all it has."""
        return {
            "profile": self.wanted.name,
            "ranks": self.world,
            "way": self.way,
            "times_s": self.times_s,
            "cpu_s": self.cpu_s if clocked else [],
        }


def measure(team: ranks.Team, wanted: Sequence[steps.Wanted], effort: Effort) -> Json:
    """Return ``profiles``, ``steps``, ``sums``, ``add_bytes_per_s`` of a calibration.

    Raises:
        RankFailed: A measuring process failed.
    """
    begun = time.monotonic()
    shapes = [team.call(1, steps.profiled, one)[0] for one in wanted]
    turns = [turn for one in wanted for turn in _turns(team, one, effort, len(wanted))]
    summing = [
        (world, size, _sum(team, world, size, 1))
        for world in effort.sum_worlds
        for size in effort.sizes
    ]
    sum_turn_s = effort.budget_s / 5 / effort.rounds / max(1, len(summing))
    for number in range(effort.rounds):
        ordered = turns if number % 2 == 0 else turns[::-1]
        for turn in ordered:
            turn.note(
                team.call(turn.world, steps.timed, turn.wanted, turn.way, turn.world, turn.count)
            )
        for world, size, times_s in summing:
            pace_s = max(SMALLEST_SUM_S, statistics.median(times_s))
            count = max(2, min(MOST_SUMS, int(sum_turn_s / pace_s)))
            times_s.extend(_sum(team, world, size, count))
    return {
        "took_s": time.monotonic() - begun,
        "add_bytes_per_s": team.call(1, sums.add_bytes_per_s)[0],
        "profiles": [
            _profile(one, shape, turns) for one, shape in zip(wanted, shapes, strict=True)
        ],
        "steps": [turn.document(clocked=effort.threads == 1) for turn in turns],
        "sums": [
            {"ranks": world, "size_bytes": size, "times_s": times_s}
            for world, size, times_s in summing
        ],
    }


def loader(team: ranks.Team, image: tuple[int, int, int], seconds: float) -> Json:
    """Return the ``loader`` of a calibration."""
    found = team.call(1, decoding.timed, image, seconds)[0]
    return {"images_per_s": found.images_per_s, "image_bytes": found.image_bytes}


def _turns(team: ranks.Team, wanted: steps.Wanted, effort: Effort, profiles: int) -> list[_Turn]:
    pilot = team.call(1, steps.timed, wanted, "alone", 1, 3, timeout_s=600)[0]
    step_s = statistics.median(pilot.steps_s)
    ways = [
        ("alone", 1),
        ("wrapped", 1),
        *((way, n) for n in effort.worlds for way in ("apart", "ddp")),
    ]
    # Workers beside each other are slower; together a turn of all ways costs about this.
    round_s = step_s * sum(1 + 0.5 * world for _, world in ways)
    afforded = effort.budget_s / profiles / effort.rounds / round_s
    count = max(2, min(MOST_STEPS, int(afforded)))
    for way, world in ways[1:]:  # what they load and allot is not measured
        team.call(world, steps.timed, wanted, way, world, 1, timeout_s=600)
    return [_Turn(wanted, way, world, count) for way, world in ways]


def _sum(team: ranks.Team, world: int, size_bytes: int, count: int) -> list[float]:
    found: list[float] = team.call(world, sums.timed, world, size_bytes, count)[0]
    return found


def _profile(
    wanted: steps.Wanted, shape: tuple[int, list[tuple[int, float]]], turns: Sequence[_Turn]
) -> Json:
    parameters, buckets = shape
    alone = next(turn for turn in turns if turn.wanted == wanted and turn.way == "alone")
    parts = {name: statistics.median(values) for name, values in alone.parts_s.items()}
    return {
        "name": wanted.name,
        "model": wanted.model,
        "batch": wanted.batch,
        "image": list(wanted.image),
        "parameters": parameters,
        "input_s": parts["input"],
        "forward_s": parts["forward"],
        "backward_s": parts["backward"],
        "update_s": parts["update"],
        "buckets": [{"size_bytes": size, "ready": ready} for size, ready in buckets],
    }
