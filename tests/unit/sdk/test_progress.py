"""Progress where there is no terminal: lines on stderr, never more often than every few seconds."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.sdk import progress


def test_lines_go_to_stderr_and_stay_apart(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    with progress.Progress("run") as shown:
        shown.update(1, 10, "loss 1")
        shown.update(2, 10, "loss 2")
        now_s[0] += progress.LINE_EVERY_S
        shown.update(3, 10, "loss 3")
        now_s[0] += progress.LINE_EVERY_S
        shown.update(0, 0)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == "run: 1/10 loss 1\nrun: 3/10 loss 3\n"


def test_lines_of_the_run_go_to_stdout(capsys: Any) -> None:
    with progress.Progress("run") as shown:
        shown.out("step 1")
        shown.say("run: Running")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("step 1\n", "run: Running\n")


def test_nothing_when_it_is_not_wanted(capsys: Any) -> None:
    with progress.Progress("run", shown=False) as shown:
        shown.update(1, 2, "words")
        shown.say("words")
    assert capsys.readouterr().err == ""
