"""Stacks of ranks that stand still, read; failure rules of the experiment, matched."""

from __future__ import annotations

import pytest

from quintile_trainer.agent import rules, stacks

DUMP = """
Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
Current thread 0x00007f2 [python] (most recent call first):
  File "/v/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 9 in all_reduce
  File "/state/bundle/train.py", line 12 in step
  File "/state/bundle/train.py", line 30 in <module>
""".strip().splitlines()


def test_the_place_is_the_innermost_frame_and_the_users_own() -> None:
    found = stacks.read(DUMP)
    assert found.where == "all_reduce (distributed_c10d.py:9), called from step (train.py:12)"
    assert (found.witness, found.waits) == ("stack", True)


def test_a_place_in_the_users_code_is_no_waiting() -> None:
    found = stacks.read([*DUMP[:3], *DUMP[4:]])
    assert (found.where, found.waits) == ("step (train.py:12)", False)


def test_prints_of_the_script_in_between_do_no_harm() -> None:
    mixed = [line for part in DUMP for line in ("loss 0.3", part)]
    assert stacks.read(mixed) == stacks.read(DUMP)


@pytest.mark.parametrize("length", range(4))
def test_a_dump_without_its_main_thread_is_not_whole(length: int) -> None:
    assert not stacks.is_whole(DUMP[:length])


CODE = {"action": "Restart", "exitCodes": [3, 4]}
TEXT = {"action": "RestartUncounted", "logPattern": "NCCL*timeout"}
BOTH = {"action": "Fail", "exitCodes": [3], "logPattern": "licence"}


@pytest.mark.parametrize(
    ("given", "code", "tail", "action"),
    [
        ([CODE], 3, [], "Restart"),
        ([CODE], 5, [], ""),
        ([CODE], 0, [], ""),
        ([TEXT], 1, ["a", "x NCCL watchdog timeout y"], "RestartUncounted"),
        ([TEXT], 1, ["timeout of NCCL"], ""),
        ([BOTH, CODE], 3, ["no licence file"], "Fail"),
        ([BOTH, CODE], 3, ["else"], "Restart"),
        ([CODE, BOTH], 3, ["no licence file"], "Restart"),
        ([], 1, ["x"], ""),
    ],
)
def test_the_first_rule_that_fits_decides(
    given: list[dict[str, object]], code: int, tail: list[str], action: str
) -> None:
    assert rules.action(given, exit_code=code, tail=tail) == action


@pytest.mark.parametrize(
    ("line", "pattern", "holds"),
    [
        ("abc", "b", True),
        ("abc", "a*c", True),
        ("abc", "c*a", False),
        ("abc", "*", True),
        ("aXbXc", "a*b*c", True),
        ("ab", "ab*b", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
    ],
)
def test_stars_stand_for_any_text_and_all_else_for_itself(
    line: str, pattern: str, holds: bool
) -> None:
    assert rules.contains(line, pattern) is holds
