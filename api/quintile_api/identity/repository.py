"""Rows of users, projects, members, sessions and tokens. The only module that reads them.

Functions take the session of the caller's transaction; nothing here commits.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.core import errors, identity
from quintile_api import tables
from quintile_api.identity import secrets

LAST_USED_EVERY_S = 60.0


def ensure_project(session: orm.Session, name: str, *, now_s: float) -> None:
    """Make a project exist. Idempotent."""
    if session.get(tables.Project, name) is None:
        session.add(tables.Project(name=name, created_s=now_s))
        session.flush()


def check_project(session: orm.Session, name: str) -> None:
    """Refuse a project that does not exist.

    Raises:
        NotFound: It does not.
    """
    if session.get(tables.Project, name) is None:
        raise errors.NotFound(f"There is no project {name!r}.", hint="See GET /api/v1/projects.")


def projects_of(session: orm.Session, caller: identity.Identity) -> list[str]:
    """Return the projects that a caller may know, sorted."""
    names = session.scalars(sa.select(tables.Project.name).order_by(tables.Project.name)).all()
    return [name for name in names if identity.role_in(caller, name) is not None]


def create_user(session: orm.Session, name: str, *, admin: bool, now_s: float) -> tables.User:
    """Add a user.

    Raises:
        Conflict: The name is taken.
    """
    if session.scalar(sa.select(tables.User).where(tables.User.name == name)) is not None:
        raise errors.Conflict(f"There is a user {name!r} already.", field="name")
    row = tables.User(id=random.token_hex(8), name=name, admin=admin, created_s=now_s)
    session.add(row)
    session.flush()
    return row


def ensure_first_admin(session: orm.Session, name: str, *, now_s: float) -> tables.User:
    """Return the first admin; make one called ``name`` when there is none."""
    query = sa.select(tables.User).where(tables.User.admin).order_by(tables.User.created_s)
    found = session.scalars(query).first()
    return found or create_user(session, name, admin=True, now_s=now_s)


def user_named(session: orm.Session, name: str) -> tables.User:
    """Return a user by name.

    Raises:
        NotFound: There is none.
    """
    found = session.scalar(sa.select(tables.User).where(tables.User.name == name))
    if found is None:
        raise errors.NotFound(f"There is no user {name!r}.", hint="List them with GET users.")
    return found


def users(session: orm.Session) -> Sequence[tables.User]:
    """Return all users by name."""
    return session.scalars(sa.select(tables.User).order_by(tables.User.name)).all()


def members(session: orm.Session, project: str) -> list[tuple[str, str]]:
    """Return (user name, role) of a project's members by name."""
    query = (
        sa.select(tables.User.name, tables.Member.role)
        .join(tables.Member, tables.Member.user_id == tables.User.id)
        .where(tables.Member.project == project)
        .order_by(tables.User.name)
    )
    return [(row.name, row.role) for row in session.execute(query)]


def set_member(session: orm.Session, project: str, user: str, role: identity.Role | None) -> None:
    """Give a user a role in a project; None takes it away. Idempotent.

    Raises:
        NotFound: No such user or project.
        Conflict: The project would lose its last admin.
    """
    found = user_named(session, user)
    check_project(session, project)
    row = session.get(tables.Member, (project, found.id))
    if row is not None and row.role == "admin" and role != "admin":
        _check_other_admin(session, project, found.id)
    if role is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(tables.Member(project=project, user_id=found.id, role=role))
    else:
        row.role = role
    session.flush()


def _check_other_admin(session: orm.Session, project: str, user_id: str) -> None:
    member = sa.select(tables.Member.user_id).where(
        tables.Member.project == project,
        tables.Member.role == "admin",
        tables.Member.user_id != user_id,
    )
    everywhere = sa.select(tables.User.id).where(tables.User.admin)
    if session.scalars(member).first() is None and session.scalars(everywhere).first() is None:
        raise errors.Conflict(
            f"This is the last admin of project {project!r}.", hint="Name another admin first."
        )


def add_login_token(session: orm.Session, user_id: str, *, expires_s: float) -> str:
    """Return the secret of a new one-time sign-in link."""
    secret = secrets.new_secret()
    digest = secrets.digest(secret)
    session.add(tables.LoginToken(digest=digest, user_id=user_id, expires_s=expires_s))
    return secret


def redeem_login_token(session: orm.Session, secret: str, *, now_s: float) -> str:
    """Return the user id of a sign-in link and use the link up.

    Raises:
        Unauthorized: The link was used, has expired, or never existed.
    """
    used = session.execute(
        sa.delete(tables.LoginToken)
        .where(tables.LoginToken.digest == secrets.digest(secret))
        .returning(tables.LoginToken.user_id, tables.LoginToken.expires_s)
    ).first()
    if used is None or used.expires_s <= now_s:
        raise errors.Unauthorized(
            "This sign-in link was used before or has expired.",
            hint="Run `quintile link` on the machine of the server for a new one.",
        )
    return str(used.user_id)


def add_session(session: orm.Session, user_id: str, *, expires_s: float) -> str:
    """Return the id of a new session."""
    session_id = secrets.new_secret()
    session.add(tables.Session(id=session_id, user_id=user_id, expires_s=expires_s))
    return session_id


def end_session(session: orm.Session, session_id: str) -> None:
    """Forget a session. Idempotent."""
    session.execute(sa.delete(tables.Session).where(tables.Session.id == session_id))


def identity_of_session(
    session: orm.Session, session_id: str, *, now_s: float
) -> identity.Identity | None:
    """Return who a session belongs to; None when it is over."""
    row = session.get(tables.Session, session_id)
    if row is None or row.expires_s <= now_s:
        return None
    return _identity(session, row.user_id, scope="admin", expires_s=row.expires_s)


def add_api_token(
    session: orm.Session,
    user_id: str,
    *,
    name: str,
    scope: identity.Role,
    now_s: float,
    expires_s: float,
) -> tuple[tables.ApiToken, str]:
    """Return a new API token: its row and its text, which nobody can read again."""
    secret = secrets.new_secret()
    row = tables.ApiToken(
        id=random.token_hex(6),
        user_id=user_id,
        name=name,
        digest=secrets.digest(secret),
        scope=scope,
        created_s=now_s,
        expires_s=expires_s,
    )
    session.add(row)
    return row, secrets.api_token(row.id, secret)


def api_tokens(session: orm.Session, user_id: str) -> Sequence[tables.ApiToken]:
    """Return a user's tokens, newest first."""
    query = sa.select(tables.ApiToken).where(tables.ApiToken.user_id == user_id)
    return session.scalars(query.order_by(tables.ApiToken.created_s.desc())).all()


def revoke_api_token(session: orm.Session, user_id: str, token_id: str) -> identity.Role:
    """Forget a user's token; return the scope it had.

    Raises:
        NotFound: The user has no such token.
    """
    row = session.get(tables.ApiToken, token_id)
    if row is None or row.user_id != user_id:
        raise errors.NotFound(f"You have no token {token_id!r}.", hint="See GET tokens.")
    session.delete(row)
    return _role(row.scope)


def identity_of_api_token(
    session: orm.Session, token: str, *, now_s: float
) -> tuple[identity.Identity, bool] | None:
    """Return who an API token belongs to and whether its last use should be noted again."""
    parts = secrets.split_api_token(token)
    row = session.get(tables.ApiToken, parts[0]) if parts else None
    if parts is None or row is None or row.expires_s <= now_s:
        return None
    if not secrets.same(row.digest, secrets.digest(parts[1])):
        return None
    found = _identity(session, row.user_id, scope=row.scope, expires_s=row.expires_s)
    stale = row.last_used_s is None or row.last_used_s < now_s - LAST_USED_EVERY_S
    return (found, stale) if found else None


def identity_of_user(session: orm.Session, user_id: str) -> identity.Identity | None:
    """Return a user as a viewer of its projects, for passes that open one thing; None = gone."""
    return _identity(session, user_id, scope="viewer", expires_s=0.0)


def touch_api_token(session: orm.Session, token: str, *, now_s: float) -> None:
    """Note when a token was used."""
    parts = secrets.split_api_token(token)
    if parts:
        update = sa.update(tables.ApiToken).where(tables.ApiToken.id == parts[0])
        session.execute(update.values(last_used_s=now_s))


def forget_expired(session: orm.Session, *, now_s: float) -> None:
    """Delete sessions, links and stored answers that nobody can use any more."""
    for table in (tables.Session, tables.LoginToken):
        session.execute(sa.delete(table).where(table.expires_s <= now_s))
    session.execute(sa.delete(tables.Repeat).where(tables.Repeat.created_s <= now_s - 86_400))


def _identity(
    session: orm.Session, user_id: str, *, scope: str, expires_s: float
) -> identity.Identity | None:
    user = session.get(tables.User, user_id)
    if user is None:
        return None
    cap = identity.ROLES.index(_role(scope))
    query = sa.select(tables.Member).where(tables.Member.user_id == user_id)
    held = {row.project: row.role for row in session.scalars(query)}
    if user.admin and scope != "admin":
        held = dict.fromkeys(session.scalars(sa.select(tables.Project.name)), "admin")
    roles: dict[str, identity.Role] = {
        project: identity.ROLES[min(cap, identity.ROLES.index(_role(role)))]
        for project, role in held.items()
    }
    return identity.Identity(
        kind="user",
        id=user.id,
        name=user.name,
        admin=user.admin and scope == "admin",
        roles=roles,
        scope=identity.ROLES[cap],
        expires=expires_s,
    )


def _role(text: str) -> identity.Role:
    return next((role for role in identity.ROLES if role == text), identity.ROLES[0])
