"""The worker of background jobs: one thread that claims a job, does it, claims the next."""

from __future__ import annotations

import logging
import threading
from typing import Final

from quintile import ports
from quintile.core import errors
from quintile_api.data import imports, jobs, uploads

POLL_S: Final = 1.0
TIDY_EVERY_S: Final = 600.0
_LOG = logging.getLogger("quintile.jobs")


class Worker:
    """Start and stop are idempotent; ``run_next`` does one job in the calling thread."""

    def __init__(
        self,
        *,
        queue: jobs.JobQueue,
        importer: imports.Importer,
        objects: ports.ObjectStore,
        uploads: uploads.UploadStore,
        clock: ports.Clock,
    ) -> None:
        self._queue = queue
        self._importer = importer
        self._objects = objects
        self._uploads = uploads
        self._clock = clock
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._tidied_s = 0.0

    def start(self) -> None:
        """Begin to work."""
        if self._thread is None:
            self._importer.stopping.clear()
            self._thread = threading.Thread(target=self._run, name="quintile-jobs", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the file that is being imported; the job goes back to the queue."""
        if self._thread is not None:
            self._importer.stopping.set()
            self._wake.set()
            self._thread.join(timeout=60)
            self._thread = None

    def wake(self) -> None:
        """Look for work now; called when a job was queued."""
        self._wake.set()

    def run_next(self) -> bool:
        """Do one job; return False when there is none."""
        claim = self._queue.claim()
        if claim is None:
            return False
        fields = {"job": claim.id, "kind": claim.kind, "attempt": claim.tries}
        _LOG.info("job begins", extra=fields)
        try:
            with self._queue.keep(claim):
                self._do(claim)
        except errors.Fenced:
            _LOG.warning("job lost to another worker", extra=fields)
        except imports.Stopped:
            self._queue.release(claim)
        except errors.Unavailable as error:
            # The lease runs out, then the job is tried again; after some tries it fails.
            _LOG.warning("job interrupted", extra={**fields, "reason": str(error)})
        return True

    def _do(self, claim: jobs.Claim) -> None:
        if claim.tries > jobs.TRIES:
            self._importer.fail(
                claim,
                problem=f"The job was begun {jobs.TRIES} times and never came to its end. "
                "Look for the cause in the server's log, then begin again.",
            )
        elif claim.kind == imports.KIND:
            try:
                self._importer.run(claim)
            except (errors.QuintileError, imports.Stopped):
                raise
            except Exception:
                # The boundary of the job: a defect of ours fails this import, not the server.
                _LOG.exception("job failed", extra={"job": claim.id})
                self._importer.fail(
                    claim,
                    problem="The import failed for an unforeseen reason. The server's log has "
                    f"the details under job {claim.id}.",
                )
        else:
            for info in list(self._objects.list(str(claim.payload["prefix"]))):
                self._objects.delete(info.key)
            self._queue.finish(claim)

    def _run(self) -> None:
        while not self._importer.stopping.is_set():
            self._wake.clear()
            try:
                busy = self.run_next()
                self._tidy()
            except errors.QuintileError as error:
                _LOG.warning("no job could be taken", extra={"reason": str(error)})
                busy = False
            if not busy and not self._importer.stopping.is_set():
                self._wake.wait(POLL_S)

    def _tidy(self) -> None:
        now_s = self._clock.now()
        if now_s - self._tidied_s >= TIDY_EVERY_S:
            self._tidied_s = now_s
            self._uploads.forget_stale()
