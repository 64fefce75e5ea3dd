"""The platform as a process of its own, in a home that is thrown away."""

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
from typing import Final

import httpx

from quintile.core import errors

READY_S: Final = 60.0
POLL_S: Final = 0.05
LOG_LINES: Final = 12
OWN_PREFIX: Final = "QUINTILE_"


@dataclass
class Server:
    """A running platform. ``url`` and ``token`` are those of its ``client.json``."""

    folder: pathlib.Path
    process: subprocess.Popen[bytes]
    url: str = ""
    token: str = ""

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
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        except (OSError, ValueError, httpx.HTTPError):
            return False

    def _words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            return "Its last words:\n" + "\n".join(lines[-LOG_LINES:])
        return ""


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


def _end_agents(runs: pathlib.Path) -> None:
    """Kill the agents of a platform that is gone; their ranks die with them."""
    if not runs.is_dir() or not any(runs.iterdir()):
        return
    from quintile.adapters import clock
    from quintile_operator import executor_process

    executor = executor_process.ProcessExecutor(runs, clock=clock.SystemClock())
    executor.suspend(grace_s=0.0)
    executor.close()
