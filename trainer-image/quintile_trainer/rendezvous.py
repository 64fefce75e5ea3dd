"""Horovod's own rendezvous server, as a small process beside rank 0; one for each generation.

``python -m quintile_trainer.rendezvous PARENT SOCKET`` serves at an open socket until its parent
ends.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time

from quintile_trainer import failures, parent_death

PATIENCE_S = 120.0
PAUSE_S = 0.02


def listen(host: str, port: int) -> socket.socket:
    """Return the socket to serve at; callers wait there until the server is up.

    Raises:
        PeerLost: Another program has the port; the next generation gets another one.
    """
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise failures.PeerLost(f"port {port} for Horovod cannot be had: {error}") from error


def start(listening: socket.socket) -> None:
    """Start the server beside this process; it ends with it."""
    words = [str(os.getpid()), str(listening.fileno())]
    # Not waited for: its end is ours.
    subprocess.Popen(
        [sys.executable, "-P", "-m", "quintile_trainer.rendezvous", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[listening.fileno()],
    )
    listening.close()


def await_ready(host: str, port: int) -> None:
    """Return when somebody listens.

    Raises:
        PeerLost: Nobody does in time: rank 0 has ended.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not _is_heard(host, port):
        if time.monotonic() > deadline:
            raise failures.PeerLost(f"Horovod's rendezvous at {host}:{port} does not answer")
        time.sleep(PAUSE_S)


def _is_heard(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
            # Where nobody listens, a caller may be given the very port that it calls.
            return bool(connection.getsockname() != connection.getpeername())
    except OSError:
        return False


def main() -> None:
    """Serve."""
    parent, number = int(sys.argv[1]), int(sys.argv[2])
    parent_death.arm(parent)
    http_server = importlib.import_module("horovod.runner.http.http_server")
    handler = http_server.RendezvousHandler
    server = http_server.RendezvousHTTPServer(("127.0.0.1", 0), handler, verbose=0)
    server.socket.close()
    server.socket = socket.socket(fileno=number)
    # Scopes need no sizes: they live as long as the generation.
    server.serve_forever()


if __name__ == "__main__":
    main()
