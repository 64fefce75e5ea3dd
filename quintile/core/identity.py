"""Who is calling, and what they may do: the wire form shared by the API and its sibling services.

The API answers ``GET /identity`` with it; ``require`` is the one rule for project roles.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from quintile.core import errors
from quintile.core.meta import Message

Role = Literal["viewer", "labeler", "reviewer", "manager", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Ascending: each role may do what the roles before it may do."""


class Identity(Message):
    """A caller. ``roles`` by project; ``admin`` acts as admin in every project.

    ``scope`` is the most that the credentials can do; ``roles`` and ``admin`` respect it already.

    ``kind``: ``user`` (cookie or API token), ``service`` (a sibling of the API), ``trial`` (an
    agent; may use the internal routes of its own trial alone).
    """

    kind: Literal["user", "service", "trial"]
    id: str
    name: str
    admin: bool = False
    roles: dict[str, Role] = {}
    scope: Role = "admin"
    expires: float | None = None


def role_in(caller: Identity, project: str) -> Role | None:
    """Return the caller's role in a project; None when it may not know that the project exists."""
    if caller.kind == "trial":
        return None
    if caller.admin or caller.kind == "service":
        return "admin"
    return caller.roles.get(project)


def require(caller: Identity, project: str, role: Role) -> None:
    """Check that the caller has at least ``role`` in ``project``.

    Raises:
        NotFound: The caller is no member, so the project does not exist for it.
        Forbidden: The caller is a member with a lower role.
    """
    held = role_in(caller, project)
    if held is None:
        raise errors.NotFound(
            f"There is no project {project!r}.",
            hint="Ask an admin of the project to add you, or check the name.",
        )
    if ROLES.index(held) < ROLES.index(role):
        raise errors.Forbidden(
            f"{caller.name} is {held} in project {project!r}; this needs {role}.",
            hint="Ask an admin of the project for the role.",
        )
