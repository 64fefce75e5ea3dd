"""The audit: one row per changing request of a person, each row sealed by a hash chain.

Pure ASGI, inside the guard: ``access.caller`` leaves the caller on the scope, and the status is
read from the response.
"""

from __future__ import annotations

import hashlib
import json
import logging

import sqlalchemy as sa
from fastapi import concurrency

from quintile import ports
from quintile.adapters import http_guard, sql
from quintile.core import errors, identity
from quintile_api import tables

_LOG = logging.getLogger("quintile.audit")
GENESIS = "0" * 64


class Auditor:
    """ASGI middleware that records changing requests of people."""

    def __init__(self, app: http_guard.App, *, database: sql.Database, clock: ports.Clock) -> None:
        self._app = app
        self._database = database
        self._clock = clock

    async def __call__(
        self, scope: http_guard.Scope, receive: http_guard.Receive, send: http_guard.Send
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in http_guard.SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting(message: http_guard.Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, noting)
        caller = scope.get("quintile.caller")
        if isinstance(caller, identity.Identity) and caller.kind == "user":
            await concurrency.run_in_threadpool(self._record, scope, caller, status)

    def _record(self, scope: http_guard.Scope, caller: identity.Identity, status: int) -> None:
        row = tables.AuditRow(
            time_s=self._clock.now(),
            actor=caller.name,
            method=scope["method"],
            path=scope["path"][:1024],
            status=status,
            trace_id=scope.get("quintile.trace_id", ""),
        )
        try:
            with self._database.write() as session:
                self._database.serialize(session, "audit")
                newest = sa.select(tables.AuditRow.digest).order_by(tables.AuditRow.id.desc())
                row.digest = seal(session.scalar(newest.limit(1)) or GENESIS, row)
                session.add(row)
        except errors.QuintileError as error:
            # The answer is out already; a missing row must at least be seen.
            _LOG.error("audit row lost", extra={"path": row.path, "reason": str(error)})


def seal(before: str, row: tables.AuditRow) -> str:
    """Return the digest of a row: SHA-256 over the digest before it and its own fields."""
    fields = [before, row.time_s, row.actor, row.method, row.path, row.status, row.trace_id]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()
