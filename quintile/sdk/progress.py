"""Progress for people, on stderr: a bar where there is a terminal or a notebook, else lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

LINE_EVERY_S: Final = 5.0


class Progress:
    """Shows how far something is; used as a context manager.

    Args:
        title: What is going on.
        shown: Whether anything is written.
    """

    def __init__(self, title: str, *, shown: bool = True) -> None:
        self._title = title
        self._shown = shown
        self._bar: Any = None
        self._said = ""
        self._said_s = 0.0

    def update(self, done: int, total: int, words: str = "") -> None:
        """Show ``done`` of ``total`` (0 = unknown) and what is going on."""
        if not self._shown:
            return
        if _is_live():
            self._draw(done, total, words)
            return
        told = f"{done:,}/{total:,} {words}" if total else words
        line = f"{self._title}: {told}" if told else self._said
        now_s = time.monotonic()
        if line != self._said and now_s - self._said_s >= LINE_EVERY_S:
            sys.stderr.write(f"{line.rstrip()}\n")
            self._said, self._said_s = line, now_s

    def say(self, line: str) -> None:
        """Write one line, above the bar."""
        if not self._shown:
            return
        if self._bar is None:
            sys.stderr.write(f"{line}\n")
        else:
            self._bar.write(line, file=sys.stderr)

    def out(self, line: str) -> None:
        """Write one line to stdout, without breaking the bar."""
        if self._bar is None:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        else:
            self._bar.write(line, file=sys.stdout)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _draw(self, done: int, total: int, words: str) -> None:
        if self._bar is None:
            from tqdm import auto

            self._bar = auto.tqdm(desc=self._title, file=sys.stderr, dynamic_ncols=True)
        self._bar.total = total or None
        self._bar.n = done
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.refresh()


def _is_live() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules
