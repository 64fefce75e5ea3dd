"""What the ranks of one generation are doing: their steps, for how long they stand still, stacks.

A rank is asked with SIGUSR1, on which Python's faulthandler writes the stacks of all threads to
stderr, so that they are in the log whatever becomes of the rank. A process that is stopped cannot
answer, and one that does not catch the signal would die of it: neither is asked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quintile_trainer import layout, progress
from quintile_trainer.agent import processes, stacks, wire

ANSWER_S = 4.0
SETTLED_S = 0.1
"""A stack is complete when nothing came after it for so long."""
POLL_S = 0.02
GAP_S = 10.0
"""A pause between two looks counts no more than this: the agent itself may have been stopped."""
STOPPED = ("T", "t")


@dataclass
class _Look:
    """What was last seen of a rank's counter, and whether its process was stopped."""

    sign: tuple[progress.Mark, bool]
    at_s: float
    still_s: float = 0.0


class Watch:
    """The ranks of one generation. ``views`` from any thread, ``ask`` from the main thread.

    Args:
        ranks: The processes.
        folder: Where they tell their steps.
        must_tell_steps: Whether they start until their first step, not only until they run.
    """

    def __init__(
        self,
        ranks: processes.RankSet,
        folder: layout.GenerationFolder,
        *,
        must_tell_steps: bool = True,
    ) -> None:
        self._ranks = ranks
        self._folder = folder
        self._must_tell_steps = must_tell_steps
        self._lock = threading.Lock()
        self._looks: dict[int, _Look] = {}
        self._answers: dict[int, stacks.Answer] = {}
        self._asked = False

    def views(self) -> list[wire.RankView]:
        """Return what is told of the ranks at a heartbeat."""
        return [self._view(rank) for rank in list(self._ranks.ranks)]

    def ask(self, done: Callable[[], None]) -> Callable[[], None] | None:
        """Ask every rank for its stack; return what waits for the answers, None if asked before.

        Args:
            done: Called when all have answered, or their time is over.
        """
        if self._asked:
            return None
        self._asked = True
        asked = [(rank, _ask(rank)) for rank in self._ranks.live]
        return lambda: self._listen(asked, done)

    def forget(self) -> None:
        """Forget the answers: steps are finished again."""
        if self._asked:
            with self._lock:
                self._answers.clear()
            self._asked = False

    def _view(self, rank: processes.RankProcess) -> wire.RankView:
        mark = progress.mark(self._folder.progress(rank.rank))
        stopped = not rank.ended and _state(rank.pid) in STOPPED
        with self._lock:
            still_s = 0.0 if rank.ended else self._still_s(rank.rank, (mark, stopped))
            answer = self._answers.get(rank.rank, stacks.Answer("", "", waits=False))
        return wire.RankView(
            rank.rank,
            rank.pid,
            "stopped" if stopped else self._stage(rank, mark),
            mark.step,
            mark.total_steps,
            still_s=round(still_s, 3),
            witness=answer.witness,
            where=answer.where,
            waits=answer.waits,
        )

    def _stage(self, rank: processes.RankProcess, mark: progress.Mark) -> str:
        if rank.ended:
            return "exited"
        begun = mark.step >= 0 or (mark.is_there and not self._must_tell_steps)
        return "running" if begun else "starting"

    def _still_s(self, rank: int, sign: tuple[progress.Mark, bool]) -> float:
        now = time.monotonic()
        last = self._looks.get(rank)
        if last is None or last.sign != sign:
            self._looks[rank] = _Look(sign, now)
            return 0.0
        last.still_s += min(now - last.at_s, GAP_S)
        last.at_s = now
        return last.still_s

    def _listen(
        self,
        asked: Sequence[tuple[processes.RankProcess, stacks.Answer | None]],
        done: Callable[[], None],
    ) -> None:
        deadline = time.monotonic() + ANSWER_S
        for rank, known in asked:
            answer = known if known is not None else _answer(rank, deadline)
            rank.lines.say(f"[quintile] rank {rank.rank} stands still: {answer.sentence}")
            with self._lock:
                self._answers[rank.rank] = answer
        done()


def _ask(rank: processes.RankProcess) -> stacks.Answer | None:
    """Send the signal; return an answer at once for a rank that cannot give one."""
    state = _state(rank.pid)
    if state in STOPPED:
        return stacks.Answer("stopped", "", waits=False)
    if not _catches(rank.pid, signal.SIGUSR1):
        return stacks.Answer("silent", "it does not listen to SIGUSR1", waits=False)
    rank.lines.listen()
    with contextlib.suppress(ProcessLookupError):
        os.kill(rank.pid, signal.SIGUSR1)
    return None


def _answer(rank: processes.RankProcess, deadline: float) -> stacks.Answer:
    heard = 0
    quiet_since = time.monotonic()
    while time.monotonic() < deadline:
        lines = rank.lines.heard
        if len(lines) != heard:
            heard, quiet_since = len(lines), time.monotonic()
        if stacks.is_whole(lines) and time.monotonic() - quiet_since >= SETTLED_S:
            break
        time.sleep(POLL_S)
    lines = rank.lines.heard
    rank.lines.unlisten()
    if stacks.is_whole(lines):
        return stacks.read(lines)
    state = _state(rank.pid)
    if state in STOPPED:
        return stacks.Answer("stopped", "", waits=False)
    return stacks.Answer("silent", f"none came within {ANSWER_S:g} s, state {state}", waits=False)


def _state(pid: int) -> str:
    """Return the kernel's letter for the state of a process, empty for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(masks) and bool(int(masks[0], 16) & (1 << (number - 1)))
