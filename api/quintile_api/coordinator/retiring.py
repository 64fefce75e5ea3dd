"""Deleting checkpoints that nobody needs any more, as ``retention`` decides."""

from __future__ import annotations

from quintile import ports
from quintile.adapters import sql
from quintile_api.coordinator import retention, state
from quintile_api.runs import checkpoints


def retire(
    database: sql.Database, objects: ports.ObjectStore, uid: str, keep: retention.Keep
) -> int:
    """Forget the checkpoints that nobody needs any more; return how many. Idempotent."""
    with database.read() as session:
        run = state.run_of(session, uid)
        row = state.newest(session, uid, run.attempt) if run is not None else None
        plan = state.plan_of(row) if row is not None else None
        rows = checkpoints.committed(session, uid)
    resumed_from = plan.resume.key if plan is not None and plan.resume is not None else ""
    saved = [retention.Saved(entry.manifest_key, entry.manifest["metrics"]) for entry in rows]
    keys = [entry.key for entry in retention.surplus(saved, keep, resumed_from=resumed_from)]
    if not keys:
        return 0
    for key in keys:
        # Without its manifest it is no checkpoint, whenever the rest of it goes.
        objects.delete(key)
        for info in objects.list(f"{key.removesuffix(checkpoints.MANIFEST)}"):
            objects.delete(info.key)
    with database.write() as session:
        checkpoints.forget(session, uid, keys)
    return len(keys)
