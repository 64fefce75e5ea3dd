"""Which files of a folder travel with a script, and which must never.

Git decides (tracked files, as they are now); without git, or with a ``.quintileignore``, everything
below the folder that no pattern ignores.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quintile.core import errors
from quintile.sdk import ignoring

IGNORE_FILE: Final = ".quintileignore"
SECRET_PATTERNS: Final = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".netrc",
    ".pypirc",
    ".git-credentials",
    "kubeconfig",
)
"""Names of files that hold credentials."""

_HARMLESS: Final = (".env.example", ".env.sample", ".env.template")
_KEY_MARK: Final = b"PRIVATE KEY-----"
_SNIFF_BYTES: Final = 4096
_SHOWN: Final = 5


@dataclass(frozen=True)
class Chosen:
    """Files relative to the folder, sorted, and what the user should know about the choice."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose(folder: Path, *, entry: str) -> Chosen:
    """Return the files of ``folder`` that travel; ``entry`` always does.

    Raises:
        InvalidSpec: A file holds credentials, or a link leaves the folder; names it.
    """
    tracked = None if (folder / IGNORE_FILE).is_file() else _tracked(folder)
    if tracked is None:
        found = Chosen(tuple(_walked(folder)))
    else:
        found = Chosen(tuple(tracked), _untracked_note(folder, entry))
    names = sorted({*found.names, entry})
    files = [name for name in names if not (folder / name).is_dir()]
    for name in files:
        _check(folder, name)
    return Chosen(tuple(name for name in files if (folder / name).is_file()), found.notes)


def _tracked(folder: Path) -> list[str] | None:
    """Return what git tracks below the folder; None when git does not know it."""
    return _git(folder, "--cached")


def _untracked_note(folder: Path, entry: str) -> tuple[str, ...]:
    others = _git(folder, "--others", "--exclude-standard") or []
    code = sorted(name for name in others if name.endswith(".py") and name != entry)
    if not code:
        return ()
    more = f" and {len(code) - _SHOWN} more" if len(code) > _SHOWN else ""
    return (f"left out, because git does not track them: {', '.join(code[:_SHOWN])}{more}",)


def _git(folder: Path, *options: str) -> list[str] | None:
    command = ["git", "-C", str(folder), "ls-files", "-z", *options]
    try:
        found = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    if found.returncode != 0:
        return None
    return [os.fsdecode(name) for name in found.stdout.split(b"\0") if name]


def _walked(folder: Path) -> Iterator[str]:
    path = folder / IGNORE_FILE
    own: Sequence[str] = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ()
    rules = ignoring.parse((*ignoring.DEFAULTS, *own))
    for root, folders, files in os.walk(folder):
        base = Path(root).relative_to(folder).as_posix()
        prefix = "" if base == "." else f"{base}/"
        folders[:] = sorted(
            name for name in folders if not ignoring.is_ignored(rules, prefix + name, folder=True)
        )
        for name in sorted(files):
            if not ignoring.is_ignored(rules, prefix + name, folder=False):
                yield prefix + name


def _check(folder: Path, name: str) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _refused(name, "is a link that leaves the folder", "Copy the file, or list it in")
    if not path.is_file():
        return
    if _looks_secret(path):
        raise _refused(name, "looks like a file with credentials", "List it in")


def _looks_secret(path: Path) -> bool:
    name = path.name.lower()
    rules = ignoring.parse(SECRET_PATTERNS)
    if name not in _HARMLESS and ignoring.is_ignored(rules, name, folder=False):
        return True
    with path.open("rb") as file:
        return _KEY_MARK in file.read(_SNIFF_BYTES)


def _refused(name: str, why: str, advice: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"{name} {why}; it may not travel with the code.",
        hint=f"{advice} {IGNORE_FILE}; give secrets to a run by other means than its code.",
        field=name,
    )
