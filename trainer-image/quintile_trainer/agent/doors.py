"""Where Open MPI's helpers ask the agent to start something: over TCP with a proof, or locally.

Each door has a thread, and every caller one of its own. Nothing is started here: what was asked is
handed to the main thread, the only one that forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quintile_trainer.mpi import challenge, rank_door

REQUEST_S = 10.0
REQUEST_BYTES = 1024 * 1024


@dataclass(eq=False)
class Call:
    """Somebody who asked, and waits for the end of what is started."""

    connection: socket.socket
    request: dict[str, Any]

    def answer(self, code: int) -> None:
        """Tell how it ended."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"code": code}).encode() + b"\n")
        self.hang_up()

    def hang_up(self) -> None:
        """Tell nothing, which means no."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


@dataclass(frozen=True)
class Listener:
    """Who is told of calls, in the threads of the callers."""

    asked: Callable[[Call], None]
    left: Callable[[Call], None]


class Door:
    """Takes calls at a listening socket until it is closed."""

    def __init__(
        self,
        listening: socket.socket,
        listener: Listener,
        admit: Callable[[socket.socket], dict[str, Any] | None],
    ) -> None:
        self._listening = listening
        self._listener = listener
        self._admit = admit
        threading.Thread(target=self._run, name="door", daemon=True).start()

    def close(self) -> None:
        """Take no more calls; those under way go on."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            serve = threading.Thread(
                target=self._serve, args=(connection,), name="caller", daemon=True
            )
            serve.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(REQUEST_S)
            request = self._admit(connection)
            connection.settimeout(None)
        except (OSError, ValueError, KeyError, TypeError):
            request = None
        if request is None:
            connection.close()
            return
        call = Call(connection, request)
        self._listener.asked(call)
        with contextlib.suppress(OSError):
            while connection.recv(1024):
                pass
        self._listener.left(call)


def network(address: tuple[str, int], listener: Listener, *, secret: str, generation: int) -> Door:
    """Open the door for ``remote_shell``; only who has the key and this generation comes in.

    Raises:
        OSError: The address cannot be had.
    """

    def admit(connection: socket.socket) -> dict[str, Any] | None:
        nonce = secrets.token_hex(16)
        connection.sendall(json.dumps({"nonce": nonce}).encode() + b"\n")
        request = _line(connection)
        good = challenge.holds(
            str(request["proof"]),
            secret,
            nonce=nonce,
            command=[str(word) for word in request["command"]],
            generation=generation,
        )
        return request if good else None

    return Door(socket.create_server(address), listener, admit)


def local(folder: Path, listener: Listener) -> Door:
    """Open the door for ``rank_door`` in a folder; only processes of this user come in."""

    def admit(connection: socket.socket) -> dict[str, Any] | None:
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, user, _ = struct.unpack("3i", credentials)
        return _line(connection) if user == os.getuid() else None

    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By way of the open folder: its own path may be longer than a socket's may be.
        listening.bind(f"/proc/self/fd/{directory}/{rank_door.SOCKET}")
    finally:
        os.close(directory)
    listening.listen()
    return Door(listening, listener, admit)


def _line(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(data) > REQUEST_BYTES:
            raise ValueError("the request broke off or is too long")
        data += piece
    request: dict[str, Any] = json.loads(data)
    return request
