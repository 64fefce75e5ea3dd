"""TensorBoard event files, written without TensorBoard: one per generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quintile.core import event_records


class EventFile:
    """Appends scalars to one event file. One thread writes."""

    def __init__(self, path: Path, *, time_s: float, purge_step: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.write(event_records.version(time_s))
        if purge_step is not None:
            self._file.write(event_records.session(time_s, purge_step=purge_step))

    def add(self, values: Mapping[str, float], *, step: int, time_s: float) -> None:
        """Append scalars by tag at a step."""
        self._file.write(event_records.scalars(values, step=step, time_s=time_s))

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
