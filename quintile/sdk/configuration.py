"""Which server, which credentials, which project: the one reader of the client's environment.

In order: what the caller gives, the environment (``QUINTILE_URL``, ``QUINTILE_TOKEN``,
``QUINTILE_PROJECT``), the file of the instance that ``quintile up`` runs on this machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quintile.core import errors

CLIENT_FILE: Final = "client.json"
DEFAULT_PROJECT: Final = "default"
_RANK_KEYS: Final = ("QUINTILE_RUN", "QUINTILE_AGENT_PID")


class InsideWorker(errors.InvalidSpec):
    """A run tried to start another run from one of its ranks."""


@dataclass(frozen=True)
class Connection:
    """Where to connect, as whom, to which project."""

    url: str
    token: str = field(default="", repr=False)
    project: str = DEFAULT_PROJECT


def find(
    *,
    url: str | None = None,
    token: str | None = None,
    project: str | None = None,
    env: Mapping[str, str] = os.environ,
) -> Connection:
    """Return the connection to use.

    Raises:
        Unavailable: No server is named anywhere.
        InvalidSpec: The client file cannot be read.
    """
    wanted_url = url or env.get("QUINTILE_URL", "")
    wanted_token = token or env.get("QUINTILE_TOKEN", "")
    wanted_project = project or env.get("QUINTILE_PROJECT", "") or DEFAULT_PROJECT
    if not wanted_url or not wanted_token:
        local = _local(client_file(env))
        # The token of the local instance is for that instance alone.
        if local is not None and wanted_url.rstrip("/") in ("", local.url):
            wanted_url, wanted_token = local.url, wanted_token or local.token
    if not wanted_url:
        raise errors.Unavailable(
            "No Quintile server is known: none runs here and QUINTILE_URL is not set.",
            hint="Start one with `quintile up`, or set QUINTILE_URL and QUINTILE_TOKEN.",
        )
    return Connection(wanted_url.rstrip("/"), wanted_token, wanted_project)


def client_file(env: Mapping[str, str] = os.environ) -> Path:
    """Return where ``quintile up`` leaves the address and token of the local instance."""
    home = env.get("QUINTILE_HOME", "")
    folder = Path(home).expanduser() if home else Path.home() / ".quintile"
    return folder / CLIENT_FILE


def inside_rank(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is a rank of a run."""
    return all(key in env for key in _RANK_KEYS)


def refuse_inside_rank(env: Mapping[str, str] = os.environ) -> None:
    """Check that this process is no rank.

    Raises:
        InsideWorker: It is: the script that was submitted submits again.
    """
    if inside_rank(env):
        raise InsideWorker(
            "This is a worker of a run, and Experiment.run would start another run from it.",
            hint="Submit from another file than the one that the workers run.",
        )


def _local(path: Path) -> Connection | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    try:
        found = json.loads(text)
        return Connection(str(found["url"]).rstrip("/"), str(found.get("token", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, 'expected {"url": ..., "token": ...}') from error


def _unreadable(path: Path, why: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"The client file {path} cannot be read: {why}.",
        hint="Start `quintile up` again, which writes it, or set QUINTILE_URL and QUINTILE_TOKEN.",
    )
