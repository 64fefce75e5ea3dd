"""Code bundles: a zip with ``header.json``, checked by SHA-256, unpacked without escaping."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

from quintile_trainer.agent import wire

UNPACKED_LIMIT_BYTES = 1024 * 1024 * 1024
HEADER = "header.json"


class BadBundle(ValueError):
    """The bundle is not one that we unpack."""


def named(program: wire.Json) -> str:
    """Return the SHA-256 of the bundle that a program runs, empty for none."""
    estimator = program.get("estimator") or {}
    for kind in ("functions", "script"):
        if estimator.get(kind):
            return str(estimator[kind]["bundle"])
    return ""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a bundle into an empty folder.

    Raises:
        BadBundle: It is no zip, has no header, or a member leaves the folder or is a link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = bundle.infolist()
            _check(members)
            for member in members:
                bundle.extract(member, folder)
    except zipfile.BadZipFile as error:
        raise BadBundle(f"the code bundle is no zip file: {error}") from error
    if not (folder / HEADER).is_file():
        raise BadBundle(f"the code bundle holds no {HEADER}; make it with the SDK of Quintile")


def _check(members: Sequence[zipfile.ZipInfo]) -> None:
    total = 0
    for member in members:
        parts = Path(member.filename).parts
        mode = member.external_attr >> 16
        if member.filename.startswith("/") or ".." in parts:
            raise BadBundle(f"the code bundle holds {member.filename!r}, which leaves its folder")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BadBundle(f"the code bundle holds {member.filename!r}, which is no plain file")
        total += member.file_size
    if total > UNPACKED_LIMIT_BYTES:
        raise BadBundle(f"the code bundle unpacks to {total} bytes, over {UNPACKED_LIMIT_BYTES}")
