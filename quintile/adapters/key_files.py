"""Secrets of a service: a folder of files, as a Secret is mounted in a pod."""

from __future__ import annotations

import pathlib

from quintile.core import errors


def read(folder: pathlib.Path, name: str) -> bytes:
    """Return the bytes of one secret.

    Raises:
        InvalidSpec: It is missing, unreadable or empty.
    """
    path = folder / name
    try:
        found = path.read_bytes()
    except OSError as error:
        raise errors.InvalidSpec(
            f"The secret {path} cannot be read: {error.strerror}.",
            hint="Mount the Secret of the platform's keys there, or set QUINTILE_KEYS.",
            field="QUINTILE_KEYS",
        ) from error
    if not found.strip():
        raise errors.InvalidSpec(
            f"The secret {path} is empty.", hint="Put the key into it.", field="QUINTILE_KEYS"
        )
    return found


def read_text(folder: pathlib.Path, name: str) -> str:
    """Return one secret as text, without the white space around it. Raises as ``read``."""
    return read(folder, name).decode("utf-8", "replace").strip()
