"""What the end of a rank means, in one word and one line. Pure but for reading two small files."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quintile_trainer import exit_codes

SIGNAL_BASE = 128
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Fault)\b.*")
_FATAL = "Fatal Python error:"
_TRACEBACK = "Traceback (most recent call last):"
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(frozen=True)
class Ended:
    """A reaped rank: wait status split into code and signal, and what it said last."""

    rank: int
    exit_code: int
    signal: int
    words: dict[str, str]
    tail: Sequence[str]
    oom_kills: int = 0


def reason(ended: Ended) -> str:
    """Return the CamelCase word for a rank's end."""
    if ended.exit_code == 0:
        return "Completed"
    if ended.words.get("reason"):
        return ended.words["reason"]
    if ended.signal == signal.SIGKILL:
        return "OutOfMemory" if ended.oom_kills > 0 else "Killed"
    if ended.signal in CRASHES:
        return "Crashed"
    if ended.signal:
        return "Killed"
    # A code that we do not know is the script's own way to say that it failed.
    return exit_codes.REASONS.get(ended.exit_code, exit_codes.REASONS[exit_codes.USER_ERROR])


def first_error(ended: Ended) -> str:
    """Return the one line that says what went wrong, empty for a good end."""
    if ended.exit_code == 0:
        return ""
    if ended.words.get("message"):
        return ended.words["message"]
    found = exception_line(ended.tail)
    if found:
        return found
    if ended.signal:
        fatal = [line for line in ended.tail if line.startswith(_FATAL)]
        why = f" ({fatal[-1].removeprefix(_FATAL).strip()})" if fatal else ""
        return f"rank {ended.rank} was ended by {signal.Signals(ended.signal).name}{why}"
    spoken = [line for line in ended.tail if line.strip()]
    if spoken:
        return spoken[-1]
    return f"rank {ended.rank} exited with code {ended.exit_code} and said nothing on stderr"


def exception_line(tail: Sequence[str]) -> str:
    """Return the exception of the last traceback in some lines of output, empty without one."""
    starts = [place for place, line in enumerate(tail) if line.strip() == _TRACEBACK]
    lines = tail[starts[-1] + 1 :] if starts else tail
    for line in lines:
        if starts and line[:1] not in (" ", "\t", "") and ":" in line:
            return line.strip()
    for line in reversed(lines):
        if _EXCEPTION.match(line):
            return line.strip()
    return ""


def last_words(path: Path) -> dict[str, str]:
    """Return what a rank wrote before it left (``reason``, ``message``); empty without a file."""
    try:
        words = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in words.items()} if isinstance(words, dict) else {}


def oom_kills(files: Sequence[str] = _OOM_FILES) -> int:
    """Return how often the kernel killed for memory in our cgroup; 0 when it does not say."""
    for name in files:
        try:
            lines = Path(name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.strip().isdigit():
                return int(count)
    return 0
