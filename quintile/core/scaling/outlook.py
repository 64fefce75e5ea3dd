"""The whole answer of the planner: a curve over numbers of workers, its inputs and its doubts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from quintile.core.scaling import advice, bands, collectives, fit, holdout, predict, records

MAX_WORKERS = 1024
SECONDS_PER_HOUR = 3600
IMAGES = 1_000_000


@dataclass(frozen=True)
class Wish:
    """What a curve is wanted for.

    Attributes:
        profile: Name of the calibrated profile.
        plan: How gradients are summed.
        workers: Planned number; advice is about it.
        per_host: Workers of one host; 0 = as many as have processors of their own.
        across: What joins hosts. Its delay comes on top of what a message costs the processors.
        price: Of one worker for an hour, None = count hours.
        decodes: Images are decoded in every step (as in the first epoch).
        storage_bytes_per_s: What all workers together can read; None = not the limit.
    """

    profile: str
    plan: predict.Plan
    workers: int
    across: collectives.Link
    per_host: int = 0
    price: float | None = None
    decodes: bool = False
    storage_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Point:
    """One row; ``cost`` is for a million images: money, or hours of one worker without a price."""

    step: predict.Step
    band: bands.Band
    efficiency: float
    cost: float


@dataclass(frozen=True)
class Outlook:
    """The answer: ``checks`` are the held-out runs, ``error`` their typical error."""

    wish: Wish
    cluster: predict.Cluster
    constants: fit.Constants
    work: predict.Work
    points: tuple[Point, ...]
    checks: tuple[holdout.Check, ...]
    error: float
    notes: tuple[str, ...]


def look(calibration: records.Calibration, wish: Wish, *, up_to: int = MAX_WORKERS) -> Outlook:
    """Return the curve for 1, 2, 4, ... workers and for the planned number.

    Raises:
        KeyError: The calibration has no such profile.
    """
    numbers = counts(wish.workers, up_to)
    constants = fit.fit(calibration, wish.profile)
    cluster = cluster_of(constants, wish)
    work = predict.work_of(calibration, wish.profile, decodes=wish.decodes)
    steps = [predict.step(work, cluster, wish.plan, n) for n in numbers]
    stepped, summed = holdout.steps(calibration), holdout.sums(calibration)
    error = holdout.typical(stepped or summed)

    def rates(drawn: records.Calibration) -> list[float]:
        found = fit.fit(drawn, wish.profile)
        again = predict.work_of(drawn, wish.profile, decodes=wish.decodes)
        other = cluster_of(found, wish)
        return [predict.step(again, other, wish.plan, n).images_per_s for n in numbers]

    alone = predict.step(work, cluster, predict.Plan(), 1).images_per_s
    found = zip(steps, bands.bands(calibration, rates, error=error), strict=True)
    return Outlook(
        wish=wish,
        cluster=cluster,
        constants=constants,
        work=work,
        points=tuple(_point(step, band, alone, wish.price) for step, band in found),
        checks=(*stepped, *summed),
        error=error,
        notes=_notes(calibration, wish, cluster, work, error),
    )


def counts(planned: int, up_to: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to a number, that number, and the planned one."""
    doubled = [2**power for power in range(up_to.bit_length()) if 2**power <= up_to]
    return tuple(sorted({*doubled, up_to, planned}))


def cluster_of(constants: fit.Constants, wish: Wish) -> predict.Cluster:
    """Return hosts like the calibrated one, joined as wished."""
    delay_s = constants.inside.delay_s + _delays(wish) * wish.across.delay_s
    return dataclasses.replace(
        predict.calibrated(constants, wish.per_host or constants.host.slots),
        across=dataclasses.replace(wish.across, delay_s=delay_s),
        storage_bytes_per_s=wish.storage_bytes_per_s,
    )


def _delays(wish: Wish) -> int:
    """Return how often a message crosses the network: gloo asks before it sends."""
    return 1 if wish.plan.scheme == "servers" else 2


def _point(step: predict.Step, band: bands.Band, alone: float, price: float | None) -> Point:
    worker_hours = step.workers * IMAGES / step.images_per_s / SECONDS_PER_HOUR
    return Point(
        step=step,
        band=band,
        efficiency=step.images_per_s / (step.workers * alone),
        cost=worker_hours * (price if price is not None else 1.0),
    )


def _notes(
    calibration: records.Calibration,
    wish: Wish,
    cluster: predict.Cluster,
    work: predict.Work,
    error: float,
) -> tuple[str, ...]:
    planned = predict.step(work, cluster, wish.plan, wish.workers)
    found: Sequence[str] = (
        advice.servers(work, cluster, wish.plan, wish.workers),
        advice.crowded(cluster),
        *advice.costs(planned),
        *advice.doubtful(calibration, error),
    )
    return tuple(note for note in found if note)
