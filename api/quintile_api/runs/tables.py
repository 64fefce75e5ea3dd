"""Rows of trials as agents report them. Every row carries attempt and generation.

Written by ``quintile_api.coordinator`` and ``quintile_api.runs`` alone.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import sql
from quintile_api import tables

Uid = sa.String(64)


class TrialRun(tables.Base):
    """One trial: its newest attempt, progress, and the stop command of a person.

    ``started_s`` is when its first agent joined, moved on by the time in which it lay still because
    it was asked to leave.
    """

    __tablename__ = "trial_runs"
    uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    namespace: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    attempt: orm.Mapped[int]
    step: orm.Mapped[int]
    total_steps: orm.Mapped[int]
    metrics: orm.Mapped[dict[str, float]] = orm.mapped_column(sa.JSON)
    stop_s: orm.Mapped[float | None]
    started_s: orm.Mapped[float]
    updated_s: orm.Mapped[float]


class Generation(tables.Base):
    """One generation of one attempt; every change of ``state`` is a compare-and-swap.

    ``stalled_s``: since when no step is finished any more and the ranks are asked for their stacks.
    Of an elastic run: ``least`` members are enough, ``since_s`` is when it began to run or drain,
    ``why`` is why it is not the one before (while it drains: why it ends).
    """

    __tablename__ = "generations"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    generation: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    state: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    members: orm.Mapped[dict[str, int]] = orm.mapped_column(sa.JSON)
    max_restarts: orm.Mapped[int]
    restarts: orm.Mapped[int]
    progress_timeout_s: orm.Mapped[float]
    start_timeout_s: orm.Mapped[float]
    stalled_s: orm.Mapped[float | None]
    plan: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON)
    failure: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON)
    resume_step: orm.Mapped[int | None]
    created_s: orm.Mapped[float]
    least: orm.Mapped[int]
    since_s: orm.Mapped[float]
    why: orm.Mapped[str] = orm.mapped_column(sa.String(256))


class AgentRow(tables.Base):
    """One agent of one attempt: which boot of it joined which generation, and its last sign.

    ``joined_s`` is when this boot first joined; one that is ``leaving`` was asked to go.
    """

    __tablename__ = "agents"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    role: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    index: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    boot_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    generation: orm.Mapped[int]
    procs: orm.Mapped[int]
    host: orm.Mapped[str] = orm.mapped_column(sa.String(256))
    interface: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    port: orm.Mapped[int]
    seen_s: orm.Mapped[float]
    joined_s: orm.Mapped[float]
    leaving: orm.Mapped[bool]


class RankRow(tables.Base):
    """One rank of one generation, as its agent last saw it; see ``messages.RankReport``."""

    __tablename__ = "ranks"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    generation: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    rank: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    role: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    index: orm.Mapped[int]
    state: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    pid: orm.Mapped[int]
    step: orm.Mapped[int]
    total_steps: orm.Mapped[int]
    exit_code: orm.Mapped[int | None]
    signal: orm.Mapped[int]
    reason: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    first_error: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    action: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    still_s: orm.Mapped[float]
    witness: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    place: orm.Mapped[str] = orm.mapped_column(sa.String(256))
    waits: orm.Mapped[bool]
    updated_s: orm.Mapped[float]


class StreamRow(tables.Base):
    """How far a stream of one rank is stored without a gap: ``acked`` is the last seq of it."""

    __tablename__ = "streams"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    generation: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    rank: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    stream: orm.Mapped[str] = orm.mapped_column(sa.String(8), primary_key=True)
    acked: orm.Mapped[int]


class MetricRow(tables.Base):
    """One metric line of one rank."""

    __tablename__ = "metrics"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    generation: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    rank: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    seq: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    step: orm.Mapped[int]
    time_s: orm.Mapped[float]
    values: orm.Mapped[dict[str, float | None]] = orm.mapped_column(sa.JSON)


class LogChunk(tables.Base):
    """Consecutive log lines of one rank: ``lines`` is a list of [seq, time, stream, text].

    ``size`` counts their characters. A chunk that stands for ``dropped`` lines holds one line.
    """

    __tablename__ = "log_chunks"
    __table_args__ = (
        sa.Index(None, "trial_uid", "id"),
        {"sqlite_autoincrement": True},
    )
    id: orm.Mapped[int] = orm.mapped_column(sql.BigId, primary_key=True, autoincrement=True)
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid)
    attempt: orm.Mapped[int]
    generation: orm.Mapped[int]
    rank: orm.Mapped[int]
    lines: orm.Mapped[list[list[Any]]] = orm.mapped_column(sa.JSON)
    size: orm.Mapped[int]
    dropped: orm.Mapped[int]


class CheckpointRow(tables.Base):
    """One committed checkpoint; its files and manifest lay in the store when it was committed."""

    __tablename__ = "checkpoints"
    trial_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    attempt: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    generation: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    step: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    manifest_key: orm.Mapped[str] = orm.mapped_column(sa.String(512))
    manifest: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    created_s: orm.Mapped[float]
