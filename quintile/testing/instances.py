"""A real ``quintile up`` as a process, for end-to-end tests: start, kill, start again.

Runs go through ``sys.executable -m quintile_embedded`` with a home of the test's own. ``stop`` ends
everything that the home ever started, also agents that outlived a killed server.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

import httpx

from quintile.core import errors
from quintile.sdk import blocking
from quintile.sdk import client as clients

READY_S: Final = 60.0
POLL_S: Final = 0.02
GONE_S: Final = 60.0


class Instance:
    """One home and the server that lives in it; a context manager.

    Attributes:
        url, token: As in the home's ``client.json``, once ``start`` has returned.
        starts: How often a server was started.
    """

    def __init__(self, home: pathlib.Path, *, env: dict[str, str] | None = None) -> None:
        self.home = home
        self.url = self.token = ""
        self.starts = 0
        self._env = {
            name: value for name, value in os.environ.items() if not name.startswith("QUINTILE_")
        } | (env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start("--port", "0")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def log(self) -> pathlib.Path:
        """What all servers of this home printed."""
        return self.home.with_name(f"{self.home.name}.log")

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *arguments: str) -> None:
        """Start a server and wait until it answers; without ``--port`` it takes its last one."""
        command = [sys.executable, "-m", "quintile_embedded", "--home", str(self.home), *arguments]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=self._env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.starts += 1
        deadline = time.monotonic() + READY_S
        while not self._answers():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                text = self.log.read_text(errors="replace")
                raise errors.Unavailable(f"The server is not ready (exit code {code}): {text}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End the server at once, as a crash would; agents stay."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the server to stop; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(GONE_S)

    def stop(self) -> None:
        """End the server and every process that the home started. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.kill_agents()

    def kill_agents(self, of: str = "") -> int:
        """Kill agents as a crash of their machine would; return how many. Ranks die with them."""
        found = self.agents(of)
        for pid in found:
            _kill_group(pid)
        return len(found)

    def client(self) -> clients.AsyncClient:
        """Return a client; close it with ``async with``."""
        return clients.AsyncClient(self.url, token=self.token)

    def request(self, method: str, path: str, **of: Any) -> httpx.Response:
        """Send one request below ``/api/v1``; the answer may be an error."""
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.url}/api/v1{path}"
        return httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **of)

    def agents(self, of: str = "") -> list[int]:
        """Return the process ids of agents that live now, of replicas whose name begins so."""
        found = []
        for path in self.home.glob(f"runs/*/{of}*/identity.json"):
            pid = int(json.loads(path.read_bytes())["pid"])
            if _runs_in(pid, path.parent):
                found.append(pid)
        return sorted(found)

    def _answers(self) -> bool:
        try:
            known = json.loads((self.home / "client.json").read_bytes())
            self.url, self.token = known["url"], known["token"]
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        except (OSError, ValueError, httpx.HTTPError):
            return False


@contextlib.contextmanager
def connected(home: pathlib.Path, *, env: dict[str, str] | None = None) -> Iterator[Instance]:
    """Run an instance to which the SDK of this process is connected, as in a notebook."""
    with Instance(home, env=env) as running:
        session = blocking.connect(url=running.url, token=running.token)
        yield running
        session.close()
        blocking.forget()


def _runs_in(pid: int, folder: pathlib.Path) -> bool:
    try:
        variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"QUINTILE_STATE_DIR={folder}".encode() in variables.split(b"\0")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
