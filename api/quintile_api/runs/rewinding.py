"""Going back to the best checkpoint of a trial, so that its next attempt begins there.

What came after it is given up: the newest checkpoint is where an attempt begins, so the newer ones
go. Done again after a crash in the middle, it ends the same.
"""

from __future__ import annotations

from quintile import ports
from quintile.adapters import sql
from quintile.core import errors, messages
from quintile_api.coordinator import retention
from quintile_api.runs import checkpoints, tables


def to_best(
    database: sql.Database, objects: ports.ObjectStore, uid: str, *, name: str
) -> tables.CheckpointRow:
    """Make the best checkpoint of a trial without a live attempt its newest one; return it.

    Raises:
        Conflict: None was evaluated, or the files of the best one are gone.
    """
    with database.read() as session:
        rows = checkpoints.committed(session, uid)
        session.expunge_all()
    rated = [(rate, row) for row in rows if (rate := retention.rate(_saved(row))) is not None]
    if not rated:
        raise errors.Conflict(
            f"Trial {name!r} has no checkpoint that was evaluated, so none is the best.",
            hint="Resume from the newest one.",
        )
    # Newest first, and of equally good ones the oldest is nearest to its evaluation.
    best = max(reversed(rated), key=lambda found: found[0])[1]
    manifest = messages.CheckpointManifest.model_validate(best.manifest)
    prefix = best.manifest_key.removesuffix(f"/{checkpoints.MANIFEST}")
    for problem in checkpoints.problems(objects, prefix, manifest.files):
        raise errors.Conflict(
            f"The best checkpoint of trial {name!r}, of step {best.step}, is damaged: {problem}.",
            hint="Resume from the newest one.",
        )
    newer = [row.manifest_key for row in rows[: rows.index(best)]]
    _discard(database, objects, uid, newer)
    return best


def _discard(database: sql.Database, objects: ports.ObjectStore, uid: str, keys: list[str]) -> None:
    for key in keys:
        # Without its manifest it is no checkpoint, whenever the rest of it goes.
        objects.delete(key)
        for info in objects.list(key.removesuffix(checkpoints.MANIFEST)):
            objects.delete(info.key)
    with database.write() as session:
        checkpoints.forget(session, uid, keys)


def _saved(row: tables.CheckpointRow) -> retention.Saved:
    return retention.Saved(row.manifest_key, row.manifest["metrics"])
