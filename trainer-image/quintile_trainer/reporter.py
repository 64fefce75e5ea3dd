"""Metrics of a rank: one call writes the spool for the platform and queues the event file.

``log`` costs the caller some microseconds: one line into the spool, one entry into a queue.
Standard library only.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from quintile_trainer import event_files, progress, spool, worker_env

STREAM = "metrics"


class Reporter:
    """One per rank. Thread-safe.

    Args:
        env: Who the rank is.
        resume_step: Steps that earlier generations did; tells TensorBoard what to forget.
    """

    def __init__(self, env: worker_env.WorkerEnv, *, resume_step: int = 0) -> None:
        self._spool = spool.Writer(env.folder.stream(env.rank, STREAM))
        self._counter = progress.Counter(env.folder.progress(env.rank))
        self._events: queue.SimpleQueue[tuple[dict[str, float], int, float] | None]
        self._events = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        if env.rank == 0:
            path = event_path(env)
            purge = resume_step if env.generation > 1 or env.attempt > 1 else None
            self._writer = threading.Thread(
                target=self._write_events, args=(path, purge), name="events", daemon=True
            )
            self._writer.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report metrics at a step (completed global steps)."""
        now = time.time()
        numbers = {name: float(value) for name, value in values.items()}
        self._spool.append({"step": step, "time": now, "values": numbers})
        if self._writer is not None:
            self._events.put((numbers, step, now))

    def progress(self, step: int, total_steps: int) -> None:
        """Tell the agent how many steps are done, and of how many."""
        self._counter.set(step, total_steps)

    def close(self) -> None:
        """Write everything out."""
        if self._writer is not None:
            self._events.put(None)
            self._writer.join(timeout=10.0)
        self._spool.close()

    def _write_events(self, path: Path, purge_step: int | None) -> None:
        file = event_files.EventFile(path, time_s=time.time(), purge_step=purge_step)
        while (entry := self._events.get()) is not None:
            values, step, time_s = entry
            finite = {tag: value for tag, value in values.items() if not math.isinf(value)}
            file.add(finite, step=step, time_s=time_s)
            if self._events.empty():
                file.flush()
        file.close()


def event_path(env: worker_env.WorkerEnv) -> Path:
    """Return the event file of a generation."""
    stamp = int(time.time())
    name = f"events.out.tfevents.{stamp}.{env.attempt}-{env.generation}"
    return env.folder.root / "tensorboard" / name


def event_paths(env: worker_env.WorkerEnv) -> list[Path]:
    """Return the event files of all generations that ran here."""
    return sorted(env.state.root.glob("g*/tensorboard/events.out.tfevents.*"))
