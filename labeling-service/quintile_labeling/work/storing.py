"""Manifests of closed rounds go to the object store; only then the round may be computed."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

from quintile.core import names
from quintile_labeling import context, tables
from quintile_labeling.rounds import manifests


def store_manifest(ctx: context.Context, job_id: int) -> None:
    """Store the manifest of the job's closed round. Idempotent: equal rows give equal bytes.

    Raises:
        Unavailable, StoreFull: Try again.
    """
    with ctx.database.read() as session:
        job = session.get_one(tables.Job, job_id)
        row = session.scalar(
            sa.select(tables.Round).where(
                tables.Round.job_id == job_id,
                tables.Round.state == "closed",
                tables.Round.stored.is_(False),
            )
        )
        if row is None:
            return
        data = manifests.render(session, job, row)
        number, key = row.number, names.round_manifest_key(job.uid, row.number)
    digest = hashlib.sha256(data).hexdigest()
    ctx.objects.put(key, data, sha256=digest)
    with ctx.database.write() as session:
        job = session.get_one(tables.Job, job_id, with_for_update=True)
        row = session.get_one(tables.Round, (job_id, number))
        row.manifest_key, row.manifest_sha256, row.stored = key, digest, True
        job.problem = ""
        ctx.changed(session, job)
