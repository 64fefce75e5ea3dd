"""What agents did, as the reconciler reads it: snapshots of trials and the tail of the outbox.

The API's half of the port ``Facts``; the composition root joins it with the labeling service's.
"""

from __future__ import annotations

from sqlalchemy import orm

from quintile.adapters import outbox, sql
from quintile.core import facts
from quintile_api.coordinator import state
from quintile_api.runs import checkpoints, tables


class TrialFactsReader:
    """Facts about trials from the API's own tables. Blocking; thread-safe."""

    def __init__(self, database: sql.Database, changes: outbox.Outbox) -> None:
        self._database = database
        self._changes = changes

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return keys changed after ``since`` ("" = from now on); block up to ``wait_s``."""
        return self._changes.changed(since, wait_s=wait_s)

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; empty facts when neither agent nor person spoke yet."""
        with self._database.read() as session:
            run = state.run_of(session, uid)
            if run is None:
                return facts.TrialFacts(uid=uid)
            row = state.newest(session, uid, run.attempt)
            saved = checkpoints.newest(session, uid)
            checkpoint = (
                facts.CheckpointFact(
                    key=saved.manifest_key,
                    step=saved.step,
                    time_s=saved.created_s,
                    has_place=bool(saved.manifest["epoch"] or saved.manifest["cursor"]),
                )
                if saved is not None
                else None
            )
            return facts.TrialFacts(
                uid=uid,
                attempt=run.attempt,
                generation=row.generation if row is not None else 0,
                state=row.state if row is not None else "forming",
                in_place_restarts=row.restarts if row is not None else 0,
                ranks=_ranks(session, row),
                joined=_joined(session, row),
                step=run.step,
                total_steps=run.total_steps,
                metrics=run.metrics,
                checkpoint=checkpoint,
                failure=_failure(row),
                stop_requested=run.stop_s is not None,
                workers=_workers(row),
                why=row.why if row is not None else "",
                started_s=run.started_s,
                updated_s=run.updated_s,
            )


def _ranks(session: orm.Session, row: tables.Generation | None) -> tuple[facts.RankFact, ...]:
    if row is None:
        return ()
    return tuple(
        facts.RankFact(
            rank=rank.rank,
            state=rank.state,
            exit_code=rank.exit_code,
            reason=rank.reason,
            first_error=rank.first_error,
            step=rank.step,
            role=rank.role,
        )
        for rank in state.ranks(session, row)
    )


def _joined(session: orm.Session, row: tables.Generation | None) -> tuple[tuple[str, int], ...]:
    if row is None:
        return ()
    return tuple((agent.role, agent.index) for agent in state.joined(session, row))


def _workers(row: tables.Generation | None) -> int:
    plan = state.plan_of(row) if row is not None else None
    return sum(agent.role == "worker" for agent in plan.agents) if plan is not None else 0


def _failure(row: tables.Generation | None) -> facts.RankFact | None:
    return facts.RankFact(**row.failure) if row is not None and row.failure else None
