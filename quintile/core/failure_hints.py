"""What to do about an end, by its reason word: the last part of the message of a failure. Pure."""

from __future__ import annotations

from quintile.core import experiment

HINTS = {
    "UserError": "the log of the rank has the whole traceback",
    "Crashed": "a library of the program broke; the log of the rank has the stack",
    "Killed": "something outside of the run ended the rank; if it was for memory, lower batch_size",
    "OutOfMemory": "lower batch_size, or raise run.resources.memory",
    "DiskFull": "make room on the disk of the worker, then resume",
    "Diverged": "lower learning_rate, or set clip_norm",
    "PeerLost": "look at the ranks that ended first",
    "AgentLost": "look whether the machine or its network is away",
    "Stalled": "look at the stacks in the log; if a step may take that long, raise "
    "telemetry.progressTimeoutSeconds",
}
"""Reasons without a hint explain themselves."""


def with_hint(sentence: str, failure: experiment.LastFailure) -> str:
    """Return a sentence about a failure and what to do about it."""
    hint = HINTS.get(failure.reason, "")
    return f"{sentence}. Hint: {hint}." if hint and hint not in sentence else sentence
