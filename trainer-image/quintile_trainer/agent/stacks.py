"""Reading the stacks that faulthandler writes: where the main thread is. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = re.compile(r"^(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$')
_FOREIGN = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen ")
_WAITING = (
    "/torch/distributed/",
    "/torch/nn/parallel/distributed.py",
    "/torch/autograd/graph.py",
    "/horovod/",
    "/mpi4py/",
    "/quintile_trainer/shm/",
    "/quintile_trainer/ps/",
    "/quintile_trainer/hvd/",
    "/quintile_trainer/modes/",
)
"""Where ranks wait for each other; with DDP that is the backward pass."""
_NEAR = 8
"""How many of the innermost frames say what a thread waits for."""


@dataclass(frozen=True)
class Answer:
    """What a rank answered: see ``messages.Witness``; where it is, or why it said nothing."""

    witness: str
    where: str
    waits: bool

    @property
    def sentence(self) -> str:
        """Return the answer in words, for the log."""
        if self.witness == "stopped":
            return "its process is stopped (state T), so it gives no stack"
        if self.witness == "silent":
            return f"it gave no stack ({self.where})"
        return f"it is in {self.where}"


@dataclass(frozen=True)
class _Frame:
    file: str
    line: str
    name: str

    @property
    def text(self) -> str:
        return f"{self.name} ({self.file.rpartition('/')[2]}:{self.line})"


def is_whole(lines: Sequence[str]) -> bool:
    """Return whether the thread that handled the signal is among the stacks so far."""
    return bool(_frames(lines))


def read(lines: Sequence[str]) -> Answer:
    """Return where the thread is that handled the signal: the main one, if it can run at all."""
    frames = _frames(lines)
    inner = frames[0]
    own = next(
        (frame for frame in frames if not any(part in frame.file for part in _FOREIGN)), inner
    )
    where = inner.text if own is inner else f"{inner.text}, called from {own.text}"
    waits = any(part in frame.file for frame in frames[:_NEAR] for part in _WAITING)
    return Answer("stack", where, waits=waits)


def _frames(lines: Sequence[str]) -> list[_Frame]:
    found: list[_Frame] = []
    inside = False
    for line in lines:
        head = _HEAD.match(line)
        if head is not None:
            inside = head[1] == "Current thread"
            continue
        frame = _FRAME.match(line) if inside else None
        if frame is not None:
            found.append(_Frame(frame["file"], frame["line"], frame["name"]))
    return found
