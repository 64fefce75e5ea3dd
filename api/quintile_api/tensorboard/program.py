"""The TensorBoard process: serves one folder on a Unix socket, and ends with its server.

``python -m quintile_api.tensorboard.program SOCKET LOGDIR PREFIX PARENT``. A socket in a folder of
mode 0700, and no port: nobody but the API reaches it, also not other users of this machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
RELOAD_S: Final = 2


def main(argv: list[str]) -> int:
    """Serve until the parent ends; return the exit code."""
    socket, logdir, prefix, parent = argv
    if not tie_to(int(parent)):
        return 0
    # Imported here: this takes a while, and a process without a parent is not worth it.
    from tensorboard import program
    from werkzeug import serving

    class Server(program.TensorBoardServer):  # type: ignore[misc]
        """Serves on the socket."""

        def __init__(self, app: Any, _flags: Any) -> None:
            self._server = serving.make_server(f"unix://{socket}", 0, app, threaded=True)

        def serve_forever(self) -> None:
            self._server.serve_forever()

        def get_url(self) -> str:
            return "http://localhost:0/"  # TensorBoard wants one; nobody listens there

    board = program.TensorBoard(server_class=Server)
    board.configure(argv=["tensorboard", *flags(logdir, prefix)])
    return int(board.main())


def flags(logdir: str, prefix: str) -> list[str]:
    """Return the flags of TensorBoard: the Python reader, which honours restarts of a run."""
    given = {
        "logdir": logdir,
        "path_prefix": prefix,
        "load_fast": "false",
        "reload_interval": str(RELOAD_S),
        "reload_multifile": "true",
        "reload_multifile_inactive_secs": "-1",
    }
    return [text for name, value in given.items() for text in (f"--{name}", value)]


def tie_to(parent: int) -> bool:
    """Let the kernel end this process with its parent; False when that has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
