"""Routes of sign-in, sessions, tokens, users and members."""

from __future__ import annotations

from typing import Annotated, Final

import fastapi
from fastapi import responses
from pydantic import Field

from quintile.adapters import http_guard
from quintile.core import errors, identity
from quintile.core.meta import Message, Name
from quintile_api import access, context, paging, tables
from quintile_api.identity import repository, secrets, sign_in

pages = fastapi.APIRouter(tags=["session"])
router = fastapi.APIRouter(tags=["session"])
LINK_USED_PAGE: Final = "/#/link-used"
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]


class SignIn(Message):
    """A one-time sign-in token."""

    token: str = Field(max_length=256)


class TokenCreate(Message):
    """What a new API token is for, and what it may do at most."""

    name: str = Field(min_length=1, max_length=64)
    scope: identity.Role = "manager"
    days: int = Field(default=90, ge=1, le=366)


class TokenView(Message):
    """An API token, without its secret."""

    id: str
    name: str
    scope: str
    created: float
    expires: float
    last_used: float | None


class TokenCreated(TokenView):
    """A new API token; ``token`` is shown this once."""

    token: str


class UserCreate(Message):
    """A new user."""

    name: UserName
    admin: bool = False


class UserView(Message):
    """A user."""

    name: str
    admin: bool


class LinkView(Message):
    """A one-time sign-in link for somebody; lasts ten minutes."""

    url: str


class MemberView(Message):
    """The role of a user in a project."""

    user: str
    role: str


class RoleChange(Message):
    """A role to give."""

    role: identity.Role


@pages.get("/login", status_code=303, response_class=responses.RedirectResponse)
def login(ctx: context.Current, request: fastapi.Request, token: str) -> fastapi.Response:
    """Use up a one-time link and go to the first page, which also says when the link is no good."""
    answer = responses.RedirectResponse("/", status_code=303)
    try:
        _begin(ctx, request, answer, token)
    except errors.Unauthorized:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        return responses.RedirectResponse(LINK_USED_PAGE, status_code=303)
    return answer


@router.post("/session", status_code=204)
def create_session(
    ctx: context.Current, request: fastapi.Request, body: SignIn
) -> fastapi.Response:
    """Use up a one-time token and set the session cookie."""
    answer = fastapi.Response(status_code=204)
    _begin(ctx, request, answer, body.token)
    return answer


@router.get("/me")
def me(found: access.User) -> identity.Identity:
    """Return who is signed in."""
    return found


@router.get("/identity")
def who(
    found: access.Caller,
    ctx: context.Current,
    x_quintile_forwarded_authorization: Annotated[str, fastapi.Header()] = "",
    x_quintile_forwarded_cookie: Annotated[str, fastapi.Header()] = "",
) -> identity.Identity:
    """Return who holds the forwarded credentials (services), or who calls (everybody else)."""
    forwarded = x_quintile_forwarded_authorization or x_quintile_forwarded_cookie
    if not forwarded:
        return found
    if found.kind != "service":
        raise errors.Forbidden("Only services may ask for somebody else.")
    return access.authenticate(
        ctx,
        bearer=access.bearer_of(x_quintile_forwarded_authorization),
        cookie=x_quintile_forwarded_cookie,
    )


@router.post("/logout", status_code=204)
def logout(_found: access.User, ctx: context.Current, request: fastapi.Request) -> fastapi.Response:
    """End this session and forget the cookie."""
    value = request.cookies.get(http_guard.SESSION_COOKIE, "")
    session_id = secrets.session_of_cookie(value, key=ctx.session_key)
    if session_id is not None:
        with ctx.database.write() as session:
            repository.end_session(session, session_id)
    answer = fastapi.Response(status_code=204)
    answer.delete_cookie(http_guard.SESSION_COOKIE, path="/")
    return answer


@router.get("/tokens")
def list_tokens(found: access.User, ctx: context.Current) -> paging.Listed[TokenView]:
    """Return the caller's API tokens, newest first."""
    with ctx.database.read() as session:
        rows = repository.api_tokens(session, found.id)
    return paging.Listed(items=[_token(row) for row in rows])


@router.post("/tokens", status_code=201)
def create_token(found: access.User, ctx: context.Current, body: TokenCreate) -> TokenCreated:
    """Make an API token of at most the scope of the caller's own; its text is shown this once."""
    _check_scope(found, body.scope)
    now_s = ctx.clock.now()
    with ctx.database.write() as session:
        row, token = repository.add_api_token(
            session,
            found.id,
            name=body.name,
            scope=body.scope,
            now_s=now_s,
            expires_s=now_s + body.days * 86_400,
        )
        return TokenCreated(**_token(row).model_dump(), token=token)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(found: access.User, ctx: context.Current, token_id: str) -> None:
    """Revoke one of the caller's tokens; it stops working at once."""
    with ctx.database.write() as session:
        _check_scope(found, repository.revoke_api_token(session, found.id, token_id))


@router.get("/users", tags=["users"])
def list_users(_found: access.Administrator, ctx: context.Current) -> paging.Listed[UserView]:
    """Return all users."""
    with ctx.database.read() as session:
        rows = repository.users(session)
    return paging.Listed(items=[UserView(name=row.name, admin=row.admin) for row in rows])


@router.post("/users", status_code=201, tags=["users"])
def create_user(_found: access.Administrator, ctx: context.Current, body: UserCreate) -> UserView:
    """Add a user; give roles with PUT members and a way in with POST login-link."""
    with ctx.database.write() as session:
        row = repository.create_user(session, body.name, admin=body.admin, now_s=ctx.clock.now())
        return UserView(name=row.name, admin=row.admin)


@router.post("/users/{user}/login-link", status_code=201, tags=["users"])
def login_link(_found: access.Administrator, ctx: context.Current, user: str) -> LinkView:
    """Make a one-time sign-in link for a user."""
    token = sign_in.issue_login_token(ctx.database, ctx.clock, user=user)
    return LinkView(url=f"{ctx.api_url}/login?token={token}")


@router.get("/projects/{project}/members", tags=["users"])
def list_members(
    _found: access.Viewer, ctx: context.Current, project: str
) -> paging.Listed[MemberView]:
    """Return the members of a project."""
    with ctx.database.read() as session:
        rows = repository.members(session, project)
    return paging.Listed(items=[MemberView(user=user, role=role) for user, role in rows])


@router.put("/projects/{project}/members/{user}", tags=["users"])
def set_member(
    found: access.Admin, ctx: context.Current, project: str, user: str, body: RoleChange
) -> MemberView:
    """Give a user a role in a project. Nobody changes their own role."""
    _check_other(found, user)
    with ctx.database.write() as session:
        repository.set_member(session, project, user, body.role)
    return MemberView(user=user, role=body.role)


@router.delete("/projects/{project}/members/{user}", status_code=204, tags=["users"])
def remove_member(found: access.Admin, ctx: context.Current, project: str, user: str) -> None:
    """Take a user out of a project."""
    _check_other(found, user)
    with ctx.database.write() as session:
        repository.set_member(session, project, user, None)


class ProjectCreate(Message):
    """A new project; its name is also the namespace of its resources."""

    name: Name


class ProjectView(Message):
    """A project and the caller's role in it."""

    name: str
    role: str


@router.get("/projects", tags=["projects"])
def list_projects(found: access.Caller, ctx: context.Current) -> paging.Listed[ProjectView]:
    """Return the projects that the caller may know."""
    with ctx.database.read() as session:
        names = repository.projects_of(session, found)
    items = [ProjectView(name=name, role=identity.role_in(found, name) or "") for name in names]
    return paging.Listed(items=items)


@router.post("/projects", status_code=201, tags=["projects"])
def create_project(
    _found: access.Administrator, ctx: context.Current, body: ProjectCreate
) -> ProjectView:
    """Make a project. Making it again is a no-op."""
    with ctx.database.write() as session:
        repository.ensure_project(session, body.name, now_s=ctx.clock.now())
    return ProjectView(name=body.name, role="admin")


def _begin(
    ctx: context.Context, request: fastapi.Request, answer: fastapi.Response, token: str
) -> None:
    now_s = ctx.clock.now()
    lasts_s = ctx.settings.session_hours * 3600
    with ctx.database.write() as session:
        user_id = repository.redeem_login_token(session, token, now_s=now_s)
        session_id = repository.add_session(session, user_id, expires_s=now_s + lasts_s)
    answer.set_cookie(
        http_guard.SESSION_COOKIE,
        secrets.cookie(session_id, key=ctx.session_key),
        max_age=lasts_s,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
        path="/",
    )
    # A page that was reached through a token must not leak it to the next one.
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"


def _token(row: tables.ApiToken) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        scope=row.scope,
        created=row.created_s,
        expires=row.expires_s,
        last_used=row.last_used_s,
    )


def _check_scope(found: identity.Identity, scope: identity.Role) -> None:
    if identity.ROLES.index(scope) > identity.ROLES.index(found.scope):
        raise errors.Forbidden(
            f"These credentials have scope {found.scope}; they reach no token of scope {scope}.",
            hint="Sign in through a link, or use a stronger token.",
        )


def _check_other(found: identity.Identity, user: str) -> None:
    if found.name == user and found.kind == "user":
        raise errors.Forbidden(
            "Nobody changes their own role.", hint="Ask another admin of the project."
        )
