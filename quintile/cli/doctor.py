"""``quintile doctor``: what this machine has, what the server says, what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from quintile.core import errors
from quintile.sdk import client as clients
from quintile.sdk import configuration

State = Literal["ok", "note", "bad"]
MARKS: Final = {"ok": "ok  ", "note": "note", "bad": "BAD "}
LEAST_PYTHON: Final = (3, 11)
FREE_BYTES: Final = 2 * 1000**3
PARTS: Final = {
    "fastapi": ("the server (`quintile up`)", "quintile[embedded]"),
    "sklearn": ("labeling rounds", "quintile[rounds]"),
    "torch": ("training", "quintile[trainer]"),
}


@dataclass(frozen=True)
class Check:
    """One finding."""

    state: State
    what: str
    detail: str
    hint: str = ""

    def line(self) -> str:
        """Return it as people read it."""
        text = f"{MARKS[self.state]}  {self.what}: {self.detail}"
        return f"{text}\n      {self.hint}" if self.hint else text


def machine() -> Iterator[Check]:
    """Yield what this machine has."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    old = sys.version_info[:2] < LEAST_PYTHON
    yield Check(
        "bad" if old else "ok", "Python", version, "3.11 or newer is needed." if old else ""
    )
    yield Check("ok", "quintile", metadata.version("quintile"))
    for module, (purpose, extra) in PARTS.items():
        if importlib.util.find_spec(module) is not None:
            yield Check("ok", purpose, f"{module} is installed")
        else:
            hint = f"pip install '{extra}'"
            yield Check("note", purpose, f"{module} is not installed", hint)
    yield _home(configuration.client_file().parent)


async def server() -> list[Check]:
    """Return what the server says: reachable, same release, credentials good."""
    try:
        found = configuration.find()
    except errors.QuintileError as error:
        return [Check("note", "server", error.message, error.hint)]
    async with clients.AsyncClient(found.url, token=found.token) as client:
        checks = []
        try:
            theirs = (await client.accounts.version()).version
            checks.append(_release(found.url, theirs))
            who = await client.identity()
            checks.append(Check("ok", "credentials", f"{who.name}, at most {who.scope}"))
            names = [one.name async for one in client.accounts.projects()]
            checks.append(_project(found.project, names))
        except errors.QuintileError as error:
            what = "server" if isinstance(error, errors.Unavailable) else "credentials"
            checks.append(Check("bad", what, error.message, error.hint))
    return checks


def _home(folder: Path) -> Check:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{folder}, {free / 1e9:.1f} GB free"
    if not os.access(place, os.W_OK):
        return Check("bad", "home", detail, f"{place} cannot be written; set QUINTILE_HOME.")
    if free < FREE_BYTES:
        return Check("note", "home", detail, "Datasets and checkpoints need room there.")
    return Check("ok", "home", detail)


def _release(url: str, theirs: str) -> Check:
    ours = metadata.version("quintile")
    if ours == theirs:
        return Check("ok", "server", f"{url}, release {theirs}")
    hint = f"Use release {theirs} here as well: pip install quintile=={theirs}"
    return Check("note", "server", f"{url} runs release {theirs}, this is {ours}", hint)


def _project(project: str, names: list[str]) -> Check:
    if project in names:
        return Check("ok", "project", project)
    known = ", ".join(names) or "none"
    return Check(
        "bad", "project", f"{project} is not one of yours: {known}", "Set QUINTILE_PROJECT."
    )
