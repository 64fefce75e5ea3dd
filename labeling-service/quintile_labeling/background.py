"""The service's own work, in threads: what rows say is due is done, until nothing is.

``light`` stores manifests and tidies up; ``heavy`` imports and exports, so that a large import
delays no round. Started and stopped by the application's lifespan; a composition root that serves
the application without lifespan calls ``start`` and ``stop`` itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

from quintile.core import errors
from quintile_labeling import context, tables
from quintile_labeling.work import exporting, importing, storing, sweeping

LOOK_S: Final = 1.0
"""How often work is looked for that no signal of this process announced."""

RETRY_S: Final = 5.0
TIDY_S: Final = 60.0
PRUNE_S: Final = 3600.0
UNFORESEEN: Final = "The service failed in a way that nobody foresaw; see its log. It tries again."
_LOG = logging.getLogger("quintile.labeling")

Work = Callable[[context.Context, int], None]
HEAVY: Final[Mapping[str, Work]] = {
    "importing": importing.import_items,
    "exporting": exporting.export,
}


class Background:
    """Two daemon threads on one context. Start and stop are idempotent."""

    def __init__(self, ctx: context.Context) -> None:
        self._ctx = ctx
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tidied_s = self._pruned_s = -PRUNE_S

    def start(self) -> None:
        """Begin."""
        if self._threads:
            return
        self._stop.clear()
        for name, work in (("light", self.do_light), ("heavy", self.do_heavy)):
            thread = threading.Thread(
                target=self._run, args=(work,), name=f"quintile-labeling-{name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the piece of work that runs now."""
        self._stop.set()
        self._ctx.bells.work.notify()
        for thread in self._threads:
            thread.join(timeout=10)
        self._threads = []

    def run_until_idle(self) -> None:
        """Do everything that is due in this thread; for tests and for callers without threads."""
        while self.do_heavy() + self.do_light():
            pass

    def do_heavy(self) -> int:
        """Import and export what is due; return how many jobs that moved."""
        return sum(self._attempt(HEAVY[stage], job_id) for job_id, stage in self._due_stages())

    def do_light(self) -> int:
        """Store the manifests that are due and tidy up; return how many jobs that moved."""
        moved = sum(self._attempt(storing.store_manifest, job_id) for job_id in self._due_rounds())
        self._tidy()
        return moved

    def _run(self, work: Callable[[], int]) -> None:
        while not self._stop.is_set():
            seen = self._ctx.bells.work.version
            try:
                moved = work()
            except errors.QuintileError as error:
                _LOG.warning("background work failed", extra={"reason": str(error)})
                moved = 0
            if not moved:
                self._ctx.bells.work.wait(seen, timeout_s=LOOK_S)

    def _due_stages(self) -> list[tuple[int, str]]:
        query = sa.select(tables.Job.id, tables.Job.stage, tables.Job.spec).where(
            tables.Job.deleted_s.is_(None),
            tables.Job.stage.in_(sorted(HEAVY)),
            tables.Job.retry_s <= self._ctx.clock.now(),
        )
        with self._ctx.database.read() as session:
            found = session.execute(query.order_by(tables.Job.id)).all()
        return [
            (job_id, stage)
            for job_id, stage, spec in found
            if stage == "importing" or not spec.get("suspend", False)
        ]

    def _due_rounds(self) -> list[int]:
        query = (
            sa.select(tables.Round.job_id)
            .join(tables.Job, tables.Job.id == tables.Round.job_id)
            .where(
                tables.Job.deleted_s.is_(None),
                tables.Job.retry_s <= self._ctx.clock.now(),
                tables.Round.state == "closed",
                tables.Round.stored.is_(False),
            )
        )
        with self._ctx.database.read() as session:
            return list(session.scalars(query.order_by(tables.Round.job_id)))

    def _attempt(self, work: Work, job_id: int) -> int:
        """Do one piece of work; a failure is noted on the job and tried again later."""
        try:
            work(self._ctx, job_id)
        except errors.QuintileError as error:
            _LOG.warning("work on a labeling job failed", extra={"reason": str(error)})
            self._note(job_id, str(error))
            return 0
        except Exception:
            # The boundary of the thread: a defect in one job must not end the work on all others.
            _LOG.exception("work on a labeling job broke")
            self._note(job_id, UNFORESEEN)
            return 0
        return 1

    def _note(self, job_id: int, problem: str) -> None:
        with self._ctx.database.write() as session:
            job = session.get(tables.Job, job_id, with_for_update=True)
            if job is None:
                return
            job.retry_s = self._ctx.clock.now() + RETRY_S
            if job.problem != problem:
                job.problem = problem
                self._ctx.changed(session, job)

    def _tidy(self) -> None:
        now_s = time.monotonic()
        if now_s - self._tidied_s >= TIDY_S:
            self._tidied_s = now_s
            sweeping.mark_gone(self._ctx)
            sweeping.purge(self._ctx)
        if now_s - self._pruned_s >= PRUNE_S:
            self._pruned_s = now_s
            sweeping.prune(self._ctx)
