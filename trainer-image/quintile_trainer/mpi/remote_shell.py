"""``plm_rsh_agent`` of Open MPI: ``remote_shell HOST COMMAND...`` starts a daemon on a peer.

Called by ``mpirun`` in place of ssh. Asks the agent of the replica behind ``HOST`` over TCP and
stays until the daemon ends, with its exit code.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from quintile_trainer.mpi import challenge

KEY = "QUINTILE_MPI_KEY"
PEERS = "QUINTILE_MPI_PEERS"
GENERATION = "QUINTILE_MPI_GENERATION"
PATIENCE_S = 60.0
PAUSE_S = 0.05
FAILED = 255


def main(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Start the daemon and wait for its end; return its exit code, 255 when there is none."""
    host, *words = arguments
    peers = json.loads(Path(variables[PEERS]).read_text())
    if host not in peers:
        return _failed(f"{host} is no replica of this generation")
    # As a remote shell would: the words are one line, split again with quotes.
    command = shlex.split(" ".join(words))
    address = (str(peers[host][0]), int(peers[host][1]))
    try:
        return _ask(address, command, variables[KEY], int(variables[GENERATION]))
    except (OSError, ValueError) as error:
        return _failed(f"the agent at {address[0]}:{address[1]}: {error}")


def _ask(address: tuple[str, int], command: list[str], secret: str, generation: int) -> int:
    with _connect(address) as connection, connection.makefile("rwb") as lines:
        nonce = str(json.loads(lines.readline())["nonce"])
        proof = challenge.proof(secret, nonce=nonce, command=command, generation=generation)
        lines.write(json.dumps({"command": command, "proof": proof}).encode() + b"\n")
        lines.flush()
        answer = lines.readline()
    if not answer:
        return _failed(f"the agent at {address[0]}:{address[1]} refused, or has ended")
    return int(json.loads(answer)["code"])


def _connect(address: tuple[str, int]) -> socket.socket:
    """Return a connection; an agent that is not ready yet is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection = socket.create_connection(address, timeout=PATIENCE_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
            continue
        if connection.getsockname() == connection.getpeername():
            # Where nobody listens, a caller may be given the very port that it calls.
            connection.close()
            continue
        connection.settimeout(None)
        return connection


def _failed(words: str) -> int:
    sys.stderr.write(f"no daemon was started: {words}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
