"""One replica of one attempt, from start to exit record. Called by ``__main__``."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from quintile_trainer.agent import (
    environment,
    identity,
    inbox,
    link,
    processes,
    shipper,
    supervisor,
)

INTERNAL = 70
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(variables: Mapping[str, str]) -> int:
    """Run the agent; return its exit code (see ``identity.Outcome``)."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    try:
        env = environment.load(variables)
    except environment.BadEnvironment as error:
        shipper.note(str(error))
        _record_refusal(variables, str(error))
        return INTERNAL
    boot_id = uuid.uuid4().hex
    try:
        lock = identity.claim(env, boot_id)
    except identity.Occupied as error:
        shipper.note(str(error))
        return INTERNAL
    with lock:
        outcome = _run(env, boot_id)
        identity.record_exit(env.state_dir, boot_id, outcome, copy=env.exit_file)
    shipper.note(f"ends: {outcome.reason} ({outcome.code}) {outcome.message}".rstrip())
    return outcome.code


def _record_refusal(variables: Mapping[str, str], message: str) -> None:
    """Tell the Executor why there was no start, where it gave a folder to say so in."""
    folder = Path(variables.get("QUINTILE_STATE_DIR") or "/nonexistent")
    copy = environment.exit_file(variables)
    if copy is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        outcome = identity.Outcome(INTERNAL, "AgentInternal", message)
        identity.record_exit(folder, "", outcome, copy=copy)


def _run(env: environment.AgentEnv, boot_id: str) -> identity.Outcome:
    box = inbox.Inbox()
    box.listen()
    processes.become_subreaper()
    try:
        return supervisor.Supervisor(link.Link(env, boot_id), box).run()
    except Exception as error:  # the boundary of the process: everything ends in an exit record
        text = f"{type(error).__name__}: {error}"
        full = isinstance(error, OSError) and error.errno in FULL
        shipper.note(f"a fault of the agent: {text}")
        processes.kill_children()
        return identity.Outcome(INTERNAL, "DiskFull" if full else "AgentInternal", text)
