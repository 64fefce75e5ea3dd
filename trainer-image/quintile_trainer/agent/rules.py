"""Failure rules of the experiment: what it says about a rank that ended like this. Pure.

Evaluated here, where the output of the rank is; the coordinator does what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quintile_trainer.agent import wire


def action(rules: Iterable[wire.Json], *, exit_code: int, tail: Sequence[str]) -> str:
    """Return the action of the first rule that fits a bad end, empty without one."""
    if exit_code == 0:
        return ""
    for rule in rules:
        codes = rule.get("exitCodes") or []
        pattern = str(rule.get("logPattern") or "")
        if codes and exit_code not in codes:
            continue
        if pattern and not any(contains(line, pattern) for line in tail):
            continue
        return str(rule["action"])
    return ""


def contains(line: str, pattern: str) -> bool:
    """Return whether a line contains a text in which ``*`` stands for any text. Linear in time."""
    start = 0
    for part in pattern.split("*"):
        found = line.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return True
