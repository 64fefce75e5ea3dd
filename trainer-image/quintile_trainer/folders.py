"""Checkpoint folders on disk: they appear whole, verify against their manifest, are forgotten.

The manifest is written last and the folder renamed after that: a kill at any instant leaves the
folder as it was before or complete. Used by ranks and by the agent. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from quintile_trainer import layout

KEEP = 2
Json = dict[str, Any]
Contents = Mapping[str, Callable[[BinaryIO], object]]
"""Files by name; each is written when its turn comes, so that one file at a time is held."""


def write(folder: Path, name: str, contents: Contents, manifest: Mapping[str, Any]) -> Path:
    """Write files and, last, the manifest that lists them; the folder appears whole or not.

    Raises:
        OSError: It does not fit; what was there before is untouched.
    """
    final = folder / name
    temporary = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        files = list(_written(temporary, contents))
        listed = json.dumps({**manifest, "files": files}, sort_keys=True).encode()
        _write(temporary / layout.MANIFEST, lambda file: file.write(listed))
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)
    _sync(folder)
    return final


def forget(folder: Path, *, keep: int = KEEP) -> None:
    """Delete all complete checkpoints but the newest, and what killed writers left behind."""
    for old in layout.local_checkpoints(folder)[:-keep]:
        # Without its manifest a folder is no checkpoint, whenever the rest of it goes.
        (old.folder / layout.MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(old.folder, ignore_errors=True)
    for path in folder.glob(".g*"):
        shutil.rmtree(path, ignore_errors=True)


def newest(folder: Path) -> layout.Checkpoint | None:
    """Return the newest checkpoint below a folder whose files are all as its manifest says."""
    for entry in reversed(layout.local_checkpoints(folder)):
        if not problems(entry.folder):
            return entry
    return None


def manifest_of(folder: Path) -> Json | None:
    """Return the manifest of a checkpoint, None when it cannot be read."""
    try:
        manifest = json.loads((folder / layout.MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "files" in manifest else None


def problems(folder: Path) -> list[str]:
    """Return what is wrong with a checkpoint, empty when it verifies."""
    manifest = manifest_of(folder)
    if manifest is None:
        return [f"{layout.MANIFEST} cannot be read"]
    found = []
    for file in manifest["files"]:
        path = folder / file["path"]
        if not path.is_file():
            found.append(f"{file['path']} is missing")
        elif path.stat().st_size != file["size"]:
            found.append(f"{file['path']} has {path.stat().st_size} bytes, not {file['size']}")
        elif digest(path) != file["sha256"]:
            found.append(f"{file['path']} has another SHA-256")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _written(folder: Path, contents: Contents) -> Iterator[Json]:
    """Write files; yield what the manifest says of each."""
    for name, make in contents.items():
        path = folder / name
        _write(path, make)
        yield {"path": name, "size": path.stat().st_size, "sha256": digest(path)}


def _write(path: Path, make: Callable[[BinaryIO], object]) -> None:
    with path.open("wb") as file:
        make(file)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
