"""Horovod's own rendezvous server, as a small process beside rank 0; one for each generation.

``python -m quintile_trainer.rendezvous PARENT HOST PORT`` serves until its parent ends.
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


def start(host: str, port: int) -> None:
    """Start the server beside this process; it ends with it."""
    words = [str(os.getpid()), host, str(port)]
    # Not waited for: its end is ours.
    subprocess.Popen(
        [sys.executable, "-P", "-m", "quintile_trainer.rendezvous", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def await_ready(host: str, port: int) -> None:
    """Return when the server answers.

    Raises:
        PeerLost: It does not in time: rank 0 has ended, or another program has the port.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((host, port), timeout=PATIENCE_S).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise failures.PeerLost(
                    f"Horovod's rendezvous at {host}:{port} does not answer: {error}"
                ) from error
            time.sleep(PAUSE_S)
            continue
        return


def main() -> None:
    """Serve."""
    parent, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    parent_death.arm(parent)
    http_server = importlib.import_module("horovod.runner.http.http_server")
    server = http_server.RendezvousHTTPServer(
        (host, port), http_server.RendezvousHandler, verbose=0
    )
    # Scopes need no sizes: they live as long as the generation.
    server.serve_forever()


if __name__ == "__main__":
    main()
