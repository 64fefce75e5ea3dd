"""What the demo shows while it works: a live line per step, or plain lines where nobody watches."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TextIO

PLAIN_EVERY_S: Final = 5.0


class Step(Protocol):
    """The step in hand."""

    def update(self, done: float, total: float, words: str = "") -> None:
        """Tell how far it is; ``total`` 0 = unknown."""
        ...


class Show(Protocol):
    """Where progress goes."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Step]:
        """Begin a step; it ends with the block."""
        ...


def choose(stream: TextIO | None = None) -> Show:
    """Return live progress on a terminal, plain lines elsewhere."""
    target = stream or sys.stderr
    return LiveShow() if target.isatty() else PlainShow(target)


class PlainStep:
    """Writes a line when enough time went by and there is something new to say."""

    def __init__(self, stream: TextIO, title: str, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._title = title
        self._clock = clock
        self._begun_s = self._told_s = clock()
        self._words = self._told = ""

    def update(self, done: float, total: float, words: str = "") -> None:
        """Tell how far it is."""
        self._words = words or self._words
        share = f" {done / total:.0%}" if total else ""
        line = f"  ...{share} {words}".rstrip()
        now_s = self._clock()
        if line != self._told and now_s - self._told_s >= PLAIN_EVERY_S:
            self._told, self._told_s = line, now_s
            self._write(line)

    def begin(self) -> None:
        """Write the title."""
        self._write(self._title)

    def end(self) -> None:
        """Write what it took."""
        seconds = self._clock() - self._begun_s
        self._write(f"  done in {seconds:.1f} s{': ' if self._words else ''}{self._words}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class PlainShow:
    """Plain lines."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Begin a step."""
        current = PlainStep(self._stream, title, self._clock)
        current.begin()
        yield current
        current.end()


class LiveShow:
    """A spinner, a bar and the time of every step, with rich."""

    def __init__(self) -> None:
        from rich import console, progress

        self._console = console.Console(stderr=True)
        self._columns = (
            progress.SpinnerColumn(finished_text="[green]✓"),
            progress.TextColumn("{task.description}", justify="left"),
            progress.BarColumn(bar_width=24),
            progress.TimeElapsedColumn(),
            progress.TextColumn("[dim]{task.fields[words]}"),
        )

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Begin a step."""
        from rich import progress

        with progress.Progress(*self._columns, console=self._console) as bar:
            task = bar.add_task(f"{title:<46}", total=None, words="")

            class LiveStep:
                """The line of the step."""

                def update(self, done: float, total: float, words: str = "") -> None:
                    """Tell how far it is."""
                    bar.update(task, completed=done, total=total or None, words=words)

            yield LiveStep()
            bar.update(task, total=1, completed=1)
