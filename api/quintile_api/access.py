"""Who calls, and whether it may: dependencies for routes. A route without one is refused by a test.

``Viewer`` ... ``Admin`` check the role in the ``{project}`` of the path. ``User`` is any person,
``Service`` a sibling service, ``Trial`` an agent speaking about its own trial.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated

import fastapi

from quintile.adapters import http_guard, tokens_ed25519
from quintile.core import errors, identity
from quintile_api import context
from quintile_api.identity import repository, secrets

SERVICE = identity.Identity(kind="service", id="service", name="service", admin=True)


def authenticate(ctx: context.Context, *, bearer: str, cookie: str) -> identity.Identity:
    """Return who holds these credentials; a bearer token wins over a cookie.

    Raises:
        Unauthorized: Nobody we know, or not any more.
    """
    now_s = ctx.clock.now()
    if bearer:
        if ctx.service_token and secrets.same(bearer, ctx.service_token):
            return SERVICE
        if not bearer.startswith(secrets.TOKEN_PREFIX):
            claims = ctx.verifier.verify(bearer, now_s=now_s)
            return identity.Identity(
                kind="trial", id=claims.uid, name=claims.trial, expires=float(claims.expires_s)
            )
        return _by_token(ctx, bearer, now_s)
    session_id = secrets.session_of_cookie(cookie, key=ctx.session_key) if cookie else None
    if session_id is not None:
        with ctx.database.read() as session:
            found = repository.identity_of_session(session, session_id, now_s=now_s)
        if found is not None:
            return found
    raise errors.Unauthorized(
        "This needs a sign-in.",
        hint="Open the link that `quintile up` printed, or send Authorization: Bearer <token>.",
    )


def _by_token(ctx: context.Context, token: str, now_s: float) -> identity.Identity:
    with ctx.database.read() as session:
        known = repository.identity_of_api_token(session, token, now_s=now_s)
    if known is None:
        raise errors.Unauthorized(
            "The API token is unknown, revoked or expired.", hint="Make a new one in the console."
        )
    found, stale = known
    if stale:
        # When a token was last used is not worth refusing a request for: a full disk can be read.
        with (
            contextlib.suppress(errors.Unavailable, errors.StoreFull),
            ctx.database.write() as session,
        ):
            repository.touch_api_token(session, token, now_s=now_s)
    return found


def bearer_of(value: str | None) -> str:
    """Return the token of an Authorization header; empty when there is none.

    Raises:
        Unauthorized: The header is of another scheme.
    """
    if not value:
        return ""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise errors.Unauthorized("The Authorization header is not of the form 'Bearer <token>'.")
    return token.strip()


def caller(request: fastapi.Request, ctx: context.Current) -> identity.Identity:
    """Return who sent this request (any kind of caller); also remembered for the audit."""
    found = authenticate(
        ctx,
        bearer=bearer_of(request.headers.get("authorization")),
        cookie=request.cookies.get(http_guard.SESSION_COOKIE, ""),
    )
    request.scope["quintile.caller"] = found
    return found


Caller = Annotated[identity.Identity, fastapi.Depends(caller)]


def user(found: Caller) -> identity.Identity:
    """Return the person who calls.

    Raises:
        Forbidden: A service or an agent calls.
    """
    if found.kind != "user":
        raise errors.Forbidden(f"This is for people; {found.name} is a {found.kind}.")
    return found


def service(found: Caller) -> identity.Identity:
    """Check that a sibling service calls.

    Raises:
        Forbidden: Somebody else calls.
    """
    if found.kind != "service":
        raise errors.Forbidden("This route is for the services of the platform alone.")
    return found


def administrator(found: Caller) -> identity.Identity:
    """Check that the caller administers the whole installation.

    Raises:
        Forbidden: It does not.
    """
    if not found.admin:
        raise errors.Forbidden(f"{found.name} is not an administrator of this installation.")
    return found


def anywhere(role: identity.Role) -> Callable[..., identity.Identity]:
    """Return a dependency: at least ``role`` in some project (for objects outside of projects)."""

    def check(found: Caller) -> identity.Identity:
        held = [identity.ROLES.index(own) for own in found.roles.values()]
        if not found.admin and max(held, default=-1) < identity.ROLES.index(role):
            raise errors.Forbidden(f"{found.name} is {role} in no project.")
        return found

    return check


def member(role: identity.Role) -> Callable[..., identity.Identity]:
    """Return a dependency: at least ``role`` in the ``{project}`` of the path."""

    def check(project: str, found: Caller, ctx: context.Current) -> identity.Identity:
        identity.require(found, project, role)
        if project not in found.roles:
            # Administrators and services hold no row, so nothing proved that the project exists.
            with ctx.database.read() as session:
                repository.check_project(session, project)
        return found

    return check


def trial(request: fastapi.Request, ctx: context.Current) -> tokens_ed25519.TrialClaims:
    """Return the claims of the agent that calls, without asking the database.

    Raises:
        Unauthorized: No genuine trial token.
        Forbidden: The token is of another trial than the ``{uid}`` of the path.
    """
    bearer = bearer_of(request.headers.get("authorization"))
    if not bearer:
        raise errors.Unauthorized("This route needs a trial token.")
    claims = ctx.verifier.verify(bearer, now_s=ctx.clock.now())
    uid = request.path_params.get("uid", claims.uid)
    if uid != claims.uid:
        raise errors.Forbidden(f"The token of trial {claims.trial} does not open trial {uid}.")
    return claims


User = Annotated[identity.Identity, fastapi.Depends(user)]
Service = Annotated[identity.Identity, fastapi.Depends(service)]
Administrator = Annotated[identity.Identity, fastapi.Depends(administrator)]
ManagerAnywhere = Annotated[identity.Identity, fastapi.Depends(anywhere("manager"))]
Viewer = Annotated[identity.Identity, fastapi.Depends(member("viewer"))]
Labeler = Annotated[identity.Identity, fastapi.Depends(member("labeler"))]
Reviewer = Annotated[identity.Identity, fastapi.Depends(member("reviewer"))]
Manager = Annotated[identity.Identity, fastapi.Depends(member("manager"))]
Admin = Annotated[identity.Identity, fastapi.Depends(member("admin"))]
Trial = Annotated[tokens_ed25519.TrialClaims, fastapi.Depends(trial)]
