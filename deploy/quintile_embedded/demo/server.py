"""The platform as a process of its own, in a home that is thrown away; or one that runs already."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from quintile.core import errors
from quintile.sdk import configuration

READY_S: Final = 60.0
POLL_S: Final = 0.05
LOG_LINES: Final = 12
OWN_PREFIX: Final = "QUINTILE_"


class Platform(Protocol):
    """What the demo runs against."""

    url: str
    token: str
    project: str

    def wait_ready(self) -> None:
        """Block until it answers; raise Unavailable when it does not in time."""
        ...

    def stop(self) -> None:
        """Give it up. Idempotent."""
        ...


@dataclass
class Known:
    """A platform that somebody else runs: where QUINTILE_URL points."""

    url: str
    token: str
    project: str

    def wait_ready(self) -> None:
        """Block until the platform answers.

        Raises:
            Unavailable: It did not answer in time.
        """
        deadline = time.monotonic() + READY_S
        while not _is_ready(self.url):
            if time.monotonic() > deadline:
                raise errors.Unavailable(
                    f"{self.url} did not answer within {READY_S:.0f} s.",
                    hint="Look at QUINTILE_URL, and whether the port-forward runs.",
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Leave it as it is: what the demo made stays there to be looked at."""


@dataclass
class Server:
    """A running platform. ``url`` and ``token`` are those of its ``client.json``."""

    folder: pathlib.Path
    process: subprocess.Popen[bytes]
    url: str = ""
    token: str = ""
    project: str = configuration.DEFAULT_PROJECT

    @property
    def home(self) -> pathlib.Path:
        """The home of the platform: inside the folder that is thrown away."""
        return self.folder / "home"

    @property
    def log(self) -> pathlib.Path:
        """What the platform printed."""
        return self.folder / "server.log"

    def wait_ready(self) -> None:
        """Block until the platform answers.

        Raises:
            Unavailable: It ended or did not answer in time; carries its last lines.
        """
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None:
                raise errors.Unavailable(
                    f"The platform ended with code {self.process.returncode}.", hint=self._words()
                )
            if time.monotonic() > deadline:
                raise errors.Unavailable(
                    f"The platform did not answer within {READY_S:.0f} s.", hint=self._words()
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the platform, every process of its runs, and its home. Idempotent."""
        self.process.kill()
        self.process.wait()
        _end_agents(self.home / "runs")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            known = json.loads((self.home / "client.json").read_bytes())
            self.url, self.token = known["url"], known["token"]
        except (OSError, ValueError):
            return False
        return _is_ready(self.url)

    def _words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            return "Its last words:\n" + "\n".join(lines[-LOG_LINES:])
        return ""


def known() -> Known:
    """Return the platform that the client's environment names.

    Raises:
        Unavailable: It names none.
    """
    found = configuration.find()
    return Known(found.url, found.token, found.project)


def start() -> Server:
    """Start a platform in a new temporary home, on any free port."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="quintile-demo-"))
    # Settings of this user's own instance are no business of the demo.
    env = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIX)}
    command = [
        sys.executable,
        "-m",
        "quintile_embedded",
        "--home",
        str(folder / "home"),
        "--port",
        "0",
    ]
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**env, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Server(folder, process)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _end_agents(runs: pathlib.Path) -> None:
    """Kill the agents of a platform that is gone; their ranks die with them."""
    if not runs.is_dir() or not any(runs.iterdir()):
        return
    from quintile.adapters import clock
    from quintile_operator import executor_process

    executor = executor_process.ProcessExecutor(runs, clock=clock.SystemClock())
    executor.suspend(grace_s=0.0)
    executor.close()
