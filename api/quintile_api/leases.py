"""Leases in the database: a job that one replica does for all.

The holder renews while it lives; another takes over when the lease has run out. ``fence`` rises
with every change of holder, so that a late write of an old holder can be refused.
"""

from __future__ import annotations

import sqlalchemy as sa

from quintile.adapters import sql
from quintile_api import tables


def hold(
    database: sql.Database, name: str, *, holder: str, ttl_s: float, now_s: float
) -> int | None:
    """Take or renew a lease; return its fence, or None while another replica holds it.

    A lease with more than half of its time left is not written again.
    """
    with database.read() as session:
        row = session.get(tables.Lease, name)
        if row is not None and row.expires_s > now_s:
            if row.holder != holder:
                return None
            if row.expires_s - now_s > ttl_s / 2:
                return row.fence
    with database.write() as session:
        database.serialize(session, f"lease {name}")
        row = session.scalar(
            sa.select(tables.Lease).where(tables.Lease.name == name).with_for_update()
        )
        if row is None:
            session.add(tables.Lease(name=name, holder=holder, fence=1, expires_s=now_s + ttl_s))
            return 1
        if row.holder != holder:
            if row.expires_s > now_s:
                return None
            row.holder, row.fence = holder, row.fence + 1
        row.expires_s = now_s + ttl_s
        return row.fence
