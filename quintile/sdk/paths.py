"""Addresses of the REST interface below ``/api/v1``; nothing else in the SDK formats one."""

from __future__ import annotations

from typing import Final
from urllib import parse

from quintile.core import errors

_NO_NAMES: Final = ("", ".", "..")


def join(*segments: str | int) -> str:
    """Return ``/a/b/c`` with every segment quoted: a name can never leave its place.

    Raises:
        InvalidSpec: A segment is empty or made of dots, which addresses take for something else.
    """
    strange = next((one for one in segments if str(one) in _NO_NAMES), None)
    if strange is not None:
        raise errors.InvalidSpec(
            f"{str(strange)!r} is no name.", hint="Give the name of what you mean.", field="name"
        )
    return "".join(f"/{parse.quote(str(segment), safe=':')}" for segment in segments)


def project(name: str, *segments: str | int) -> str:
    """Return an address of a project."""
    return join("projects", name, *segments)
