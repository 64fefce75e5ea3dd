"""What the end of a rank means: exception, exit code and signal to one word and one line."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Any

import pytest

from quintile_trainer import exit_codes, failures
from quintile_trainer.agent import exits

TRACEBACK = [
    "some warning",
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in <module>',
    "    import pandas",
    "ModuleNotFoundError: No module named 'pandas'",
]
CHAINED = [
    *TRACEBACK,
    "",
    "The above exception was the direct cause of the following exception:",
    "",
    "Traceback (most recent call last):",
    '  File "train.py", line 9, in <module>',
    "mymodule.BadThing: it is broken",
    "in a second line",
]


def ended(code: int = 1, number: int = 0, **changes: Any) -> exits.Ended:
    default: dict[str, Any] = {"rank": 0, "words": {}, "tail": []}
    return exits.Ended(exit_code=code, signal=number, **(default | changes))


REASONS = {
    "done": (ended(0), "Completed"),
    "its own words": (ended(1, words={"reason": "Diverged"}), "Diverged"),
    "exit 1": (ended(1), "UserError"),
    "exit 2, as argparse does": (ended(2), "UserError"),
    "exit 70": (ended(70), "Internal"),
    "a full disk": (ended(73), "DiskFull"),
    "a lost peer": (ended(74), "PeerLost"),
    "left when asked": (ended(75), "Preempted"),
    "killed": (ended(137, signal.SIGKILL), "Killed"),
    "killed for memory": (ended(137, signal.SIGKILL, oom_kills=1), "OutOfMemory"),
    "no memory, without a signal": (ended(137), "OutOfMemory"),
    "segmentation fault": (ended(139, signal.SIGSEGV), "Crashed"),
    "aborted": (ended(134, signal.SIGABRT), "Crashed"),
    "terminated": (ended(143, signal.SIGTERM), "Killed"),
}


@pytest.mark.parametrize(("end", "word"), REASONS.values(), ids=REASONS)
def test_one_word(end: exits.Ended, word: str) -> None:
    assert exits.reason(end) == word


LINES = {
    "done": (ended(0, tail=TRACEBACK), ""),
    "its own words": (ended(1, words={"message": "hparam x is wrong"}), "hparam x is wrong"),
    "a traceback": (ended(1, tail=TRACEBACK), "ModuleNotFoundError: No module named 'pandas'"),
    "the last traceback": (ended(1, tail=CHAINED), "mymodule.BadThing: it is broken"),
    "noise after it": (
        ended(1, tail=[*TRACEBACK, "Exception ignored in: something"]),
        "ModuleNotFoundError: No module named 'pandas'",
    ),
    "no traceback": (ended(3, tail=["usage: x", "error: no such file", ""]), "error: no such file"),
    "a bare exception": (ended(1, tail=["ValueError: x", "bye"]), "ValueError: x"),
    "silence": (ended(3), "rank 0 exited with code 3 and said nothing on stderr"),
    "a fatal error": (
        ended(
            139, signal.SIGSEGV, tail=["Fatal Python error: Segmentation fault", "", "Thread x:"]
        ),
        "rank 0 was ended by SIGSEGV (Segmentation fault)",
    ),
    "a signal": (ended(137, signal.SIGKILL), "rank 0 was ended by SIGKILL"),
}


@pytest.mark.parametrize(("end", "line"), LINES.values(), ids=LINES)
def test_one_line(end: exits.Ended, line: str) -> None:
    assert exits.first_error(end) == line


CLASSES = {
    "refused input": (failures.BadInput("hparam"), (1, "InvalidSpec")),
    "no number": (failures.Diverged("loss"), (1, "Diverged")),
    "a full disk, ours": (failures.DiskFull("x"), (73, "DiskFull")),
    "a full disk, theirs": (OSError(errno.ENOSPC, "No space left"), (73, "DiskFull")),
    "asked to leave": (failures.Yielded("saved"), (75, "Preempted")),
    "our fault": (failures.Broken("x"), (70, "Internal")),
    "user code": (ValueError("x"), (1, "UserError")),
    "a missing file": (FileNotFoundError("x"), (1, "UserError")),
    "no memory": (MemoryError(), (137, "OutOfMemory")),
    "no memory, torch": (
        RuntimeError("[enforce fail] can't allocate memory"),
        (137, "OutOfMemory"),
    ),
    "a peer": (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), (74, "PeerLost")),
    "a peer that never came": (
        RuntimeError("Timed out initializing process group"),
        (74, "PeerLost"),
    ),
    "a taken port": (RuntimeError("EADDRINUSE, address already in use"), (74, "PeerLost")),
    "a broken pipe of the user's": (BrokenPipeError("broken pipe"), (1, "UserError")),
}


@pytest.mark.parametrize(("error", "expected"), CLASSES.values(), ids=CLASSES)
def test_exceptions_become_codes(error: BaseException, expected: tuple[int, str]) -> None:
    assert failures.classify(error, world_size=2) == expected


def test_a_rank_without_peers_has_lost_none() -> None:
    error = RuntimeError("connection refused by my own server")
    assert failures.classify(error, world_size=1) == (1, "UserError")


def test_a_sentence_is_one_line() -> None:
    assert failures.sentence(failures.BadInput("a\nb")) == "a"
    assert failures.sentence(ValueError("a\nb")) == "ValueError: a"
    assert failures.sentence(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert failures.sentence(exits.json.JSONDecodeError("x", "y", 0)).startswith("json.decoder.")


def test_every_failure_of_ours_has_a_code_and_a_word() -> None:
    kinds = failures.RankFailure.__subclasses__()
    assert len(kinds) >= 6
    for kind in kinds:
        code, word = failures.classify(kind("x"), world_size=1)
        assert code in exit_codes.REASONS
        assert word.isalpha()


def test_last_words_are_read_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.error"
    assert exits.last_words(path) == {}
    path.write_text('{"reason": "Div')
    assert exits.last_words(path) == {}
    path.write_text('["x"]')
    assert exits.last_words(path) == {}
    path.write_text('{"reason": "Diverged", "message": "x"}')
    assert exits.last_words(path) == {"reason": "Diverged", "message": "x"}


def test_kills_for_memory_are_counted(tmp_path: Path) -> None:
    version2 = tmp_path / "memory.events"
    version2.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert exits.oom_kills([str(tmp_path / "none"), str(version2)]) == 2
    assert exits.oom_kills([str(tmp_path / "none")]) == 0
