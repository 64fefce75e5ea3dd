"""First start and sign-in tokens; called by composition roots (no request involved)."""

from __future__ import annotations

from collections.abc import Sequence

from quintile import ports
from quintile.adapters import sql
from quintile.core import identity
from quintile_api.identity import repository

LINK_TTL_S = 600.0
CLIENT_TTL_S = 365 * 86_400.0


def seed(database: sql.Database, clock: ports.Clock, *, admin: str, projects: Sequence[str]) -> str:
    """Make projects that are missing, and the first admin when there is none; return its name."""
    with database.write() as session:
        database.serialize(session, "seed")
        for project in projects:
            repository.ensure_project(session, project, now_s=clock.now())
        return repository.ensure_first_admin(session, admin, now_s=clock.now()).name


def issue_login_token(
    database: sql.Database, clock: ports.Clock, *, user: str, ttl_s: float = LINK_TTL_S
) -> str:
    """Return a one-time token for ``/login?token=``.

    Raises:
        NotFound: There is no such user.
    """
    with database.write() as session:
        found = repository.user_named(session, user)
        return repository.add_login_token(session, found.id, expires_s=clock.now() + ttl_s)


def issue_api_token(
    database: sql.Database,
    clock: ports.Clock,
    *,
    user: str,
    name: str,
    scope: identity.Role = "admin",
) -> str:
    """Return an API token that lasts a year (the ``client-token`` of an embedded home).

    Raises:
        NotFound: There is no such user.
    """
    now_s = clock.now()
    with database.write() as session:
        found = repository.user_named(session, user)
        _, token = repository.add_api_token(
            session, found.id, name=name, scope=scope, now_s=now_s, expires_s=now_s + CLIENT_TTL_S
        )
    return token


def is_token_good(database: sql.Database, clock: ports.Clock, token: str) -> bool:
    """Return whether an API token opens this database now."""
    with database.read() as session:
        known = repository.identity_of_api_token(session, token, now_s=clock.now())
    return known is not None
