"""One running TensorBoard: its folder, its socket, its process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from typing import Final

from quintile.core import errors

START_S: Final = 60.0
POLL_S: Final = 0.05
KILL_S: Final = 5.0
TAIL_BYTES: Final = 500


class Process:
    """A TensorBoard over ``folder / "runs"``; ``socket`` is where it answers."""

    def __init__(self, folder: pathlib.Path, *, prefix: str) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.socket = folder / "socket"
        self._output = folder / "output"
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it listens. The calling thread must live as long as it.

        Raises:
            Unavailable: It is not installed, or did not come up.
        """
        check_installed()
        self.runs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"{__package__}.program"]
        command += [str(self.socket), str(self.runs), self._prefix, str(os.getpid())]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(self.folder),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self._listens():
            if not self.is_alive or time.monotonic() > deadline:
                raise errors.Unavailable(
                    f"TensorBoard did not start: {self._last_words() or 'it said nothing'}.",
                    hint="Try again; if it stays so, reinstall it: pip install tensorboard.",
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it and delete its folder. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(KILL_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listens(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def _last_words(self) -> str:
        text = self._output.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        return text.rpartition("\n")[2].rstrip(".")


def check_installed() -> None:
    """Refuse when the server has no TensorBoard.

    Raises:
        Unavailable: It has none.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise errors.Unavailable(
            "TensorBoard is not installed on the server.",
            hint="pip install tensorboard, on the machine that runs `quintile up`. The curves "
            "themselves are on the page of the experiment.",
        )


def _environment(folder: pathlib.Path) -> dict[str, str]:
    """Return what it needs of ours: no keys, tokens or settings of the server."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return {**found, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
