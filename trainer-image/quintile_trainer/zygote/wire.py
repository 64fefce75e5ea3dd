"""What agent and zygote say to each other: JSON of one line each, with open files. No torch here.

The zygote speaks first: ``{"ready": reason}`` once it has loaded, with an empty reason when it can
fork. Each request is ``{"rank", "cwd", "env"}`` with three files: the rank's stdout and
stderr, and one that the rank reads a byte from before it begins. The answer is ``{"pid"}`` or
``{"refused": reason}``. A rank whose asker is gone reads nothing there and ends.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
FILES = 3
GO = b"g"
_PIECE = 65536


def send(connection: socket.socket, message: Json, files: Sequence[int] = ()) -> None:
    """Send one message; open files go with its first byte."""
    data = json.dumps(message).encode() + b"\n"
    if files:
        socket.send_fds(connection, [data[:1]], list(files))
        data = data[1:]
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Json, list[int]]:
    """Return the next message and the files that came with it, not inherited by programs.

    Raises:
        EOFError: The other side is gone.
        OSError: It said nothing in time, if the socket has a timeout.
    """
    data, files = b"", []
    try:
        while not data.endswith(b"\n"):
            piece, more, _flags, _address = socket.recv_fds(connection, _PIECE, FILES)
            files += more
            if not piece:
                raise EOFError("the other side is gone")
            data += piece
        message: Json = json.loads(data)
    except BaseException:
        for file in files:
            os.close(file)
        raise
    for file in files:
        os.set_inheritable(file, False)
    return message, files
