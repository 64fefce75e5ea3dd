"""What a daemon of Open MPI starts for a rank: asks the agent for the real one, waits for its end.

Run by path without the package or site-packages, so that it starts in milliseconds.
"""

import json
import os
import socket
import sys

DOOR = "QUINTILE_MPI_DOOR"
SOCKET = "agent.sock"
PREFIXES = ("OMPI_", "PMIX_", "PMI_", "ORTE_", "OPAL_")
NO_ANSWER = 70


def main() -> int:
    """Return the exit code of the rank, which is a child of the agent."""
    told = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    # A relative name: the whole path may be longer than a socket's may be.
    os.chdir(os.environ[DOOR])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.connect(SOCKET)
        door.sendall(json.dumps({"variables": told}).encode() + b"\n")
        answer = door.makefile().readline()
    return int(json.loads(answer)["code"]) if answer else NO_ANSWER


if __name__ == "__main__":
    sys.exit(main())
