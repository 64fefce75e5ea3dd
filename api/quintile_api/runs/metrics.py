"""Metric points: stored once each, read down-sampled along the committed lineage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import errors, messages
from quintile.core.meta import Message
from quintile_api.runs import streams, tables

STREAM = "metrics"
READ_LIMIT = 200_000


class Series(Message):
    """One metric of a rank along the committed lineage; ``total`` points before down-sampling.

    A value is None where the rank reported NaN or an infinity.
    """

    name: str
    steps: list[int]
    times: list[float]
    values: list[float | None]
    generations: list[int]
    total: int


class MetricsView(Message):
    """All asked-for metrics of a trial."""

    trial: str
    series: list[Series]


Point = tuple[int, float, float | None, int]
"""(step, seconds since the epoch, value, generation)."""


@dataclass(frozen=True)
class Lineage:
    """From which step on a generation replaced what earlier ones did."""

    attempt: int
    generation: int
    resume_step: int


def store(session: orm.Session, uid: str, batch: messages.MetricBatch) -> int:
    """Insert the points that are not stored yet; return the last contiguous seq.

    Raises:
        InvalidSpec: The points are not in ascending order of seq.
    """
    seqs = [point.seq for point in batch.points]
    if seqs != sorted(set(seqs)):
        raise errors.InvalidSpec("Points must be in ascending order of seq.", field="points")
    key = (uid, batch.attempt, batch.generation, batch.rank, STREAM)
    before = streams.acked(session, key)
    known = _stored(session, key, seqs)
    fresh = [point for point in batch.points if point.seq not in known]
    for point in fresh:
        session.add(
            tables.MetricRow(
                trial_uid=uid,
                attempt=batch.attempt,
                generation=batch.generation,
                rank=batch.rank,
                seq=point.seq,
                step=point.step,
                time_s=point.time,
                values={name: _finite(value) for name, value in point.values.items()},
            )
        )
    session.flush()
    base = before if before is not None else (seqs[0] - 1 if seqs else None)
    after = base if base is None else streams.advance(base, _beyond(session, key, base))
    if after is None:
        return streams.NOTHING
    streams.save(session, key, after)
    return after


def _stored(session: orm.Session, key: streams.StreamKey, seqs: Sequence[int]) -> set[int]:
    if not seqs:
        return set()
    query = _of(key).where(tables.MetricRow.seq.between(seqs[0], seqs[-1]))
    return set(session.scalars(query))


def _beyond(session: orm.Session, key: streams.StreamKey, seq: int) -> Sequence[int]:
    query = _of(key).where(tables.MetricRow.seq > seq).order_by(tables.MetricRow.seq)
    return session.scalars(query).all()


def _of(key: streams.StreamKey) -> sa.Select[int]:
    uid, attempt, generation, rank, _ = key
    return sa.select(tables.MetricRow.seq).where(
        tables.MetricRow.trial_uid == uid,
        tables.MetricRow.attempt == attempt,
        tables.MetricRow.generation == generation,
        tables.MetricRow.rank == rank,
    )


def _finite(value: float) -> float | None:
    # JSON of the databases knows no NaN; a lost value must stay visible as one.
    return value if math.isfinite(value) else None


def latest(
    before: dict[str, float], batch: messages.MetricBatch, *, acked: int
) -> dict[str, float]:
    """Return the newest finite value by metric name after a batch of rank 0.

    A batch that ends before ``acked`` (a repeat, or one that fills a gap) brings nothing newer.
    """
    if not batch.points or batch.points[-1].seq < acked:
        return before
    merged = dict(before)
    for point in batch.points:
        merged.update({name: v for name, v in point.values.items() if math.isfinite(v)})
    return merged


def lineage(session: orm.Session, uid: str) -> list[Lineage]:
    """Return the generations that ran, in order."""
    row = tables.Generation
    query = (
        sa.select(row.attempt, row.generation, row.resume_step)
        .where(row.trial_uid == uid, row.resume_step.is_not(None))
        .order_by(row.attempt, row.generation)
    )
    return [
        Lineage(attempt=found.attempt, generation=found.generation, resume_step=found.resume_step)
        for found in session.execute(query)
        if found.resume_step is not None
    ]


def visible(generations: Sequence[Lineage]) -> dict[tuple[int, int], float]:
    """Return by (attempt, generation) the last step that later generations did not redo. Pure."""
    limits: dict[tuple[int, int], float] = {}
    lowest = math.inf
    for entry in reversed(generations):
        limits[(entry.attempt, entry.generation)] = lowest
        lowest = min(lowest, entry.resume_step)
    return limits


def read(
    session: orm.Session, uid: str, *, names: Sequence[str], max_points: int, rank: int = 0
) -> list[Series]:
    """Return the series of a trial, each with at most ``max_points`` points.

    Points of a generation beyond the step from which a later one resumed are hidden: they were
    done again. Empty ``names`` means all.
    """
    limits = visible(lineage(session, uid))
    row = tables.MetricRow
    query = (
        sa.select(row.attempt, row.generation, row.step, row.time_s, row.values)
        .where(row.trial_uid == uid, row.rank == rank)
        .order_by(row.attempt, row.generation, row.seq)
        .limit(READ_LIMIT)
    )
    found: dict[str, list[Point]] = {}
    for point in session.execute(query):
        if point.step > limits.get((point.attempt, point.generation), math.inf):
            continue
        for name, value in point.values.items():
            if not names or name in names:
                entry = (point.step, point.time_s, value, point.generation)
                found.setdefault(name, []).append(entry)
    return [_series(name, points, max_points) for name, points in sorted(found.items())]


def _series(name: str, points: Sequence[Point], max_points: int) -> Series:
    kept = [points[index] for index in sample(len(points), max_points)]
    return Series(
        name=name,
        steps=[point[0] for point in kept],
        times=[point[1] for point in kept],
        values=[point[2] for point in kept],
        generations=[point[3] for point in kept],
        total=len(points),
    )


def sample(count: int, most: int) -> list[int]:
    """Return at most ``most`` indices spread evenly over ``count``, first and last kept. Pure."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]
