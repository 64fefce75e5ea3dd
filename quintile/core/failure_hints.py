"""What to do about an end, by its reason word: the last part of the message of a failure. Pure."""

from __future__ import annotations

from quintile.core import errors, experiment

HINTS = {
    "UserError": "the log of the rank has the whole traceback",
    "Crashed": "a library of the program broke; the log of the rank has the stack",
    "Killed": "something outside of the run ended the rank; if it was for memory, lower batch_size",
    "OutOfMemory": "lower batch_size, or raise run.resources.memory",
    "DiskFull": "make room on the disk of the worker, then resume",
    "Diverged": "lower learning_rate, or set clip_norm",
    "PeerLost": "look at the ranks that ended first",
    "MpiFailed": "look at the lines [mpi] in the log of rank 0, and whether the workers reach each "
    "other",
    "AgentHung": "look at the output of the agent itself; before it joins it only loads its own "
    "modules, reads its variables and calls the API",
    "AgentLost": "look whether the machine or its network is away",
    "Unschedulable": "lower run.resources or workers, or make room; it is tried again by itself",
    "ImagePullFailed": "look at the name of the image and at its pull secrets; it is tried again",
    "PodConfigFailed": "look whether what the pod names is there, as its Secret",
    "PodNotMade": "raise the quota of the namespace, or lower run.resources or workers",
    "Evicted": "the node ran short of memory or disk; ask for what the run needs in run.resources",
    "NodeLost": "look whether the node or its network is away",
    "PodGone": "look who deletes pods of this namespace",
    "Stalled": "look at the stacks in the log; if a step may take that long, raise "
    "telemetry.progressTimeoutSeconds (before the first step: startTimeoutSeconds)",
}
"""Reasons without a hint explain themselves."""


def with_hint(text: str, failure: experiment.LastFailure) -> str:
    """Return a sentence about a failure and what to do about it."""
    return sentence(text, failure.reason)


def sentence(text: str, reason: str) -> str:
    """Return a sentence and what to do about this reason, if anything is known to help."""
    hint = HINTS.get(reason, "")
    return f"{text.rstrip('.')}. Hint: {hint}." if hint and hint not in text else text


def stated(error: errors.QuintileError) -> str:
    """Return an error as the message of a condition: what is wrong and what to do about it."""
    return f"{error.message} Hint: {error.hint}" if error.hint else error.message
