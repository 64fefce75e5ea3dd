"""What the ranks print: split into lines, spooled, the newest kept for the error report."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import selectors
import threading
import time
from typing import IO

from quintile_trainer import spool

LINE_LIMIT = 16_000
TAIL_LINES = 200
HEARD_LINES = 20_000
READ_BYTES = 65536


class RankOutput:
    """The lines of one rank on their way into its spool. Thread-safe."""

    def __init__(self, writer: spool.Writer, pump: Pump) -> None:
        self._writer = writer
        self._pump = pump
        self._pending: dict[str, bytes] = {}
        self._lost = 0
        self._open = 0
        self._heard: list[str] | None = None
        self.tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self.closed = threading.Event()

    def attach(self, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        """Begin to read both pipes of the rank."""
        self._open = 2
        self._pump.add(stdout, self, "stdout")
        self._pump.add(stderr, self, "stderr")

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes of one pipe; complete lines go on, and over-long ones in pieces."""
        buffer = self._pending.get(stream, b"") + data
        *lines, rest = buffer.split(b"\n")
        while len(rest) > LINE_LIMIT:
            lines.append(rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._pending[stream] = rest
        for line in lines:
            self.say(line.decode(errors="replace"), stream)

    def end(self, stream: str) -> None:
        """Take the end of one pipe."""
        rest = self._pending.pop(stream, b"")
        if rest:
            self.say(rest.decode(errors="replace"), stream)
        self._open -= 1
        if self._open == 0:
            self.closed.set()

    def say(self, line: str, stream: str = "agent") -> None:
        """Spool one line; a full disk drops it and the next line that fits says how many."""
        # A progress bar rewrites its line with carriage returns: the newest state is enough.
        text = line.rstrip("\r").rpartition("\r")[2].replace("\x00", "")
        heard = self._heard
        if stream == "stderr" and heard is not None and len(heard) < HEARD_LINES:
            # What faulthandler writes is for whoever listens; it is no word about an error.
            heard.append(text)
        elif stream == "stderr":
            self.tail.append(text)
        for start in range(0, max(len(text), 1), LINE_LIMIT):
            self._spool(text[start : start + LINE_LIMIT], stream)

    def listen(self) -> None:
        """Collect what comes on stderr from now on."""
        self._heard = []

    @property
    def heard(self) -> list[str]:
        """Return what came on stderr since ``listen``."""
        return list(self._heard or ())

    def unlisten(self) -> None:
        """Collect no more."""
        self._heard = None

    def _spool(self, text: str, stream: str) -> None:
        record = {"time": time.time(), "line": text, "stream": stream}
        try:
            if self._lost:
                words = f"[quintile] {self._lost} lines dropped: the disk of the worker was full"
                self._writer.append({**record, "line": words, "stream": "agent"})
                self._lost = 0
            self._writer.append(record)
        except OSError:
            self._lost += 1


class Pump:
    """Reads the pipes of all ranks. ``run`` has its own thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._fresh: queue.SimpleQueue[tuple[IO[bytes], RankOutput, str]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def add(self, pipe: IO[bytes], lines: RankOutput, stream: str) -> None:
        """Read another pipe from now on."""
        self._fresh.put((pipe, lines, stream))
        os.write(self._wake_write, b"!")

    def run(self) -> None:
        """Read until the process ends."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._register()
                else:
                    self._read(key)

    def _register(self) -> None:
        for _ in os.read(self._wake_read, READ_BYTES):
            pipe, lines, stream = self._fresh.get_nowait()
            self._selector.register(pipe, selectors.EVENT_READ, (pipe, lines, stream))

    def _read(self, key: selectors.SelectorKey) -> None:
        pipe, lines, stream = key.data
        data = b""
        with contextlib.suppress(OSError):
            data = pipe.read(READ_BYTES)
        if data:
            lines.feed(stream, data)
            return
        self._selector.unregister(pipe)
        pipe.close()
        lines.end(stream)
