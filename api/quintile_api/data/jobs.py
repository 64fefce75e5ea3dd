"""The queue of background work: one table, leases, fencing. Kinds: ``import``, ``purge``.

A worker claims the oldest job that is queued or whose lease ran out, renews the lease while it
works, and reports with its fence; a worker that lost its lease is refused (``Fenced``).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import engine, orm

from quintile import ports
from quintile.adapters import sql
from quintile.core import errors
from quintile_api.data import tables

LEASE_S: Final = 10.0
RENEW_S: Final = 3.0
TRIES: Final = 10
ACTIVE: Final = ("queued", "running")


@dataclass(frozen=True)
class Claim:
    """A job in the hands of one worker."""

    id: str
    kind: str
    project: str
    subject: str
    payload: Mapping[str, Any]
    fence: int
    tries: int


def add(
    session: orm.Session,
    kind: str,
    *,
    project: str,
    subject: str,
    payload: dict[str, Any],
    now_s: float,
) -> tables.Job:
    """Queue a job."""
    row = tables.Job(
        id=secrets.token_hex(16),
        kind=kind,
        project=project,
        subject=subject,
        payload=payload,
        state="queued",
        report={},
        fence=0,
        tries=0,
        lease_s=0.0,
        created_s=now_s,
        updated_s=now_s,
    )
    session.add(row)
    return row


class JobQueue:
    """Claims, renews and ends jobs; safe for several threads and servers."""

    def __init__(self, database: sql.Database, clock: ports.Clock) -> None:
        self._database = database
        self._clock = clock

    def claim(self) -> Claim | None:
        """Take the oldest job that nobody works on; None when there is none."""
        now_s = self._clock.now()
        free = sa.or_(
            tables.Job.state == "queued",
            sa.and_(tables.Job.state == "running", tables.Job.lease_s <= now_s),
        )
        oldest = sa.select(tables.Job).where(free).order_by(tables.Job.created_s, tables.Job.id)
        with self._database.read() as session:
            if session.scalar(oldest.limit(1)) is None:
                return None
        with self._database.write() as session:
            row = session.scalar(oldest.limit(1).with_for_update(skip_locked=True))
            if row is None:
                return None
            row.state = "running"
            row.fence += 1
            row.tries += 1
            row.lease_s = now_s + LEASE_S
            row.updated_s = now_s
            return Claim(
                id=row.id,
                kind=row.kind,
                project=row.project,
                subject=row.subject,
                payload=row.payload,
                fence=row.fence,
                tries=row.tries,
            )

    def renew(self, claim: Claim) -> None:
        """Keep the job for another lease.

        Raises:
            Fenced: Another worker has it, or it was deleted.
        """
        with self._database.write() as session:
            self._set(session, claim, lease_s=self._clock.now() + LEASE_S)

    def report(self, claim: Claim, report: dict[str, Any]) -> None:
        """Write progress.

        Raises:
            Fenced: Another worker has the job, or it was deleted.
        """
        now_s = self._clock.now()
        with self._database.write() as session:
            self._set(session, claim, report=report, updated_s=now_s, lease_s=now_s + LEASE_S)

    def end(
        self, session: orm.Session, claim: Claim, *, state: str, report: dict[str, Any]
    ) -> None:
        """Write the result in the caller's transaction, with whatever else makes it true.

        The request is forgotten: a manifest may be large.

        Raises:
            Fenced: Another worker has the job, or it was deleted; nothing may be committed.
        """
        now_s = self._clock.now()
        self._set(session, claim, state=state, report=report, payload={}, updated_s=now_s)

    def finish(self, claim: Claim) -> None:
        """End a job that has no result to show.

        Raises:
            Fenced: Another worker has the job, or it was deleted.
        """
        with self._database.write() as session:
            self.end(session, claim, state="succeeded", report={})

    def release(self, claim: Claim) -> None:
        """Give the job back so that it is tried again at once (the server stops)."""
        with self._database.write() as session:
            # A stop of the server is no failed try.
            self._set(session, claim, state="queued", lease_s=0.0, tries=claim.tries - 1)

    def keep(self, claim: Claim) -> Keeper:
        """Return a context in which the lease is renewed in the background."""
        return Keeper(self, claim)

    def _set(self, session: orm.Session, claim: Claim, **values: Any) -> None:
        done = session.execute(
            sa.update(tables.Job)
            .where(
                tables.Job.id == claim.id,
                tables.Job.fence == claim.fence,
                tables.Job.state == "running",
            )
            .values(**values)
        )
        assert isinstance(done, engine.CursorResult)
        if done.rowcount != 1:
            raise errors.Fenced(
                f"Job {claim.id} is not held by this worker any more (fence {claim.fence}).",
                hint="Another worker goes on with it.",
            )


class Keeper:
    """Renews a lease every few seconds in a thread while the ``with`` block runs."""

    def __init__(self, queue: JobQueue, claim: Claim) -> None:
        self._queue = queue
        self._claim = claim
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quintile-job-lease", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(RENEW_S):
            try:
                self._queue.renew(self._claim)
            except errors.Fenced:
                # The worker meets the same refusal at its next report and stops.
                return
            except errors.Unavailable:
                # A busy database: the lease holds for some more rounds.
                continue
