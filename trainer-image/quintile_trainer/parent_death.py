"""Ties the life of a rank to its agent's. Called first thing in a rank. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


class Orphaned(Exception):
    """The agent was gone before the rank could tie itself to it."""


def arm(agent_pid: int) -> None:
    """Let the kernel kill this process when the agent ends.

    Raises:
        Orphaned: The agent has ended already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != agent_pid:
        raise Orphaned(f"agent {agent_pid} has ended")
