"""Metrics of a rank: one call writes the spool for the platform and queues the event file.

``log`` costs the caller some microseconds: one line into the spool, one entry into a queue.
Standard library only.
"""

from __future__ import annotations

import collections
import math
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from quintile_trainer import progress, spool, worker_env

STREAM = "metrics"
WAITING_LIMIT = 10_000
"""Records that wait in memory for room on the disk before that ends the rank."""
LARGEST_FLOAT = 3.4e38


class Reporter:
    """One per rank. Thread-safe.

    Args:
        env: Who the rank is.
        resume_step: Steps that earlier generations did; tells TensorBoard what to forget.

    Attributes:
        newest_step: The last one that was logged, -1 before.
    """

    def __init__(self, env: worker_env.WorkerEnv, *, resume_step: int = 0) -> None:
        self._spool = spool.Writer(env.folder.stream(env.rank, STREAM))
        self._waiting: collections.deque[spool.Record] = collections.deque()
        self._lock = threading.Lock()
        self.newest_step = -1
        self._counter = progress.Counter(env.folder.progress(env.rank))
        self._events: queue.SimpleQueue[tuple[dict[str, float], int, float] | None]
        self._events = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        if env.rank == 0:
            path = event_path(env)
            purge = resume_step + 1 if env.generation > 1 or env.attempt > 1 else None
            self._writer = threading.Thread(
                target=self._write_events, args=(path, purge), name="events", daemon=True
            )
            self._writer.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report metrics at a step (completed global steps).

        Raises:
            OSError: The disk has been full for so long that memory would fill, too.
        """
        now = time.time()
        self.newest_step = int(step)
        numbers = {name: float(value) for name, value in values.items()}
        with self._lock:
            self._waiting.append({"step": int(step), "time": now, "values": numbers})
            try:
                self._write_records()
            except OSError:
                if len(self._waiting) > WAITING_LIMIT:
                    raise
        if self._writer is not None:
            self._events.put((numbers, step, now))

    def progress(self, step: int, total_steps: int) -> None:
        """Tell the agent how many steps are done, and of how many."""
        self._counter.set(step, total_steps)

    def close(self) -> None:
        """Write everything out.

        Raises:
            OSError: The disk is full.
        """
        with self._lock:
            self._write_records()
        if self._writer is not None:
            self._events.put(None)
            self._writer.join(timeout=10.0)
        self._spool.close()

    def _write_records(self) -> None:
        while self._waiting:
            self._spool.append(self._waiting[0])
            self._waiting.popleft()

    def _write_events(self, path: Path, purge_step: int | None) -> None:
        # Here, since a rank starts with the standard library alone.
        from quintile_trainer import event_files

        try:
            file = event_files.EventFile(path, time_s=time.time(), purge_step=purge_step)
            while (entry := self._events.get()) is not None:
                values, step, time_s = entry
                file.add(drawable(values), step=step, time_s=time_s)
                if self._events.empty():
                    file.flush()
            file.close()
        except OSError as error:
            # The platform has the same numbers; training goes on without the second copy.
            sys.stderr.write(f"[quintile] TensorBoard events are incomplete from here: {error}\n")


def drawable(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that 32-bit floats hold; NaN is one of them."""
    return {tag: v for tag, v in values.items() if math.isnan(v) or abs(v) < LARGEST_FLOAT}


def event_path(env: worker_env.WorkerEnv) -> Path:
    """Return the event file of a generation."""
    stamp = int(time.time())
    name = f"events.out.tfevents.{stamp}.{env.attempt}-{env.generation}"
    return env.folder.root / "tensorboard" / name


def event_paths(env: worker_env.WorkerEnv) -> list[Path]:
    """Return the event files of all generations that ran here."""
    return sorted(env.state.root.glob("g*/tensorboard/events.out.tfevents.*"))
