"""Curves that a script writes with a SummaryWriter of its own: reported as metrics, while it runs.

The script writes into the folder that ``QUINTILE_TENSORBOARD`` names; of rank 0 the scalars are
read from there and reported, so that they are wherever the platform shows metrics. Loads the
standard library alone until something is there to read.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "QUINTILE_TENSORBOARD"
EVERY_S = 2.0
PATTERN = "events.out.tfevents.*"
PIECE = 1 << 20
Report = Callable[[int, Mapping[str, float]], None]


class Follower:
    """Reads what is new in the event files of a folder, every few seconds until it is closed."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._read: dict[Path, int] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="own curves", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Read what is left and end."""
        self._closing.set()
        self._thread.join()

    def look(self) -> None:
        """Report what was written since the last look.

        Raises:
            OSError: The folder cannot be read, or what it holds cannot be reported.
            ValueError: A file holds no events.
        """
        for path in sorted(self._folder.rglob(PATTERN)):
            while self._take(path):
                pass

    def _take(self, path: Path) -> bool:
        """Report the next records of a file; return whether there may be more."""
        from quintile.core import event_records

        size = PIECE
        while True:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read(size)
            found, taken = event_records.read(data)
            if taken or len(data) < size:
                break
            size *= 2  # one record is larger
        below = path.parent.relative_to(self._folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for entry in found:
            self._report(entry.step, {prefix + tag: value for tag, value in entry.values.items()})
        self._read[path] = self._read.get(path, 0) + taken
        return taken > 0

    def _run(self) -> None:
        try:
            while not self._closing.wait(EVERY_S):
                self.look()
            self.look()
        except (OSError, ValueError) as error:
            sys.stderr.write(f"[quintile] curves in {self._folder} are not followed: {error}\n")
