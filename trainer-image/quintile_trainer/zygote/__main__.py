"""``python -m quintile_trainer.zygote AGENT_PID FILE KIND...``: load, then fork ranks on request.

It ends with its agent. A rank is forked by a process in between that ends at once, so that it
becomes the child of the nearest subreaper, the agent; and it runs at the bottom of the stack here,
with nothing of the server around it.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from dataclasses import dataclass

from quintile_trainer import main as rank_main
from quintile_trainer import parent_death
from quintile_trainer.zygote import fitness, newborn, preloading, wire


@dataclass(frozen=True)
class Birth:
    """We are a rank now: what was asked for."""

    request: wire.Json
    files: list[int]


def serve(connection: socket.socket, kinds: list[str]) -> Birth | None:
    """Fork ranks until the agent is gone (None); in each forked process return its ``Birth``."""
    try:
        preloading.load(kinds)
        reason = fitness.reason_against()
    except ImportError as error:
        reason = f"it cannot load what ranks need: {error}"
    # What is loaded stays as it is: children share its memory as long as nobody writes to it.
    gc.collect()
    gc.freeze()
    try:
        wire.send(connection, {"ready": reason})
        while not reason:
            request, files = wire.receive(connection)
            reason = fitness.reason_against()
            try:
                pid = 0 if reason else fork_away()
            except OSError as error:
                pid, reason = 0, f"no process can be made: {error}"
            if pid is None:
                return Birth(request, files)
            for file in files:
                os.close(file)
            wire.send(connection, {"refused": reason} if reason else {"pid": pid})
    except (EOFError, OSError):
        # The agent is gone, and everything with it.
        return None
    return None


def fork_away() -> int | None:
    """Fork a process that is not our child; return its pid, or None in that process.

    It leads a group of its own before its pid is known, so that no signal to it is lost.

    Raises:
        OSError: There can be no further process.
    """
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            pid = os.fork()
            if pid:
                os.setpgid(pid, pid)
                os.write(writer, str(pid).encode())
        except OSError:
            os._exit(1)
        if pid:
            os._exit(0)
        os.close(reader)
        os.close(writer)
        return None
    os.close(writer)
    with open(reader, "rb") as told:  # noqa: PTH123 - an open file, not a path
        answer = told.read()
    os.waitpid(between, 0)
    if not answer:
        raise OSError("the fork failed")
    return int(answer)


def main(words: list[str]) -> Birth | None:
    """Serve the agent at an open socket."""
    parent_death.arm(int(words[0]))
    newborn.name_process("zygote")
    with socket.socket(fileno=int(words[1])) as connection:
        return serve(connection, words[2:])


if __name__ == "__main__":
    birth = main(sys.argv[1:])
    if birth is None:
        sys.exit(0)
    try:
        newborn.settle(birth.request, birth.files)
    except newborn.Unwanted:
        os._exit(0)
    sys.argv = [str(rank_main.__file__)]
    sys.modules["__main__"] = rank_main
    rank_main.leave(rank_main.main())
