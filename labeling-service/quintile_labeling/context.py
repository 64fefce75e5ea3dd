"""What every part of the service gets: ports, database and signals of this process.

``app.create_app`` makes one ``Context`` and keeps it on the application. A transaction that
changes a job locks its row first, so that the transactions of one job come one after another.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated, Final

import fastapi
import sqlalchemy as sa
from sqlalchemy import event, orm

from quintile import ports
from quintile.adapters import outbox, readiness, signals, sql, tokens_ed25519
from quintile.core import errors, labeling_job
from quintile_labeling import catalog as catalogs
from quintile_labeling import tables

KIND: Final = "LabelingJob"
_RUNG: Final = "quintile_labeling_rung"
_NOTED: Final = "quintile_labeling_noted"


class Bells:
    """One signal per job for people who wait for a task, and one for the background work."""

    def __init__(self) -> None:
        self.work = signals.Signal()
        self._lock = threading.Lock()
        self._jobs: dict[int, signals.Signal] = {}

    def of(self, job_id: int) -> signals.Signal:
        """Return the signal of a job."""
        with self._lock:
            return self._jobs.setdefault(job_id, signals.Signal())


@dataclass(frozen=True)
class Context:
    """Ports and shared parts; see ``app.LabelingDependencies`` for where they come from."""

    database: sql.Database
    outbox: outbox.Outbox
    objects: ports.ObjectStore
    resources: ports.ResourceStore
    catalog: catalogs.Catalog
    identities: catalogs.Identities
    clock: ports.Clock
    verifier: tokens_ed25519.TrialTokenVerifier
    service_token: str
    lease_s: float
    checks: readiness.Checks = field(default_factory=dict)
    bells: Bells = field(default_factory=Bells)

    def changed(self, session: orm.Session, job: tables.Job) -> None:
        """Note in the outbox that a job changed; wakes its waiters when the session commits."""
        noted = session.info.setdefault(_NOTED, set())
        if job.id not in noted:
            noted.add(job.id)
            self.outbox.append(session, KIND, job.namespace, job.name)
        self.ring(session, job)

    def ring(self, session: orm.Session, job: tables.Job) -> None:
        """Wake people who wait for a task, and the background work, when the session commits."""
        rung = session.info.setdefault(_RUNG, set())
        if job.id in rung:
            return
        rung.add(job.id)
        bell, work = self.bells.of(job.id), self.bells.work
        event.listen(session, "after_commit", lambda _session: bell.notify(), once=True)
        event.listen(session, "after_commit", lambda _session: work.notify(), once=True)


def current(request: fastapi.Request) -> Context:
    """Return the context of the application that serves this request."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


Current = Annotated[Context, fastapi.Depends(current)]


def job_named(session: orm.Session, namespace: str, name: str, *, lock: bool = False) -> tables.Job:
    """Return the admitted job of this name; with ``lock``, alone until the transaction ends.

    Raises:
        NotFound: There is none (yet).
    """
    query = sa.select(tables.Job).where(
        tables.Job.namespace == namespace, tables.Job.name == name, tables.Job.deleted_s.is_(None)
    )
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise errors.NotFound(
            f"Project {namespace!r} has no labeling job {name!r} that was admitted.",
            hint="Check the name; a job that was just made is admitted within a second.",
        )
    return job


def job_of(session: orm.Session, uid: str, *, lock: bool = False) -> tables.Job | None:
    """Return the job with this uid, deleted ones left out; None when it was not admitted."""
    query = sa.select(tables.Job).where(tables.Job.uid == uid, tables.Job.deleted_s.is_(None))
    return session.scalar(query.with_for_update() if lock else query)


def spec_of(job: tables.Job) -> labeling_job.LabelingJobSpec:
    """Return the spec of a job as a model."""
    return labeling_job.LabelingJobSpec.model_validate(job.spec)
