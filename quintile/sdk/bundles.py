"""Code bundles: a zip with ``header.json``, equal bytes for equal content.

The agent unpacks it and the rank opens it; the format is that of ``quintile_trainer.functions``.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from quintile.core import errors
from quintile.sdk import code_files, state_keeping

HEADER: Final = "header.json"
FORMAT: Final = 1
LIMIT_BYTES: Final = 50 * 1000 * 1000
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_FILE_MODE: Final = 0o100644 << 16
_SHOWN: Final = 3


@dataclass(frozen=True)
class Entry:
    """One file of a bundle."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Bundle:
    """Packed code.

    Attributes:
        data: The zip.
        files: What is in it, without the header.
        entry: The script inside, empty for functions.
        elastic: Whether the platform keeps the script's state, as far as its code shows.
        notes: What the user should know.
    """

    data: bytes = field(repr=False)
    files: tuple[Entry, ...]
    entry: str = ""
    notes: tuple[str, ...] = ()
    elastic: bool = False

    @property
    def sha256(self) -> str:
        """Return the digest of the zip, by which it is stored."""
        return hashlib.sha256(self.data).hexdigest()


def python_version() -> str:
    """Return the minor version of this Python, as ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def of_script(script: Path, *, folder: Path | None = None) -> Bundle:
    """Pack a script with the files of its folder.

    Raises:
        InvalidSpec: No such script, it is outside of the folder, or a file may not travel.
        TooLarge: More than 50 MB.
    """
    path = script.expanduser().resolve()
    if not path.is_file():
        raise errors.InvalidSpec(
            f"There is no script {str(script)!r}.",
            hint="Give the path of a Python file.",
            field="script",
        )
    root = (folder.expanduser() if folder is not None else path.parent).resolve()
    if not path.is_relative_to(root):
        raise errors.InvalidSpec(
            f"The script {str(script)!r} is not inside of the folder {str(folder)!r}.",
            hint="Name a folder that holds the script.",
            field="folder",
        )
    entry = path.relative_to(root).as_posix()
    chosen = code_files.choose(root, entry=entry)
    if HEADER in chosen.names:
        raise errors.InvalidSpec(
            f"The folder holds a file {HEADER}, a name that code bundles use themselves.",
            hint=f"Rename it, or list it in {code_files.IGNORE_FILE}.",
            field=HEADER,
        )
    _check_size({name: (root / name).stat().st_size for name in chosen.names})
    contents = {name: (root / name).read_bytes() for name in chosen.names}
    packed = pack(contents, {"kind": "script"}, entry=entry, notes=chosen.notes)
    return replace(packed, elastic=state_keeping.is_shown(contents[entry]))


def pack(
    contents: Mapping[str, bytes],
    header: Mapping[str, Any],
    *,
    entry: str = "",
    notes: Sequence[str] = (),
) -> Bundle:
    """Return the bundle of these files; ``header`` is completed with format and Python version."""
    _check_size({name: len(data) for name, data in contents.items()})
    whole = {"format": FORMAT, "python": python_version(), **header}
    files = {**contents, HEADER: json.dumps(whole, sort_keys=True).encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.external_attr = _FILE_MODE
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name])
    entries = tuple(Entry(name, len(contents[name])) for name in sorted(contents))
    return Bundle(buffer.getvalue(), entries, entry, tuple(notes))


def _check_size(sizes: Mapping[str, int]) -> None:
    total = sum(sizes.values())
    if total <= LIMIT_BYTES:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
    listed = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
    raise errors.TooLarge(
        f"The code has {total / 1e6:.1f} MB; at most {LIMIT_BYTES / 1e6:.0f} MB travel with a run. "
        f"Largest: {listed}.",
        hint=f"List data in {code_files.IGNORE_FILE} and import it as a dataset.",
        field="script",
    )
