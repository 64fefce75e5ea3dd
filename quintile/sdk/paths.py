"""Addresses of the REST interface below ``/api/v1``; nothing else in the SDK formats one."""

from __future__ import annotations

from urllib import parse


def join(*segments: str | int) -> str:
    """Return ``/a/b/c`` with every segment quoted: a name can never leave its place."""
    return "".join(f"/{parse.quote(str(segment), safe=':')}" for segment in segments)


def project(name: str, *segments: str | int) -> str:
    """Return an address of a project."""
    return join("projects", name, *segments)
